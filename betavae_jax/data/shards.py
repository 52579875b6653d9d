"""Sets larger than a memory budget, as parts of equal size that take turns on the device."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.types import Array, Arrays, Dataset, Shape

_PERMUTATION_SEED = 0  # which examples share a part does not depend on the seed of a run


class Shards(NamedTuple):
    """A set in parts; the arrays of all parts have the same shapes."""

    data: Dataset  # its arrays are those of the first part; draws rows within a part
    load: Callable[[int], Arrays]  # number of a part -> its arrays, on the host
    num_parts: int
    steps: int  # how many training steps a part serves before the next one's turn


def size_in_bytes(arrays: Arrays) -> int:
    """What arrays take on a device."""
    return int(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(arrays)))


def make_shards(data: Dataset, budget: int, batch_size: int) -> Shards | tuple[()]:
    """Cuts a set into parts, two of which fit a budget: one serves while the next arrives.

    Examples are dealt to the parts at random, once, so that each part resembles the whole. The
    parts are equal: where N does not divide, the last holds some examples of the first again.

    Args:
      data: The set, its arrays on the host.
      budget: Bytes of device memory for data.
      batch_size: Examples in a batch; a part serves as many steps as it has batches.

    Returns:
      The parts, or `()` where the whole set fits.

    Raises:
      InputError: If the set cannot be cut, or the budget does not hold two batches.
    """
    total = size_in_bytes(data.arrays)
    if total <= budget:
        return ()
    if not data.take:
        raise InputError(
            f"expected device_memory_mb of at least {math.ceil(total / 1e6)} for this set, which "
            f"cannot be cut into parts; got {budget // 10**6}"
        )
    take = data.take
    rows = int(budget / 2 / (total / data.num_examples))
    count = math.ceil(data.num_examples / max(rows, 1))
    rows = math.ceil(data.num_examples / count)
    if rows < batch_size:
        raise InputError(
            f"expected device_memory_mb to hold two parts of {batch_size} examples or more; got "
            f"{budget // 10**6}"
        )
    order = np.random.default_rng(_PERMUTATION_SEED).permutation(data.num_examples)
    order = np.resize(order, count * rows)  # repeats the first ones at the end

    def load(number: int) -> Arrays:
        # Sorted, so that a file on disk is read from front to back.
        return take(data.arrays, np.sort(order[number * rows : (number + 1) * rows]))

    def draw(arrays: Arrays, key: Array, shape: Shape, num_examples: int) -> Array:
        del arrays, num_examples
        return jax.random.randint(key, shape, 0, rows)

    space = data.space and data.space._replace(full_grid=False)  # a row is no index into the grid
    part = data._replace(arrays=load(0), draw=draw, space=space)
    return Shards(part, load, count, math.ceil(rows / batch_size))


def shard_at(shards: Shards, step: int) -> int:
    """The number of the part that serves a step.

    Each pass over the set takes the parts in an order of its own, which depends on the number
    of the pass alone, so that training can go on from any step.
    """
    turn = step // shards.steps
    order = np.random.default_rng((_PERMUTATION_SEED, turn // shards.num_parts))
    return int(order.permutation(shards.num_parts)[turn % shards.num_parts])
