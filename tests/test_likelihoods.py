"""p(x|z) against SciPy, with its constants, and the contract of every entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from betavae_jax.checks import InputError
from betavae_jax.likelihoods import LIKELIHOODS, bernoulli, gaussian

SHAPE = (5, 4, 3, 2)  # B, H, W, C


def outputs(seed=0, shape=SHAPE):
    return jnp.asarray(np.random.default_rng(seed).normal(scale=2, size=shape), jnp.float32)


def images(seed=1, shape=SHAPE, binary=False):
    x = np.random.default_rng(seed).random(shape)
    return jnp.asarray(x > 0.5 if binary else x, jnp.float32)


def log_likelihood(likelihood, output, x):
    return likelihood.log_likelihood(likelihood.natural(likelihood.init(), output), x)


# Bernoulli.


def test_bernoulli_is_scipys():
    logits, x = outputs(), images(binary=True)
    p = scipy.special.expit(np.asarray(logits, np.float64))
    expected = scipy.stats.bernoulli(p).logpmf(np.asarray(x)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(log_likelihood(bernoulli(), logits, x), expected, rtol=1e-5)


def test_bernoulli_of_grey_is_the_cross_entropy():
    logits, x = np.asarray(outputs(), np.float64), np.asarray(images(), np.float64)
    p = scipy.special.expit(logits)  # stable for these logits: no p is 0 or 1
    assert 1e-4 < p.min() < p.max() < 1 - 1e-4
    expected = (scipy.special.xlogy(x, p) + scipy.special.xlog1py(1 - x, -p)).sum(axis=(1, 2, 3))
    got = log_likelihood(bernoulli(), outputs(), images())
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_bernoulli_of_a_fair_coin():
    got = log_likelihood(bernoulli(), jnp.zeros((2, 64, 64, 1)), images(shape=(2, 64, 64, 1)))
    np.testing.assert_allclose(got, [-4096 * np.log(2)] * 2, rtol=1e-6)  # -2839.13 nats


def test_bernoulli_sums_to_one():
    logits = jnp.linspace(-30, 30, 61)[:, None]
    both = [np.exp(log_likelihood(bernoulli(), logits, jnp.full((61, 1), v))) for v in (0.0, 1.0)]
    np.testing.assert_allclose(sum(both), np.ones(61), rtol=1e-6)


@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("logit", [-100.0, -88.0, 88.0, 100.0])
def test_bernoulli_is_finite_at_extreme_logits(logit, x):
    def function(output):
        return jnp.sum(log_likelihood(bernoulli(), output, jnp.full((1, 2), x)))

    value, gradient = jax.value_and_grad(function)(jnp.full((1, 2), logit))
    expected = x * np.log(scipy.special.expit(logit)) if logit < 0 else (x - 1) * logit
    np.testing.assert_allclose(value, 2 * expected, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(gradient, np.full((1, 2), x - (logit > 0)), atol=1e-37)


def test_the_gradient_of_bernoulli_is_the_residual():
    x = images()
    function = jax.grad(lambda o: jnp.sum(log_likelihood(bernoulli(), o, x)))
    gradient = jax.jit(function)(outputs())
    p = scipy.special.expit(np.asarray(outputs(), np.float64))
    np.testing.assert_allclose(gradient, np.asarray(x) - p, atol=1e-6)
    np.testing.assert_allclose(bernoulli().mean(outputs()), p, rtol=1e-5)


# Gaussian.


@pytest.mark.parametrize("sigma", [0.01, 0.1, 1, 3.5])
def test_gaussian_is_scipys(sigma):
    mean, x = outputs(), images()
    density = scipy.stats.norm(np.asarray(mean, np.float64), sigma)
    expected = density.logpdf(np.asarray(x, np.float64)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(log_likelihood(gaussian(sigma=sigma), mean, x), expected, rtol=1e-5)


def test_the_default_sigma():
    at_its_mean = log_likelihood(gaussian(), jnp.full((1, 10), 0.5), jnp.full((1, 10), 0.5))
    np.testing.assert_allclose(at_its_mean, [10 * scipy.stats.norm(0, 0.1).logpdf(0)], rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 1.0])
def test_gaussian_integrates_to_one(sigma):
    x = jnp.asarray(0.3 + sigma * np.linspace(-10, 10, 20_001), jnp.float32)[:, None]
    density = np.exp(np.asarray(log_likelihood(gaussian(sigma=sigma), jnp.full(x.shape, 0.3), x)))
    integral = np.trapezoid(density.astype(np.float64), np.asarray(x, np.float64)[:, 0])
    np.testing.assert_allclose(integral, 1.0, rtol=1e-5)


def test_the_gradient_of_gaussian_is_the_scaled_residual():
    x = images()
    function = jax.grad(lambda o: jnp.sum(log_likelihood(gaussian(sigma=0.5), o, x)))
    gradient = jax.jit(function)(outputs())
    expected = (np.asarray(x) - np.asarray(outputs())) / 0.25
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sigma", [0, 0.0, -0.1, float("nan"), float("inf"), None, True, "0.1"])
def test_gaussian_refuses(sigma):
    with pytest.raises(InputError, match="expected sigma to be a number above 0; got"):
        gaussian(sigma=sigma)


# The contract of every entry.


@pytest.fixture(params=sorted(LIKELIHOODS))
def likelihood(request):
    return LIKELIHOODS[request.param]()


@pytest.mark.parametrize("shape", [SHAPE, (3, 7)])
def test_shapes(likelihood, shape):
    natural = likelihood.natural(likelihood.init(), outputs(shape=shape))
    value = likelihood.log_likelihood(natural, images(shape=shape))
    mean = likelihood.mean(natural)
    assert value.shape == shape[:1]
    assert mean.shape == shape
    assert value.dtype == mean.dtype == jnp.float32
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(mean))


def test_pixels_are_summed(likelihood):
    whole = log_likelihood(likelihood, outputs(), images())
    halves = [
        log_likelihood(likelihood, outputs()[:, rows], images()[:, rows])
        for rows in (slice(None, 1), slice(1, None))
    ]
    np.testing.assert_allclose(whole, sum(halves), rtol=1e-5)
    flat = (SHAPE[0], -1)
    as_vectors = log_likelihood(likelihood, outputs().reshape(flat), images().reshape(flat))
    np.testing.assert_allclose(whole, as_vectors, rtol=1e-5)


def test_examples_do_not_meet(likelihood):
    whole = np.asarray(log_likelihood(likelihood, outputs(), images()))
    order = np.asarray([3, 0, 4, 1, 2])
    shuffled = log_likelihood(likelihood, outputs()[order], images()[order])
    np.testing.assert_array_equal(shuffled, whole[order])
    np.testing.assert_allclose(
        log_likelihood(likelihood, outputs()[:1], images()[:1]), whole[:1], rtol=1e-6
    )


def test_eager_jit_and_vmap_agree(likelihood):
    output, x = (jnp.stack([f(seed) for seed in range(4)]) for f in (outputs, images))

    def both(output, x):
        natural = likelihood.natural(likelihood.init(), output)
        return likelihood.log_likelihood(natural, x), likelihood.mean(natural)

    mapped, jitted = jax.jit(jax.vmap(both))(output, x), jax.jit(both)
    for run in range(4):
        eager = both(output[run], x[run])
        for got in (jitted(output[run], x[run]), [leaf[run] for leaf in mapped]):
            for a, b in zip(got, eager, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_gradient_is_finite_at_extreme_outputs(likelihood):
    for output in (-100.0, 100.0):
        value, gradient = jax.value_and_grad(
            lambda o: jnp.sum(log_likelihood(likelihood, o, images(shape=(2, 3))))
        )(jnp.full((2, 3), output))
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))


def test_the_mean_is_where_the_likelihood_is_largest(likelihood):
    """For a binary or a continuous pixel alike, the likeliest output to x has mean x."""
    x = jnp.full((1, 1), 0.7)

    def value(output):
        return log_likelihood(likelihood, jnp.full((1, 1), output), x)[0]

    grid = np.linspace(-3, 3, 601)
    best = grid[np.argmax([np.asarray(value(jnp.float32(g))) for g in grid])]
    natural = likelihood.natural(likelihood.init(), jnp.full((1, 1), best))
    np.testing.assert_allclose(likelihood.mean(natural), [[0.7]], atol=0.01)
