"""Objectives inside experiments: refusals before anything runs, critics that resume."""

import jax
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.evaluation import evaluate
from betavae_jax.fit import program_of
from betavae_jax.fit_directory import fit_directory
from betavae_jax.population import take_runs

SMALL = {
    "factor_vae": {"critic_width": 8, "critic_depth": 1},
    "vae_gan": {"critic_channels": 2},
}


def make_program(make_experiment, **settings):
    usual = {
        "objective_settings": SMALL.get(settings["objective"], {}),
        "network": "mlp",
        "network_settings": {"widths": "8", "decoder_widths": "8"},
        "log_every": 2,
        "checkpoint_every": 3,
        "tensorboard": False,
    }
    experiment = make_experiment(**{**usual, **settings})
    return experiment, program_of(experiment)


def train(experiment, program, workdir, num_steps):
    longer = experiment._replace(settings=experiment.settings._replace(num_steps=num_steps))
    return fit_directory(longer, program, workdir, show_progress=False)


@pytest.mark.parametrize("objective", ["factor_vae", "vae_gan"])
def test_a_population_with_critics_resumes_to_the_same_bits(make_experiment, tmp_path, objective):
    settings = {"objective": objective, "coefficients": {"gamma": [0.0, 40.0]}}
    experiment, program = make_program(make_experiment, seed=[0, 1], **settings)
    straight = train(experiment, program, tmp_path / "a", 7)
    for num_steps in (4, 7):
        resumed = train(experiment, program, tmp_path / "b", num_steps)
    straight, resumed = (take_runs(f.carry.state, 4) for f in (straight, resumed))
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)
    assert np.all(straight.failed_at < 0)
    for leaf in jax.tree.leaves(straight.critic):  # each run has a critic of its own
        if leaf.ndim > 2:
            assert len(np.unique(leaf.reshape(4, -1), axis=0)) == 4
    text = (tmp_path / "a" / "metrics.jsonl").read_text()
    assert (tmp_path / "b" / "metrics.jsonl").read_text() == text
    assert "critic_accuracy" in text


def test_pairs_of_a_held_out_set_train_and_are_evaluated(make_experiment, tmp_path):
    experiment, program = make_program(make_experiment, objective="ada_gvae", held_out=["x:2"])
    fitted = train(experiment, program, tmp_path, 3)
    results = evaluate(experiment, program, fitted.carry)
    assert results["runs"][0]["num_evaluated"] == 8
    assert np.isfinite(results["runs"][0]["elbo"])


def test_exact_trains_on_the_whole_set(make_experiment, tmp_path):
    settings = {"objective_settings": {"estimator": "exact"}, "batch_size": 64}
    experiment, program = make_program(make_experiment, objective="beta_tcvae", **settings)
    fitted = train(experiment, program, tmp_path, 1)
    assert np.isfinite(take_runs(fitted.carry.sums.loss, 1)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "beta_tcvae", "batch_size": 1}, "at least 2; got 1"),
        ({"objective": "beta_tcvae", "batch_size": 65}, "no more than the number of examples, 64"),
        (
            {"objective": "beta_tcvae", "objective_settings": {"estimator": "exact"}},
            "number of examples, 64",
        ),
        ({"objective": "factor_vae", "batch_size": 1}, "batch_size for factor_vae"),
        (
            {"objective": "vae_gan", "objective_settings": {"layer": 4}},
            "one of the critic's, 1 to 3, or 0 for 2; got 4",
        ),
        ({"objective": "ada_gvae", "objective_settings": {"changed": 2}}, "more factors than"),
        ({"objective": "ada_gvae", "data": {}, "dataset": "digits"}, "factors"),
    ],
)
def test_what_an_objective_cannot_learn_from_is_refused_at_once(make_experiment, settings, message):
    pytest.importorskip("sklearn")
    with pytest.raises(InputError, match=message) as caught:
        make_experiment(**settings)
    assert "\n" not in str(caught.value)
