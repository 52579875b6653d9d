"""InfoVAE against a float64 twin, and its limits."""

import jax
import numpy as np
import pytest
from linear_model import (
    KEY,
    PARAMS,
    B,
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

ELBO_KEY, PRIOR_KEY = jax.random.split(KEY)
EPSILON, PRIOR, X = normal_of(ELBO_KEY), normal_of(PRIOR_KEY), make_batch().x[0]


def twin_mmd(z, kernel, bandwidth):
    scale = 2 * D * bandwidth

    def k(a, b):
        squared = np.sum((a - b) ** 2)
        return np.exp(-squared / scale) if kernel == "rbf" else scale / (scale + squared)

    pairs = [(i, j) for i in range(B) for j in range(B) if i != j]
    within = sum(k(s[i], s[j]) for s in (z, PRIOR) for i, j in pairs) / (B * (B - 1))
    return within - 2 * sum(k(a, b) for a in z for b in PRIOR) / B**2


def twin_loss(params, kernel, bandwidth, alpha, lambda_mmd, beta):
    distortion, kl, *_, z = twin_elbo(params, X, EPSILON)
    mmd = twin_mmd(z, kernel, bandwidth)
    return distortion + beta * (1 - alpha) * kl.sum() + (alpha + lambda_mmd - 1) * mmd


@pytest.mark.parametrize(("kernel", "bandwidth"), [("rbf", 1.0), ("imq", 0.3)])
def test_value_terms_and_gradient_are_the_twins(kernel, bandwidth):
    objective = OBJECTIVES["info_vae"](kernel=kernel, bandwidth=bandwidth)
    weights = {"alpha": 0.25, "lambda_mmd": 10.0, "beta": 2.0}
    value, terms, _, grads = evaluate(objective, **weights)

    def twin(params):
        return twin_loss(params, kernel, bandwidth, **weights)

    params = in_float64(PARAMS)
    np.testing.assert_allclose(value, twin(params), rtol=1e-5)
    assert_gradients_agree(grads, twin_gradient(twin, params))
    *_, z = twin_elbo(params, X, EPSILON)
    assert list(terms.extras) == [f"mmd_{kernel}"]
    np.testing.assert_allclose(
        terms.extras[f"mmd_{kernel}"], twin_mmd(z, kernel, bandwidth), rtol=1e-4, atol=1e-6
    )


def test_its_limits():
    objective = OBJECTIVES["info_vae"]()
    vae, _, _, vae_grads = evaluate(OBJECTIVES["vae"](), key=ELBO_KEY)
    value, _, _, grads = evaluate(objective, alpha=0.0, lambda_mmd=1.0)
    np.testing.assert_allclose(value, vae, rtol=1e-6)
    assert_gradients_agree(grads, in_float64(vae_grads), rtol=1e-5)
    # MMD-VAE: the rate has no weight.
    value, terms, _, _ = evaluate(objective, alpha=1.0, lambda_mmd=1000.0)
    expected = terms.distortion + 1000 * terms.extras["mmd_rbf"]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    value, terms, _, _ = evaluate(objective, alpha=1.0, lambda_mmd=0.0)
    np.testing.assert_allclose(value, terms.distortion, rtol=1e-6)
    # And β-VAE without the MMD.
    value, *_ = evaluate(objective, alpha=0.0, lambda_mmd=1.0, beta=4.0)
    expected, *_ = evaluate(OBJECTIVES["beta_vae"](), key=ELBO_KEY, beta=4.0)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_published_defaults():
    assert OBJECTIVES["info_vae"]().Coefficients() == (0.0, 1000.0, 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"kernel": "linear"}, "one of imq, rbf"), ({"bandwidth": 0.0}, "bandwidth")],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        OBJECTIVES["info_vae"](**settings)
