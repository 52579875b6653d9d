"""What a study asks for: flags, files, names; what is refused."""

import pathlib

import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.objectives.presets import PRESETS
from betavae_jax.population import num_runs
from betavae_jax.runs.settings import grid_of
from betavae_jax.study.grid import (
    STUDIES,
    labels_of,
    load_study_file,
    make_study,
    settle_metrics,
    with_scores,
)

TOML = """
metrics = ["mig", "udr"]
num_seeds = 3

[settings]
dataset = "blobs"
num_steps = 20_000
data = {image_size = 16}
coefficients = {beta = [1, 4]}

[[sweep]]
objective = "beta_vae"

[[sweep]]
objective = "capacity_vae"
preset = "locatello"
num_steps = 50
coefficients = {capacity = [5.0]}

[[sweep]]
objective = "beta_vae"
network = "mlp"
"""


def test_a_file_gives_each_sweep_what_is_shared_and_its_own(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TOML)
    study = make_study(load_study_file(path))
    assert labels_of(study) == ["beta_vae-1", "capacity_vae", "beta_vae-2"]
    beta, capacity, mlp = study.sweeps
    assert beta.coefficients == {"beta": [1, 4]}
    assert beta.data["image_size"] == capacity.data["image_size"] == 16
    assert capacity.coefficients == {"gamma": [1000.0], "capacity": [5.0]}
    assert capacity.schedules == {"capacity": "linear:0:100000"}
    assert (beta.num_steps, capacity.num_steps) == (20_000, 50)
    assert (beta.checkpoint_every, capacity.checkpoint_every) == (200, 100)
    assert capacity.network == "conv_locatello"
    assert mlp.network == "mlp"
    assert study.metrics == ("mig", "udr")
    assert [num_runs(grid_of(s)) for s in study.sweeps] == [6, 3, 6]


def test_flags_go_before_a_file(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TOML)
    given = {"settings": {"seed": [7], "coefficients": {"beta": [2.0]}}, "metrics": ["none"]}
    study = make_study(load_study_file(path), given)
    assert study.metrics == ()
    assert [list(s.seed) for s in study.sweeps] == [[7]] * 3
    assert study.sweeps[0].coefficients == {"beta": [2.0]}


def test_flags_go_before_what_a_sweep_says_itself():
    own = {
        "num_steps": 1000,
        "coefficients": {"beta": [1.0, 4.0]},
        "seed": [3],
        "schedules": {"beta": "linear:0:9"},
        "network": "mlp",
        "network_settings": {"decoder_activation": "relu"},
    }
    asked = {"sweep": [{"objective": "beta_vae", **own}, {"objective": "vae"}]}
    given = {"num_steps": 10, "coefficients": {"beta": [2.0]}, "seed": [7], "network": "conv",
             "schedules": {"beta": "constant"}}  # fmt: skip
    beta, vae = make_study(asked, {"settings": given}).sweeps
    assert (beta.num_steps, beta.coefficients, beta.seed) == (10, {"beta": [2.0]}, [7])
    assert (beta.schedules, beta.network, vae.network) == ({}, "conv", "conv")
    assert (vae.num_steps, vae.seed, vae.coefficients) == (10, [7], {})
    assert make_study(asked, {"num_seeds": 2}).sweeps[0].seed == [0, 1]


def test_a_preset_of_a_flag_goes_before_that_of_a_sweep():
    asked = {"sweep": [{"objective": "factor_vae", "preset": "locatello", "num_steps": 10}]}
    settings = make_study(asked, {"settings": {"preset": "paper"}}).sweeps[0]
    assert settings.coefficients["gamma"] == [35.0]
    assert settings.objective_settings["permute"] == "second_batch"
    assert settings.num_steps == 10  # a preset gives what nothing else names


def test_a_sweep_has_seeds_of_its_own():
    asked = {"sweep": [{"objective": "vae", "seed": [5]}, {"objective": "beta_vae"}]}
    assert [s.seed for s in make_study({**asked, "num_seeds": 2}).sweeps] == [[5], [0, 1]]
    assert [s.seed for s in make_study(asked, {"num_seeds": 2}).sweeps] == [[0, 1]] * 2
    assert [s.seed for s in make_study(asked, {"num_seeds": 1}).sweeps] == [[0]] * 2


