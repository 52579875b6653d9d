"""Whole sets through a population, against the plain loop over rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax import codes, gaussian
from betavae_jax.data.sampling import subset
from betavae_jax.fit import program_of
from betavae_jax.grids import all_factors
from betavae_jax.memory import TooLargeError
from betavae_jax.population import place_runs, replicate


@pytest.fixture(scope="module")
def trained(make_experiment):
    experiment = make_experiment(seed=[0, 1, 2])
    program = program_of(experiment)  # two devices, one run of padding
    arrays = replicate(experiment.splits.train.arrays, program.devices)
    settings = place_runs(experiment.runs, program.devices)
    return experiment, program, arrays, program.init(settings, arrays).state.params


def params_of(params, run):
    return jax.tree.map(lambda leaf: leaf[run // 2, run % 2], params)


def test_encode_rows_is_encode(trained):
    experiment, program, arrays, params = trained
    data = experiment.splits.train
    rows = np.asarray([3, 61, 0, 17], np.int32)
    encoded = codes.encode_rows(experiment.model, data, program, params, arrays, rows, 3)
    assert encoded.mean.shape == (3, 4, 3)
    x, encode = codes.fetch_examples(data, rows), jax.jit(experiment.model.encode)
    for run in range(3):
        expected = encode(params_of(params, run), x)
        np.testing.assert_allclose(encoded.mean[run], expected.mean, atol=1e-6)
        np.testing.assert_allclose(encoded.log_variance[run], expected.log_variance, atol=1e-6)


def test_the_next_population_compiles_nothing(trained, counted_compilations):
    experiment, program, arrays, params = trained
    data, rows = experiment.splits.train, np.arange(8, dtype=np.int32)

    def measure(program, params):
        codes.make_bound(experiment.model, data, program, 3)(params)
        return codes.encode_rows(experiment.model, data, program, params, arrays, rows, 3).mean

    first = measure(program, params)
    other = jax.tree.map(lambda leaf: leaf + 0.01, params)
    next_program = program_of(experiment)  # as for the next pack of a study
    with counted_compilations() as compilations:
        assert not np.array_equal(measure(next_program, other), first)
        np.testing.assert_array_equal(measure(next_program, params), first)
    assert compilations == []


def test_the_bound_is_the_mean_over_rows(trained, monkeypatch):
    experiment, program, arrays, params = trained
    data = experiment.splits.train
    monkeypatch.setattr(codes, "_ROWS_AT_ONCE", 24)  # 64 rows: two batches and a padded one
    del arrays
    bound = codes.make_bound(experiment.model, data, program, 3)(params)
    assert bound.num_evaluated == 64
    model = experiment.model
    encode, decode = jax.jit(model.encode), jax.jit(model.decode)
    log_likelihood, kl_per_latent = jax.jit(model.log_likelihood), jax.jit(gaussian.kl_per_latent)
    for run in range(3):
        run_params = params_of(params, run)
        distortion, kl = [], []
        for row in range(64):
            x = codes.fetch_examples(data, np.asarray([row]))
            posterior = encode(run_params, x)
            key = jax.random.fold_in(jax.random.key(0), row)
            z = gaussian.sample(key, jax.tree.map(lambda a: a[0], posterior))[None]
            natural = decode(run_params, z)
            distortion.append(-float(log_likelihood(natural, jnp.asarray(x))[0]))
            kl.append(np.asarray(kl_per_latent(posterior)[0], np.float64))
        np.testing.assert_allclose(bound.distortion[run], np.mean(distortion), rtol=1e-5)
        np.testing.assert_allclose(bound.kl_per_latent[run], np.mean(kl, axis=0), atol=1e-6)
        np.testing.assert_allclose(bound.rate[run], bound.kl_per_latent[run].sum())
        np.testing.assert_allclose(bound.elbo[run], -(bound.distortion[run] + bound.rate[run]))


def test_what_memory_does_not_hold_is_refused_before_it_is_computed(trained, monkeypatch):
    experiment, program, arrays, params = trained
    data, rows = experiment.splits.train, np.arange(64, dtype=np.int32)
    bound = codes.make_bound(experiment.model, data, program, 3)
    monkeypatch.setattr("betavae_jax.memory.available_bytes", lambda: 1_000)
    monkeypatch.setattr("betavae_jax.memory._SECONDS_TO_SETTLE", (0.0,))
    message = r"which evaluation takes on 2 CPU devices; got .*\(fewer latents or a smaller networ"
    with pytest.raises(TooLargeError, match=message):
        bound(params)
    with pytest.raises(TooLargeError, match=message):
        codes.encode_rows(experiment.model, data, program, params, arrays, rows, 3)


def test_a_set_with_a_law_of_its_own_is_evaluated_by_it(make_experiment):
    experiment = make_experiment(correlated=["x:y:0.05"])
    program = program_of(experiment)
    data = experiment.splits.train
    params = program.init(
        place_runs(experiment.runs, program.devices), replicate(data.arrays, program.devices)
    ).state.params
    bound = codes.make_bound(experiment.model, data, program, 1, num_rows=2000)(params)
    assert bound.num_evaluated == 2000
    # The divergence has no noise of samples: over all rows, and weighed by the law.
    mean = params_of(params, 0)
    everything = experiment.model.encode(mean, codes.fetch_examples(data, np.arange(64)))
    kl = np.asarray(gaussian.kl_per_latent(everything)).sum(axis=1)
    a, b = np.divmod(np.arange(64), 8)
    law = np.exp(-(((a - b) / 7) ** 2) / (2 * 0.05**2))
    expected = np.sum(kl * law) / law.sum()
    error = kl.std() / np.sqrt(2000)
    assert abs(kl.mean() - expected) > 6 * error  # so that uniform rows would be seen
    np.testing.assert_allclose(bound.rate[0], expected, atol=4 * error)


def test_examples_and_factors_are_those_of_the_rows(make_experiment):
    data = make_experiment().splits.train
    rows = np.asarray([3, 61, 0, 17, 3], np.int32)
    for held in (data, subset(data, np.arange(64))):  # the first computes from the row's number
        few, numbers = codes.narrow(held, rows)
        assert few.num_examples == (len(rows) if held.take else 64)
        np.testing.assert_array_equal(codes.fetch_factors(held, rows), all_factors(data)[rows])
        np.testing.assert_array_equal(codes.fetch_factors(few, numbers), all_factors(data)[rows])
        expected = data.gather(data.arrays, jnp.asarray(rows), jax.random.key(1))
        np.testing.assert_array_equal(codes.fetch_examples(held, rows), expected)


def test_evaluation_rows():
    np.testing.assert_array_equal(codes.evaluation_rows(5), np.arange(5))
    rows = codes.evaluation_rows(1_000_000)
    assert rows.dtype == np.int32
    assert len(np.unique(rows)) == 10_000
    assert rows.min() >= 0
    assert rows.max() < 1_000_000
    assert np.all(np.diff(rows) > 0)
    np.testing.assert_array_equal(rows, codes.evaluation_rows(1_000_000))
    # Uniform: the mean of 10,000 draws from [0, 1) has a standard deviation of 0.0029.
    assert abs(rows.mean() / 1e6 - 0.5) < 0.015
