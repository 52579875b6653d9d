"""Which examples are scored, and what is read of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.evaluation.draws import (
    Rows,
    average_blocks,
    draw_rows,
    make_encoder,
    read_factors,
    read_pixels,
    whole,
)
from betavae_jax.fit import program_of
from betavae_jax.grids import all_factors
from betavae_jax.population import place_runs, replicate
from betavae_jax.runs.settings import Settings, build
from betavae_jax.types import Splits

SMALL = {"network": "mlp", "network_settings": {"widths": "8", "decoder_widths": "8"}}


@pytest.fixture(scope="module")
def experiment(make_experiment):
    return make_experiment(seed=[0, 1, 2], **SMALL)


def test_a_full_grid_is_drawn_from_with_replacement(experiment):
    train, test = draw_rows(experiment, 3000, 2000, 0)
    assert (len(train.numbers), len(test.numbers)) == (3000, 2000)
    assert len(np.intersect1d(train.numbers, test.numbers)) == 64
    counts = np.bincount(train.numbers, minlength=64)
    assert np.abs(counts - 3000 / 64).max() < 5 * np.sqrt(3000 / 64)
    places = train.first_places
    np.testing.assert_array_equal(np.sort(train.numbers[places]), np.arange(64))
    assert all(number not in train.numbers[:place] for place, number in
               zip(places, train.numbers[places], strict=True))  # fmt: skip


def assert_different(train, test, num_train, num_test):
    assert (len(train.numbers), len(test.numbers)) == (num_train, num_test)
    together = np.concatenate([train.numbers, test.numbers])
    assert len(np.unique(together)) == num_train + num_test


@pytest.mark.parametrize(
    ("wanted", "got"), [((3000, 2000), (42, 22)), ((30, 2000), (30, 22)), ((42, 5), (42, 5))]
)
def test_a_grid_that_is_taken_apart(experiment, wanted, got):
    assert_different(*draw_rows(experiment, *wanted, 0, apart=True), *got)


@pytest.fixture
def digits():
    return build(Settings(dataset="digits"))


def test_no_example_of_another_set_is_drawn_twice(digits):
    assert_different(*draw_rows(digits, 10_000, 5_000, 0), 1198, 599)
    assert_different(*draw_rows(digits, 100, 50, 0), 100, 50)
    alone = digits.splits.train._replace(num_examples=1)
    with pytest.raises(InputError, match=r"examples to score on to be .* at least 2; got 1"):
        draw_rows(digits._replace(splits=Splits(alone, None)), 10, 10, 0)


def test_the_seed_decides_the_draw(experiment):
    first, again, other = (draw_rows(experiment, 50, 50, seed)[0].numbers for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_a_test_split_is_drawn_from(make_experiment):
    experiment = make_experiment(test_fraction=0.25)
    train, test = draw_rows(experiment, 400, 200, 0)
    assert train.sets == (experiment.splits.train,)
    assert test.sets == (experiment.splits.test,)
    assert (len(train.numbers), len(test.numbers)) == (48, 16)
    every = np.unique(np.concatenate([read_factors(train), read_factors(test)]), axis=0)
    assert len(every) == 64
    assert len(np.unique(read_factors(test), axis=0)) == 16


def test_held_out_values_are_in_both_draws(make_experiment):
    experiment = make_experiment(held_out=["x:3"])
    train, test = draw_rows(experiment, 400, 400, 0)
    for rows in (train, test):
        factors = read_factors(rows)
        assert np.array_equal(np.unique(factors[:, 0]), np.arange(8))
        assert len(np.unique(factors, axis=0)) == 64
    inside = train.numbers >= experiment.splits.train.num_examples
    np.testing.assert_array_equal(read_factors(train)[:, 0] == 3, inside)


def test_reading_keeps_order_and_repetitions(experiment):
    data = experiment.splits.train
    numbers = np.asarray([5, 3, 5, 63, 0])
    rows = Rows((data,), numbers)
    np.testing.assert_array_equal(read_factors(rows), all_factors(data)[numbers])
    x = data.gather(data.arrays, jnp.asarray(numbers), jax.random.key(0))
    np.testing.assert_array_equal(read_pixels(rows, 256), np.asarray(x).reshape(5, -1))
    pooled = np.asarray(x).reshape(5, 8, 2, 8, 2).mean(axis=(2, 4)).reshape(5, -1)
    np.testing.assert_allclose(read_pixels(rows, 100), pooled, rtol=1e-6)


def test_codes_are_posterior_means_of_every_run(experiment):
    data, model = experiment.splits.train, experiment.model
    program = program_of(experiment)
    placed = replicate(data.arrays, program.devices)
    carry = program.init(place_runs(experiment.runs, program.devices), placed)
    encode = make_encoder(experiment, program, carry)
    numbers = np.asarray([5, 3, 5, 63, 0])
    codes = encode(Rows((data,), numbers))
    assert codes.shape == (3, 5, 3)
    x = data.gather(data.arrays, jnp.asarray(numbers), jax.random.key(0))
    for run in range(3):
        params = jax.tree.map(lambda leaf, r=run: leaf[r // 2, r % 2], carry.state.params)
        np.testing.assert_allclose(codes[run], model.encode(params, x).mean, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(encode(whole(data))[:, numbers], codes, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "most", "expected"),
    [
        ((2, 8, 8, 1), 64, (2, 8, 8, 1)),
        ((2, 8, 8, 1), 63, (2, 4, 4, 1)),
        ((2, 8, 8, 3), 48, (2, 4, 4, 3)),
        ((2, 28, 28, 1), 256, (2, 14, 14, 1)),
        ((2, 7, 5, 1), 12, (2, 4, 3, 1)),
        ((2, 4, 4, 1), 1, (2, 1, 1, 1)),
        ((2, 4, 4, 3), 1, (2, 1, 1, 3)),
        ((2, 16, 4, 1), 1, (2, 1, 1, 1)),
        ((2, 4, 16, 1), 3, (2, 1, 3, 1)),
        ((2, 500), 10, (2, 500)),
    ],
)
def test_shapes_of_averages(shape, most, expected):
    x = np.random.default_rng(0).random(shape).astype(np.float32)
    averaged = average_blocks(x, most)
    assert averaged.shape == expected
    assert averaged.dtype == np.float32
    assert averaged.min() >= x.min()
    assert averaged.max() <= x.max() + 1e-6


def test_averages_are_means_of_their_blocks():
    x = np.random.default_rng(1).random((1, 7, 5, 2))
    averaged = average_blocks(x, 24)
    np.testing.assert_allclose(averaged[0, 1, 1], x[0, 2:4, 2:4].mean(axis=(0, 1)))
    np.testing.assert_allclose(averaged[0, 3, 2], x[0, 6, 4])  # a corner block of one pixel
