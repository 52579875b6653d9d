"""What training needs of memory, and how many runs a device trains best together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.data.shards import size_in_bytes
from betavae_jax.feed import Feed
from betavae_jax.fit import program_of
from betavae_jax.memory import TooLargeError
from betavae_jax.population import place_runs, replicate, take_rows
from betavae_jax.runs.settings import Settings, build
from betavae_jax.study import measure
from betavae_jax.study.measure import Measured, choose_count, counts_to_try, memory_of

N = 1_000 * 4  # bytes of the vectors below


def nested(x):
    return jax.lax.cond(x[0] > 0, lambda x: jax.jit(jnp.sin)(x * 2), jnp.cos, x)


CASES = {
    "nothing": (lambda x: x, 0),
    "one result": (lambda x: x + 1, N),
    "each ends where the next begins": (lambda x: jnp.sin(jnp.cos(jnp.tan(x + 1))), 2 * N),
    "one is kept": (lambda x: (y := x + 1) * jnp.sin(jnp.cos(jnp.tan(y))), 3 * N),
    "all are kept": (lambda x: (x + 1, x * 2, x - 3), 3 * N),
    "in a branch, and its result": (lambda x: nested(x) + 1, 2 * N),
    "once, however often": (lambda x: jax.lax.fori_loop(0, 9, lambda _, y: jnp.sin(y) + 1, x),
                            2 * N),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_alive_at_once(name):
    function, expected = CASES[name]
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((1_000,), np.float32))
    scalars = 16
    assert expected <= measure._alive(traced.jaxpr) <= expected + scalars


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (3_000, 32, 32, 1), np.uint8))
    return path


def experiment_of(images=None, objective="beta_vae", **settings):
    data = {"dataset": "arrays", "data": {"data_dir": str(images)}} if images else {}
    network = {"network": "mlp", "network_settings": {"widths": "64", "decoder_widths": "64"}}
    return build(Settings(objective=objective, num_latents=2, **data, **network, **settings))


def test_data_counts_once_and_runs_as_often_as_they_are(images):
    experiment = experiment_of(images)
    data = memory_of(experiment, 0)
    assert data == size_in_bytes(experiment.splits.train.arrays) == 3_000 * 32 * 32
    assert memory_of(experiment, 6) - data == 6 * (memory_of(experiment, 1) - data)
    parts = experiment_of(images, device_memory_mb=1)
    assert data / 10 < memory_of(parts, 0) <= 1e6  # two parts at a time
    batches = [experiment_of(images, batch_size=64 * k) for k in (10, 20, 40)]
    needs = [memory_of(batch, 1) for batch in batches]
    assert needs[2] - needs[1] == pytest.approx(2 * (needs[1] - needs[0]), rel=0.01)
    assert needs[1] - needs[0] > 640 * 4 * 32 * 32  # the pictures of 640 examples


def xla_needs(experiment):
    """Bytes of carry and temporaries of one run, by XLA's own account."""
    runs = take_rows(experiment.runs, 0, 1)
    program = program_of(experiment._replace(runs=runs), jax.devices()[:1])
    settings = place_runs(runs, program.devices)
    arrays = replicate(experiment.splits.train.arrays, program.devices)
    carry = jax.eval_shape(program.init, settings, arrays)
    count = replicate(np.int32(0), program.devices)
    compiled = program.advance.lower(carry, settings, arrays, count).compile()
    return size_in_bytes(carry) + compiled.memory_analysis().temp_size_in_bytes


def test_objectives_are_ranked_as_xla_ranks_them(images):
    experiments = [
        experiment_of(objective="beta_tcvae"),
        experiment_of(objective="ada_gvae"),  # pairs of pictures, and fewer terms to carry
    ]
    needs = [xla_needs(experiment) for experiment in experiments]
    estimates = [memory_of(e, 1) - memory_of(e, 0) for e in experiments]
    assert needs == sorted(needs)
    assert estimates == sorted(estimates)
    assert all(1.0 < a / b < 2.0 for a, b in zip(estimates, needs, strict=True))


def test_a_critic_weighs_what_it_carries():
    estimates = [memory_of(experiment_of(objective=name), 1) for name in ("ada_gvae", "factor_vae")]
    assert estimates[1] - estimates[0] > 4_000_000 * 4 * 3  # parameters, and Adam's two moments


def exhausted(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")


def test_data_that_does_not_fit_is_measured_as_a_count_that_does_not(images, monkeypatch):
    monkeypatch.setattr("betavae_jax.fit.replicate", exhausted)
    measured = measure.measure_counts(experiment_of(images), [1, 2], seconds=9.0)
    assert measured == [Measured(1, None)]


def test_the_next_part_of_the_data_stays_while_it_is_measured(images, monkeypatch):
    closed = []
    feed = Feed(lambda _: (), lambda _: 40, lambda: closed.append(True))
    speeds = iter([10.0, 20.0, None])

    def speed_of(*_):
        assert not closed
        return next(speeds) or exhausted()

    monkeypatch.setattr(measure, "feed_of", lambda *_: feed)
    monkeypatch.setattr(measure, "_images_per_second", speed_of)
    measured = measure.measure_counts(experiment_of(images), [1, 2, 4, 8], seconds=9.0)
    assert measured == [Measured(1, 10.0), Measured(2, 20.0), Measured(4, None)]
    assert closed == [True]


def too_large(*_):
    raise TooLargeError("expected 9.0 GB of memory")


def test_a_count_that_a_cpu_does_not_hold_ends_measuring_and_the_first_is_refused(monkeypatch):
    speeds = iter([10.0, None])
    monkeypatch.setattr(measure, "_images_per_second", lambda *_: next(speeds) or too_large())
    assert measure.measure_counts(experiment_of(), [1, 2, 4], seconds=9.0) == [
        Measured(1, 10.0),
        Measured(2, None),
    ]
    monkeypatch.setattr(measure, "_images_per_second", too_large)
    with pytest.raises(TooLargeError):
        measure.measure_counts(experiment_of(), [1, 2], seconds=9.0)


def test_no_more_devices_are_measured_than_there_are_runs(monkeypatch):
    trials = []

    def speed_of(experiment, program, _):
        trials.append((len(experiment.runs.seed), len(program.devices)))
        return 1.0

    monkeypatch.setattr(measure, "_images_per_second", speed_of)
    for seeds in ((0,), (0, 1, 2)):
        measure.measure_counts(experiment_of(seed=seeds), [2], seconds=9.0)
    assert trials == [(2, 2), (4, 2)]


def test_the_smallest_count_as_fast_as_the_best_is_chosen():
    measured = [Measured(1, 50.0), Measured(2, 97.5), Measured(4, 100.0), Measured(8, 98.0)]
    assert choose_count(measured, 1) == 2
    assert choose_count(measured, 3) == 4
    assert choose_count(measured, 5) == 8
    assert choose_count(measured, 9) == 2  # none holds the seeds
    assert choose_count([*measured[:1], Measured(2, None)], 3) == 1


def test_counts_to_try():
    assert counts_to_try(300, 50, 1, takes_turns=False) == [1, 2, 4, 8, 16, 32, 50, 64, 128, 256,
                                                            300]  # fmt: skip
    assert counts_to_try(12, 3, 2, takes_turns=False) == [1, 2, 4, 6]
    assert counts_to_try(12, 3, 1, takes_turns=True) == [3, 6]
    assert counts_to_try(3, 3, 2, takes_turns=True) == [2]
