"""Published settings: each builds, and says where it stands."""

import pytest

from betavae_jax.checks import InputError
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.objectives.presets import PRESETS, describe_presets, preset
from betavae_jax.population import make_grid, num_runs
from betavae_jax.runs.settings import Settings, make_objective, resolve

UNTREATED = ("info_vae", "vae", "vae_gan")  # by the study, whose conditions they get
CASES = [(name, objective) for name, of in PRESETS.items() for objective in of]


@pytest.mark.parametrize(("name", "objective"), CASES)
def test_a_preset_resolves(name, objective):
    settings = Settings(objective=objective)._replace(**preset(name, objective))
    resolved = resolve(settings, (64, 64, 1))
    for field, value in preset(name, objective).items():
        got = getattr(resolved, field)
        assert ({k: got[k] for k in value} if isinstance(value, dict) else got) == value
    runs = make_grid(
        make_objective(resolved), resolved.coefficients, resolved.learning_rate, resolved.seed
    )
    is_swept = name == "locatello" and objective not in UNTREATED
    assert num_runs(runs) == (6 if is_swept else 1)
    assert resolved.network_settings["widths"]


def test_the_studys_ratio_holds_over_its_sweep():
    for name, ratio in (("dip_vae_i", 10.0), ("dip_vae_ii", 1.0)):
        settings = preset("locatello", name)
        assert settings["objective_settings"] == {"lambda_d_factor": ratio}
        assert settings["coefficients"] == {"lambda_od": [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]}


def test_the_studys_conditions_fit_every_objective():
    assert set(PRESETS["locatello"]) == set(OBJECTIVES)
    for objective in UNTREATED:
        assert "coefficients" not in preset("locatello", objective)
        assert "does not treat" in PRESETS["locatello"][objective].reference


def test_the_papers_values_are_the_defaults():
    for objective, (_, settings) in PRESETS["paper"].items():
        defaults = OBJECTIVES[objective]().Coefficients()._asdict()
        for name, value in settings.get("coefficients", {}).items():
            assert value == [defaults[name]], (objective, name)


@pytest.mark.parametrize("objective", ["beta_vae", "beta_tcvae"])
def test_fully_connected_networks_of_papers_are_so(objective):
    """Chen et al. took the network of Higgins et al. for dSprites, not a convolutional one."""
    settings = Settings(objective=objective)._replace(**preset("paper", objective))
    resolved = resolve(settings, (64, 64, 1))
    assert (resolved.network, resolved.likelihood) == ("mlp", "bernoulli")
    assert resolved.network_settings == {
        "widths": "1200,1200", "decoder_widths": "1200,1200,1200",
        "activation": "relu", "decoder_activation": "tanh",
    }  # fmt: skip


def test_the_description_names_every_source():
    lines = describe_presets().splitlines()
    assert len(lines) == len(CASES)
    for (name, objective), line in zip(CASES, lines, strict=True):
        assert line.startswith(f"{name} {objective}: ")
        assert PRESETS[name][objective].reference in line
    assert "gamma=10,20,30,40,50,100 permute=same_batch" in describe_presets()


@pytest.mark.parametrize(
    ("name", "objective", "message"),
    [
        ("lokatello", "beta_vae", "preset to be one of locatello, paper"),
        ("paper", "vae", "objective of preset paper to be one of ada_gvae"),
        ("paper", "gan", "objective to be one of"),
    ],
)
def test_unknown_presets_are_refused(name, objective, message):
    with pytest.raises(InputError, match=message):
        preset(name, objective)
