"""Arrays that a CPU device uses in place."""

import jax
import numpy as np
import pytest

from betavae_jax.data.memory import allocate


@pytest.mark.parametrize("shape", [(1_000_003,), (3, 5, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_zeros_of_that_shape_and_type(shape, dtype):
    array = allocate(shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert not array.any()
    assert array.ctypes.data % 64 == 0
    assert array.flags.writeable


def test_the_device_uses_it_in_place():
    array = allocate((1_000_000,), np.uint8)
    placed = jax.device_put(array, jax.devices("cpu")[0])
    assert placed.unsafe_buffer_pointer() == array.ctypes.data
