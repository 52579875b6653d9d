"""Curves over training."""

import pathlib

import numpy as np


def draw_kl_history(steps: np.ndarray, kl_per_latent: np.ndarray, path: pathlib.Path) -> None:
    """Draws the KL of each latent over training.

    Args:
      steps: Steps done `[T]`.
      kl_per_latent: Mean KL over the interval before, `[T, D]`, nats.
      path: The file to write, PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    # A run that failed has NaN at its end; its latents are told apart by what came before.
    finite = kl_per_latent[np.all(np.isfinite(kl_per_latent), axis=1)]
    last = finite[-1] if len(finite) else np.zeros(kl_per_latent.shape[1])
    order = np.argsort(-last, kind="stable")
    for rank, latent in enumerate(order):
        # Ten colours tell apart the latents that matter; the silent ones share a pale grey.
        colour = f"C{rank}" if last[latent] > 0.01 and rank < 10 else "0.75"
        label = f"z{latent}" if rank < 10 else None
        axes.plot(steps, kl_per_latent[:, latent], color=colour, label=label, linewidth=1.4)
    axes.set_xlabel("step")
    axes.set_ylabel("KL per latent (nats)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(ncols=2, fontsize=8, frameon=False)
    figure.savefig(path)
