"""The host loop: cadence of hooks, exact resume, signals."""

import os
import signal

import jax
import numpy as np
import pytest

from betavae_jax import fit as fitting
from betavae_jax.feed import resident
from betavae_jax.fit import Hooks, carry_template, fit, program_of
from betavae_jax.fit_directory import fit_directory
from betavae_jax.memory import TooLargeError
from betavae_jax.population import replicate, take_runs
from betavae_jax.runs.checkpoints import open_checkpoints
from betavae_jax.runs.records import read_log


@pytest.fixture(scope="module")
def small(make_experiment):
    experiment = make_experiment(coefficients={"beta": [1.0, 4.0]}, num_steps=30)
    program = program_of(experiment, jax.devices()[:1])
    return experiment, program, replicate(experiment.splits.train.arrays, program.devices)


class Recorder:
    """Hooks that keep what they were given."""

    def __init__(self, at_checkpoint=lambda step: None):
        self.logged, self.saved, self.at_checkpoint = [], [], at_checkpoint

    def hooks(self):
        return Hooks(lambda step, means, _: self.logged.append((step, means)), self.save)

    def save(self, step, carry):
        self.saved.append((step, jax.tree.map(np.array, carry)))
        self.at_checkpoint(step)


def train(small, recorder, **settings):
    experiment, program, arrays = small
    cadence = {"log_every": 10, "checkpoint_every": 15, "num_steps": 30}
    hooks = recorder.hooks()
    return fit(
        program,
        experiment.runs,
        resident(arrays),
        hooks=hooks,
        show_progress=False,
        **(cadence | settings),
    )


def assert_equal_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_hooks_come_at_their_steps(small):
    recorder = Recorder()
    fitted = train(small, recorder)
    assert (fitted.step, fitted.signal) == (30, 0)
    assert [step for step, _ in recorder.logged] == [10, 20, 30]
    assert [step for step, _ in recorder.saved] == [15, 30]
    assert recorder.logged[0][1].kl_per_latent.shape == (2, 3)


def test_logged_terms_are_means_over_the_interval(small):
    coarse, fine = Recorder(), Recorder()
    train(small, coarse, log_every=30)
    train(small, fine, log_every=10)
    means = np.mean([terms.distortion for _, terms in fine.logged], axis=0)
    np.testing.assert_allclose(coarse.logged[0][1].distortion, means, rtol=1e-5)


def test_going_on_gives_the_bits_and_the_log_of_not_stopping(small):
    straight, resumed = Recorder(), Recorder()
    train(small, straight)
    train(small, resumed, num_steps=30, start=straight.saved[0])
    assert_equal_bits(resumed.saved[-1], straight.saved[-1])
    assert [step for step, _ in resumed.logged] == [20, 30]
    for (_, a), (_, b) in zip(resumed.logged, straight.logged[1:], strict=True):
        assert_equal_bits(a, b)


def test_the_length_of_chunks_changes_no_bit(small, monkeypatch):
    usual, slow = Recorder(), Recorder()
    train(small, usual)
    monkeypatch.setattr(fitting, "SECONDS_A_CHUNK", 0.0)  # one step a chunk
    train(small, slow)
    assert_equal_bits(slow.saved, usual.saved)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_training_after_a_checkpoint(small, number):
    handler = signal.getsignal(number)
    recorder = Recorder(lambda step: step == 15 and os.kill(os.getpid(), number))
    fitted = train(small, recorder)
    assert (fitted.step, fitted.signal) == (15, number)
    assert [step for step, _ in recorder.saved] == [15]
    assert signal.getsignal(number) is handler


def test_a_signal_between_checkpoints_saves_where_it_stopped(small, monkeypatch):
    monkeypatch.setattr(fitting, "SECONDS_A_CHUNK", 0.0)
    recorder = Recorder()
    seen = []

    def note(step, means, carry):
        seen.append(step)
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    experiment, program, arrays = small
    fitted = fit(
        program,
        experiment.runs,
        resident(arrays),
        num_steps=30,
        log_every=10,
        checkpoint_every=100,
        hooks=Hooks(note, recorder.save),
        show_progress=False,
    )
    assert seen == [10]
    assert fitted.step == 10
    assert [step for step, _ in recorder.saved] == [10]


