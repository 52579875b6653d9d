"""Pictures of codes: over known factors, against the prior, and what they share with factors."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from betavae_jax.checks import check_shape
from betavae_jax.plots.latents import label_latents, order_latents
from betavae_jax.plots.panels import DPI, make_panels, show_codes

_COLUMNS = 5


def draw_code_maps(
    maps: np.ndarray,
    kl_per_latent: np.ndarray,
    factors: tuple[str, str],
    path: pathlib.Path,
    *,
    names: Sequence[str] = (),
) -> None:
    """Draws each latent's mean code over two factors: blue is -3, white 0, red +3.

    Args:
      maps: Mean codes `[D, A, B]`, A and B the values of the two factors; NaN where there
        was no example, which is drawn grey.
      kl_per_latent: Mean KL of each latent `[D]`, nats; panels fall in it.
      factors: The names of both factors.
      path: The file to write, PNG.
      names: What each latent is known to follow, `D` strings, empty where nothing is known.

    References:
      Higgins et al. 2017, β-VAE, figure 7.
    """
    check_shape("maps", maps.shape, (len(kl_per_latent), None, None))
    figure, axes = make_panels(len(maps), _COLUMNS, (1.9, 2.1), (0.9, 0.4))
    labels = label_latents(kl_per_latent, names)
    for panel, latent in zip(axes, order_latents(kl_per_latent), strict=True):
        image = show_codes(panel, maps[latent])
        panel.set_title(labels[latent].replace("nats  ", "nats\n"), fontsize=8)
    axes[0].set_ylabel(factors[0], fontsize=9)
    axes[0].set_xlabel(factors[1], fontsize=9)
    figure.colorbar(image, ax=axes, ticks=[-3, 0, 3], aspect=30, pad=0.02)
    figure.savefig(path)


def draw_information(
    information: np.ndarray,
    kl_per_latent: np.ndarray,
    factors: Sequence[str],
    path: pathlib.Path,
) -> None:
    """Draws the mutual information of each latent with each factor, as a matrix.

    Args:
      information: `[D, K]`, nats; what is not finite is left out.
      kl_per_latent: Mean KL of each latent `[D]`, nats; rows fall in it.
      factors: `K` names.
      path: The file to write, PNG.
    """
    from matplotlib.figure import Figure

    check_shape("information", information.shape, (len(kl_per_latent), len(factors)))
    order, labels = order_latents(kl_per_latent), label_latents(kl_per_latent)
    shown = np.asarray(information, np.float64)[order]
    finite = shown[np.isfinite(shown)]
    largest = max(float(finite.max(initial=0.0)), 1e-3)
    size = (0.75 * len(factors) + 2.4, 0.34 * len(order) + 1.3)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shown, cmap="Greys", vmin=0, vmax=largest, aspect="auto")
    for (row, column), value in np.ndenumerate(shown):
        if np.isfinite(value):
            colour = "white" if value > 0.6 * largest else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8,
                      color=colour)  # fmt: skip
    slanted: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(factors)), factors, **(slanted if len(factors) > 2 else {}))
    axes.set_yticks(range(len(order)), [labels[latent] for latent in order])
    axes.tick_params(length=0, labelsize=9)
    figure.colorbar(image, ax=axes, label="nats", pad=0.03)
    figure.savefig(path)


def draw_aggregate_posterior(
    samples: np.ndarray,
    kl_per_latent: np.ndarray,
    path: pathlib.Path,
    *,
    names: Sequence[str] = (),
) -> None:
    """Draws a histogram of each latent over all examples, with the prior's density.

    Args:
      samples: One sample of q(z|x) for each example `[N, D]`; what is not finite is left out.
      kl_per_latent: Mean KL of each latent `[D]`, nats; panels fall in it.
      path: The file to write, PNG.
      names: What each latent is known to follow, `D` strings, empty where nothing is known.
    """
    check_shape("samples", samples.shape, (None, len(kl_per_latent)))
    grid = np.linspace(-4, 4, 161)
    prior = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    size = len(kl_per_latent)
    figure, axes = make_panels(size, _COLUMNS, (1.9, 1.6), (0.4, 0.3), sharex=True)
    labels = label_latents(kl_per_latent, names)
    for panel, latent in zip(axes, order_latents(kl_per_latent), strict=True):
        values = samples[:, latent]
        values = np.clip(values[np.isfinite(values)], grid[0], grid[-1])
        density = len(values) > 0
        panel.hist(values, bins=40, range=(-4, 4), density=density, color="C0", alpha=0.6)
        panel.plot(grid, prior, color="black", linewidth=1)
        panel.set_title(labels[latent].replace("nats  ", "nats\n"), fontsize=8)
        panel.set_yticks([])
        panel.tick_params(labelsize=8)
    figure.savefig(path)
