"""Axis alignment on codes whose answer is known by construction."""

import itertools

import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.metrics.alignment import axis_alignment

SIDE = 12
FACTORS = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1)
FACTORS = FACTORS.reshape(-1, 2).astype(np.int32)
N = len(FACTORS)


def noise(columns, seed=0):
    return np.random.default_rng(seed).normal(size=(N, columns))


def assert_alignment(alignment, correlation, latent, atol=1e-12):
    np.testing.assert_allclose(alignment.correlation, correlation, atol=atol)
    np.testing.assert_array_equal(alignment.latent, latent)
    np.testing.assert_allclose(alignment.value, np.mean(correlation), atol=atol)
    assert isinstance(alignment.value, float)


@pytest.mark.parametrize(
    ("codes", "latent"),
    [
        pytest.param(FACTORS, [0, 1], id="perfect"),
        pytest.param(FACTORS[:, ::-1], [1, 0], id="permuted"),
        pytest.param(FACTORS * [-1, 1], [0, 1], id="one sign flipped"),
        pytest.param(-FACTORS[:, ::-1], [1, 0], id="permuted, both signs flipped"),
        pytest.param(FACTORS * [1e-6, 1e6] + [0.0, -1e3], [0, 1], id="scaled and moved"),
        pytest.param(np.c_[noise(2), FACTORS, noise(1)], [2, 3], id="among noise"),
        pytest.param(np.c_[np.full(N, 0.1), FACTORS[:, 1], FACTORS[:, 0]], [2, 1], id="a constant"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_axes_that_follow_factors(codes, latent, dtype):
    atol = 1e-12 if dtype == np.float64 else 1e-6
    assert_alignment(axis_alignment(codes.astype(dtype), FACTORS), [1.0, 1.0], latent, atol=atol)


@pytest.mark.parametrize("degrees", [0, 10, 30, 44])
def test_a_rotation_costs_its_cosine(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    codes = (FACTORS - FACTORS.mean(0)) @ np.asarray([[c, -s], [s, c]])
    assert_alignment(axis_alignment(codes, FACTORS), [c, c], [0, 1])


def test_a_rotation_by_45_degrees():
    codes = FACTORS @ np.asarray([[1.0, -1.0], [1.0, 1.0]])
    alignment = axis_alignment(codes, FACTORS)
    np.testing.assert_allclose(alignment.correlation, [np.sqrt(0.5)] * 2, atol=1e-12)
    np.testing.assert_allclose(alignment.value, 0.70710678, atol=1e-8)
    assert sorted(alignment.latent) == [0, 1]


def test_a_duplicated_latent_serves_one_factor():
    codes = np.c_[FACTORS[:, 0], FACTORS[:, 0], FACTORS[:, 1]]
    alignment = axis_alignment(codes, FACTORS)
    np.testing.assert_allclose(alignment.correlation, [1.0, 1.0])
    assert alignment.latent[0] in (0, 1)
    assert alignment.latent[1] == 2
    only = axis_alignment(codes[:, :2], FACTORS)
    np.testing.assert_allclose(sorted(only.correlation), [0.0, 1.0], atol=1e-12)
    assert sorted(only.latent) == [0, 1]
    np.testing.assert_allclose(only.value, 0.5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3e5, 1e-7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_codes_follow_nothing(constant, dtype):
    alignment = axis_alignment(np.full((N, 3), constant, dtype), FACTORS)
    np.testing.assert_array_equal(alignment.correlation, [0.0, 0.0])
    assert alignment.value == 0.0
    assert len(set(alignment.latent)) == 2


@pytest.mark.parametrize("constant", [3, 0.1])
def test_a_constant_factor_is_followed_by_nothing(constant):
    factors = np.c_[FACTORS[:, 0], np.full(N, constant)]
    alignment = axis_alignment(np.c_[noise(1), FACTORS[:, 0]], factors)
    assert_alignment(alignment, [1.0, 0.0], [1, 0])


def test_latents_are_distinct_where_one_is_best_for_both():
    a, b = (FACTORS - FACTORS.mean(0)).T / FACTORS.std(0)[:, None]
    # |r| is [[.8, .6], [.6, 0]]: greedily 0.8 + 0 = 0.8; the best matching has 0.6 + 0.6 = 1.2.
    rest = noise(1)[:, 0]
    for column in (np.ones(N), a, b):
        rest = rest - (rest @ column) / (column @ column) * column
    rest /= rest.std()
    codes = np.c_[0.8 * a + 0.6 * b, 0.6 * a + 0.8 * rest]
    alignment = axis_alignment(codes, FACTORS)
    assert_alignment(alignment, [0.6, 0.6], [1, 0])


@pytest.mark.parametrize("num_factors", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_matching_is_the_best_of_all(seed, num_factors):
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 5, (60, num_factors))
    codes = factors @ rng.normal(size=(num_factors, 5)) + rng.normal(size=(60, 5))
    r = np.abs(np.corrcoef(codes.T, factors.T)[5:, :5])  # [K, D]
    picks = itertools.permutations(range(5), num_factors)
    best = max(picks, key=lambda pick: sum(r[k, d] for k, d in enumerate(pick)))
    expected = [r[k, d] for k, d in enumerate(best)]
    assert_alignment(axis_alignment(codes.astype(np.float64), factors), expected, best)


def test_the_arguments_are_left_alone():
    codes, factors = noise(3), FACTORS.copy()
    kept = codes.copy()
    axis_alignment(codes, factors)
    np.testing.assert_array_equal(codes, kept)
    np.testing.assert_array_equal(factors, FACTORS)


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (np.zeros((4, 2)), np.zeros((5, 2)), "expected codes"),
        (np.zeros(4), np.zeros((4, 1)), "expected codes"),
        (np.zeros((4, 2)), np.zeros(4), "expected codes"),
        (np.zeros((2, 4, 2)), np.zeros((2, 2)), "expected codes"),
        (np.zeros((4, 1)), np.zeros((4, 2)), "got 1 latents and 2 factors"),
        (np.full((4, 2), np.nan), np.zeros((4, 2)), "expected finite codes"),
        (np.asarray([[0.0, 1.0], [np.inf, 0.0]]), np.zeros((2, 2)), "expected finite codes"),
        (noise(2), np.where(FACTORS == 3, np.nan, FACTORS), "finite"),
    ],
)
def test_refusals(codes, factors, message):
    with pytest.raises(InputError, match=message):
        axis_alignment(codes, factors)
