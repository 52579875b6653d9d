"""Scores of a population: the metrics of its codes, run by run."""

import functools

import jax
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.evaluation import (
    Effort,
    draws,
    evaluate,
    expand_names,
    score_codes,
    score_population,
)
from betavae_jax.evaluation.draws import draw_rows, make_encoder, read_factors
from betavae_jax.fit import program_of
from betavae_jax.grids import all_factors
from betavae_jax.metrics import METRICS, mig, udr
from betavae_jax.population import place_runs, replicate
from betavae_jax.runs.settings import Settings, build
from betavae_jax.types import Posterior

EFFORT = Effort(num_train=400, num_test=200, jobs=1)
SMALL = {"network": "mlp", "network_settings": {"widths": "8", "decoder_widths": "8"}}


def untrained(experiment):
    program = program_of(experiment)
    arrays = replicate(experiment.splits.train.arrays, program.devices)
    return experiment, program, program.init(place_runs(experiment.runs, program.devices), arrays)


@pytest.fixture(scope="module")
def population(make_experiment):
    return untrained(make_experiment(seed=[0, 1], learning_rate=[1e-3, 1e-2], **SMALL))


def score(population, names, effort=EFFORT, kl=None):
    runs = len(population[0].runs.seed)
    kl = np.ones((runs, population[0].settings.num_latents)) if kl is None else kl
    return list(score_population(*population, kl, names, effort))


@functools.cache
def names_of(text):
    return expand_names(text.split(","))


def test_names():
    assert set(names_of("all")) == {*METRICS, "downstream", "downstream_pca", "downstream_pixels",
                                    "strong_generalisation", "fairness"}  # fmt: skip
    assert {"dci", "fairness"}.isdisjoint(names_of("fast"))
    assert {"dci_lightgbm", "mig", "downstream_pixels"} <= set(names_of("fast"))
    assert names_of("sap, mig,all")[:2] == ["sap", "mig"]
    assert len(names_of("sap,mig,all")) == len(names_of("all"))
    assert expand_names(["downstream"], baselines=False) == ["downstream"]
    for names in (["gini"], [], ["mig", "mig"]):
        with pytest.raises(InputError, match="expected"):
            expand_names(names)
    with pytest.raises(InputError, match="downstream_pca needs the pixels of examples"):
        expand_names(["mig", "downstream_pca"], baselines=False)


def test_a_score_is_the_metric_of_the_codes(population):
    experiment, program, carry = population
    scores = score(population, ["mig", "unsupervised"])
    assert [(s.run, s.name) for s in scores] == [
        (run, name) for run in range(4) for name in ("mig", "unsupervised")
    ]
    train, _ = draw_rows(experiment, 400, 200, 0)
    codes = make_encoder(experiment, program, carry)(train)
    for run in range(4):
        expected = mig(codes[run], read_factors(train)).to_json()
        assert scores[2 * run].result == {**expected, "factor_names": ["x", "y"]}
        assert "factor_names" not in scores[2 * run + 1].result


