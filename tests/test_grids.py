"""Rows of full grids, the factors of every example, and groups of equal rows."""

import numpy as np
import pytest

from betavae_jax import grids
from betavae_jax.data.blobs import load_blobs
from betavae_jax.grids import all_factors, grid_strides, group_rows


@pytest.mark.parametrize("sizes", [(4,), (5, 7), (3, 1, 2), (3, 6, 40, 32, 32)], ids=str)
def test_a_row_is_the_sum_of_values_times_strides(sizes):
    factors = np.indices(sizes).reshape(len(sizes), -1)
    np.testing.assert_array_equal(grid_strides(sizes) @ factors, np.arange(np.prod(sizes)))


def test_all_factors_in_pieces(monkeypatch):
    data = load_blobs(image_size=8, blob_grid=4, blob_margin=2.0, blob_radii=3).train
    expected = np.stack(np.unravel_index(np.arange(48), (4, 4, 3)), axis=1)
    np.testing.assert_array_equal(all_factors(data), expected)
    monkeypatch.setattr(grids, "_ROWS_AT_ONCE", 5)
    np.testing.assert_array_equal(all_factors(data), expected)


@pytest.mark.parametrize("columns", [1, 3])
def test_equal_rows_are_a_group(columns):
    labels = np.random.default_rng(0).integers(3, size=(50, columns))
    order, start, size = group_rows(labels)
    for row in range(50):
        alike = np.flatnonzero(np.all(labels == labels[row], axis=1))  # in their order
        np.testing.assert_array_equal(order[start[row] :][: size[row]], alike)
