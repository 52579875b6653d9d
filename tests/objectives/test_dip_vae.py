"""DIP-VAE against a float64 twin, and its ties."""

import numpy as np
import pytest
from linear_model import (
    KEY,
    PARAMS,
    D,
    assert_gradients_agree,
    evaluate,
    in_float64,
    make_batch,
    normal_of,
    twin_elbo,
    twin_gradient,
)

from betavae_jax.checks import InputError
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.runs.settings import Settings, resolve

EPSILON, X = normal_of(KEY), make_batch().x[0]


def twin_covariance(params, name):
    _, _, mean, log_variance, _ = twin_elbo(params, X, EPSILON)
    matrix = np.cov(mean, rowvar=False, ddof=0)
    if name == "dip_vae_ii":
        matrix = matrix + np.diag(np.exp(log_variance).mean(axis=0))
    return matrix


def twin_loss(params, name, lambda_od, lambda_d, beta):
    distortion, kl, *_ = twin_elbo(params, X, EPSILON)
    matrix = twin_covariance(params, name)
    value = distortion + beta * kl.sum()
    for i in range(D):
        for j in range(D):
            value += lambda_d * (matrix[i, j] - 1) ** 2 if i == j else lambda_od * matrix[i, j] ** 2
    return value


@pytest.mark.parametrize("name", ["dip_vae_i", "dip_vae_ii"])
def test_value_terms_and_gradient_are_the_twins(name):
    weights, params = {"lambda_od": 3.0, "lambda_d": 20.0, "beta": 2.0}, in_float64(PARAMS)
    value, terms, _, grads = evaluate(OBJECTIVES[name](), **weights)
    np.testing.assert_allclose(value, twin_loss(params, name, **weights), rtol=1e-5)
    assert_gradients_agree(grads, twin_gradient(lambda p: twin_loss(p, name, **weights), params))
    matrix = twin_covariance(params, name)
    diagonal = np.diag(matrix)
    np.testing.assert_allclose(
        terms.extras["covariance_off_diagonal"],
        np.sum(matrix**2) - np.sum(diagonal**2),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        terms.extras["covariance_diagonal"], np.sum((diagonal - 1) ** 2), rtol=1e-4
    )


def test_the_variances_enter_the_diagonal_alone():
    """Not one number added to every entry."""
    _, first, _, _ = evaluate(OBJECTIVES["dip_vae_i"]())
    _, second, _, _ = evaluate(OBJECTIVES["dip_vae_ii"]())
    name = "covariance_off_diagonal"
    np.testing.assert_allclose(first.extras[name], second.extras[name], rtol=1e-5)
    assert first.extras["covariance_diagonal"] != second.extras["covariance_diagonal"]


@pytest.mark.parametrize("name", ["dip_vae_i", "dip_vae_ii"])
def test_without_weights_it_is_the_vae(name):
    value, _, _, grads = evaluate(OBJECTIVES[name](), lambda_od=0.0, lambda_d=0.0)
    expected, _, _, expected_grads = evaluate(OBJECTIVES["vae"]())
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert_gradients_agree(grads, in_float64(expected_grads), rtol=1e-5)
    value, _, _, _ = evaluate(OBJECTIVES[name](), lambda_od=0.0, lambda_d=0.0, beta=4.0)
    expected, *_ = evaluate(OBJECTIVES["beta_vae"]())
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize(("name", "ratio"), [("dip_vae_i", 10.0), ("dip_vae_ii", 1.0)])
def test_a_tied_weight_keeps_the_published_ratio(name, ratio):
    free, tied = OBJECTIVES[name](), OBJECTIVES[name](lambda_d_factor=ratio)
    assert free.Coefficients().lambda_d == ratio * free.Coefficients().lambda_od
    assert tied.Coefficients._fields == ("lambda_od", "beta")
    for lambda_od in (1.0, 50.0):
        expected, *_ = evaluate(free, lambda_od=lambda_od, lambda_d=ratio * lambda_od)
        value, *_ = evaluate(tied, lambda_od=lambda_od)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_refusals():
    with pytest.raises(InputError, match="lambda_d_factor"):
        OBJECTIVES["dip_vae_i"](lambda_d_factor=-1.0)
    tied = Settings(
        objective="dip_vae_i",
        objective_settings={"lambda_d_factor": 10.0},
        coefficients={"lambda_d": [3.0]},
    )
    with pytest.raises(InputError, match="which takes beta, lambda_od; got lambda_d"):
        resolve(tied)
