"""Vectors held whole in memory: standardised on the host, gathered on the device."""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.resident import Part, dataset_of, splits_of
from betavae_jax.types import Array, Dataset, FactorSpace, Scale, Splits

_BLOCK = 1 << 22  # numbers that are held in double precision at a time


class VectorArrays(NamedTuple):
    """What the device holds."""

    vectors: Array | np.ndarray  # [N, F] float32, standardised by the set's scale if it has one
    factors: Array | np.ndarray  # [N, K] int32; K = 0 where none are known


def gather_vectors(arrays: VectorArrays, index: Array, key: Array) -> Array:
    """Looks up `[B]` examples -> `[B, F]` float32."""
    del key  # nothing here is random
    return jnp.take(arrays.vectors, index, axis=0, mode="clip")


def take_vectors(arrays: VectorArrays, rows: np.ndarray) -> VectorArrays:
    """Restricts the arrays to `[M]` rows, on the host."""
    return VectorArrays(arrays.vectors[rows], arrays.factors[rows])


def make_vector_splits(
    train: Part, test: Part | None, space: FactorSpace | None, *, standardize: bool
) -> Splits:
    """Makes data sets of vectors.

    Each feature is shifted and scaled to mean 0 and standard deviation 1 over the
    training part, the test part by the same numbers; a feature that is constant there
    is only shifted, to 0.

    Args:
      train: the examples to learn from, `[N, F]`.
      test: those kept for evaluation, or None.
      space: the factors' names and sizes; None where neither split has factors.
      standardize: False leaves the values as they are.

    Raises:
      InputError: the vectors of the two splits differ in length, or a test value is so far
        out that float32 cannot hold it.
    """
    scale = Scale(*moments(train.images)) if standardize else None

    def make(part: Part) -> Dataset:
        values = _standardize(part.images, scale or Scale(np.zeros(()), np.ones(())), part.source)
        arrays = VectorArrays(values, part.factors)
        own = {"gather": gather_vectors, "take": take_vectors, "scale": scale}
        return dataset_of(part, space, arrays, **own)

    return splits_of(train, test, make)


def restandardize(data: Dataset, rows: np.ndarray) -> Dataset:
    """Standardises the vectors of a set by some of its rows, those that are learnt from.

    Args:
      data: A set as it was loaded; one that is not of standardised vectors stays as it is.
      rows: Row numbers `[M]`.

    Raises:
      InputError: If another row is so far out that float32 cannot hold it then.
    """
    before = data.scale
    if before is None:
        return data
    learnt_from = data.arrays.vectors[rows]
    mean, deviation = moments(learnt_from)
    constant = learnt_from.min(axis=0) == learnt_from.max(axis=0)  # in its own units then
    change = Scale(mean, np.where(constant, 1 / before.scale, deviation))
    vectors = _standardize(data.arrays.vectors, change, "the set")
    return data._replace(
        arrays=data.arrays._replace(vectors=vectors),
        scale=Scale(before.restore(mean), before.scale * change.scale),
    )


def _standardize(values: np.ndarray, scale: Scale, source: str) -> np.ndarray:
    vectors = np.empty(values.shape, np.float32)
    for rows in _blocks(values):
        with np.errstate(over="ignore"):  # the check below names the file
            vectors[rows] = scale.standardize(values[rows])
    if not np.isfinite([vectors.min(), vectors.max()]).all():
        raise InputError(
            f"expected values within 1e38 standard deviations of the training part in"
            f" {source}; got one further out"
        )
    return vectors


def moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of each feature, in double precision.

    Args:
      vectors: `[N, F]`, finite.

    Returns:
      `[F]` means, and `[F]` standard deviations (of the population, not of a sample);
      of a constant feature, its value and 1.
    """
    num = len(vectors)
    mean = sum(vectors[rows].sum(axis=0, dtype=np.float64) for rows in _blocks(vectors)) / num
    squares = sum(((vectors[rows] - mean) ** 2).sum(axis=0) for rows in _blocks(vectors))
    deviation = np.sqrt(squares / num)
    # not deviation == 0, which rounding of the mean can miss; nor a scale that is 0 in float32
    constant = (vectors.min(axis=0) == vectors.max(axis=0)) | (
        deviation < np.finfo(np.float32).tiny
    )
    return np.where(constant, vectors[0], mean), np.where(constant, 1.0, deviation)


def _blocks(vectors: np.ndarray) -> Iterator[slice]:
    """Cuts the rows so that a block has about `_BLOCK` numbers."""
    size = max(1, _BLOCK // vectors.shape[1])
    for start in range(0, len(vectors), size):
        yield slice(start, start + size)


def check_vectors(source: str, vectors: np.ndarray) -> np.ndarray:
    """Checks an array of vectors.

    Args:
      source: the file, and the array in it, that a refusal names.
      vectors: `[N, F]` numbers of any type, or booleans.

    Returns:
      The array as it is.

    Raises:
      InputError: the array is empty or holds no numbers, or a value is NaN, infinite or
        too large for float32.
    """
    if vectors.size == 0:
        raise InputError(
            f"expected at least one vector and one feature in {source}; got {list(vectors.shape)}"
        )
    if vectors.dtype.kind not in "biuf":
        raise InputError(f"expected vectors of numbers in {source}; got {vectors.dtype}")
    limit = float(np.finfo(np.float32).max)
    low, high = float(vectors.min()), float(vectors.max())  # both NaN where any value is
    if -limit <= low and high <= limit:
        return vectors
    row, column = np.argwhere(~(np.abs(vectors) <= limit))[0]
    raise InputError(
        f"expected finite numbers, within float32, in {source};"
        f" got {vectors[row, column]} in row {row}, column {column}, counted from 0"
    )
