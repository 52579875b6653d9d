"""Which examples are learnt from: splits by fraction or factor, and correlated factors."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError, check_at_least, check_texts
from betavae_jax.data.vectors import restandardize
from betavae_jax.grids import all_factors, grid_strides
from betavae_jax.types import Array, Arrays, Dataset, FactorSpace, Leaf, Shape, Splits

_SPLIT_SEED = 0  # the same examples are held out, whatever the seed of a run
_HELD_OUT = "FACTOR:VALUE"
_CORRELATED = "FACTOR:FACTOR:SIGMA"


class SubsetArrays(NamedTuple):
    """Some rows of a set."""

    base: Arrays
    rows: Leaf  # [M] int32, in the set


class CorrelatedArrays(NamedTuple):
    """A full grid of which two factors are drawn together."""

    base: Arrays
    cumulative: Leaf  # [S1 * S2] float32, the distribution over cells of the two factors


def check_sampling(
    test_fraction: float, held_out: Sequence[str], correlated: Sequence[str]
) -> None:
    """Checks what can be checked of the settings before any data is loaded.

    Raises:
      InputError: If a number is out of range, a specification is not of its form, or the
        three do not go together.
    """
    check_at_least("test_fraction", test_fraction, 0)
    if test_fraction >= 1:
        raise InputError(f"expected test_fraction to be below 1; got {test_fraction}")
    check_texts("held_out", held_out)
    check_texts("correlated", correlated)
    for text in held_out:
        _parse_held_out(text)
    for text in correlated:
        _parse_correlated(text)
    chosen = [bool(test_fraction), bool(held_out), bool(correlated)]
    if sum(chosen) > 1:
        raise InputError(
            "expected one of test_fraction, held_out and correlated; got "
            f"{test_fraction}, {list(held_out)} and {list(correlated)}"
        )
    if len(correlated) > 1:
        raise InputError(f"expected one pair of correlated factors; got {list(correlated)}")


def sample_splits(
    splits: Splits,
    *,
    test_fraction: float = 0.0,
    held_out: Sequence[str] = (),
    correlated: Sequence[str] = (),
) -> Splits:
    """Splits a set, or has two of its factors drawn together.

    Args:
      splits: What was loaded.
      test_fraction: The fraction of examples to keep for evaluation, chosen once for all seeds.
      held_out: `FACTOR:VALUE` each, values counted from 0. Examples that have, in every factor
        named, one of the values named are kept for evaluation.
      correlated: `FACTOR:FACTOR:SIGMA`; see `correlate`.

    Returns:
      The splits; as they were where nothing is asked for.

    Raises:
      InputError: If the set has a test split already, has no such factors or values, or a
        split would be empty.
    """
    check_sampling(test_fraction, held_out, correlated)
    if (test_fraction or held_out) and splits.test is not None:
        raise InputError("expected a set without a test split of its own; it has one")
    if test_fraction:
        return _split_by_fraction(splits.train, test_fraction)
    if held_out:
        return _hold_out(splits.train, held_out)
    if correlated:
        return splits._replace(train=correlate(splits.train, *_parse_correlated(correlated[0])))
    return splits


def subset(data: Dataset, rows: np.ndarray) -> Dataset:
    """Restricts a set to some of its rows.

    Args:
      data: The set.
      rows: Row numbers `[M]`.

    Returns:
      A set of M examples that shares the arrays of the first.
    """

    def gather(arrays: SubsetArrays, index: Array, key: Array) -> Array:
        return data.gather(arrays.base, jnp.take(arrays.rows, index, mode="clip"), key)

    def factors(arrays: SubsetArrays, index: Array) -> Array:
        return data.factors(arrays.base, jnp.take(arrays.rows, index, mode="clip"))

    def take(arrays: SubsetArrays, kept: np.ndarray) -> SubsetArrays:
        if not data.take:  # examples are computed from their index, which must stay
            return SubsetArrays(arrays.base, np.asarray(arrays.rows)[kept])
        base = data.take(arrays.base, np.asarray(arrays.rows)[kept])
        return SubsetArrays(base, np.arange(len(kept), dtype=np.int32))

    space = data.space and FactorSpace(data.space.names, data.space.sizes, full_grid=False)
    arrays = SubsetArrays(data.arrays, np.asarray(rows, np.int32))
    return Dataset(arrays, gather, factors, space, len(rows), take=take, scale=data.scale)


def _split_by_fraction(data: Dataset, fraction: float) -> Splits:
    count = round(fraction * data.num_examples)
    if not 0 < count < data.num_examples:
        raise InputError(
            f"expected test_fraction to leave examples in both splits of {data.num_examples}; "
            f"got {fraction}"
        )
    order = np.random.default_rng(_SPLIT_SEED).permutation(data.num_examples)
    return _split(data, np.sort(order[count:]), np.sort(order[:count]))


def _hold_out(data: Dataset, held_out: Sequence[str]) -> Splits:
    space = _known_space(data, "held_out")
    wanted: dict[int, list[int]] = {}
    for text in held_out:
        name, value = _parse_held_out(text)
        factor = _find(space, name)
        if value >= space.sizes[factor]:
            raise InputError(
                f"expected held_out values of {name} to be below {space.sizes[factor]}; got {value}"
            )
        wanted.setdefault(factor, []).append(value)
    factors = all_factors(data)
    out = np.all([np.isin(factors[:, k], values) for k, values in wanted.items()], axis=0)
    if not out.any() or out.all():
        raise InputError(
            f"expected held_out to leave examples in both splits; {', '.join(held_out)} holds out "
            f"{int(out.sum())} of {len(out)}"
        )
    rows = np.arange(data.num_examples)
    return _split(data, rows[~out], rows[out])


def _split(data: Dataset, train: np.ndarray, test: np.ndarray) -> Splits:
    data = restandardize(data, train)  # by nothing of what is kept for evaluation
    return Splits(subset(data, train), subset(data, test))


def correlate(data: Dataset, first: str, second: str, sigma: float) -> Dataset:
    """Draws two factors of a full grid together, the others uniformly.

    The two have p(a, b) ∝ exp(-(a - b)² / 2σ²), each scaled to [0, 1]: the smaller σ, the
    stronger they are tied; from σ = 1 on they are nearly independent.

    Args:
      data: A full grid.
      first: The name of a factor.
      second: The name of another.
      sigma: σ, above zero.

    Returns:
      The same examples, drawn otherwise.

    Raises:
      InputError: If the set is not a full grid, or has no such factors.

    References:
      Träuble et al. 2021, On Disentangled Representations Learned from Correlated Data,
      section 3.
    """
    space = _known_space(data, "correlated")
    if not space.full_grid:
        raise InputError("expected a full grid of factors for correlated factors; it is not one")
    i, j = _find(space, first), _find(space, second)
    if i == j or min(space.sizes[i], space.sizes[j]) < 2:
        raise InputError(f"expected two factors of several values; got {first} and {second}")
    a, b = (np.linspace(0, 1, space.sizes[k]) for k in (i, j))
    weights = np.exp(-np.square(a[:, None] - b[None, :]) / (2 * sigma**2)).ravel()
    cumulative = (np.cumsum(weights) / np.sum(weights)).astype(np.float32)
    strides = grid_strides(space.sizes)

    def draw(arrays: CorrelatedArrays, key: Array, shape: Shape, num_examples: int) -> Array:
        del num_examples
        cell_key, rest_key = jax.random.split(key)
        u = jax.random.uniform(cell_key, shape)
        cell = jnp.searchsorted(arrays.cumulative, u, side="right")
        cell = jnp.minimum(cell, arrays.cumulative.shape[0] - 1)
        values = {i: cell // space.sizes[j], j: cell % space.sizes[j]}
        keys = jax.random.split(rest_key, len(space.sizes))
        index = jnp.zeros(shape, jnp.int32)
        for k, size in enumerate(space.sizes):
            value = values[k] if k in values else jax.random.randint(keys[k], shape, 0, size)
            index = index + value.astype(jnp.int32) * strides[k]
        return index

    def gather(arrays: CorrelatedArrays, index: Array, key: Array) -> Array:
        return data.gather(arrays.base, index, key)

    def factors(arrays: CorrelatedArrays, index: Array) -> Array:
        return data.factors(arrays.base, index)

    arrays = CorrelatedArrays(data.arrays, cumulative)
    return Dataset(arrays, gather, factors, space, data.num_examples, draw=draw, scale=data.scale)


def _known_space(data: Dataset, setting: str) -> FactorSpace:
    if data.space is None:
        raise InputError(f"expected a set with known factors for {setting}; it has none")
    return data.space


def _find(space: FactorSpace, name: str) -> int:
    if name not in space.names:
        raise InputError(f"expected a factor among {', '.join(space.names)}; got {name!r}")
    return space.names.index(name)


def _parse_held_out(text: str) -> tuple[str, int]:
    name, _, value = text.rpartition(":")
    if not name or not value.isdecimal():
        raise InputError(f"expected held_out to be {_HELD_OUT}, a value from 0; got {text!r}")
    return name, int(value)


def _parse_correlated(text: str) -> tuple[str, str, float]:
    parts = text.split(":")
    try:
        first, second, sigma = parts[0], parts[1], float(parts[2])
        if len(parts) != 3 or not sigma > 0 or not np.isfinite(sigma):
            raise ValueError
    except (IndexError, ValueError):
        raise InputError(
            f"expected correlated to be {_CORRELATED}, sigma above 0; got {text!r}"
        ) from None
    return first, second, sigma
