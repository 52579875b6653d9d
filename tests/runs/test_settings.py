"""Settings: what is refused, what is filled in, and the way through JSON."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax import kernels
from betavae_jax.checks import InputError, keyword_settings
from betavae_jax.data import DATASETS, dataset_settings
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.networks import NETWORKS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.runs.machine import FORMAT, describe_program
from betavae_jax.runs.settings import (
    MUTABLE,
    Settings,
    build,
    from_config,
    grid_of,
    make_likelihood,
    resolve,
    to_config,
)
from betavae_jax.schedules import scheduled_coefficients


def through_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


def test_the_defaults():
    settings = resolve(Settings())
    assert settings.dataset == "blobs"
    assert settings.data == dataset_settings("blobs")
    assert settings.coefficients == {"beta": [4.0]}
    assert settings.learning_rate == [1e-3]
    assert settings.seed == [0]
    assert settings.likelihood_settings == {}
    assert Settings().data == Settings().coefficients == Settings().likelihood_settings == {}


def test_what_is_given_is_kept():
    settings = resolve(
        Settings(
            data={"image_size": 16},
            coefficients={"beta": (1.0, 16.0)},
            learning_rate=(1e-3, 1e-4),
            seed=range(3),
            likelihood="gaussian",
            likelihood_settings={"sigma": 0.25},
        )
    )
    assert settings.data == {**dataset_settings("blobs"), "image_size": 16}
    assert settings.coefficients == {"beta": [1.0, 16.0]}
    assert settings.learning_rate == [1e-3, 1e-4]
    assert settings.seed == [0, 1, 2]
    assert settings.likelihood_settings == {"sigma": 0.25}
    assert resolve(Settings(likelihood="gaussian")).likelihood_settings == {"sigma": 0.1}
    assert resolve(Settings(objective="vae")).coefficients == {}


def test_the_caller_keeps_its_settings():
    data, beta = {"image_size": 16}, [1.0]
    settings = resolve(Settings(data=data, coefficients={"beta": beta}))
    settings.data["image_size"] = 99
    settings.coefficients["beta"].append(2.0)
    assert data == {"image_size": 16}
    assert beta == [1.0]
    assert dataset_settings("blobs") == resolve(Settings()).data


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_every_combination_goes_through_json(objective, likelihood, network):
    settings = resolve(Settings(objective=objective, likelihood=likelihood, network=network))
    assert resolve(settings) == settings
    config = through_json(to_config(settings, {"format": FORMAT}))
    assert config["program"] == {"format": FORMAT}
    assert from_config(config) == settings
    assert resolve(from_config(config)) == settings


@pytest.mark.parametrize("text", ["constant", "linear:0:20"])
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_resolving_twice_is_resolving_once(objective, text):
    names = OBJECTIVES[objective]().Coefficients._fields
    once = resolve(Settings(objective=objective, schedules=dict.fromkeys(names, text)))
    assert resolve(once) == once


def test_a_capacity_can_be_constant_from_the_start(make_experiment):
    def first(**schedules):
        runs = make_experiment(
            objective="capacity_vae", coefficients={"capacity": [5.0]}, schedules=schedules
        ).runs
        row = jax.tree.map(lambda leaf: leaf[0], runs)
        return scheduled_coefficients(row.coefficients, row.schedules, jnp.int32(0)).capacity

    assert first() == 0.0
    assert first(capacity="constant") == 5.0


@pytest.mark.parametrize("dataset", sorted(DATASETS))
def test_the_settings_of_every_data_set_go_through_json(dataset):
    name = "tfds:fashion_mnist" if dataset == "tfds" else dataset
    settings = resolve(Settings(dataset=name))
    assert settings.data == dataset_settings(name)
    assert from_config(through_json(to_config(settings, {}))) == settings


@pytest.mark.parametrize("given", ["images.npz", pathlib.Path("images.npz"), "./images.npz"])
def test_a_data_dir_is_absolute(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = resolve(Settings(dataset="arrays", data={"data_dir": given}))
    assert settings.data["data_dir"] == str(tmp_path / "images.npz")


def test_a_data_dir_in_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    settings = resolve(Settings(dataset="arrays", data={"data_dir": "~/images.npz"}))
    assert settings.data["data_dir"] == "/home/somebody/images.npz"


def test_a_name_that_begins_as_a_home_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # spreadsheets leave such files beside those that are open
    settings = resolve(Settings(dataset="arrays", data={"data_dir": "~$table.csv"}))
    assert settings.data["data_dir"] == str(tmp_path / "~$table.csv")
    with pytest.raises(InputError, match="which does not exist"):
        build(settings)


def test_a_picture_is_absolute_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = resolve(Settings(dataset="dsprites_scream", data={"picture": "p.png"}))
    assert settings.data["picture"] == str(tmp_path / "p.png")


def test_an_empty_data_dir_is_not_the_working_folder():
    with pytest.raises(InputError, match="expected data_dir"):
        build(Settings(dataset="arrays", data={"data_dir": ""}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "nope"}, "expected objective to be one of .*beta_vae.*; got 'nope'"),
        ({"network": "nope"}, "expected network to be one of .*conv.*; got 'nope'"),
        ({"likelihood": "nope"}, "expected likelihood to be one of .*bernoulli.*; got 'nope'"),
        ({"dataset": "nope"}, "expected the data set to be one of .*blobs.*; got 'nope'"),
        ({"objective": ""}, "expected objective"),
        ({"objective": None}, "expected objective"),
        ({"dataset": None}, "expected the data set"),
        ({"objective": "Beta_VAE"}, "got 'Beta_VAE'"),
        (
            {"likelihood": "bernoulli", "likelihood_settings": {"sigma": 0.1}},
            "likelihood bernoulli, which takes none; got si",
        ),
        (
            {"likelihood": "gaussian", "likelihood_settings": {"sd": 1.0}},
            "likelihood gaussian, which takes sigma; got sd",
        ),
        ({"data": {"size": 3}}, "data set blobs, which takes .*image_size.*; got size"),
        ({"data": {"data_dir": "x"}}, "data set blobs, which takes .*; got data_dir"),
        ({"coefficients": {"gamma": [1.0]}}, "objective beta_vae, which takes beta; got gamma"),
        ({"objective": "vae", "coefficients": {"beta": [1.0]}}, "vae, which takes none; got beta"),
    ]
    + [
        ({name: value}, f"expected {name} to be a whole number of at least {least}; got")
        for name, least in {
            "batch_size": 1,
            "num_latents": 1,
            "num_steps": 1,
            "checkpoint_every": 1,
            "log_every": 1,
            "keep_checkpoints": 2,
        }.items()
        for value in (least - 1, -5, 2.0, "3", None, True)
    ],
)
def test_resolve_refuses(settings, message):
    with pytest.raises(InputError, match=message):
        resolve(Settings(**settings))


COUNTS = ("batch_size", "num_latents", "num_steps", "checkpoint_every", "log_every",
          "evaluate_every", "keep_checkpoints", "device_memory_mb")  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_an_int32(name):
    assert getattr(resolve(Settings(**{name: 2**31 - 1})), name) == 2**31 - 1
    for value in (2**31, 10**30):
        with pytest.raises(InputError, match=f"expected {name} to be at most 2147483647; got"):
            resolve(Settings(**{name: value}))


# What a study file or a caller may give by mistake.
WRONG_KINDS = [
    ({"tensorboard": "yes"}, "tensorboard to be true or false; got 'yes'"),
    ({"held_out": 3}, "held_out to be a list of texts; got 3"),
    ({"held_out": "x:3"}, "held_out to be a list of texts; got 'x:3'"),
    ({"held_out": [["x"]]}, "held_out to be a list of texts"),
    ({"correlated": [3]}, r"correlated to be a list of texts; got \[3\]"),
    ({"schedules": {"beta": 3}}, "schedule of beta to be text; got 3"),
    ({"seed": [[1, 2]]}, r"seed to be a whole number of at least 0; got \[1, 2\]"),
    ({"learning_rate": [[1e-3]]}, r"learning_rate to be a number above 0; got \[0.001\]"),
    ({"coefficients": {"beta": [[1.0]]}}, r"beta to be a number of at least 0; got \[1.0\]"),
    ({"coefficients": {"beta": [10**400]}}, "beta to be a number of at least 0"),
    ({"coefficients": {"beta": [1e39]}}, "beta to be a number of at least 0"),  # of float32
    ({"learning_rate": [10**400]}, "learning_rate to be a number above 0"),
    ({"dataset": "dsprites", "data": {"data_dir": 3}}, "data_dir to be a path; got 3"),
    ({"data": {"image_size": "16"}}, "image_size to be a whole number; got '16'"),
    ({"data": {"blob_grid": 2**31}}, "blob_grid to be at most 2147483647"),
    ({"network": "mlp", "network_settings": {"widths": [8]}}, r"widths to be text; got \[8\]"),
    (
        {"objective": "capacity_vae", "objective_settings": {"per_sample": "no"}},
        "per_sample to be true or false; got 'no'",
    ),
    (
        {"likelihood": "gaussian", "likelihood_settings": {"sigma": True}},
        "sigma to be a number; got True",
    ),
    *(
        ({name: 3}, f"{name} to be a table; got 3")
        for name in ("data", "coefficients", "schedules", "objective_settings",
                     "network_settings", "likelihood_settings")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), WRONG_KINDS)
def test_what_is_of_another_kind_is_refused_in_a_line(settings, message):
    with pytest.raises(InputError, match=f"expected .*{message}"):
        grid_of(Settings(**settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coefficients": {"beta": []}}, "expected beta to be a list of distinct values"),
        ({"coefficients": {"beta": "14"}}, "expected beta to be a list of values; got '14'"),
        ({"coefficients": {"beta": [1.0, 1.0]}}, "expected beta to be a list of distinct values"),
        ({"coefficients": {"beta": [-1.0]}}, "expected beta to be a number of at least 0"),
        ({"coefficients": {"beta": [float("nan")]}}, "expected beta to be a number"),
        ({"coefficients": {"beta": ["4"]}}, "expected beta to be a number"),
        ({"learning_rate": []}, "expected learning_rate to be a list"),
        ({"learning_rate": [0.0]}, "expected learning_rate to be a number above 0"),
        ({"learning_rate": [float("inf")]}, "expected learning_rate to be a number above 0"),
        ({"seed": []}, "expected seed to be a list"),
        ({"seed": [0, 0]}, "expected seed to be a list of distinct values"),
        ({"seed": [-1]}, "expected seed to be a whole number"),
        ({"seed": [1.5]}, "expected seed to be a whole number"),
        ({"seed": [2**31]}, "expected seed to be at most 2147483647"),
        ({"likelihood": "gaussian", "likelihood_settings": {"sigma": 0}}, "expected sigma"),
        ({"data": {"image_size": -1}}, "expected image_size"),
        ({"dataset": "arrays"}, "expected data_dir"),
        ({"dataset": "arrays", "data": {"data_dir": "/nowhere/at/all"}}, "/nowhere/at/all"),
        ({"dataset": "tfds"}, "tfds:<name>"),
        ({"dataset": "blobs:member"}, "got 'blobs:member'"),
    ],
)
def test_build_refuses(settings, message):
    with pytest.raises(InputError, match=message) as error:
        build(Settings(**settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings", [{"learning_rate": 1e-3}, {"seed": 3}, {"coefficients": {"beta": 4.0}}]
)
def test_a_number_where_a_list_belongs(settings):
    with pytest.raises(InputError, match="expected"):
        resolve(Settings(**settings))


def test_build(make_experiment):
    experiment = make_experiment(coefficients={"beta": [1, 4]}, seed=[3, 1, 2])
    assert experiment.settings == resolve(experiment.settings)
    assert (experiment.settings.network, experiment.settings.likelihood) == ("conv", "bernoulli")
    assert experiment.objective == OBJECTIVES["beta_vae"]()
    np.testing.assert_array_equal(experiment.runs.coefficients.beta, [1, 1, 1, 4, 4, 4])
    np.testing.assert_array_equal(experiment.runs.seed, [3, 1, 2] * 2)
    assert {leaf.dtype for leaf in experiment.runs.coefficients} == {np.dtype(np.float32)}
    assert experiment.splits.train.num_examples == 64


def test_make_likelihood_takes_its_settings():
    settings = Settings(likelihood="gaussian", likelihood_settings={"sigma": 2.0})
    value = make_likelihood(settings).log_likelihood(np.zeros((1, 1)), np.zeros((1, 1)))
    np.testing.assert_allclose(value, [-0.5 * np.log(2 * np.pi * 4)], rtol=1e-6)


def test_keyword_settings():
    def function(first, second=2, *rest, third=3, fourth="4", **more): ...

    assert keyword_settings(function) == {"third": 3, "fourth": "4"}


def test_the_description_of_a_program(make_experiment):
    experiment = make_experiment()
    program = describe_program(experiment, 1)
    assert through_json(program) == program
    assert program["format"] == FORMAT
    assert program["vectorized_runs"] == 1
    assert program["x_shape"] == [16, 16, 1]
    assert program["convolution"] == "split_matmul"  # on the CPU; the settings say `auto`
    assert "convolution" not in describe_program(make_experiment(network="mlp"), 1)
    own = describe_program(make_experiment(network_settings={"convolution": "kernels"}), 1)
    assert own["convolution"] == f"kernels {kernels.VERSION}"
    assert {"jax", "jaxlib", "flax", "optax", "numpy"} <= set(program["versions"])
    assert program == describe_program(make_experiment(seed=[5], num_latents=2), 1)
    brighter = make_experiment(data={"image_size": 16, "blob_grid": 8, "blob_margin": 3.0})
    assert program["data_sha256"] != describe_program(brighter, 1)["data_sha256"]


def test_mutable_settings_are_settings():
    assert set(MUTABLE) <= set(Settings._fields)


def test_rows_are_a_part_of_the_grid(make_experiment):
    grid = {"coefficients": {"beta": [1.0, 4.0]}, "seed": [0, 1, 2]}
    whole, part = make_experiment(**grid).runs, make_experiment(rows="2:5", **grid).runs
    np.testing.assert_array_equal(part.coefficients.beta, whole.coefficients.beta[2:5])
    np.testing.assert_array_equal(part.seed, [2, 0, 1])


@pytest.mark.parametrize("rows", ["", "3", "0:0", "2:1", "0:7", "-1:2", "a:b", "1:2:3"])
def test_rows_that_are_not_there_are_refused(make_experiment, rows):
    with pytest.raises(InputError, match="expected rows"):
        make_experiment(coefficients={"beta": [1.0, 4.0]}, seed=[0, 1, 2], rows=rows)
