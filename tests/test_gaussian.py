"""Diagonal Gaussians against closed forms, SciPy and numerical integration in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from betavae_jax import gaussian
from betavae_jax.types import Posterior

CASES = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (-2.5, -3.0), (0.3, 2.0), (4.0, -6.0), (1e-2, 1e-2)]


def kl_in_float64(mean, log_variance):
    mean, log_variance = np.asarray(mean, np.float64), np.asarray(log_variance, np.float64)
    return 0.5 * (mean**2 + np.exp(log_variance) - 1.0 - log_variance)


def posteriors(seed, shape, spread=2.0):
    rng = np.random.default_rng(seed)
    mean, log_variance = rng.normal(scale=spread, size=(2, *shape)).astype(np.float32)
    return Posterior(jnp.asarray(mean), jnp.asarray(log_variance))


@jax.jit
@jax.grad
def grad_of_kl(posterior):
    return jnp.sum(gaussian.kl_per_latent(posterior))


# The sample.


@pytest.fixture(scope="module")
def draws():
    """200,000 samples of each of four latents, with their posterior."""
    mean = np.asarray([0.0, 3.0, -1.5, 0.2], np.float32)
    log_variance = np.asarray([0.0, 1.0, -4.0, 2.5], np.float32)
    shape = (200_000, 4)
    posterior = Posterior(*(jnp.broadcast_to(leaf, shape) for leaf in (mean, log_variance)))
    z = np.asarray(gaussian.sample(jax.random.key(7), posterior), np.float64)
    return z, mean.astype(np.float64), np.exp(0.5 * log_variance.astype(np.float64))


def test_the_sample_has_the_mean_and_the_variance(draws):
    z, mean, sd = draws
    count = len(z)
    np.testing.assert_array_less(np.abs(z.mean(0) - mean), 5 * sd / np.sqrt(count))
    # The variance of count draws has a relative standard deviation of sqrt(2 / count).
    np.testing.assert_array_less(np.abs(z.var(0) / sd**2 - 1), 5 * np.sqrt(2 / count))


def test_the_sample_is_normal_and_its_latents_independent(draws):
    z, mean, sd = draws
    epsilon = (z - mean) / sd
    for latent in range(4):
        assert scipy.stats.kstest(epsilon[:, latent], "norm").pvalue > 1e-3
    correlation = np.corrcoef(epsilon, rowvar=False) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(z))
    assert abs(np.corrcoef(epsilon[:-1, 0], epsilon[1:, 0])[0, 1]) < 5 / np.sqrt(len(z))


def test_the_gradient_of_the_sample_is_that_of_the_reparameterisation():
    posterior, key = posteriors(0, (2, 3)), jax.random.key(3)
    z = gaussian.sample(key, posterior)
    by_posterior = jax.jit(jax.jacobian(lambda p: gaussian.sample(key, p)))(posterior)
    identity = np.eye(6).reshape(2, 3, 2, 3)
    np.testing.assert_array_equal(by_posterior.mean, identity)
    sd_epsilon = np.asarray(z, np.float64) - np.asarray(posterior.mean, np.float64)
    expected = identity * 0.5 * sd_epsilon[..., None, None]
    np.testing.assert_allclose(by_posterior.log_variance, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(sd_epsilon).min() > 0


def test_the_sample_depends_on_its_key_alone():
    posterior = posteriors(1, (2, 3))
    first = gaussian.sample(jax.random.key(0), posterior)
    np.testing.assert_array_equal(first, gaussian.sample(jax.random.key(0), posterior))
    assert not np.any(
        np.asarray(first) == np.asarray(gaussian.sample(jax.random.key(1), posterior))
    )


def test_a_sample_of_no_variance_is_the_mean():
    mean = jnp.asarray([[1.0, -2.0]])
    z = gaussian.sample(jax.random.key(0), Posterior(mean, jnp.full((1, 2), -200.0)))
    np.testing.assert_array_equal(z, mean)


# The divergence from the prior.


@pytest.mark.parametrize(("mean", "log_variance"), CASES)
def test_kl_is_the_integral(mean, log_variance):
    q, p = scipy.stats.norm(mean, np.exp(0.5 * log_variance)), scipy.stats.norm()
    width = 12 * q.std()
    integral, _ = scipy.integrate.quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)),
        mean - width,
        mean + width,
        points=[mean],
        epsabs=1e-13,
    )
    got = gaussian.kl_per_latent(Posterior(jnp.full((2, 3), mean), jnp.full((2, 3), log_variance)))
    np.testing.assert_allclose(
        got, np.full((2, 3), integral), rtol=2e-4 if integral < 1e-3 else 2e-6, atol=1e-9
    )


@pytest.mark.parametrize(("mean", "log_variance"), CASES)
def test_kl_has_the_closed_form_and_its_gradient(mean, log_variance):
    posterior = Posterior(jnp.full((2, 3), mean), jnp.full((2, 3), log_variance))
    expected = np.full((2, 3), kl_in_float64(np.float32(mean), np.float32(log_variance)))
    got = gaussian.kl_per_latent(posterior)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)
    grads = grad_of_kl(posterior)
    np.testing.assert_allclose(grads.mean, np.full((2, 3), mean), rtol=1e-6)
    by_log_variance = 0.5 * np.expm1(np.full((2, 3), np.float32(log_variance), np.float64))
    # The derivative of expm1 is taken as (expm1 + 1): exact to one unit in the last place of 1.
    np.testing.assert_allclose(grads.log_variance, by_log_variance, rtol=1e-6, atol=6e-8)


def test_kl_is_zero_at_the_prior():
    prior = Posterior(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    np.testing.assert_array_equal(gaussian.kl_per_latent(prior), np.zeros((2, 3)))
    for leaf in grad_of_kl(prior):
        np.testing.assert_array_equal(leaf, np.zeros((2, 3)))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mean", [0.0, 1e-30, 1e-12, -1e-6, 1e-4, -1e-3])
def test_kl_is_never_negative_near_the_prior(mean, compiled):
    sizes = np.geomspace(1e-40, 0.5, 100_000)
    log_variance = np.concatenate([-sizes, sizes])[:, None].astype(np.float32)
    posterior = Posterior(jnp.full(log_variance.shape, mean), jnp.asarray(log_variance))
    kl = gaussian.kl_per_latent
    got = np.asarray((jax.jit(kl) if compiled else kl)(posterior), np.float64)
    assert got.min() >= 0
    # exp(v) - 1 - v loses its digits in float64 too, where v is small: the series has them.
    v = log_variance.astype(np.float64)
    series = v**2 / 2 + v**3 / 6 + v**4 / 24
    expected = 0.5 * (mean**2 + np.where(np.abs(v) < 1e-3, series, np.expm1(v) - v))
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-8)


def test_kl_rises_away_from_the_prior():
    tiny = np.geomspace(1e-3, 1.0, 200).astype(np.float32)[:, None]
    for sign in (-1, 1):
        by_variance = gaussian.kl_per_latent(
            Posterior(jnp.zeros((200, 1)), jnp.asarray(sign * tiny))
        )
        by_mean = gaussian.kl_per_latent(Posterior(jnp.asarray(sign * tiny), jnp.zeros((200, 1))))
        assert np.all(np.diff(np.asarray(by_variance)[:, 0]) > 0)
        assert np.all(np.diff(np.asarray(by_mean)[:, 0]) > 0)


# The density.


@pytest.mark.parametrize("log_variance", [-20.0, -3.0, 0.0, 0.7, 20.0])
@pytest.mark.parametrize("mean", [0.0, -1.25, 40.0])
def test_log_density_is_scipys(mean, log_variance):
    sd = np.exp(0.5 * np.float64(np.float32(log_variance)))
    z = (mean + sd * np.linspace(-6, 6, 13)).astype(np.float32)
    got = gaussian.log_density(
        jnp.asarray(z), jnp.full(z.shape, mean), jnp.full(z.shape, log_variance)
    )
    expected = scipy.stats.norm(mean, sd).logpdf(z.astype(np.float64))
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=3e-6)


def test_log_density_broadcasts():
    z, mean = np.ones((4, 1, 3), np.float32), np.zeros((1, 5, 3), np.float32)
    got = gaussian.log_density(z, mean, np.zeros((1, 1, 3), np.float32))
    np.testing.assert_allclose(got, np.full((4, 5, 3), scipy.stats.norm.logpdf(1.0)), rtol=1e-6)


def test_the_divergence_is_the_mean_difference_of_densities():
    posterior = Posterior(jnp.full((200_000, 1), 0.8), jnp.full((200_000, 1), -1.0))
    z = gaussian.sample(jax.random.key(5), posterior)
    zero = jnp.zeros_like(z)
    sampled = np.asarray(gaussian.log_density(z, *posterior) - gaussian.log_density(z, zero, zero))
    error = sampled.std() / np.sqrt(len(sampled))
    assert abs(sampled.mean(dtype=np.float64) - kl_in_float64(0.8, -1.0)) < 5 * error


# Extremes, and the three ways to run.


def test_values_and_gradients_are_finite_at_extremes():
    """Log-variances of ±20 with means of -100, 0 and 100: one element of the batch each."""
    log_variance, mean = np.meshgrid([-20.0, 20.0], [-100.0, 0.0, 100.0])
    posterior = Posterior(jnp.asarray(mean, jnp.float32), jnp.asarray(log_variance, jnp.float32))
    key = jax.random.key(0)
    functions = {
        "kl": gaussian.kl_per_latent,
        "sample": lambda p: gaussian.sample(key, p),
        "log density": lambda p: gaussian.log_density(gaussian.sample(key, p), *p),
        "log density elsewhere": lambda p: gaussian.log_density(jnp.ones((3, 2)), *p),
    }
    for name, function in functions.items():
        value, pull_back = jax.vjp(function, posterior)
        (grads,) = pull_back(jnp.ones((3, 2)))
        for leaf in (value, *grads):
            assert np.all(np.isfinite(leaf)), name
    expected = kl_in_float64(mean, log_variance)
    np.testing.assert_allclose(gaussian.kl_per_latent(posterior), expected, rtol=1e-6)


def test_eager_jit_and_vmap_agree():
    runs = posteriors(2, (4, 2, 3), spread=1.0)
    keys = jax.random.split(jax.random.key(0), 4)
    functions = (
        gaussian.sample,
        lambda _, p: gaussian.kl_per_latent(p),
        lambda _, p: gaussian.log_density(jnp.ones((2, 3)), *p),
    )
    ones = [jax.tree.map(lambda leaf, run=run: leaf[run], runs) for run in range(4)]
    for function in functions:
        mapped, jitted = jax.jit(jax.vmap(function))(keys, runs), jax.jit(function)
        for run, one in enumerate(ones):
            eager = function(keys[run], one)
            assert eager.shape == (2, 3)
            assert eager.dtype == jnp.float32
            np.testing.assert_allclose(jitted(keys[run], one), eager, rtol=2e-6, atol=1e-7)
            np.testing.assert_allclose(mapped[run], eager, rtol=2e-6, atol=1e-7)
