"""Factors of variation: declared by the user, read from labels, or a full grid."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from betavae_jax.checks import InputError, check_unique
from betavae_jax.grids import grid_strides
from betavae_jax.types import FactorSpace

_MAX_VALUES = 1000  # more distinct values are a measurement, not a factor


class Declared(NamedTuple):
    """What the user says about the factors; empty where nothing is said."""

    sizes: tuple[int, ...]  # K, of a full grid in row-major order
    names: tuple[str, ...]  # K


def parse_declared(factor_sizes: str, factor_names: str) -> Declared:
    """Parses the settings `factor_sizes` and `factor_names`.

    Args:
      factor_sizes: such as `10,10,8`, or nothing.
      factor_names: such as `floor_hue,wall_hue,scale`, or nothing.

    Raises:
      InputError: a size is no whole number from 1, a name is missing or stands twice, or
        there are not as many names as sizes.
    """
    sizes, names = _texts("factor_sizes", factor_sizes), _texts("factor_names", factor_names)
    if not all(text.isascii() and text.isdecimal() and int(text) > 0 for text in sizes):
        raise InputError(
            f"expected factor_sizes to be whole numbers from 1, such as 10,10,8;"
            f" got {factor_sizes!r}"
        )
    if names:
        check_unique("factor_names", names)
        if not all(names):
            raise InputError(f"expected factor_names without an empty one; got {factor_names!r}")
    if sizes and names and len(sizes) != len(names):
        raise InputError(
            f"expected as many factor_names as factor_sizes, {len(sizes)}; got {len(names)}"
        )
    return Declared(tuple(int(text) for text in sizes), names)


def _texts(what: str, setting: str) -> tuple[str, ...]:
    if not isinstance(setting, str):
        raise InputError(f"expected {what} to be a text with commas between; got {setting!r}")
    return tuple(text.strip() for text in setting.split(",")) if setting.strip() else ()


def grid_factors(sizes: Sequence[int]) -> np.ndarray:
    """Enumerates a grid in row-major order -> `[prod(sizes), K]` int32."""
    index = np.arange(math.prod(sizes))
    return np.stack(np.unravel_index(index, tuple(sizes)), axis=-1).astype(np.int32)


def is_grid(factors: np.ndarray, sizes: Sequence[int]) -> bool:
    """Says whether `[N, K]` factors are each combination once, in row-major order."""
    if len(factors) != math.prod(sizes):
        return False
    index = np.arange(len(factors))
    columns = zip(factors.T, sizes, grid_strides(sizes), strict=True)
    return all(np.array_equal(own, index // stride % size) for own, size, stride in columns)


def declare_grid(
    source: str, factors: np.ndarray, num_examples: int, sizes: Sequence[int]
) -> np.ndarray:
    """Gives the examples of a file the factors of a declared grid.

    Args:
      source: the file that a refusal names.
      factors: `[N, K]` int32 as they were read; K = 0 where there are none.
      num_examples: N.
      sizes: of the declared grid.

    Returns:
      `[N, len(sizes)]` int32, in row-major order.

    Raises:
      InputError: the grid is of another size than the file, or contradicts its labels.
    """
    if math.prod(sizes) != num_examples:
        product = " x ".join(str(size) for size in sizes)
        raise InputError(
            f"expected factor_sizes whose product is the number of examples in {source},"
            f" {num_examples}; got {product} = {math.prod(sizes)}"
        )
    if factors.shape[1] and not (factors.shape[1] == len(sizes) and is_grid(factors, sizes)):
        raise InputError(
            f"expected the labels in {source} to be those of factor_sizes in row-major order;"
            f" got {factors.shape[1]} labels an example in another order"
        )
    return grid_factors(sizes)


def factor_space(
    sources: Sequence[str], factors: Sequence[np.ndarray], names: Sequence[str]
) -> FactorSpace | None:
    """Names the factors, and sizes them by the largest label over all splits.

    Args:
      sources: the files of the splits, which a refusal names.
      factors: `[N, K]` of each split; K = 0 where it has none.
      names: K names; none stands for `label`, or `factor_0, factor_1, …` where K > 1.

    Returns:
      The space, or None where no split has factors.

    Raises:
      InputError: the splits, or the names, differ in number.
    """
    labelled = [(s, f) for s, f in zip(sources, factors, strict=True) if f.shape[1]]
    counts = [f.shape[1] for _, f in labelled]
    if len(set(counts)) > 1:
        raise InputError(
            f"expected as many labels an image in {labelled[1][0]} as in"
            f" {labelled[0][0]}, {counts[0]}; got {counts[1]}"
        )
    num_factors = counts[0] if counts else 0
    if names and len(names) != num_factors:
        raise InputError(
            f"expected as many factor_names as {sources[0]} has factors, {num_factors};"
            f" got {len(names)}: {', '.join(names)}"
        )
    if not num_factors:
        return None
    sizes = np.max([f.max(axis=0) for _, f in labelled], axis=0) + 1
    usual = ("label",) if num_factors == 1 else tuple(f"factor_{k}" for k in range(num_factors))
    return FactorSpace(tuple(names) or usual, tuple(int(size) for size in sizes), full_grid=False)


def rank_values(source: str, labels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Turns labels that are values into indices of the sorted values of their column.

    Args:
      source: the file that a refusal names.
      labels: `[N]` or `[N, K]` of each split: floats, or texts. The values of all splits
        count together.

    Returns:
      int32 of the same shapes.

    Raises:
      InputError: the splits differ in K, a value is not finite, or a column has more than
        1,000 distinct values.
    """
    columns = [array.reshape(len(array), -1) for array in labels]
    if len({array.shape[1] for array in columns}) > 1:
        counts = " and ".join(str(array.shape[1]) for array in columns)
        raise InputError(
            f"expected as many labels an image in all splits of {source}; got {counts}"
        )
    joined = np.concatenate(columns)
    if joined.dtype.kind == "f" and not np.isfinite(joined).all():
        raise InputError(f"expected finite labels in {source}; got NaN or infinity")
    ranks = np.zeros(joined.shape, np.int32)
    for k in range(joined.shape[1]):
        values, ranks[:, k] = np.unique(joined[:, k], return_inverse=True)
        if len(values) > _MAX_VALUES:
            raise InputError(
                f"expected labels of at most {_MAX_VALUES} distinct values in {source};"
                f" got {len(values)} in column {k}, counted from 0"
            )
    ends = np.cumsum([len(array) for array in labels])[:-1]
    pieces = np.split(ranks, ends)
    return [piece.reshape(array.shape) for piece, array in zip(pieces, labels, strict=True)]
