"""Curves over training, and a population in the plane of rate and distortion."""

import pathlib
from collections.abc import Sequence

import numpy as np

_MOST_LABELS = 10
_LONGEST_OF_TWO = 45  # characters of labels that stand in two columns
_MOST_BESIDE, _ROWS = 50, 22  # labels beside a figure, and how many of them in a column
_CHARACTER = 0.065  # inches of one there


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
        marker = "o" if len(steps) == 1 else None  # a line of one point is none
        axes.plot(steps, kl_per_latent[:, latent], color=colour, label=label, lw=1.4, marker=marker)
    axes.set_xlabel("step")
    axes.set_ylabel("KL per latent (nats)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(ncols=2, fontsize=8, frameon=False)
    figure.savefig(path)


def draw_elbo_history(
    steps: Sequence[np.ndarray],
    elbo: Sequence[np.ndarray],
    labels: Sequence[str],
    path: pathlib.Path,
) -> None:
    """Draws the ELBO of each run over training.

    Args:
      steps: Steps done, `R` arrays `[T]`; a run may have fewer than another.
      elbo: Mean over the interval before, `R` arrays `[T]`, nats; gaps where not finite.
      labels: A name for each run; only the first ten are written.
      path: The file to write, PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    for run, (done, values) in enumerate(zip(steps, elbo, strict=True)):
        label = labels[run] if run < _MOST_LABELS else None
        colour = f"C{run}" if run < _MOST_LABELS else "0.75"
        values = np.where(np.isfinite(values), values, np.nan)
        marker = "o" if len(done) == 1 else None
        axes.plot(done, values, color=colour, label=label, lw=1.4, marker=marker)
    everything = np.concatenate([np.asarray(e, np.float64) for e in elbo])
    low, high = _visible_range(everything[np.isfinite(everything)])
    axes.set_ylim(low, high)
    axes.set_xlabel("step")
    axes.set_ylabel("ELBO (nats)")
    axes.grid(alpha=0.25)
    if len(labels) > 1:
        is_short = max(map(len, labels[:_MOST_LABELS])) <= _LONGEST_OF_TWO
        columns = 2 if len(labels) > 5 and is_short else 1
        axes.legend(fontsize=7, frameon=False, loc="lower right", ncols=columns)
    figure.savefig(path)


def _visible_range(values: np.ndarray) -> tuple[float, float]:
    """A range that the first steps, often far below the rest, do not press flat."""
    if not len(values):
        return 0.0, 1.0
    high, low = float(values.max()), float(np.quantile(values, 0.05))
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def draw_rate_distortion(
    rate: np.ndarray,
    distortion: np.ndarray,
    groups: Sequence[str],
    path: pathlib.Path,
) -> None:
    """Draws a population in the plane of rate and distortion; on the line the ELBO is equal.

    Args:
      rate: `[R]`, nats; a run whose rate or distortion is not finite is left out.
      distortion: `[R]`, nats.
      groups: What the runs of one colour share, `R` strings such as `beta=4`; of more than ten
        the names stand beside the plane, those of the first fifty.
      path: The file to write, PNG.

    References:
      Alemi et al. 2018, Fixing a Broken ELBO, figure 1.
    """
    from matplotlib.figure import Figure

    rate, distortion = np.asarray(rate, np.float64), np.asarray(distortion, np.float64)
    kept = np.isfinite(rate) & np.isfinite(distortion)
    names = list(dict.fromkeys(groups))
    labels = min(len(names), _MOST_BESIDE) + 1  # and the line's
    columns = -(-labels // _ROWS) if len(names) > _MOST_LABELS else 0
    beside = columns * (0.5 + _CHARACTER * max(map(len, names[:_MOST_BESIDE]), default=0))
    figure = Figure(figsize=(5.6 + beside, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for number, group in enumerate(names):
        mine = kept & np.asarray([g == group for g in groups])
        colour, marker = f"C{number % 10}", "osD^v"[number // 10 % 5]
        label = group if number < _MOST_BESIDE else None
        axes.scatter(rate[mine], distortion[mine], s=36, color=colour, marker=marker, label=label)
    if np.any(kept):
        best = float(np.min((rate + distortion)[kept]))
        low, high = axes.get_xlim()
        axes.set_ylim(axes.get_ylim())
        heights, text = [best - low, best - high], f"ELBO = {-best:.1f}"
        axes.plot([low, high], heights, color="0.5", ls="--", lw=1, zorder=0, label=text)
        axes.set_xlim(low, high)
    axes.set_xlabel("rate (nats)")
    axes.set_ylabel("distortion (nats)")
    axes.grid(alpha=0.25)
    if columns:
        figure.legend(fontsize=8, frameon=False, loc="outside right upper", ncols=columns)
    else:
        axes.legend(fontsize=8, frameon=False)
    figure.savefig(path)
