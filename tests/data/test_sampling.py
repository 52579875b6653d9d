"""Splits by fraction and by factor values, and correlated factors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from betavae_jax.checks import InputError
from betavae_jax.data.blobs import load_blobs
from betavae_jax.data.resident import Part, make_splits
from betavae_jax.data.sampling import (
    check_sampling,
    correlate,
    sample_splits,
    subset,
)
from betavae_jax.grids import all_factors
from betavae_jax.types import FactorSpace, Splits

KEY = jax.random.key(0)


def blobs():
    return load_blobs(image_size=8, blob_grid=4, blob_margin=2.0, blob_sigma=1.0)


def stored(n=12):
    images = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1) * np.ones((1, 8, 8, 1), np.uint8)
    labels = np.arange(n, dtype=np.int32)[:, None] % 3
    space = FactorSpace(("label",), (3,), full_grid=False)
    return make_splits(Part("here", images, labels), None, space)


def images_of(data):
    return np.asarray(data.gather(data.arrays, jnp.arange(data.num_examples), KEY))


@pytest.mark.parametrize("load", [blobs, stored])
def test_a_fraction_parts_the_set(load):
    whole = load()
    splits = sample_splits(whole, test_fraction=0.25)
    count = whole.train.num_examples
    assert splits.test.num_examples == round(count / 4)
    assert splits.train.num_examples == count - splits.test.num_examples
    both = np.concatenate([images_of(splits.train), images_of(splits.test)])
    assert sorted(map(bytes, both)) == sorted(map(bytes, images_of(whole.train)))
    again = sample_splits(load(), test_fraction=0.25)
    np.testing.assert_array_equal(images_of(again.test), images_of(splits.test))


def test_factors_go_with_their_images():
    splits = sample_splits(blobs(), test_fraction=0.25)
    whole = blobs().train
    by_image = {bytes(x): f for x, f in zip(images_of(whole), all_factors(whole), strict=True)}
    for data in splits:
        for x, factors in zip(images_of(data), all_factors(data), strict=True):
            np.testing.assert_array_equal(by_image[bytes(x)], factors)
        assert data.space == FactorSpace(("x", "y"), (4, 4), full_grid=False)


def test_values_are_held_out():
    splits = sample_splits(blobs(), held_out=["x:1", "x:3", "y:0"])
    out = {(int(x), int(y)) for x, y in all_factors(splits.test)}
    assert out == {(1, 0), (3, 0)}
    assert splits.train.num_examples == 14
    assert out.isdisjoint({(int(x), int(y)) for x, y in all_factors(splits.train)})


def test_one_factor_held_out_is_gone_from_training():
    splits = sample_splits(blobs(), held_out=["y:2"])
    assert 2 not in all_factors(splits.train)[:, 1]
    assert set(all_factors(splits.test)[:, 1]) == {2}


def test_drawing_stays_within_the_subset():
    data = subset(stored().train, np.asarray([2, 5, 7]))
    index = data.draw(data.arrays, KEY, (1, 200), data.num_examples)
    assert set(np.unique(index)) == {0, 1, 2}
    x = data.gather(data.arrays, index[0], KEY)
    assert set(np.unique(np.round(np.asarray(x) * 255))) == {2.0, 5.0, 7.0}


@pytest.mark.parametrize("load", [blobs, stored])
def test_taking_rows_of_a_subset(load):
    data = subset(load().train, np.asarray([1, 4, 6, 9]))
    taken = data.take(data.arrays, np.asarray([3, 0]))
    index = jnp.arange(2)
    np.testing.assert_array_equal(data.gather(taken, index, KEY), images_of(data)[[3, 0]])
    np.testing.assert_array_equal(data.factors(taken, index), all_factors(data)[[3, 0]])


@pytest.mark.parametrize("sigma", [0.2, 0.7, 50.0])
def test_correlated_factors_follow_their_law(sigma):
    data = correlate(blobs().train, "x", "y", sigma)
    index = data.draw(data.arrays, jax.random.key(1), (2, 20_000), data.num_examples)
    assert index.shape == (2, 20_000)
    assert index.dtype == jnp.int32
    factors = np.asarray(data.factors(data.arrays, index.reshape(-1)))
    grid = np.arange(4) / 3
    law = np.exp(-((grid[:, None] - grid[None]) ** 2) / (2 * sigma**2))
    counts = np.zeros((4, 4))
    np.add.at(counts, (factors[:, 0], factors[:, 1]), 1)
    expected = 40_000 * law / law.sum()
    assert scipy.stats.chisquare(counts.ravel(), expected.ravel()).pvalue > 1e-3


def test_the_other_factors_stay_uniform():
    sizes = (3, 4, 5)
    n = int(np.prod(sizes))
    factors = np.stack(np.unravel_index(np.arange(n), sizes), axis=1).astype(np.int32)
    images = np.zeros((n, 8, 8, 1), np.uint8)
    images[0] = 255
    space = FactorSpace(("a", "b", "c"), sizes, full_grid=True)
    data = correlate(make_splits(Part("here", images, factors), None, space).train, "a", "c", 0.3)
    index = data.draw(data.arrays, jax.random.key(2), (30_000,), n)
    drawn = np.asarray(data.factors(data.arrays, index))
    assert scipy.stats.chisquare(np.bincount(drawn[:, 1], minlength=4)).pvalue > 1e-3
    assert np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1] > 0.6
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.03


def test_correlated_drawing_is_the_same_traced():
    data = correlate(blobs().train, "x", "y", 0.4)
    eager = data.draw(data.arrays, KEY, (1, 64), 16)
    traced = jax.jit(lambda arrays, key: data.draw(arrays, key, (1, 64), 16))(data.arrays, KEY)
    np.testing.assert_array_equal(eager, traced)


def test_nothing_asked_for_changes_nothing():
    splits = blobs()
    assert sample_splits(splits) is splits


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_fraction": 1.0}, "below 1"),
        ({"test_fraction": -0.1}, "at least 0"),
        ({"test_fraction": 0.001}, "examples in both splits"),
        ({"held_out": ["x"]}, "FACTOR:VALUE"),
        ({"held_out": ["x:-1"]}, "FACTOR:VALUE"),
        ({"held_out": ["size:1"]}, "expected a factor among x, y; got 'size'"),
        ({"held_out": ["x:4"]}, "below 4; got 4"),
        ({"held_out": ["x:0", "x:1", "x:2", "x:3"]}, "holds out 16 of 16"),
        ({"correlated": ["x:y"]}, "FACTOR:FACTOR:SIGMA"),
        ({"correlated": ["x:y:0"]}, "sigma above 0"),
        ({"correlated": ["x:x:1"]}, "two factors"),
        ({"correlated": ["x:y:1", "y:x:1"]}, "one pair"),
        ({"test_fraction": 0.5, "held_out": ["x:1"]}, "one of"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(InputError, match=message):
        sample_splits(blobs(), **settings)


def test_refusals_that_need_no_data():
    with pytest.raises(InputError, match="below 1"):
        check_sampling(2.0, [], [])


def test_a_set_with_a_test_split_keeps_it():
    splits = blobs()
    with pytest.raises(InputError, match="test split"):
        sample_splits(Splits(splits.train, splits.train), test_fraction=0.1)


def test_sets_without_factors_or_grid():
    images = np.full((4, 8, 8, 1), 9, np.uint8)
    bare = make_splits(Part("here", images, np.zeros((4, 0), np.int32)), None, None)
    with pytest.raises(InputError, match="known factors"):
        sample_splits(bare, held_out=["x:0"])
    with pytest.raises(InputError, match="full grid"):
        sample_splits(stored(), correlated=["label:label:1"])
