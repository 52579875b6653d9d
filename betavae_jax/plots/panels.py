"""What several figures have alike: panels in a grid, and the colours of codes."""

from typing import Any

import numpy as np

DPI = 100
_SPAN = 3.0  # standard deviations of the prior that the colours of codes cover


def make_panels(
    count: int, columns: int, panel: tuple[float, float], margin: tuple[float, float], **shared: Any
) -> tuple[Any, list[Any]]:
    """Makes a figure of panels in rows of `columns`.

    Args:
      count: How many panels.
      columns: How many of them in a row, at most.
      panel: The width and the height of one, inches.
      margin: What the figure has beside them, inches.
      **shared: `sharex`, `sharey`, as `subplots` takes them.

    Returns:
      The figure, and its panels.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    size = (panel[0] * columns + margin[0], panel[1] * rows + margin[1])
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def show_codes(panel: Any, codes: np.ndarray) -> Any:
    """Shows mean codes `[A, B]`: blue is -3, white 0, red +3, grey is none. Returns the image."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("codes", ["#0000ff", "#ffffff", "#ff0000"])
    panel.set(xticks=[], yticks=[])
    return panel.imshow(
        np.ma.masked_invalid(codes), cmap=colours.with_extremes(bad="0.8"),
        vmin=-_SPAN, vmax=_SPAN, aspect="auto", interpolation="nearest",
    )  # fmt: skip