def test_a_seed_beside_a_number_of_seeds_is_refused():
    sweeps = {"sweep": [{"objective": "vae"}]}
    both = {"settings": {"seed": [7]}, "num_seeds": 2}
    for asked, given in ((sweeps | both, {}), (sweeps, both)):
        with pytest.raises(InputError, match="expected either seed or num_seeds; got both"):
            make_study(asked, given)
    seven = make_study(sweeps | {"num_seeds": 2}, {"settings": {"seed": [7]}})
    two = make_study(sweeps | {"settings": {"seed": [7]}}, {"num_seeds": 2})
    assert (seven.sweeps[0].seed, two.sweeps[0].seed) == ([7], [0, 1])


def test_the_scores_of_a_study_may_be_asked_anew():
    study = make_study({"sweep": [{"objective": "vae"}], "metrics": ["mig"], "num_test": 7})
    assert with_scores(study, {}) == study
    more = with_scores(study, {"num_train": 300, "metrics": ["sap"]})
    assert more == study._replace(metrics=("sap",), num_train=300)
    for name in ("num_train", "num_test"):
        with pytest.raises(InputError, match=f"expected {name} to be at most 2147483647"):
            with_scores(study, {name: 2**31})


def test_the_named_study_is_that_of_the_paper():
    study = make_study(STUDIES["locatello_dsprites"], {"num_seeds": 2})
    sweeps = STUDIES["locatello_dsprites"]["sweep"]
    assert labels_of(study) == [sweep["objective"] for sweep in sweeps]
    for settings in study.sweeps:
        published = PRESETS["locatello"][settings.objective].settings
        assert num_runs(grid_of(settings)) == 6 * 2
        assert settings.num_steps == published["num_steps"]
        assert settings.learning_rate == [1e-4]
        assert (settings.network, settings.batch_size) == ("conv_locatello", 64)
    assert num_runs(grid_of(make_study(STUDIES["locatello_dsprites"]).sweeps[0])) == 300


def test_a_preset_gives_way_to_a_network_that_is_named():
    asked = {"sweep": [{"objective": "factor_vae", "preset": "paper"}]}
    assert make_study(asked).sweeps[0].network_settings["widths"] == "128"
    settings = make_study(asked, {"settings": {"network": "mlp"}}).sweeps[0]
    assert settings.network == "mlp"
    assert settings.network_settings["widths"] != "128"


def test_metrics_follow_the_data(make_experiment):
    study = make_study({"sweep": [{"objective": "vae"}]})
    splits = make_experiment().splits
    known = settle_metrics(study, [splits]).metrics
    assert {"mig", "udr", "factor_vae_score"} <= set(known)
    without = splits._replace(train=splits.train._replace(space=None))
    unknown = settle_metrics(study, [without]).metrics
    assert "udr" in unknown
    assert "mig" not in unknown
    named = make_study({"sweep": [{"objective": "vae"}], "metrics": ["fast"]})
    assert settle_metrics(named, [splits]) == named


