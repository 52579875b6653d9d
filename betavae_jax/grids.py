"""The factors of the examples of a set, the rows of a full grid, and rows that are equal."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from betavae_jax.types import Dataset, FactorSpace

_ROWS_AT_ONCE = 65_536


def grid_strides(sizes: Sequence[int]) -> np.ndarray:
    """How many rows apart two examples are that differ by one in one factor alone.

    Args:
      sizes: Of the factors of a full grid, whose examples stand in row-major order.

    Returns:
      `[K]` int32; a row is Σ_k value_k · stride_k.
    """
    return np.cumprod([1, *sizes[:0:-1]])[::-1].astype(np.int32)


def varying_factors(space: FactorSpace | None) -> np.ndarray:
    """The factors that have more than one value, by number `[K]`."""
    return np.flatnonzero(np.asarray(space.sizes if space else ()) > 1)


def all_factors(data: Dataset) -> np.ndarray:
    """The factors of every example, NumPy `[N, K]`."""
    read: Callable[..., Any] = jax.jit(data.factors)
    starts = range(0, data.num_examples, _ROWS_AT_ONCE)
    parts = []
    for start in starts:  # in pieces of one size: one compilation, and no large temporary
        index = start + np.arange(min(_ROWS_AT_ONCE, data.num_examples), dtype=np.int32)
        parts.append(np.asarray(read(data.arrays, np.minimum(index, data.num_examples - 1))))
    return np.concatenate(parts)[: data.num_examples]


def group_rows(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups rows of labels `[N, K]` that are equal.

    Returns:
      Row numbers, those of a group side by side; where in them each row's group begins; and how
      many rows it has: `[N]` int32 each.
    """
    order = np.lexsort(labels.T)
    ordered = labels[order]
    is_first = np.concatenate([[True], np.any(ordered[1:] != ordered[:-1], axis=1)])
    starts = np.flatnonzero(is_first)
    counts = np.diff(np.append(starts, len(order)))
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(is_first) - 1
    return order.astype(np.int32), starts[group].astype(np.int32), counts[group].astype(np.int32)
