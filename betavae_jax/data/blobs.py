"""White dots on black: position and radius known, drawn on the device from the index."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError, check_at_least, check_name, check_positive
from betavae_jax.types import Array, Dataset, FactorSpace, Splits

_MAX_GRID = 32768  # an index into the grid must fit an int32
_FACTORS = ("x", "y", "radius")


class BlobArrays(NamedTuple):
    """All that an image is drawn from."""

    # What a side of the image sees of a dot, the same for columns and rows: tabled once, so that
    # the training step multiplies or adds, and takes no exponential whose last bit would depend
    # on how the compiler cut its loop.
    profiles: Array | np.ndarray  # [blob_radii, blob_grid, image_size] float32
    sigmas: Array | np.ndarray  # [blob_radii] float32, pixels


class _Kind(NamedTuple):
    """A shape of dot: what is tabled, and how a column and a row of it give a pixel."""

    profile: Callable[[np.ndarray, float], np.ndarray]  # (distance to the centre, σ), pixels
    join: Callable[[Array, Array, Array], Array]  # ([B, 1, W], [B, H, 1], σ [B, 1, 1])


def load_blobs(
    *,
    image_size: int = 32,
    blob_sigma: float = 4.0,
    blob_grid: int = 32,
    blob_margin: float = 9.0,
    blob_shape: str = "gaussian",
    blob_radii: int = 1,
    blob_radius_span: float = 0.5,
) -> Splits:
    """Loads the white dot on black, centred on each point of a square lattice.

    Factor 0, `x`, is the position along the columns and factor 1, `y`, along the
    rows; with several radii, factor 2 is `radius`. Examples stand in row-major order:
    with one radius, example `index` is the dot at x = index // blob_grid, y = index %
    blob_grid. Pixel (r, c) is sampled at its centre, (c + ½, r + ½).

    Args:
      image_size: height and width in pixels, 8 to 256.
      blob_sigma: width of the dot in pixels: the standard deviation of a gaussian,
        the radius of a disc. A disc under 0.71 may fall between the pixels.
      blob_grid: lattice points per side; there are blob_grid² examples.
      blob_margin: pixels from the border to the first and the last lattice point.
      blob_shape: `gaussian`, exp(-d²/2σ²), or `disc`, 1 where d ≤ σ.
      blob_radii: widths of the dot, evenly spaced; there are as many times more examples.
      blob_radius_span: they lie within blob_sigma · (1 ± blob_radius_span), above 0 and
        below 1; of no effect with one radius.

    Returns:
      The full grid, `[image_size, image_size, 1]` an image, to learn from; no test split.

    Raises:
      InputError: a setting is out of its range.
    """
    check_at_least("image_size", image_size, 8, most=256, integer=True)
    check_positive("blob_sigma", blob_sigma)
    check_at_least("blob_grid", blob_grid, 2, most=_MAX_GRID, integer=True)
    check_at_least("blob_margin", blob_margin, 0)
    check_name("blob_shape", blob_shape, _SHAPES)
    if blob_margin >= image_size / 2:
        raise InputError(
            f"expected blob_margin to be below half the image, {image_size / 2:g};"
            f" got {blob_margin}"
        )
    check_at_least("blob_radii", blob_radii, 1, integer=True)
    check_positive("blob_radius_span", blob_radius_span)
    if blob_radius_span >= 1:
        raise InputError(f"expected blob_radius_span to be below 1; got {blob_radius_span}")
    if blob_grid**2 * blob_radii > _MAX_GRID**2:
        raise InputError(f"expected at most {_MAX_GRID**2} dots; got {blob_grid**2 * blob_radii}")
    kind = _SHAPES[blob_shape]
    pixels = np.arange(image_size) + 0.5
    centres = np.linspace(blob_margin, image_size - blob_margin, blob_grid)
    scales = 1 + blob_radius_span * np.linspace(-1, 1, blob_radii) if blob_radii > 1 else [1.0]
    sigmas = blob_sigma * np.asarray(scales)
    distances = pixels[None, :] - centres[:, None]  # [blob_grid, image_size]
    profiles = np.stack([kind.profile(distances, sigma) for sigma in sigmas])
    sizes = (blob_grid, blob_grid, blob_radii)
    num_factors = 3 if blob_radii > 1 else 2
    dataset = Dataset(
        arrays=BlobArrays(profiles.astype(np.float32), sigmas.astype(np.float32)),
        gather=functools.partial(_draw, join=kind.join),
        factors=lambda arrays, index: _factors(arrays, index)[..., :num_factors],
        space=FactorSpace(_FACTORS[:num_factors], sizes[:num_factors], full_grid=True),
        num_examples=math.prod(sizes),
    )
    return Splits(train=dataset, test=None)


_SHAPES: dict[str, _Kind] = {
    # exp(-(dx² + dy²)/2σ²) is a product of one profile along each side
    "gaussian": _Kind(
        lambda distance, sigma: np.exp(-np.square(distance / sigma) / 2),
        lambda column, row, _: column * row,
    ),
    "disc": _Kind(
        lambda distance, _: np.square(distance),
        lambda column, row, sigma: (column + row <= jnp.square(sigma)).astype(jnp.float32),
    ),
}


def _draw(
    arrays: BlobArrays,
    index: Array,
    key: Array,
    *,
    join: Callable[[Array, Array, Array], Array],
) -> Array:
    """`[B]` -> `[B, H, W, 1]` float32 in [0, 1]."""
    del key  # nothing here is random
    radii, grid, _ = arrays.profiles.shape
    factors = _factors(arrays, index)
    x, y, radius = (
        jnp.clip(factors[:, k], 0, size - 1) for k, size in enumerate((grid, grid, radii))
    )
    profiles = jnp.asarray(arrays.profiles)
    column, row = profiles[radius, x], profiles[radius, y]  # [B, image_size]
    sigma = jnp.asarray(arrays.sigmas)[radius]
    return join(column[:, None, :], row[:, :, None], sigma[:, None, None])[..., None]


def _factors(arrays: BlobArrays, index: Array) -> Array:
    """`[B]` -> `[B, 3]` int32: the column and the row of the lattice and the radius, row-major."""
    radii, grid, _ = arrays.profiles.shape
    place = index // radii
    return jnp.stack([place // grid, place % grid, index % radii], axis=-1).astype(jnp.int32)