def test_neighbours_of_a_row_are_other_examples():
    """Codes that follow the factors of a small grid are modular; ten copies of each hid it."""
    data = {"image_size": 32, "blob_grid": 32, "blob_margin": 7.5, "blob_sigma": 2.0}
    experiment, program, carry = untrained(build(Settings(data=data, num_latents=2, **SMALL)))
    factors = all_factors(experiment.splits.train)
    codes = factors.astype(np.float32) + np.random.default_rng(0).normal(size=(1024, 2)) / 100

    def encode(model, data, program, params, arrays, index, runs):
        at = np.asarray(index)
        return Posterior(codes[at][None], np.zeros((1, len(at), 2)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "encode_rows", encode)
        [scored] = score_population(
            experiment, program, carry, np.ones((1, 2)), ["infomec"], Effort(num_test=10, jobs=1)
        )
    assert scored.result["sizes"]["rows"] == 1024
    assert scored.result["value"] > 0.95


def test_udr_is_among_runs_that_differ_in_their_seed(population, make_experiment):
    experiment, program, carry = population
    codes = make_encoder(experiment, program, carry)(draw_rows(experiment, 400, 200, 0)[0])
    scores = score(population, ["udr"])
    for runs in ([0, 1], [2, 3]):
        expected = udr(codes[runs], np.ones((2, 3)))
        assert [scores[r].result["value"] for r in runs] == [e.value for e in expected]
        assert scores[runs[0]].result["convention"].endswith("runs that differ in their seed alone")
    mixed = untrained(make_experiment(learning_rate=[1e-3, 1e-2], **SMALL))
    scores = score(mixed, ["udr"])
    assert [s.result["sizes"]["runs"] for s in scores] == [2, 2]
    assert scores[0].result["convention"].endswith("all runs of the population")
    alone = score(untrained(make_experiment(**SMALL)), ["udr"])
    assert alone[0].refused.startswith("expected codes [R, N, D] of 2 runs or more")


def test_a_run_that_stopped_is_compared_with_none(make_experiment):
    experiment, program, carry = untrained(make_experiment(seed=[0, 1, 2, 3], **SMALL))
    before = score((experiment, program, carry), ["udr"])
    failed_at = np.asarray(carry.state.failed_at).copy()
    failed_at[1, 1] = 7  # run 3
    stopped = carry._replace(state=carry.state._replace(failed_at=failed_at))
    scores = score((experiment, program, stopped), ["udr", "mig"])
    assert scores[6].refused.startswith("expected a run that trained to its end")
    assert not scores[7].refused  # its own codes are still its own
    codes = make_encoder(experiment, program, carry)(draw_rows(experiment, 400, 200, 0)[0])
    expected = udr(codes[:3], np.ones((3, 3)))
    for run in range(3):
        assert scores[2 * run].result["value"] == expected[run].value != before[run].result["value"]


def test_a_run_with_nan_keeps_the_others(population):
    experiment, program, carry = population
    state = carry.state
    broken = jax.tree.map(lambda leaf: np.asarray(leaf).copy(), state.params)
    for leaf in jax.tree.leaves(broken):
        leaf[0, 0] = np.nan
    spoilt = (experiment, program, carry._replace(state=state._replace(params=broken)))
    kl = np.ones((4, 3))
    kl[0] = np.nan
    scores = score(spoilt, ["mig", "beta_vae_score", "udr"], kl=kl)
    assert {s.run for s in scores if s.name != "udr" and s.refused} == {0}
    assert "NaN" in scores[0].refused
    assert {s.run for s in scores if s.name == "udr" and s.refused} == {0, 1}  # 1 has no other


def test_a_factor_of_one_value_is_aligned_with_nothing(make_experiment, tmp_path):
    """Data that holds a constant factor has the alignment of the same data without it."""
    found = []
    for number, sizes in enumerate(["8,1,8", "8,8"]):
        blobs = make_experiment().splits.train
        x = blobs.gather(blobs.arrays, np.arange(64), jax.random.key(0))
        np.savez(tmp_path / f"{number}.npz", x=x)
        data = {"data_dir": str(tmp_path / f"{number}.npz"), "factor_sizes": sizes}
        experiment = make_experiment(dataset="arrays", data=data, **SMALL)
        [row] = evaluate(*untrained(experiment))["runs"]
        found.append(row["metrics"]["axis_alignment"])
    assert list(found[0]["latent"]) == ["factor_0", "factor_2"]
    assert list(found[0]["latent"].values()) == list(found[1]["latent"].values())
    assert found[0]["value"] == found[1]["value"]


def test_a_grid_is_looked_up_and_a_larger_one_grouped(population):
    names = ["beta_vae_score"]
    grid, rows = score(population, names), score(population, names, EFFORT._replace(grid_limit=63))
    assert "simulator, uniform factors" in grid[0].result["convention"]
    assert "existing rows" in rows[0].result["convention"]
    assert grid[0].result["value"] == pytest.approx(rows[0].result["value"], abs=0.1)


def test_few_labels_stand_beside_components_and_pixels(make_experiment):
    pytest.importorskip("lightgbm")
    names = names_of("downstream,fairness,strong_generalisation,dci_lightgbm")
    data = {"image_size": 16, "blob_grid": 16, "blob_margin": 3.5, "blob_sigma": 1.5}
    population = untrained(make_experiment(data=data, **SMALL))
    scores = {s.name: s.result for s in score(population, names)}
    for name in names_of("downstream"):
        assert scores[name]["metric"] == name
        assert scores[name]["sizes"]["train"] == 170  # two thirds of 256, not 400
        assert set(scores[name]["scores"]) >= {"logistic:10:mean_test_accuracy"}
    assert scores["downstream_pixels"]["sizes"]["latents"] == 256
    assert scores["downstream_pca"]["sizes"]["latents"] == 3
    assert scores["downstream_pca"]["convention"].startswith("principal components of 256 numbers")
    assert "set to each value" in scores["fairness"]["convention"]
    assert "set in all training rows" in scores["strong_generalisation"]["convention"]
    assert "LightGBM" in scores["dci_lightgbm"]["convention"]


def test_components_that_cannot_be_had_keep_no_score_from_the_others(population, monkeypatch):
    def absent(*modules):
        raise InputError(f"expected {modules[0]} to be installed")

    monkeypatch.setattr("betavae_jax.downstream.few_labels.check_installed", absent)
    first, second = score(population, ["mig", "downstream_pca"])[:2]
    assert first.result["value"] >= 0
    assert second.refused == "expected sklearn to be installed"


def test_without_factors_only_the_unsupervised_are_scored(tmp_path):
    x = np.random.default_rng(0).random((600, 6)).astype(np.float32)
    np.savez(tmp_path / "v.npz", data=x)
    data = {"data_dir": str(tmp_path / "v.npz")}
    settings = Settings(dataset="arrays", data=data, seed=[0, 1], num_latents=3, **SMALL)
    experiment = build(settings)
    scores = score(untrained(experiment), ["mig", "unsupervised", "downstream", "udr"])
    found = {s.name for s in scores if not s.refused}
    assert found == {"unsupervised", "udr"}
    assert {s.refused for s in scores if s.name == "mig"} == {
        "expected a data set with known factors; arrays has none"
    }


def test_codes_alone():
    rng = np.random.default_rng(0)
    factors, factors_test = rng.integers(4, size=(400, 2)), rng.integers(4, size=(200, 2))
    four = factors + 0.1 * rng.normal(size=(400, 2)), factors, factors_test * 1.0, factors_test
    scores = {s.name: s for s in score_codes(four, ["mig", "udr", "downstream_pca"], EFFORT)}
    assert scores["mig"].result["value"] == mig(four[0], factors).value
    assert "2 runs or more" in scores["udr"].refused
    assert "holds none" in scores["downstream_pca"].refused
    empty = np.zeros((400, 0), np.int64)
    alone = list(score_codes((four[0], empty, four[2], empty[:200]), ["sap", "unsupervised"],
                             EFFORT))  # fmt: skip
    assert [bool(s.refused) for s in alone] == [True, False]
