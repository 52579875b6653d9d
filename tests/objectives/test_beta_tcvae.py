"""β-TCVAE against a float64 twin, its limits, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from linear_model import (
    KEY,
    MODEL,
    PARAMS,
    B,
    D,
    N,
    assert_gradients_agree,
    evaluate,
    in_float64,
    make_batch,
    normal_of,
    twin_elbo,
    twin_gradient,
)

from betavae_jax.checks import InputError
from betavae_jax.data.blobs import load_blobs
from betavae_jax.data.sampling import correlate
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.types import Batch

EPSILON, X = normal_of(KEY), make_batch().x[0]


def twin_weights(estimator, n=N):
    if estimator == "mws":
        return np.full((B, B), 1 / (B * n))
    m = B - 1
    weights = np.full((B, B), 1 / m)
    for i in range(B):
        weights[i, i] = 1 / n
        weights[i, (i + 1) % B] = (n - m) / (n * m)
    return weights


def twin_parts(params, estimator):
    distortion, kl, mean, log_variance, z = twin_elbo(params, X, EPSILON)

    def log_density(i, j):
        difference = z[i] - mean[j]
        return -0.5 * (
            np.log(2 * np.pi) + log_variance[j] + difference**2 / np.exp(log_variance[j])
        )

    density = np.asarray([[log_density(i, j) for j in range(B)] for i in range(B)])  # [B, B, D]
    weights = twin_weights(estimator)
    log_q_z = scipy.special.logsumexp(density.sum(axis=2), axis=1, b=weights)
    log_q_zd = scipy.special.logsumexp(density, axis=1, b=weights[..., None])
    log_q_zx = np.asarray([log_density(i, i).sum() for i in range(B)])
    log_p_zd = -0.5 * (np.log(2 * np.pi) + z**2)
    parts = {
        "mutual_information": np.mean(log_q_zx - log_q_z),
        "total_correlation": np.mean(log_q_z - log_q_zd.sum(axis=1)),
        "dimensionwise_kl": np.mean((log_q_zd - log_p_zd).sum(axis=1)),
    }
    return distortion, kl, parts


def twin_loss(params, estimator, alpha, beta, gamma):
    distortion, _, parts = twin_parts(params, estimator)
    return distortion + np.dot([alpha, beta, gamma], list(parts.values()))


@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_value_terms_and_gradient_are_the_twins(estimator):
    objective, params = OBJECTIVES["beta_tcvae"](estimator=estimator), in_float64(PARAMS)
    weights = {"alpha": 0.5, "beta": 6.0, "gamma": 2.0}
    value, terms, _, grads = evaluate(objective, **weights)
    distortion, kl, parts = twin_parts(params, estimator)
    np.testing.assert_allclose(value, twin_loss(params, estimator, **weights), rtol=1e-5)
    np.testing.assert_allclose(terms.distortion, distortion, rtol=1e-5)
    np.testing.assert_allclose(terms.kl_per_latent, kl, rtol=1e-5)
    assert set(terms.extras) == {f"{name}_{estimator}" for name in parts}
    for name, part in parts.items():
        np.testing.assert_allclose(terms.extras[f"{name}_{estimator}"], part, rtol=1e-4, atol=1e-5)
    expected = twin_gradient(lambda p: twin_loss(p, estimator, **weights), params)
    assert_gradients_agree(grads, expected)


@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_at_ones_it_is_the_elbo_with_the_sampled_kl(estimator):
    objective = OBJECTIVES["beta_tcvae"](estimator=estimator)
    value, terms, _, grads = evaluate(objective, alpha=1.0, beta=1.0, gamma=1.0)

    def sampled(params):
        distortion, _, mean, log_variance, z = twin_elbo(params, X, EPSILON)
        kl = 0.5 * (z**2 - (z - mean) ** 2 / np.exp(log_variance) - log_variance)
        return distortion + kl.sum(axis=1).mean()

    params = in_float64(PARAMS)
    np.testing.assert_allclose(value, sampled(params), rtol=1e-5)
    np.testing.assert_allclose(sum(terms.extras.values()) + terms.distortion, value, rtol=1e-5)
    assert_gradients_agree(grads, twin_gradient(sampled, params))


def test_zeros_leave_the_distortion():
    value, terms, _, _ = evaluate(OBJECTIVES["beta_tcvae"](), alpha=0.0, beta=0.0, gamma=0.0)
    np.testing.assert_array_equal(value, terms.distortion)


def test_constants_of_weighted_sampling_have_no_gradient():
    """With N ten times as large, MWS says (D - 1) log 10 more, and has the same gradient."""
    objective = OBJECTIVES["beta_tcvae"](estimator="mws")
    given = objective.Coefficients(*(jnp.float32(c) for c in (0.0, 1.0, 0.0)))
    results = []
    for n in (N, 10 * N):
        batch = make_batch()._replace(num_examples=n)

        def loss(params, batch=batch):
            return objective.loss(params, (), MODEL, batch, given, KEY)[0]

        results.append(jax.jit(jax.value_and_grad(loss))(PARAMS))
    (small, small_grads), (large, large_grads) = results
    np.testing.assert_allclose(large - small, (D - 1) * np.log(10), rtol=1e-4)
    assert_gradients_agree(large_grads, in_float64(small_grads), rtol=1e-4)


def test_exact_takes_the_whole_set_at_every_step():
    objective = OBJECTIVES["beta_tcvae"](estimator="exact")
    data = load_blobs(image_size=8, blob_grid=3, blob_margin=2.0, blob_sigma=1.0).train
    index = objective.draw(jax.random.key(0), 9, data)
    np.testing.assert_array_equal(index, np.arange(9)[None])
    batch = Batch(make_batch().x, make_batch().factors, B)
    given = objective.Coefficients(*(jnp.float32(1.0),) * 3)
    _, (terms, _) = objective.loss(PARAMS, (), MODEL, batch, given, KEY)
    _, _, mean, log_variance, z = twin_elbo(in_float64(PARAMS), X, EPSILON)
    density = scipy.special.logsumexp(
        -0.5 * ((z[:, None] - mean) ** 2 / np.exp(log_variance) + log_variance).sum(axis=2), axis=1
    )
    expected = density.mean() - np.log(B) - 0.5 * D * np.log(2 * np.pi)  # E log q(z)
    log_q_zx = -0.5 * (EPSILON**2 + log_variance + np.log(2 * np.pi)).sum(axis=1).mean()
    np.testing.assert_allclose(
        terms.extras["mutual_information_exact"], log_q_zx - expected, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("settings", "batch_size", "message"),
    [
        ({}, 1, "batch_size for beta_tcvae to be a whole number of at least 2; got 1"),
        ({"estimator": "mws"}, 1, "at least 2"),
        ({}, 10, "no more than the number of examples, 9"),
        ({"estimator": "exact"}, 8, "to be the number of examples, 9"),
    ],
)
def test_batches_that_cannot_be_weighed_are_refused(settings, batch_size, message):
    data = load_blobs(image_size=8, blob_grid=3, blob_margin=2.0).train
    with pytest.raises(InputError, match=message):
        OBJECTIVES["beta_tcvae"](**settings).draw(KEY, batch_size, data)


def test_other_refusals():
    with pytest.raises(InputError, match="one of exact, mss, mws; got 'stratified'"):
        OBJECTIVES["beta_tcvae"](estimator="stratified")
    data = correlate(load_blobs(image_size=8, blob_grid=3, blob_margin=2.0).train, "x", "y", 0.2)
    with pytest.raises(InputError, match="drawn uniformly"):
        OBJECTIVES["beta_tcvae"](estimator="exact").draw(KEY, 9, data)
