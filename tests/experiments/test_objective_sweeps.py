"""The sweeps that verify objectives: every objective has one, and it is measured."""

import pytest

from betavae_jax.objectives import OBJECTIVES
from betavae_jax.runs.settings import Settings, build
from experiments.objective_sweeps import SWEEPS, experiment_of, table, verify

TINY = Settings(
    objective="vae",
    data={"image_size": 16, "blob_grid": 8, "blob_margin": 4.0, "blob_sigma": 1.5},
    network="mlp",
    network_settings={"widths": "16", "decoder_widths": "16"},
    num_steps=40,
    batch_size=16,
    num_latents=4,
    objective_settings={"critic_channels": 2, "critic_width": 8},
)


@pytest.fixture(scope="module")
def base():
    return build(TINY._replace(objective_settings={}))


def test_every_objective_has_a_sweep_of_four_values_or_more(base):
    assert set(SWEEPS) == set(OBJECTIVES)
    for name, sweep in SWEEPS.items():
        experiment = experiment_of(base, TINY, name)
        assert len(experiment.runs.seed) == len(sweep.values) >= 4
    # A flag reaches the objectives that have it, and no other.
    assert experiment_of(base, TINY, "factor_vae").settings.objective_settings["critic_width"] == 8
    assert "critic_width" not in experiment_of(base, TINY, "vae_gan").settings.objective_settings


def test_a_sweep_is_trained_and_tabled(base):
    results = {
        name: verify(experiment_of(base, TINY, name), SWEEPS[name]) for name in ("beta_vae",)
    }
    result = results["beta_vae"]
    assert result["as_expected"]
    assert result["spearman"] < -0.8
    rates = [row["rate"] for row in result["runs"]]
    assert rates[-1] < rates[0]
    assert all(row["failed_at"] is None for row in result["runs"])
    lines = table(results).splitlines()
    assert len(lines) == 2 + len(rates)
    assert lines[2].startswith("| beta_vae | beta = 1 | rate ")
    assert len({line.count("|") for line in lines}) == 1
