"""Run directories of sets that are split or larger than their memory."""

import json
import os

import jax
import numpy as np
import pytest

import betavae_jax.fit_directory as fit_directory_module
from betavae_jax.fit import program_of
from betavae_jax.fit_directory import fit_directory
from betavae_jax.population import take_runs
from betavae_jax.runs.records import read_log
from betavae_jax.runs.settings import Settings, build


def assert_equal_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(
        path,
        images=rng.integers(0, 256, (3_000, 16, 16, 3), np.uint8),
        x_test=rng.integers(0, 256, (40, 16, 16, 3), np.uint8),
    )
    return path


def train(images, workdir, num_steps, **settings):
    experiment = build(
        Settings(
            dataset="arrays",
            data={"data_dir": str(images)},
            num_steps=num_steps,
            batch_size=64,
            num_latents=2,
            network_settings={"channels": "8,8", "widths": "16"},
            network="conv",
            log_every=5,
            checkpoint_every=10,
            seed=[0, 1],
            **settings,
        )
    )
    program = program_of(experiment)
    fitted = fit_directory(experiment, program, workdir, show_progress=False)
    return experiment, take_runs(fitted.carry, 2)


def test_a_set_in_parts_resumes_to_the_same_bits(images, tmp_path):
    # 2.3 MB of images under 1 MB: five parts or more, each serving ten steps.
    experiment, straight = train(images, tmp_path / "a", 40, device_memory_mb=1)
    assert experiment.shards.num_parts >= 4
    assert experiment.shards.steps < 12
    for num_steps in (13, 29, 40):
        _, resumed = train(images, tmp_path / "b", num_steps, device_memory_mb=1)
    assert_equal_bits(resumed.state, straight.state)


def test_a_budget_that_suffices_changes_nothing(images, tmp_path):
    _, whole = train(images, tmp_path / "a", 6)
    experiment, within = train(images, tmp_path / "b", 6, device_memory_mb=100)
    assert experiment.shards == ()
    assert_equal_bits(whole.state, within.state)


def test_the_test_split_is_logged_at_its_steps(images, tmp_path):
    train(images, tmp_path / "a", 20, evaluate_every=10)
    lines = read_log(tmp_path / "a" / "metrics.jsonl")
    with_test = [(line["step"], line["run"]) for line in lines if "test_elbo" in line]
    assert with_test == [(10, 0), (10, 1), (20, 0), (20, 1)]
    for line in lines:
        if "test_elbo" in line:
            total = line["test_distortion"] + line["test_rate"]
            np.testing.assert_allclose(line["test_elbo"], -total, rtol=1e-6)
    # Two starts log what one does.
    for num_steps in (10, 20):
        train(images, tmp_path / "b", num_steps, evaluate_every=10)
    text = (tmp_path / "a" / "metrics.jsonl").read_text()
    assert (tmp_path / "b" / "metrics.jsonl").read_text() == text


def test_events_can_be_left_out(images, tmp_path):
    train(images, tmp_path / "a", 5)
    train(images, tmp_path / "b", 5, tensorboard=False)
    assert (tmp_path / "a" / "tensorboard").is_dir()
    assert not (tmp_path / "b" / "tensorboard").exists()
    assert json.loads((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()[0])["step"] == 5


def test_the_log_is_on_the_disk_before_a_checkpoint(images, tmp_path, monkeypatch):
    """Else a node lost just then may leave the steps, and a hole in their log for good."""
    log, synced, saved = tmp_path / "a" / "metrics.jsonl", {}, []
    fsync, opened = os.fsync, fit_directory_module.open_checkpoints

    def noted(descriptor):
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size

    def watched(*args, **kwargs):
        checkpoints = opened(*args, **kwargs)

        def save(step, tree):
            status = log.stat()
            saved.append((step, synced[status.st_ino], status.st_size))
            checkpoints.save(step, tree)

        return checkpoints._replace(save=save)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(fit_directory_module, "open_checkpoints", watched)
    train(images, tmp_path / "a", 20)
    assert [step for step, _, _ in saved] == [10, 20]
    assert all(on_the_disk == written > 0 for _, on_the_disk, written in saved)
