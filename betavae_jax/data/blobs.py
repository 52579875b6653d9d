"""White dots on black: two known factors, drawn on the device from the index."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError, check_at_least, check_name, check_positive
from betavae_jax.types import Array, Dataset, FactorSpace, Splits

_MAX_GRID = 32768  # an index into the grid must fit an int32


class BlobArrays(NamedTuple):
    """All that an image is drawn from."""

    centres: Array | np.ndarray  # [blob_grid] float32, pixels, the same for columns and rows


def load_blobs(
    *,
    image_size: int = 32,
    blob_sigma: float = 4.0,
    blob_grid: int = 32,
    blob_margin: float = 9.0,
    blob_shape: str = "gaussian",
) -> Splits:
    """Loads the white dot on black, centred on each point of a square lattice.

    Factor 0, `x`, is the position along the columns and factor 1, `y`, along the
    rows; example `index` is the dot at x = index // blob_grid, y = index % blob_grid.
    Pixel (r, c) is sampled at its centre, (c + ½, r + ½).

    Args:
      image_size: height and width in pixels, 8 to 256.
      blob_sigma: width of the dot in pixels: the standard deviation of a gaussian,
        the radius of a disc. A disc under 0.71 may fall between the pixels.
      blob_grid: lattice points per side; there are blob_grid² examples.
      blob_margin: pixels from the border to the first and the last lattice point.
      blob_shape: `gaussian`, exp(-d²/2σ²), or `disc`, 1 where d ≤ σ.

    Returns:
      The full grid, `[image_size, image_size, 1]` an image, to learn from; no test split.

    Raises:
      InputError: a setting is out of its range.
    """
    check_at_least("image_size", image_size, 8, integer=True)
    check_positive("blob_sigma", blob_sigma)
    check_at_least("blob_grid", blob_grid, 2, integer=True)
    check_at_least("blob_margin", blob_margin, 0)
    check_name("blob_shape", blob_shape, _SHAPES)
    if image_size > 256:
        raise InputError(f"expected image_size to be at most 256; got {image_size}")
    if blob_grid > _MAX_GRID:
        raise InputError(f"expected blob_grid to be at most {_MAX_GRID}; got {blob_grid}")
    if blob_margin >= image_size / 2:
        raise InputError(
            f"expected blob_margin to be below half the image, {image_size / 2:g};"
            f" got {blob_margin}"
        )
    centres = np.linspace(blob_margin, image_size - blob_margin, blob_grid).astype(np.float32)
    draw = functools.partial(
        _draw, image_size=image_size, sigma=float(blob_sigma), shape=_SHAPES[blob_shape]
    )
    dataset = Dataset(
        arrays=BlobArrays(centres),
        gather=draw,
        factors=_factors,
        space=FactorSpace(("x", "y"), (blob_grid, blob_grid), full_grid=True),
        num_examples=blob_grid**2,
    )
    return Splits(train=dataset, test=None)


def _gaussian(dx: Array, dy: Array, sigma: float) -> Array:
    """`[B, W]` and `[B, H]` distances to the centre -> `[B, H, W]`."""
    # exp(-(dx² + dy²)/2σ²) is a product of one profile along each side
    row, column = (jnp.exp(-((d / sigma) ** 2) / 2) for d in (dy, dx))
    return row[:, :, None] * column[:, None, :]


def _disc(dx: Array, dy: Array, sigma: float) -> Array:
    """`[B, W]` and `[B, H]` distances to the centre -> `[B, H, W]`."""
    squared = (dy**2)[:, :, None] + (dx**2)[:, None, :]
    return (squared <= sigma**2).astype(jnp.float32)


_SHAPES: dict[str, Callable[[Array, Array, float], Array]] = {
    "gaussian": _gaussian,
    "disc": _disc,
}


def _draw(
    arrays: BlobArrays,
    index: Array,
    key: Array,
    *,
    image_size: int,
    sigma: float,
    shape: Callable[[Array, Array, float], Array],
) -> Array:
    """`[B]` -> `[B, H, W, 1]` float32 in [0, 1]."""
    del key  # nothing here is random
    pixels = jnp.arange(image_size, dtype=jnp.float32) + 0.5
    centres = jnp.take(arrays.centres, _factors(arrays, index), axis=0, mode="clip")  # [B, 2]
    distances = pixels[None, None, :] - centres[:, :, None]  # [B, 2, image_size]
    return shape(distances[:, 0], distances[:, 1], sigma)[..., None]


def _factors(arrays: BlobArrays, index: Array) -> Array:
    """`[B]` -> `[B, 2]` int32: the column and the row of the lattice, row-major."""
    grid = arrays.centres.shape[0]
    return jnp.stack([index // grid, index % grid], axis=-1).astype(jnp.int32)
