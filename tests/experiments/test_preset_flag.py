"""`--preset` fills in what no flag names."""

import pytest
from absl import flags

import experiments.train  # noqa: F401, which defines the flags
from betavae_jax.checks import InputError
from betavae_jax.runs.settings import Settings
from experiments.settings_flags import read_settings


@pytest.fixture
def read():
    def parse(*arguments):
        flags.FLAGS(["train", *arguments])
        return read_settings()

    yield parse
    flags.FLAGS.unparse_flags()


def test_a_preset_fills_in_what_no_flag_names(read):
    assert read().coefficients == Settings().coefficients
    assert read().num_steps == Settings().num_steps
    settings = read("--preset=locatello", "--objective=capacity_vae")
    assert settings.coefficients["capacity"] == [5.0, 10.0, 25.0, 50.0, 75.0, 100.0]
    assert settings.schedules == {"capacity": "linear:0:100000"}
    assert (settings.num_steps, settings.network) == (300_000, "conv_locatello")


def test_a_flag_goes_before_the_preset(read):
    settings = read(
        "--preset=paper", "--objective=factor_vae", "--gamma=1,2", "--num_steps=5", "--beta=3",
        "--objective_critic_width=9",
    )  # fmt: skip
    assert settings.coefficients == {"gamma": [1.0, 2.0], "beta": [3.0]}
    assert settings.objective_settings == {"permute": "second_batch", "critic_width": 9}
    assert (settings.num_steps, settings.network_settings) == (5, {"widths": "128"})


def test_widths_of_a_preset_go_with_its_network(read):
    settings = read("--preset=paper", "--objective=factor_vae", "--network=mlp")
    assert (settings.network, settings.network_settings) == ("mlp", {})
    settings = read("--preset=paper", "--objective=factor_vae", "--network=conv_locatello")
    assert settings.network_settings == {"widths": "128"}  # the preset's own, named again


def test_a_preset_without_the_objective_is_refused(read):
    with pytest.raises(InputError, match="objective of preset paper"):
        read("--preset=paper", "--objective=vae")


def test_help_prints_presets_with_their_sources():
    text = flags.FLAGS["preset"].help
    assert "locatello factor_vae: " in text
    assert "Kim & Mnih 2018" in text
