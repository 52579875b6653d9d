"""Figures of a whole study: each metric by setting, and metrics against each other."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from betavae_jax.checks import check_at_least, check_shape
from betavae_jax.plots.panels import DPI, make_panels

_COLUMNS = 2
_SLANTED: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
_WIDEST = 10.4  # inches that the page shows without making print smaller
_PITCHES = (0.16, 0.32)  # inches from box to box: what labels need, and what looks well
_MARGIN = 1.4  # inches of a panel beside its boxes
_HEIGHT, _CHARACTER = 2.6, 0.055  # inches of a panel, and of a character of its slanted labels


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
    check_shape("values", values.shape, (len(metrics), len(objectives)))
    check_at_least("the number of metrics", len(metrics), 1)
    kinds = list(zip(objectives, settings, strict=True))
    boxes = list(dict.fromkeys(kinds))
    place = np.asarray([boxes.index(kind) for kind in kinds], np.int64)  # [R]
    colours = {name: f"C{k % 10}" for k, name in enumerate(dict.fromkeys(objectives))}
    pitch = float(np.clip((_WIDEST - _MARGIN) / max(len(boxes), 1), *_PITCHES))
    width = max(3.6, pitch * len(boxes) + _MARGIN)
    columns = _COLUMNS if _COLUMNS * width <= _WIDEST else 1
    labels = [text or name for name, text in boxes]
    height = _HEIGHT + _CHARACTER * max(map(len, labels), default=0)
    figure, axes = make_panels(len(metrics), columns, (width, height), (0, 0))
    for panel, metric, row in zip(axes, metrics, values, strict=True):
        own = [row[(place == at) & np.isfinite(row)] for at in range(len(boxes))]
        _draw_panel(panel, own, [colours[name] for name, _ in boxes])
        panel.set_title(metric, fontsize=10)
        panel.set_xticks(range(len(boxes)), labels, fontsize=8, **_SLANTED)
    dots = [axes[0].plot([], [], "s", color=colour, label=name)[0]
            for name, colour in colours.items()]  # fmt: skip
    figure.legend(handles=dots, loc="outside upper center", ncols=min(4, len(dots)), fontsize=9,
                  frameon=False)  # fmt: skip
    figure.savefig(path)


def _draw_panel(panel: Any, groups: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    """Draws a box for each group of several values, and every value as a dot."""
    from matplotlib.ticker import MaxNLocator

    several = [at for at, own in enumerate(groups) if len(own) > 1]
    if several:
        drawn = panel.boxplot(
            [groups[at] for at in several],
            positions=several,
            widths=0.6,
            patch_artist=True,
            showfliers=False,
            medianprops={"color": "black"},
        )
        for at, box in zip(several, drawn["boxes"], strict=True):
            box.set(facecolor=colours[at], alpha=0.35, edgecolor=colours[at])
    counts = [len(own) for own in groups]
    values = np.concatenate(groups)
    dots = np.repeat(np.asarray(colours), counts)
    panel.scatter(np.repeat(np.arange(len(groups)), counts), values, c=dots, s=9, zorder=3)
    if np.array_equal(values, np.round(values)):  # counts have no fractions between them
        panel.yaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    panel.set_xlim(-0.7, len(groups) - 0.3)
    panel.grid(axis="y", alpha=0.25)


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
    figure = Figure(figsize=(side + 0.6, side), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    shown = np.ma.masked_invalid(correlations)
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(correlations):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.7 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8,
                      color=colour)  # fmt: skip
    axes.set_xticks(range(len(names)), names, **_SLANTED)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelsize=9)
    figure.colorbar(image, ax=axes, label="Spearman correlation", shrink=0.8, pad=0.03)
    figure.savefig(path)