BAD = [
    ({}, "one sweep or more; got none"),
    ({"sweep": []}, "one sweep or more"),
    ({"sweep": {"objective": "vae"}}, r"list of tables, in TOML \[\[sweep\]\]; got one table"),
    ({"sweep": ["vae"]}, "each sweep to be a table; got 'vae'"),
    ({"sweep": [{}]}, "expected objective to be one of"),
    ({"sweep": [{"objective": "gan"}]}, "got 'gan'"),
    ({"sweep": [{"objective": "vae", "beta": [1]}]}, "a sweep, which takes"),
    ({"sweep": [{"objective": "vae", "rows": "0:1"}]}, "got rows"),
    ({"sweep": [{"objective": "vae"}], "seeds": 3}, "a study, which takes .*; got seeds"),
    ({"sweep": [{"objective": "vae"}], "settings": {"steps": 3}}, "got steps"),
    ({"sweep": [{"objective": "vae"}], "settings": 3}, "settings of a study to be a table"),
    ({"sweep": [{"objective": "vae"}], "num_seeds": 0}, "num_seeds"),
    ({"sweep": [{"objective": "vae"}], "num_seeds": 2.5}, "num_seeds"),
    ({"sweep": [{"objective": "vae"}], "num_seeds": 10**12}, "num_seeds to be at most"),
    ({"sweep": [{"objective": "vae"}], "num_seeds": 10**7}, "num_seeds to be at most 1000000"),
    ({"sweep": [{"objective": "vae", "seed": [[1]]}]}, "seed to be a whole number"),
    ({"sweep": [{"objective": "vae", "tensorboard": "yes"}]}, "tensorboard to be true or false"),
    ({"sweep": [{"objective": "vae", "held_out": 3}]}, "held_out to be a list of texts"),
    ({"sweep": [{"objective": "vae", "num_steps": 10**30}]}, "num_steps to be at most"),
    ({"sweep": [{"objective": "vae", "data": 3}]}, "data of a study to be a table"),
    ({"sweep": [{"objective": "vae"}], "num_train": 0}, "num_train"),
    ({"sweep": [{"objective": "vae"}], "metrics": "mig"}, "metrics to be a list"),
    ({"sweep": [{"objective": "vae"}], "metrics": ["magic"]}, "got 'magic'"),
    ({"sweep": [{"objective": "vae"}], "settings": {"seed": []}}, "seed to be a list of distinct"),
    ({"sweep": [{"objective": "vae"}], "settings": {"seed": 3}}, "seed to be a list of values"),
    ({"sweep": [{"objective": "vae"}], "settings": {"seed": [1, 1]}}, "distinct values"),
    ({"sweep": [{"objective": "vae"}], "settings": {"seed": [2**31]}}, "seed to be at most"),
    ({"sweep": [{"objective": "vae"}], "settings": {"num_steps": "many"}}, "num_steps"),
    ({"sweep": [{"objective": "vae"}], "settings": {"data": 3}}, "data of a study to be a table"),
    (
        {"sweep": [{"objective": "vae"}], "settings": {"coefficients": {"beta": [1.0]}}},
        "expected coefficients of a study of vae, which takes none; got beta",
    ),
    (
        {"sweep": [{"objective": "beta_vae", "coefficients": {"gamma": [1.0]}}]},
        "objective beta_vae, which takes beta; got gamma",
    ),
    ({"sweep": [{"objective": "vae"}] * 2}, "two sweeps of vae with the same"),
    (  # one run in common, of grids that differ
        {"sweep": [{"objective": "vae", "seed": seeds} for seeds in ([0, 1], [1, 2])]},
        "two sweeps of vae with the same",
    ),
    ({"sweep": [{"objective": "vae", "preset": "paper"}]}, "preset paper"),
]


@pytest.mark.parametrize(("asked", "message"), BAD)
def test_what_is_no_study_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        make_study(asked)


def test_a_shared_coefficient_goes_to_those_that_have_it():
    asked = {"sweep": [{"objective": "vae"}, {"objective": "beta_vae"}]}
    study = make_study(asked, {"settings": {"coefficients": {"beta": [1.0, 2.0]}}})
    assert [num_runs(grid_of(s)) for s in study.sweeps] == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sweep = [", "to be TOML"),
        (b"\xff\xfe", "to be TOML"),
        (b"num_seeds = " + b"9" * 5000, "to be TOML"),
        (None, "is missing"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path, content, message):
    path = tmp_path / "study.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_study_file(path)
    with pytest.raises(InputError, match="expected a study file"):
        load_study_file(pathlib.Path(tmp_path))


def test_learning_rates_are_an_axis_too():
    asked = {"sweep": [{"objective": "vae", "learning_rate": [1e-3, 1e-4], "seed": [0, 1]}]}
    runs = grid_of(make_study(asked).sweeps[0])
    np.testing.assert_array_equal(runs.seed, [0, 1, 0, 1])
