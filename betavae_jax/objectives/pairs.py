"""Pairs of examples that share all but a few factors of variation."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError, check_at_least
from betavae_jax.grids import all_factors, grid_strides, group_rows, varying_factors
from betavae_jax.types import Array, Arrays, Dataset, Leaf, draw_uniformly


class PairArrays(NamedTuple):
    """A set, with its examples grouped by all factors but one, for each factor."""

    base: Arrays
    order: Leaf  # [K, N] int32, rows, those of a group side by side
    start: Leaf  # [K, N] int32, where in `order` a row's group begins
    count: Leaf  # [K, N] int32, how many rows its group has


def prepare_pairs(data: Dataset, changed: int) -> Dataset:
    """Adds to a set what `draw_pairs` looks up there; a full grid needs nothing.

    Args:
      data: A set with at least two known factors that vary, its arrays on the host.
      changed: How many factors differ in a pair; 0 for a random number of them.

    Returns:
      The set itself, or one of the same examples in the same order.

    Raises:
      InputError: If the set has no factors, too few of them, or no two examples that differ in
        one factor alone.
    """
    check_at_least("changed", changed, 0, integer=True)
    if data.space is None:
        raise InputError("expected a set with known factors, to pair examples; it has none")
    names = [data.space.names[k] for k in varying_factors(data.space)]
    if len(names) < 2 or changed >= len(names):
        raise InputError(
            f"expected more factors than the {max(changed, 1)} that change in a pair; "
            f"in the set {len(names)} vary: {', '.join(names) or 'none'}"
        )
    if data.space.full_grid:
        return data
    arrays = _group(data)
    if np.max(arrays.count) < 2:
        raise InputError(
            "expected examples that share all factors but one, to pair them; no two do"
        )

    def gather(arrays: PairArrays, index: Array, key: Array) -> Array:
        return data.gather(arrays.base, index, key)

    def factors(arrays: PairArrays, index: Array) -> Array:
        return data.factors(arrays.base, index)

    def draw(arrays: PairArrays, key: Array, shape: tuple[int, ...], num_examples: int) -> Array:
        return data.draw(arrays.base, key, shape, num_examples)

    take: Callable[[PairArrays, np.ndarray], PairArrays] | tuple[()] = ()
    if data.take:
        take_base = data.take

        def take_pairs(arrays: PairArrays, rows: np.ndarray) -> PairArrays:
            part = data._replace(arrays=take_base(arrays.base, rows), num_examples=len(rows))
            return _group(part)

        take = take_pairs
    return data._replace(
        arrays=arrays,
        gather=gather,
        factors=factors,
        draw=data.draw if data.draw is draw_uniformly else draw,  # which reads no arrays
        take=take,
    )


def draw_pairs(key: Array, batch_size: int, data: Dataset, changed: int) -> Array:
    """Draws examples as the set is drawn from, and for each a partner.

    A partner comes about by changing some factors, chosen at random, one after the other. A
    factor changes to that of a random example among those which agree in all others, so on a
    full grid it is uniform over its values. It may come out as it was. Factors with one value do
    not count.

    Args:
      key: A PRNG key.
      batch_size: B.
      data: A set that `prepare_pairs` returned.
      changed: How many factors change; 0 for a number of them from 1 to K - 1, drawn for each
        pair.

    Returns:
      Index `[2, B]`, int32.

    Raises:
      InputError: If the set is a part of a grid that `prepare_pairs` saw whole.

    References:
      Locatello et al. 2020, section 2.
    """
    vary = _vary(data)
    first_key, number_key, factor_key, *keys = jax.random.split(key, 3 + (changed or _most(data)))
    first = data.draw(data.arrays, first_key, (batch_size,), data.num_examples)
    num_factors = _most(data) + 1
    if changed:
        number = jnp.full((batch_size,), changed)
    else:
        number = jax.random.randint(number_key, (batch_size,), 1, num_factors)
    order = jnp.broadcast_to(jnp.arange(num_factors)[:, None], (num_factors, batch_size))
    order = jax.random.permutation(factor_key, order, axis=0, independent=True)  # [K, B]
    second = first
    for i, vary_key in enumerate(keys):
        second = jnp.where(i < number, vary(vary_key, second, order[i]), second)
    return jnp.stack([first, second])


def _most(data: Dataset) -> int:
    """K - 1: the most factors that may change in a pair."""
    return max(len(varying_factors(data.space)) - 1, 0)


def _vary(data: Dataset) -> Callable[[Array, Array, Array], Array]:
    """Makes the function (key, index [B], factor [B]) -> index [B] that changes one factor each."""
    if isinstance(data.arrays, PairArrays):
        arrays = data.arrays

        def vary_in_group(key: Array, index: Array, factor: Array) -> Array:
            place = jax.random.randint(key, index.shape, 0, arrays.count[factor, index])
            return arrays.order[factor, arrays.start[factor, index] + place]

        return vary_in_group
    if data.space is None or not data.space.full_grid:
        raise InputError(
            "expected a set with known factors that the device's memory holds whole, to pair"
            " examples; got another"
        )
    varying = varying_factors(data.space)
    sizes = np.asarray(data.space.sizes, np.int32)[varying]
    strides = grid_strides(data.space.sizes)[varying]

    def vary_on_grid(key: Array, index: Array, factor: Array) -> Array:
        stride, size = jnp.asarray(strides)[factor], jnp.asarray(sizes)[factor]
        value = index // stride % size
        return index + (jax.random.randint(key, index.shape, 0, size) - value) * stride

    return vary_on_grid


def _group(data: Dataset) -> PairArrays:
    """Groups the examples of a set by all factors but each one in turn."""
    factors = all_factors(data)[:, varying_factors(data.space)]
    groups = [group_rows(np.delete(factors, k, axis=1)) for k in range(factors.shape[1])]
    return PairArrays(data.arrays, *(np.stack(leaves) for leaves in zip(*groups, strict=True)))
