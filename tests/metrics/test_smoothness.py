"""Jumps over a grid and linear read-out, on codes whose values theory gives."""

import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.metrics.smoothness import grid_jumps, linear_r_squared

GRID = np.stack(np.meshgrid(np.arange(8), np.arange(6), indexing="ij"), -1).reshape(-1, 2)
ROTATION = np.asarray([[0.8, -0.6], [0.6, 0.8]])


def test_a_linear_code_has_no_jumps():
    for codes in (GRID, GRID @ ROTATION, np.column_stack([GRID, np.zeros((48, 3))])):
        assert grid_jumps(codes, (8, 6)) == 0


def test_a_fold_jumps_at_every_edge_that_crosses_it():
    codes = GRID + 100.0 * (GRID[:, :1] >= 4)
    assert grid_jumps(codes, (8, 6)) == 6
    assert grid_jumps(codes * 1e-3, (8, 6)) == 6  # whatever the scale


def test_five_times_the_median_is_no_jump_yet():
    codes = np.arange(10.0)[:, None]
    codes[5:] += 4.0  # an edge of length 5
    assert grid_jumps(codes, (10,)) == 0
    codes[5:] += 0.1
    assert grid_jumps(codes, (10,)) == 1


def test_a_constant_code_has_no_jumps():
    assert grid_jumps(np.ones((48, 4)), (8, 6)) == 0


def test_r_squared():
    assert linear_r_squared(GRID @ ROTATION, GRID) == pytest.approx([1, 1])
    assert linear_r_squared(GRID[:, :1], GRID) == pytest.approx([1, 0])
    np.testing.assert_allclose(linear_r_squared(np.ones((48, 3)), GRID), 0, atol=1e-12)
    for constant in (1.0, 0.1, 1 / 3):
        assert linear_r_squared(GRID, np.full((48, 1), constant)) == 0
    rng = np.random.default_rng(0)
    codes, factor = rng.normal(size=(200, 1)), rng.normal(size=200)
    factor += codes[:, 0]
    expected = np.corrcoef(codes[:, 0], factor)[0, 1] ** 2
    assert linear_r_squared(codes, factor[:, None]) == pytest.approx([expected])


def test_refusals():
    with pytest.raises(InputError, match=r"shape \[48, any\]"):
        grid_jumps(np.ones((47, 2)), (8, 6))
    with pytest.raises(InputError, match="factors"):
        linear_r_squared(np.ones((48, 2)), np.ones((47, 1)))
    once = np.where(np.arange(96).reshape(48, 2) == 3, np.nan, GRID)
    with pytest.raises(InputError, match="finite codes"):
        grid_jumps(once, (8, 6))
    for codes, factors in ((once, GRID), (GRID, once)):
        with pytest.raises(InputError, match="finite codes and factors"):
            linear_r_squared(codes, factors)
