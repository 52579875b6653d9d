"""Pictures of images: reconstructions, samples, traversals."""

import pathlib
from collections.abc import Sequence

import numpy as np

from betavae_jax.checks import InputError, check_at_least, check_shape
from betavae_jax.plots.latents import label_latents, order_latents

_DPI = 100
_GAP = 2  # pixels between tiles
_SAMPLES_IN_A_ROW = 10
_USUAL_WIDTH = 800  # of a picture, pixels
_TILE = 60  # a tile is at least so wide on the page, pixels
_LONGEST = 16_000  # of a picture's side, where that can be, pixels: WebP ends at 16,383


def to_rgb(images: np.ndarray) -> np.ndarray:
    """Makes images `[..., H, W, C]` of 1 to 4 channels printable: `[..., H, W, 3]` in [0, 1].

    Two channels are grey and alpha, four are colour and alpha; they are laid over white, as
    on paper. Values are clipped; one that is not finite is mid-grey.

    Raises:
      InputError: If there are fewer than three axes, or another number of channels.
    """
    if images.ndim < 3 or not 1 <= images.shape[-1] <= 4:
        raise InputError(
            f"expected images [..., H, W, C] of 1 to 4 channels; got {list(images.shape)}"
        )
    images = np.clip(np.where(np.isfinite(images), images, 0.5), 0, 1)
    if images.shape[-1] in (2, 4):
        alpha = images[..., -1:]
        images = alpha * images[..., :-1] + (1 - alpha)
    return np.broadcast_to(images, (*images.shape[:-1], 3))


def tile_images(images: np.ndarray) -> np.ndarray:
    """Joins images `[rows, columns, H, W, C]` into one picture `[., ., 3]`.

    Args:
      images: Values in [0, 1]; see `to_rgb` for others and for the channels.

    Returns:
      One picture; the gaps of two pixels are mid-grey, so that black images keep their edges.

    Raises:
      InputError: If `images` has another number of axes, or not 1 to 4 channels.
    """
    check_shape("images", images.shape, (None,) * 5)
    images = to_rgb(images)
    rows, columns, height, width, _ = images.shape
    size = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3)
    picture = np.full(size, 0.5, np.float32)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + _GAP), column * (width + _GAP)
            picture[top : top + height, left : left + width] = images[row, column]
    return picture


def _draw_tiles(
    images: np.ndarray,
    path: pathlib.Path,
    row_labels: Sequence[str],
    title: str = "",
    *,
    column_labels: Sequence[str] = (),
    axis_labels: tuple[str, str] = ("", ""),
) -> None:
    from matplotlib.figure import Figure

    picture = tile_images(images)
    rows, columns, height, width = images.shape[:4]
    # A whole number of screen pixels, two or more, for each image pixel: none is lost.
    scale = max(2, -(-_TILE // width))
    scale = max(1, min(scale, _LONGEST // max(picture.shape[:2])))
    inches = (scale * picture.shape[1] / _DPI, scale * picture.shape[0] / _DPI)
    points = 9 * max(1.0, _DPI * inches[0] / _USUAL_WIDTH)  # a wide picture is shown smaller
    figure = Figure(figsize=inches, dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture, interpolation="nearest", vmin=0, vmax=1)
    middles = np.arange(columns) * (width + _GAP) + width / 2 - 0.5
    axes.set_xticks(middles if column_labels else [], column_labels or [])
    centres = np.arange(rows) * (height + _GAP) + height / 2 - 0.5
    axes.set_yticks(centres if row_labels else [], row_labels or [])
    axes.tick_params(length=0, labelsize=points)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=points * 10 / 9)
    axes.set_ylabel(axis_labels[0], fontsize=points * 10 / 9)
    axes.set_xlabel(axis_labels[1], fontsize=points * 10 / 9)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.1)  # labels stand outside the axes


def draw_reconstructions(
    originals: np.ndarray, reconstructions: np.ndarray, path: pathlib.Path
) -> None:
    """Draws originals above their reconstructions.

    Args:
      originals: `[N, H, W, C]` in [0, 1].
      reconstructions: Likewise.
      path: The file to write, PNG.
    """
    check_shape("reconstructions", reconstructions.shape, originals.shape)
    images = np.stack([originals, reconstructions])
    _draw_tiles(images, path, ["original", "reconstruction"])


def draw_samples(samples: np.ndarray, path: pathlib.Path) -> None:
    """Draws samples from the prior, decoded.

    Args:
      samples: `[N, H, W, C]` in [0, 1]; N is cut to full rows.
      path: The file to write, PNG.
    """
    check_shape("samples", samples.shape, (None, None, None, None))
    check_at_least("the number of samples", len(samples), 1)
    columns = min(_SAMPLES_IN_A_ROW, len(samples))
    rows = len(samples) // columns
    _draw_tiles(samples[: rows * columns].reshape((rows, columns, *samples.shape[1:])), path, [])


def draw_traversals(
    traversals: np.ndarray,
    kl_per_latent: np.ndarray,
    path: pathlib.Path,
    *,
    span: float,
    names: Sequence[str] = (),
    title: str = "",
) -> None:
    """Draws a row a latent, moved over [-span, span] while the others stay; rows fall in KL.

    Args:
      traversals: Decoded images `[D, T, H, W, C]` in [0, 1].
      kl_per_latent: Mean KL of each latent `[D]`, nats.
      path: The file to write, PNG.
      span: How far, in standard deviations of the prior.
      names: What each latent is known to follow, `D` strings, empty where nothing is known.
      title: What is moved and what stays; by default, that the others are at an image's code.
    """
    order, labels = order_latents(kl_per_latent), label_latents(kl_per_latent, names)
    usual = f"each latent from {-span:g} to {span:g}, the others at the code of one image"
    _draw_tiles(traversals[order], path, [labels[latent] for latent in order], title or usual)


def draw_grid(
    images: np.ndarray, values: np.ndarray, path: pathlib.Path, *, labels: tuple[str, str]
) -> None:
    """Draws images over two latents: one rises to the right, the other upwards.

    Args:
      images: `[T, T, H, W, C]` in [0, 1]; the first axis is of the latent that rises upwards.
      values: What both latents take `[T]`, rising.
      path: The file to write, PNG.
      labels: The latent that rises upwards, and the one that rises to the right.
    """
    check_shape("images", images.shape, (len(values), len(values), None, None, None))
    ticks = [f"{value:g}" for value in values]
    edges = (ticks[::-1], ticks)
    _draw_tiles(images[::-1], path, edges[0], column_labels=edges[1], axis_labels=labels)


def draw_interpolation(
    images: np.ndarray, ends: tuple[np.ndarray, np.ndarray], path: pathlib.Path
) -> None:
    """Draws the way from one image to another: the originals at the ends.

    Args:
      images: Decoded images `[T, H, W, C]` in [0, 1], evenly spaced on the line between codes.
      ends: The two originals `[H, W, C]`.
      path: The file to write, PNG.
    """
    check_shape("images", images.shape, (None, *ends[0].shape))
    check_shape("the second end", ends[1].shape, ends[0].shape)
    row = np.concatenate([ends[0][None], images, ends[1][None]])
    shares = [f"{share:.0%}" for share in np.linspace(0, 1, len(images))]
    _draw_tiles(row[None], path, [], column_labels=["original", *shares, "original"])
