"""Pictures of vectors: their values as lines over the number of the feature."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from betavae_jax.checks import check_at_least, check_shape
from betavae_jax.plots.latents import label_latents, order_latents
from betavae_jax.plots.panels import make_panels

_PANEL = (2.6, 1.7)  # inches
_FEW_FEATURES = 12  # up to here each value has a dot of its own
_COLUMNS = 4


def _panels(
    count: int,
    num_features: int,
    *,
    columns: int = _COLUMNS,
    panel: tuple[float, float] = _PANEL,
) -> tuple[Any, list[Any]]:
    """A figure of `count` panels that share their axes."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = make_panels(count, columns, panel, (0.4, 0.5), sharex=True, sharey=True)
    for one in axes:
        one.grid(alpha=0.25)
        one.tick_params(labelsize=8, labelbottom=True)
        one.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    margin = 0.3 if num_features == 1 else 0.02 * (num_features - 1)
    axes[0].set_xlim(-margin, num_features - 1 + margin)
    figure.supxlabel("feature", fontsize=9)
    figure.supylabel("value", fontsize=9)
    return figure, axes


def _marker(num_features: int) -> dict[str, Any]:
    return {"marker": "o", "markersize": 3} if num_features <= _FEW_FEATURES else {}


def draw_vector_reconstructions(
    originals: np.ndarray, reconstructions: np.ndarray, path: pathlib.Path
) -> None:
    """Draws vectors and their reconstructions, a panel each.

    Args:
      originals: `[N, F]`; what is not finite is left out.
      reconstructions: Likewise.
      path: The file to write, PNG.
    """
    check_shape("originals", originals.shape, (None, None))
    check_shape("reconstructions", reconstructions.shape, originals.shape)
    check_at_least("the number of vectors", len(originals), 1)
    figure, axes = _panels(*originals.shape)
    style = _marker(originals.shape[1])
    for panel, x, mean in zip(axes, originals, reconstructions, strict=True):
        panel.plot(_finite(x), color="0.45", linewidth=1.6, label="original", **style)
        panel.plot(_finite(mean), color="C3", linewidth=1.2, label="reconstruction", **style)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    figure.savefig(path)


def draw_vector_samples(samples: np.ndarray, path: pathlib.Path) -> None:
    """Draws samples from the prior, decoded, a panel each.

    Args:
      samples: `[N, F]`; what is not finite is left out.
      path: The file to write, PNG.
    """
    check_shape("samples", samples.shape, (None, None))
    check_at_least("the number of samples", len(samples), 1)
    figure, axes = _panels(*samples.shape)
    for panel, x in zip(axes, samples, strict=True):
        panel.plot(_finite(x), color="C0", linewidth=1.3, **_marker(samples.shape[1]))
    figure.savefig(path)


def draw_vector_traversals(
    traversals: np.ndarray,
    kl_per_latent: np.ndarray,
    path: pathlib.Path,
    *,
    span: float,
    names: Sequence[str] = (),
) -> None:
    """Draws a panel a latent, moved over [-span, span] while the others stay; KL falls.

    Args:
      traversals: Decoded vectors `[D, T, F]`; what is not finite is left out.
      kl_per_latent: Mean KL of each latent `[D]`, nats.
      path: The file to write, PNG.
      span: How far, in standard deviations of the prior.
      names: What each latent is known to follow, `D` strings, empty where nothing is known.
    """
    check_shape("traversals", traversals.shape, (len(kl_per_latent), None, None))
    figure, axes = _panels(len(traversals), traversals.shape[2], columns=3)
    values = np.linspace(-span, span, traversals.shape[1])
    labels = label_latents(kl_per_latent, names)
    for panel, latent in zip(axes, order_latents(kl_per_latent), strict=True):
        colours = _draw_lines(panel, traversals[latent], values)
        panel.set_title(labels[latent], fontsize=9)
    _add_bar(figure, axes, colours, "value of the latent")
    figure.savefig(path)


def draw_vector_interpolation(
    vectors: np.ndarray, ends: tuple[np.ndarray, np.ndarray], path: pathlib.Path
) -> None:
    """Draws the way from one vector to another, the originals dashed.

    Args:
      vectors: Decoded vectors `[T, F]`, evenly spaced on the line between the codes.
      ends: The two originals `[F]`.
      path: The file to write, PNG.
    """
    check_shape("vectors", vectors.shape, (None, *ends[0].shape))
    check_shape("the second end", ends[1].shape, ends[0].shape)
    figure, axes = _panels(1, vectors.shape[1], panel=(6.0, 3.2))
    colours = _draw_lines(axes[0], vectors, np.linspace(0, 1, len(vectors)))
    for share, end in zip((0.0, 1.0), ends, strict=True):
        axes[0].plot(_finite(end), color=colours.to_rgba(share), linestyle="--", linewidth=2)
    _add_bar(figure, axes, colours, "share of the way")
    figure.savefig(path)


def _draw_lines(panel: Any, vectors: np.ndarray, values: np.ndarray) -> Any:
    """Draws a line for each of the vectors `[T, F]`, coloured by its value; the colours' map."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(values[0], values[-1]), colormaps["coolwarm"])
    for value, x in zip(values, vectors, strict=True):
        style = _marker(len(x))
        panel.plot(_finite(x), color=colours.to_rgba(value), linewidth=1.2, **style)
    return colours


def _add_bar(figure: Any, axes: list[Any], colours: Any, label: str) -> None:
    bar = figure.colorbar(colours, ax=axes, aspect=40, pad=0.02)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _finite(x: np.ndarray) -> np.ndarray:
    """The values as float64, with NaN, which is not drawn, for what is infinite."""
    x = np.asarray(x, np.float64)
    return np.where(np.isfinite(x), x, np.nan)