def test_handlers_that_python_did_not_install_stay(monkeypatch):
    """A program that embeds Python has its own, which Python cannot give back."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    with fitting.listen():
        monkeypatch.undo()
        assert signal.getsignal(signal.SIGTERM) is before


def test_a_finished_run_takes_no_step(small):
    straight, again = Recorder(), Recorder()
    train(small, straight)
    fitted = train(small, again, start=straight.saved[-1])
    assert (fitted.step, again.logged, again.saved) == (30, [], [])
    assert_equal_bits(take_runs(fitted.carry, 2), straight.saved[-1][1])


def test_a_program_that_memory_does_not_hold_is_refused_before_a_step(small, monkeypatch):
    monkeypatch.setattr("betavae_jax.memory.available_bytes", lambda: 1_000)
    monkeypatch.setattr("betavae_jax.memory._SECONDS_TO_SETTLE", (0.0,))
    recorder = Recorder()
    with pytest.raises(TooLargeError, match=r"expected .* GB of memory"):
        train(small, recorder)
    assert recorder.saved == recorder.logged == []
    experiment, program, arrays = small
    carry = carry_template(program, experiment.runs, arrays)
    start = (10, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), carry))
    with pytest.raises(TooLargeError):
        train(small, recorder, start=start)
    assert recorder.saved == []


def test_training_ends_when_no_run_is_left(make_experiment, caplog):
    experiment = make_experiment(learning_rate=[1e30], num_steps=10_000)
    program = program_of(experiment)
    arrays = replicate(experiment.splits.train.arrays, program.devices)
    recorder = Recorder()
    fitted = fit(
        program,
        experiment.runs,
        resident(arrays),
        num_steps=10_000,
        hooks=recorder.hooks(),
        show_progress=False,
    )
    assert fitted.step < 10_000
    assert recorder.saved[-1][1].state.failed_at[0] == 1
    assert not np.isfinite(recorder.logged[-1][1].loss[0])
    (record,) = [r.getMessage() for r in caplog.records if "stopped at step" in r.getMessage()]
    assert "run 0 (beta=4, learning_rate=1e+30, seed=0) stopped at step 1" in record
    assert "distortion nan" in record


def test_the_template_has_the_shapes_of_the_carry(small):
    experiment, program, arrays = small
    recorder = Recorder()
    train(small, recorder, num_steps=1)
    template = carry_template(program, experiment.runs, arrays)
    same = jax.tree.map(
        lambda t, leaf: t.shape == leaf.shape and t.dtype == leaf.dtype,
        template,
        recorder.saved[-1][1],
    )
    assert all(jax.tree.leaves(same))


def test_a_directory_goes_on_from_its_checkpoint(make_experiment, small, tmp_path):
    straight = Recorder()
    train(small, straight, log_every=4, checkpoint_every=7)
    for num_steps in (16, 30):
        experiment = make_experiment(
            coefficients={"beta": [1.0, 4.0]}, num_steps=num_steps, log_every=4, checkpoint_every=7
        )
        fitted = fit_directory(experiment, small[1], tmp_path, show_progress=False)
    assert_equal_bits(take_runs(fitted.carry, 2).state, straight.saved[-1][1].state)
    steps = [line["step"] for line in read_log(tmp_path / "metrics.jsonl") if line["run"] == 1]
    # 16 and 30 end a start and are logged for that; the others are multiples of four.
    assert steps == [4, 8, 12, 16, 20, 24, 28, 30]


def test_a_directory_past_the_wished_steps_is_refused(make_experiment, small, tmp_path):
    experiment = small[0]
    fit_directory(experiment, small[1], tmp_path, show_progress=False)
    fewer = experiment._replace(settings=experiment.settings._replace(num_steps=20))
    with pytest.raises(ValueError, match="expected num_steps of at least 30"):
        fit_directory(fewer, small[1], tmp_path, show_progress=False)


def test_a_stale_result_is_gone_before_another_state_is_saved(small, tmp_path, monkeypatch):
    experiment, results = small[0], tmp_path / "results.json"
    results.write_text("{}")
    stood = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "betavae_jax.fit_directory.append_log", lambda *_: stood.append(results.exists())
        )
        fit_directory(experiment, small[1], tmp_path, show_progress=False)
    assert stood == [False]  # at step 30
    results.write_text("{}")
    more = experiment._replace(settings=experiment.settings._replace(num_steps=40))
    monkeypatch.setattr("betavae_jax.memory.available_bytes", lambda: 1_000)
    monkeypatch.setattr("betavae_jax.memory._SECONDS_TO_SETTLE", (0.0,))
    with pytest.raises(TooLargeError):
        fit_directory(more, small[1], tmp_path, show_progress=False)
    assert results.exists()  # no step was taken


def test_the_log_is_cut_at_the_checkpoint(small, tmp_path):
    experiment, program, arrays = small
    fit_directory(experiment, program, tmp_path, show_progress=False)
    expected = read_log(tmp_path / "metrics.jsonl")
    # A kill after step 30 was logged, before its checkpoint was whole:
    template = carry_template(program, experiment.runs, arrays)
    checkpoints = open_checkpoints(tmp_path / "checkpoints", keep=3)
    assert checkpoints.restore(template)[0] == 30
    checkpoints.close()
    for step in ("30",):
        (tmp_path / "checkpoints" / step).rename(tmp_path / "gone")
    fit_directory(experiment, program, tmp_path, show_progress=False)
    assert read_log(tmp_path / "metrics.jsonl") == expected
