"""Memory that a CPU device can use in place."""

import math
from typing import Any

import numpy as np

_ALIGNMENT = 64  # bytes; XLA copies what does not begin at a multiple


def allocate(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Makes an array of zeros that JAX places on a CPU device without a copy.

    NumPy's own large arrays begin 16 bytes past such a multiple, and are then held twice.

    Args:
      shape: Its shape.
      dtype: Its type.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
