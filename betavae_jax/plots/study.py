"""Figures of a whole study: each metric by setting, and metrics against each other."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from betavae_jax.checks import check_shape

_DPI = 100
_COLUMNS = 2


def draw_boxes(
    values: np.ndarray,
    metrics: Sequence[str],
    objectives: Sequence[str],
    settings: Sequence[str],
    path: pathlib.Path,
) -> None:
    """Draws the spread of each metric over the seeds of each setting, a panel a metric.

    Args:
      values: `[M, R]`; what is not finite is left out.
      metrics: `M` names.
      objectives: `R` names; a colour each.
      settings: `R` strings such as `beta=4`; runs that share it and the objective are one box.
      path: The file to write, PNG.
    """
    from matplotlib.figure import Figure

    check_shape("values", values.shape, (len(metrics), len(objectives)))
    kinds = list(zip(objectives, settings, strict=True))
    boxes = list(dict.fromkeys(kinds))
    colours = {name: f"C{k % 10}" for k, name in enumerate(dict.fromkeys(objectives))}
    columns = min(_COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    width = max(3.6, 0.32 * len(boxes) + 1.4)
    figure = Figure(figsize=(width * columns, 3.2 * rows), dpi=_DPI, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, metric, row in zip(axes, metrics, values, strict=False):
        for at, box in enumerate(boxes):
            own = np.asarray([v for v, kind in zip(row, kinds, strict=True) if kind == box])
            own = own[np.isfinite(own)]
            colour = colours[box[0]]
            if len(own) > 1:
                look: dict[str, Any] = {"medianprops": {"color": "black"}, "showfliers": False}
                drawn = panel.boxplot([own], positions=[at], widths=0.6, patch_artist=True, **look)
                drawn["boxes"][0].set(facecolor=colour, alpha=0.35, edgecolor=colour)
            panel.plot(np.full(len(own), at), own, ".", color=colour, ms=4)
        panel.set_title(metric, fontsize=10)
        panel.set_xticks(range(len(boxes)), [text or name for name, text in boxes])
        for label in panel.get_xticklabels():
            label.set(rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        panel.set_xlim(-0.7, len(boxes) - 0.3)
        panel.grid(axis="y", alpha=0.25)
    for unused in axes[len(metrics) :]:
        unused.set_visible(False)
    dots = [axes[0].plot([], [], "s", color=colour, label=name)[0]
            for name, colour in colours.items()]  # fmt: skip
    figure.legend(handles=dots, loc="outside upper center", ncols=min(4, len(dots)), fontsize=9,
                  frameon=False)  # fmt: skip
    figure.savefig(path)


def draw_rank_correlations(
    correlations: np.ndarray, names: Sequence[str], path: pathlib.Path
) -> None:
    """Draws the rank correlation of every two metrics, as a matrix.

    Args:
      correlations: `[M, M]`, from -1 to 1; what is not finite is left out.
      names: `M` names.
      path: The file to write, PNG.

    References:
      Locatello et al. 2019, figure 2.
    """
    from matplotlib.figure import Figure

    check_shape("correlations", correlations.shape, (len(names), len(names)))
    side = 0.62 * len(names) + 2.2
    figure = Figure(figsize=(side + 0.6, side), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    shown = np.ma.masked_invalid(correlations)
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(correlations):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8,
                      color=colour)  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    for label in axes.get_xticklabels():
        label.set(rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelsize=9)
    figure.colorbar(image, ax=axes, label="Spearman correlation", shrink=0.8, pad=0.03)
    figure.savefig(path)
