"""The factors of the examples of a set, and the rows of a full grid."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from betavae_jax.types import Dataset

_ROWS_AT_ONCE = 65_536


def grid_strides(sizes: Sequence[int]) -> np.ndarray:
    """How many rows apart two examples are that differ by one in one factor alone.

    Args:
      sizes: Of the factors of a full grid, whose examples stand in row-major order.

    Returns:
      `[K]` int32; a row is Σ_k value_k · stride_k.
    """
    return np.cumprod([1, *sizes[:0:-1]])[::-1].astype(np.int32)


def all_factors(data: Dataset) -> np.ndarray:
    """The factors of every example, NumPy `[N, K]`."""
    read: Callable[..., Any] = jax.jit(data.factors)
    starts = range(0, data.num_examples, _ROWS_AT_ONCE)
    parts = []
    for start in starts:  # in pieces of one size: one compilation, and no large temporary
        index = start + np.arange(min(_ROWS_AT_ONCE, data.num_examples), dtype=np.int32)
        parts.append(np.asarray(read(data.arrays, np.minimum(index, data.num_examples - 1))))
    return np.concatenate(parts)[: data.num_examples]
