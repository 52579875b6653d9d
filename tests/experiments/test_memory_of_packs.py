"""Studies that memory does not hold: which sweep is measured, and what is said where."""

import re

import jax
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.study.grid import make_study
from betavae_jax.study.measure import Measured
from experiments import built, planning
from experiments.packs import run_pack

SMALL = {"network": "mlp", "network_settings": {"widths": "8", "decoder_widths": "8"},
         "num_latents": 2, "num_steps": 10, "batch_size": 8}  # fmt: skip


@pytest.fixture(autouse=True)
def _on_an_accelerator(monkeypatch):
    monkeypatch.setattr(planning, "_TAKING_TURNS", ())
    monkeypatch.setattr("betavae_jax.study.measure._images_per_second", lambda *_: 1.0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (5_000, 32, 32, 1), np.uint8))
    return path


def study_of(*sweeps, **settings):
    return make_study({"sweep": list(sweeps), "settings": {**SMALL, **settings},
                       "metrics": ["none"]})  # fmt: skip


def of_images(images, **settings):
    data = {"dataset": "arrays", "data": {"data_dir": str(images)}}
    return study_of({"objective": "vae"}, seed=[0, 1, 2, 3], **data, **settings)


def exhausted(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")


SWEEPS = {
    "pairs of pictures": [{"objective": "beta_tcvae"}, {"objective": "ada_gvae"}],
    "a larger batch": [{"objective": "beta_tcvae"}, {"objective": "vae", "batch_size": 64}],
    "a critic": [{"objective": "ada_gvae"}, {"objective": "factor_vae"}],
    "two packs' worth of runs": [
        {"objective": "ada_gvae"},
        {"objective": "vae", "seed": [0, 1, 2, 3, 4, 5, 6, 7]},
    ],
}


@pytest.mark.parametrize("given", [None, 4])
@pytest.mark.parametrize("name", SWEEPS)
def test_the_sweep_that_takes_the_most_memory_is_measured(name, given, monkeypatch):
    chosen = []

    def measure(experiment, counts, *, seconds):
        del seconds
        chosen.append((experiment.settings.objective, experiment.settings.batch_size))
        own = -(-len(experiment.runs.seed) // 2)
        assert given is None or counts == [min(given, own)]  # packs hold no more
        return [Measured(count, 1.0) for count in counts]

    monkeypatch.setattr(planning, "measure_counts", measure)
    for sweeps in (SWEEPS[name], SWEEPS[name][::-1]):
        planning._measure(study_of(*sweeps), given)
    heaviest = SWEEPS[name][1]
    assert chosen == [(heaviest["objective"], heaviest.get("batch_size", 8))] * 2


def test_no_data_is_placed_to_weigh_sweeps(images, monkeypatch):
    monkeypatch.setattr("betavae_jax.fit.replicate", exhausted)
    study = of_images(images)
    larger = of_images(images, batch_size=512).sweeps
    assert planning._heaviest(study._replace(sweeps=study.sweeps + larger), 4) == (*larger, 2)


@pytest.mark.parametrize("count", [None, 1, 2])
def test_data_that_does_not_fit_ends_in_a_line_before_anything_is_written(
    images, tmp_path, monkeypatch, count
):
    monkeypatch.setattr("betavae_jax.fit.replicate", exhausted)
    runs = {None: "one run", 1: "one run", 2: "2 runs"}[count]
    with pytest.raises(InputError, match=rf"hold {runs} of vae; it does not \(batch_size below 8 "):
        planning.plan_study(tmp_path / "study", of_images(images), runs_per_device=count)
    assert list(tmp_path.iterdir()) == []


def test_what_a_refusal_advises_is_accepted(images, tmp_path, monkeypatch):
    study = of_images(images)
    with monkeypatch.context() as patch:
        patch.setattr("betavae_jax.fit.replicate", exhausted)
        with pytest.raises(InputError) as refused:
            planning.plan_study(tmp_path / "study", study, runs_per_device=2)
    advice = re.search(
        r"\(batch_size below (\d+) or device_memory_mb=(\d+) for the data or "
        r"--runs_per_device below (\d+)\)$",
        str(refused.value),
    )
    batch_size, megabytes, runs = map(int, advice.groups())
    assert (batch_size, megabytes, runs) == (8, 2, 2)  # of five megabytes
    smaller = [
        (of_images(images, batch_size=batch_size - 1), 2),
        (of_images(images, device_memory_mb=megabytes), 2),
        (study, runs - 1),
    ]
    for number, (changed, count) in enumerate(smaller):
        planning.plan_study(tmp_path / str(number), changed, runs_per_device=count)
    assert built.experiment_of(smaller[1][0].sweeps[0]).shards


def test_nothing_is_advised_that_would_be_refused(images):
    (least,) = of_images(images, batch_size=2, device_memory_mb=1).sweeps
    assert built.say_too_large(least, 1).endswith("hold one run of vae; it does not "
                                                  "(a smaller network)")  # fmt: skip
    (computed,) = study_of({"objective": "vae"}).sweeps  # data that takes no memory
    assert built.say_too_large(computed, 1).endswith("(batch_size below 8)")


def test_a_pack_out_of_memory_names_the_runs_of_a_device_and_another_directory(
    images, tmp_path, monkeypatch
):
    study, workdir = of_images(images), tmp_path / "study"
    planning.plan_study(workdir, study, runs_per_device=2)  # one pack: two runs on two devices
    monkeypatch.setattr("betavae_jax.fit.replicate", exhausted)
    message = r"hold 2 runs of vae; it does not \(with another --workdir: batch_size below 8 or .*"
    with pytest.raises(InputError, match=rf"{message} or --runs_per_device below 2\)"):
        run_pack(workdir, 0)


def test_a_pack_out_of_memory_while_it_keeps_codes_ends_in_a_line(tmp_path, monkeypatch):
    study = study_of({"objective": "vae"}, seed=[0, 1, 2, 3])
    study = study._replace(metrics=("udr",), num_train=40, num_test=10)
    planning.plan_study(tmp_path / "study", study, runs_per_device=1)  # seeds are in two packs
    monkeypatch.setattr("experiments.packs.encode_drawn", exhausted)
    with pytest.raises(InputError, match=r"hold one run of vae; .*another --workdir"):
        run_pack(tmp_path / "study", 0)
