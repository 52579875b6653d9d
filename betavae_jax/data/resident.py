"""Images held whole in memory: checked on the host, gathered on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.factors import is_grid
from betavae_jax.types import Array, Arrays, Dataset, FactorSpace, Splits

_MAX_CHANNELS = 4
_BLOCK = 4096  # images that are looked at at a time
_ROUNDING = 1e-3  # outside [0, 1] by no more, as resampling leaves it


class ImageArrays(NamedTuple):
    """What the device holds."""

    images: Array | np.ndarray  # [N, H, W, C] uint8, 0 to 255, or float32 in [0, 1]
    factors: Array | np.ndarray  # [N, K] int32; K = 0 where none are known


class Part(NamedTuple):
    """One split as it was read, and where it came from."""

    source: str
    images: np.ndarray  # [N, H, W, C] uint8 or float32; of vectors, [N, F] as they were read
    factors: np.ndarray  # [N, K] int32


def gather_images(arrays: ImageArrays, index: Array, key: Array) -> Array:
    """Looks up `[B]` examples -> `[B, H, W, C]` float32 in [0, 1]."""
    del key  # nothing here is random
    x = jnp.take(arrays.images, index, axis=0, mode="clip")
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x


def stored_factors(arrays: Arrays, index: Array) -> Array:
    """Looks up the factors of `[B]` examples -> `[B, K]` int32."""
    return jnp.take(arrays.factors, index, axis=0, mode="clip")


def take_images(arrays: ImageArrays, rows: np.ndarray) -> ImageArrays:
    """Restricts the arrays to `[M]` rows, on the host."""
    return ImageArrays(arrays.images[rows], arrays.factors[rows])


def make_splits(train: Part, test: Part | None, space: FactorSpace | None) -> Splits:
    """Makes data sets of what was read.

    Byte images whose largest value over both splits is 1 are taken as binary, 0 and 1,
    and stretched to 0 and 255 in place; an image of the full range never looks so.

    Args:
      train: the examples to learn from.
      test: those kept for evaluation, or None.
      space: the factors' names and sizes; None where neither split has factors. Whether a
        split is the full grid is found out here.

    Raises:
      InputError: the images of the two splits differ in shape.
    """
    parts = [train] if test is None else [train, test]
    if all(_is_binary(part.images) for part in parts):
        for part in parts:
            np.multiply(part.images, 255, out=part.images)

    def make(part: Part) -> Dataset:
        arrays = ImageArrays(part.images, part.factors)
        return dataset_of(part, space, arrays, gather=gather_images, take=take_images)

    return splits_of(train, test, make)


def splits_of(train: Part, test: Part | None, make: Callable[[Part], Dataset]) -> Splits:
    """Makes a data set of each part.

    Raises:
      InputError: the examples of the two differ in shape.
    """
    if test is not None and train.images.shape[1:] != test.images.shape[1:]:
        kind = "images" if train.images.ndim > 2 else "vectors"
        raise InputError(
            f"expected test {kind} of the training {kind}' shape {list(train.images.shape[1:])};"
            f" got {list(test.images.shape[1:])} in {test.source}"
        )
    return Splits(make(train), None if test is None else make(test))


def _is_binary(images: np.ndarray) -> bool:
    """Says whether bytes never exceed 1; mostly the first block decides."""
    if images.dtype != np.uint8:
        return False
    starts = range(0, len(images), _BLOCK)
    return all(images[start : start + _BLOCK].max() <= 1 for start in starts)


def dataset_of(part: Part, space: FactorSpace | None, arrays: Arrays, **own: Any) -> Dataset:
    """Makes the data set of a part: its space says whether it is the full grid."""
    if space is not None and part.factors.shape[1]:
        space = space._replace(full_grid=is_grid(part.factors, space.sizes))
    return Dataset(
        arrays,
        factors=stored_factors,
        space=space if part.factors.shape[1] else None,
        num_examples=len(part.images),
        **own,
    )


def check_images(source: str, images: np.ndarray) -> np.ndarray:
    """Checks an array of images and gives it the shape and type that are kept.

    Args:
      source: the file, and the array in it, that a refusal names.
      images: `[N, H, W]` or `[N, H, W, C]`: uint8, bool, or floats in [0, 1].

    Returns:
      `[N, H, W, C]`, uint8 from 0 to 255 or float32 in [0, 1], free to be written to.

    Raises:
      InputError: the shape, the type or the range is another one.
    """
    shape = list(images.shape)
    if images.ndim not in (3, 4):
        raise InputError(
            f"expected images [N, H, W] or [N, H, W, C], or vectors [N, F], in {source};"
            f" got {shape}"
        )
    if images.size == 0:
        raise InputError(f"expected at least one image and one pixel in {source}; got {shape}")
    if images.ndim == 4 and shape[3] > _MAX_CHANNELS:
        is_first = shape[1] <= _MAX_CHANNELS
        hint = " (move the channels last with np.moveaxis(images, 1, -1))" if is_first else ""
        raise InputError(
            f"expected images [N, H, W, C] of 1 to {_MAX_CHANNELS} channels, channels last,"
            f" in {source}; got {shape}{hint}"
        )
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(images.dtype, np.floating):
        return _check_range(source, images)
    raise InputError(
        f"expected images of uint8 (0 to 255), bool, or floats in [0, 1] in {source};"
        f" got {images.dtype}"
    )


def _check_range(source: str, images: np.ndarray) -> np.ndarray:
    low, high = float(images.min()), float(images.max())  # both NaN where any value is
    if low >= 0 and high <= 1:
        return images.astype(np.float32)
    if not np.isfinite([low, high]).all():
        raise InputError(f"expected finite floats in [0, 1] in {source}; got NaN or infinity")
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        rescale = "np.clip(images, 0, 1)"
    else:
        rescale = "images / 255" if low >= 0 and high <= 255 else "(images - low) / (high - low)"
    raise InputError(
        f"expected floats in [0, 1] in {source}; got {low:.7g} to {high:.7g} (rescale: {rescale})"
    )


def check_factors(source: str, labels: np.ndarray, num_images: int) -> np.ndarray:
    """Checks an array of labels.

    Args:
      source: the file, and the array in it, that a refusal names.
      labels: `[N]` or `[N, K]` whole numbers from 0.
      num_images: N.

    Returns:
      `[N, K]` int32.

    Raises:
      InputError: the shape, the count or a value is another one.
    """
    if labels.ndim not in (1, 2) or labels.shape[-1] == 0:
        raise InputError(f"expected labels [N] or [N, K] in {source}; got {list(labels.shape)}")
    if len(labels) != num_images:
        raise InputError(
            f"expected one label an image in {source}; got labels that do not match:"
            f" {num_images} images, {len(labels)} labels"
        )
    if labels.dtype.kind not in "biuf":
        raise InputError(f"expected labels that are whole numbers in {source}; got {labels.dtype}")
    # the comparison also refuses NaN, which is unlike itself
    if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
        raise InputError(f"expected labels that are whole numbers in {source}; got fractions")
    low, high = labels.min(), labels.max()
    if low < 0 or high >= np.iinfo(np.int32).max:
        raise InputError(f"expected labels counted from 0 in {source}; got {low} to {high}")
    return labels.reshape(num_images, -1).astype(np.int32)
