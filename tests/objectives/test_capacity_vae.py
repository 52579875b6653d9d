"""Controlled capacity against a float64 twin, and its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax import gaussian
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.objectives.elbo import evaluate_elbo
from betavae_jax.types import Batch

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def setting():
    network = NETWORKS["conv"]((8, 8, 1), 3)
    model = make_model(network, LIKELIHOODS["bernoulli"]())
    params = jax.jit(model.init)(jax.random.key(0))
    # Far from the prior, so that the examples' rates differ.
    params["encoder"]["posterior"]["kernel"] *= 20
    x = jax.random.uniform(jax.random.key(1), (1, 6, 8, 8, 1))
    return model, params, Batch(x, jnp.zeros((1, 6, 0), jnp.int32), 6)


def loss_of(objective, setting, gamma, capacity):
    model, params, batch = setting
    given = objective.Coefficients(jnp.float32(gamma), jnp.float32(capacity))

    def loss(params, given):
        return objective.loss(params, (), model, batch, given, KEY)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params, given)


def elbo_of(setting):
    model, params, batch = setting
    return jax.jit(lambda params, x: evaluate_elbo(params, model, x, KEY))(params, batch.x[0])


def twin(setting, gamma, capacity, *, per_sample):
    """The loss in float64 NumPy, from the posterior and the distortion."""
    elbo = elbo_of(setting)
    mean, log_variance = (np.asarray(a, np.float64) for a in elbo.posterior)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)  # [B, D]
    rates = kl.sum(axis=1)
    excess = np.abs(rates - capacity).mean() if per_sample else abs(rates.mean() - capacity)
    return float(elbo.distortion) + gamma * excess, rates


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize(("gamma", "capacity"), [(1.0, 0.0), (1000.0, 2.0), (30.0, 1e4)])
def test_the_value_is_the_twins(setting, gamma, capacity, per_sample):
    objective = OBJECTIVES["capacity_vae"](per_sample=per_sample)
    (value, (terms, _)), _ = loss_of(objective, setting, gamma, capacity)
    expected, rates = twin(setting, gamma, capacity, per_sample=per_sample)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(terms.rate, rates.mean(), rtol=1e-5)
    assert float(terms.extras["capacity"]) == capacity
    assert terms.loss == value


def test_the_two_forms_differ_between_the_rates(setting):
    _, rates = twin(setting, 1.0, 0.0, per_sample=False)
    assert np.ptp(rates) > 1
    (mean, _), _ = loss_of(OBJECTIVES["capacity_vae"](), setting, 1.0, rates.mean())
    (each, _), _ = loss_of(OBJECTIVES["capacity_vae"](per_sample=True), setting, 1.0, rates.mean())
    # |mean - C| = 0, while the mean of |rate - C| is not.
    np.testing.assert_allclose(each - mean, np.abs(rates - rates.mean()).mean(), rtol=1e-3)


@pytest.mark.parametrize("per_sample", [False, True])
def test_without_capacity_it_is_beta_vae(setting, per_sample):
    model, params, batch = setting
    objective = OBJECTIVES["capacity_vae"](per_sample=per_sample)
    beta_vae = OBJECTIVES["beta_vae"]()
    (value, _), grads = loss_of(objective, setting, 7.0, 0.0)
    given = beta_vae.Coefficients(jnp.float32(7))

    def loss(params):
        return beta_vae.loss(params, (), model, batch, given, KEY)[0]

    expected, expected_grads = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4 * np.abs(b).max() + 1e-7),
        grads,
        expected_grads,
    )


def test_above_the_rate_the_capacity_reverses_its_sign(setting):
    objective = OBJECTIVES["capacity_vae"]()
    elbo = elbo_of(setting)
    rate = float(jnp.sum(jnp.mean(gaussian.kl_per_latent(elbo.posterior), axis=0)))
    (below, _), _ = loss_of(objective, setting, 2.0, rate - 1)
    (above, _), _ = loss_of(objective, setting, 2.0, rate + 1)
    np.testing.assert_allclose([below, above], float(elbo.distortion) + 2.0, rtol=1e-5)
    _, down = loss_of(objective, setting, 1e6, rate - 1)
    _, up = loss_of(objective, setting, 1e6, rate + 1)
    down, up = (np.asarray(g["encoder"]["posterior"]["bias"]) for g in (down, up))
    assert np.linalg.norm(down + up) < 1e-3 * np.linalg.norm(down)


def test_the_capacity_rises_as_published():
    assert OBJECTIVES["capacity_vae"]().schedules == (("capacity", "linear:0:100000"),)
    assert OBJECTIVES["capacity_vae"]().Coefficients() == (1000.0, 25.0)
