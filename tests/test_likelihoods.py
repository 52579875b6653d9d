"""p(x|z) against SciPy, with its constants, and the contract of every entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from jax.test_util import check_grads

from betavae_jax.checks import InputError
from betavae_jax.likelihoods import (
    LIKELIHOODS,
    bernoulli,
    continuous_bernoulli,
    gaussian,
    gaussian_learned,
    gaussian_optimal,
    laplace,
)
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS

SHAPE = (5, 4, 3, 2)  # B, H, W, C
# Those whose examples, and pixels, do not meet: σ of the other is the batch's.
SEPARABLE = sorted(set(LIKELIHOODS) - {"gaussian_optimal"})


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


# Continuous Bernoulli.

LOGITS = [0.0, 1e-30, 1e-6, 1e-3, 0.03, 0.5, 0.999999, 1.0, 1.000001, 1.5, 4.0, 20.0, 87.0, 100.0]


def tilted(logit):
    """log ∫ exp(u η) du over [0, 1], its mean and its variance, by quadrature in float64."""
    nodes, weights = np.polynomial.legendre.leggauss(150)
    u, shift = (nodes + 1) / 2, max(logit, 0.0)
    density = weights / 2 * np.exp(u * logit - shift)
    mean = np.sum(u * density) / np.sum(density)
    variance = np.sum((u - mean) ** 2 * density) / np.sum(density)
    return shift + np.log(np.sum(density)), mean, variance


def test_continuous_bernoulli_is_the_normalised_one():
    logits = np.asarray(sorted({sign * logit for logit in LOGITS for sign in (-1, 1)}), np.float32)
    log_integral, mean, variance = np.array([tilted(np.float64(o)) for o in logits]).T
    output = jnp.asarray(logits)

    @jax.jit
    def evaluate(output, x):
        gradient = jax.grad(lambda o: jnp.sum(log_likelihood(continuous_bernoulli(), o, x)))
        return log_likelihood(continuous_bernoulli(), output, x), gradient(output)

    for x in (0.0, 0.2, 0.5, 1.0):
        value, gradient = evaluate(output[:, None], jnp.full((len(logits), 1), x))
        expected = x * logits.astype(np.float64) - log_integral
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=5e-7)
        np.testing.assert_allclose(gradient[:, 0], x - mean, rtol=1e-6, atol=5e-7)
    got, slope = jax.jit(jax.vmap(jax.value_and_grad(continuous_bernoulli().mean)))(output)
    np.testing.assert_allclose(got, mean, rtol=1e-6)
    np.testing.assert_allclose(slope, variance, rtol=1e-5, atol=5e-7)


def test_continuous_bernoulli_in_the_terms_of_the_paper():
    p = np.array([0.001, 0.2, 0.4, 0.49, 0.6, 0.97])
    x = np.array([0.1, 0.3, 0.8, 0.0, 1.0, 0.5])
    constant = 2 * np.arctanh(1 - 2 * p) / (1 - 2 * p)
    expected = np.log(constant) + x * np.log(p) + (1 - x) * np.log1p(-p)
    mean = p / (2 * p - 1) + 1 / (2 * np.arctanh(1 - 2 * p))

    @jax.jit
    def evaluate(logits, x):
        likelihood = continuous_bernoulli()
        return log_likelihood(likelihood, logits, x), likelihood.mean(logits)[:, 0]

    with jax.enable_x64(True):
        got = evaluate(*(jnp.asarray(a)[:, None] for a in (scipy.special.logit(p), x)))
        np.testing.assert_allclose(got, [expected, mean], rtol=1e-8)


def test_continuous_bernoulli_adds_a_constant_to_bernoulli():
    logits, x = outputs(), images()
    eta = np.asarray(logits, np.float64)
    constant = np.log(eta / np.tanh(eta / 2)).sum(axis=(1, 2, 3))
    expected = np.asarray(log_likelihood(bernoulli(), logits, x)) + constant
    got = log_likelihood(continuous_bernoulli(), logits, x)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_continuous_bernoulli_of_a_fair_coin_is_uniform():
    shape = (2, 64, 64, 1)
    got = log_likelihood(continuous_bernoulli(), jnp.zeros(shape), images(shape=shape))
    np.testing.assert_array_equal(got, [0, 0])


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


# Gaussian with a learned σ.


def at_sigma(sigma, min_sigma=1e-3):
    """The likelihood, and the parameters at which its σ is `sigma`."""
    likelihood = gaussian_learned(initial_sigma=sigma, min_sigma=min_sigma)
    return likelihood, likelihood.init()


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1, 3.5])
def test_gaussian_learned_is_scipys(sigma):
    likelihood, params = at_sigma(sigma)
    assert jax.tree.map(jnp.shape, params) == {"log_sigma": ()}
    density = scipy.stats.norm(np.asarray(outputs(), np.float64), sigma)
    expected = density.logpdf(np.asarray(images(), np.float64)).sum(axis=(1, 2, 3))
    natural = likelihood.natural(params, outputs())
    np.testing.assert_allclose(likelihood.log_likelihood(natural, images()), expected, rtol=1e-5)
    np.testing.assert_array_equal(likelihood.mean(natural), outputs())


def test_gaussian_learned_starts_as_gaussian():
    got = log_likelihood(gaussian_learned(), outputs(), images())
    np.testing.assert_allclose(got, log_likelihood(gaussian(), outputs(), images()), rtol=1e-5)


def test_the_learned_sigma_is_stationary_at_the_root_mean_squared_error():
    def slope(sigma):
        likelihood, params = at_sigma(sigma)
        mean, x = outputs(), images()
        return jax.grad(
            lambda p: jnp.mean(likelihood.log_likelihood(likelihood.natural(p, mean), x))
        )(params)["log_sigma"]

    residual = np.asarray(images(), np.float64) - np.asarray(outputs(), np.float64)
    best = np.sqrt(np.mean(residual**2))
    np.testing.assert_allclose(slope(best), 0, atol=1e-4)  # in units of the 24 pixels
    assert slope(0.9 * best) > 1
    assert slope(1.1 * best) < -1


@pytest.mark.parametrize("log_sigma", [-100.0, -20.0, np.log(0.25), 3.0, 100.0])
def test_the_learned_sigma_is_softly_bounded(log_sigma):
    likelihood = gaussian_learned(min_sigma=0.25, initial_sigma=1)

    def function(params, output):
        natural = likelihood.natural(params, output)
        return jnp.sum(likelihood.log_likelihood(natural, images())), natural.log_sigma

    params = {"log_sigma": jnp.float32(log_sigma)}
    grad = jax.value_and_grad(function, argnums=(0, 1), has_aux=True)
    (value, got), gradients = grad(params, outputs())
    np.testing.assert_allclose(got, np.log(0.25 + np.exp(np.float64(log_sigma))), rtol=1e-6)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((value, gradients)))


def test_the_learned_sigma_is_a_parameter_of_the_decoder():
    model = make_model(NETWORKS["mlp"]((5,), 2, widths="4"), gaussian_learned())
    params = jax.jit(model.init)(jax.random.key(0))
    assert list(params["decoder"]["likelihood"]) == ["log_sigma"]

    def loss(params, x):
        natural = model.decode(params, model.encode(params, x).mean)
        return -jnp.sum(model.log_likelihood(natural, x)), model.mean(natural)

    gradients, mean = jax.jit(jax.grad(loss, has_aux=True))(params, outputs(shape=(3, 5)))
    assert mean.shape == (3, 5)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients))


# Gaussian with the optimal σ.


def test_the_optimal_sigma_is_the_root_mean_squared_error():
    mean, x = np.asarray(outputs(), np.float64), np.asarray(images(), np.float64)
    best = np.sqrt(np.mean((x - mean) ** 2))
    expected = scipy.stats.norm(mean, best).logpdf(x).sum(axis=(1, 2, 3))
    got = log_likelihood(gaussian_optimal(), outputs(), images())
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    # In closed form: half a nat a pixel, and the logarithm of what σ covers.
    total = -0.5 * x.size * (1 + np.log(2 * np.pi * best**2))
    np.testing.assert_allclose(np.sum(got), total, rtol=1e-6)
    for factor in (0.5, 0.95, 1.05, 2.0):
        other = log_likelihood(gaussian(sigma=factor * best), outputs(), images())
        assert np.sum(other) < np.sum(got) - 0.1


def test_the_gradient_through_the_optimal_sigma():
    """None for the batch, as the likelihood is stationary in σ; some for an example."""
    mean, x = outputs(), images()
    best = float(jnp.sqrt(jnp.mean(jnp.square(x - mean))))

    def gradient(likelihood, examples):
        return jax.grad(lambda o: jnp.sum(log_likelihood(likelihood, o, x)[:examples]))(mean)

    whole = gradient(gaussian_optimal(), None)
    np.testing.assert_allclose(whole, gradient(gaussian(sigma=best), None), rtol=1e-4, atol=1e-5)
    of_the_first = gradient(gaussian_optimal(), 1)
    assert np.all(of_the_first[1:] != 0)


@pytest.mark.parametrize("residual", [0.0, 1e-30, 1e-6, 0.009])
def test_the_optimal_sigma_is_bounded(residual):
    x, mean = jnp.zeros((2, 3)), jnp.full((2, 3), residual)
    got, fixed = (
        jax.jit(jax.value_and_grad(lambda o, k=k: jnp.sum(log_likelihood(k, o, x))))(mean)
        for k in (gaussian_optimal(min_sigma=0.01), gaussian(sigma=0.01))
    )
    for a, b in zip(got, fixed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


# Laplace.


@pytest.mark.parametrize("scale", [0.01, 0.1, 1, 3.5])
def test_laplace_is_scipys(scale):
    mean, x = outputs(), images()
    density = scipy.stats.laplace(np.asarray(mean, np.float64), scale)
    expected = density.logpdf(np.asarray(x, np.float64)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(log_likelihood(laplace(scale=scale), mean, x), expected, rtol=1e-5)


def test_the_gradient_of_laplace_is_the_sign_of_the_residual():
    x = images()
    function = jax.grad(lambda o: jnp.sum(log_likelihood(laplace(scale=0.5), o, x)))
    gradient = jax.jit(function)(outputs())
    np.testing.assert_array_equal(gradient, 2 * np.sign(np.asarray(x) - np.asarray(outputs())))


# Settings.


@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf"), None, True, "0.1"])
@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (laplace, "scale"),
        (gaussian_learned, "initial_sigma"),
        (gaussian_learned, "min_sigma"),
        (gaussian_optimal, "min_sigma"),
    ],
)
def test_other_settings_are_refused(make, setting, value):
    with pytest.raises(InputError, match=f"expected {setting} to be a number above 0; got"):
        make(**{setting: value})


@pytest.mark.parametrize("initial", [0.1, 0.05])
def test_a_sigma_that_starts_below_its_bound_is_refused(initial):
    with pytest.raises(InputError, match=r"initial_sigma to be above min_sigma, 0\.1; got 0\."):
        gaussian_learned(initial_sigma=initial, min_sigma=0.1)


# What integrates to one.


@pytest.mark.parametrize(
    ("name", "settings", "output", "scale"),
    [
        *(("continuous_bernoulli", {}, logit, 0) for logit in (-20.0, -1.0, 1e-4, 0.7, 3.0)),
        *(("gaussian", {"sigma": s}, 0.3, s) for s in (0.02, 0.1, 1.0)),
        *(("gaussian_learned", {"initial_sigma": s}, 0.3, s) for s in (0.02, 1.0)),
        *(("laplace", {"scale": s}, 0.3, 3 * s) for s in (0.02, 0.1, 1.0)),
    ],
)
def test_a_pixel_integrates_to_one_and_has_the_mean(name, settings, output, scale):
    likelihood = LIKELIHOODS[name](**settings)
    x = 0.3 + scale * np.linspace(-10, 10, 20_001) if scale else np.linspace(0, 1, 20_001)
    x = x.astype(np.float32)[:, None]
    evaluate = jax.jit(lambda output, x: log_likelihood(likelihood, output, x))
    density = np.exp(np.asarray(evaluate(np.full(x.shape, output, np.float32), x)))
    density, x = density.astype(np.float64), x.astype(np.float64)[:, 0]
    np.testing.assert_allclose(scipy.integrate.simpson(density, x=x), 1.0, rtol=2e-5)
    mean = likelihood.mean(likelihood.natural(likelihood.init(), jnp.full((1, 1), output)))
    np.testing.assert_allclose(scipy.integrate.simpson(x * density, x=x), mean[0, 0], rtol=2e-5)


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


@pytest.mark.parametrize("name", SEPARABLE)
def test_pixels_are_summed(name):
    likelihood = LIKELIHOODS[name]()
    evaluate = jax.jit(lambda output, x: log_likelihood(likelihood, output, x))
    whole, output, x = evaluate(outputs(), images()), np.asarray(outputs()), np.asarray(images())
    halves = [evaluate(output[:, rows], x[:, rows]) for rows in (slice(None, 1), slice(1, None))]
    np.testing.assert_allclose(whole, sum(halves), rtol=1e-5)
    flat = (SHAPE[0], -1)
    as_vectors = evaluate(output.reshape(flat), x.reshape(flat))
    np.testing.assert_allclose(whole, as_vectors, rtol=1e-5)


@pytest.mark.parametrize("name", SEPARABLE)
def test_examples_do_not_meet(name):
    likelihood = LIKELIHOODS[name]()
    evaluate = jax.jit(lambda output, x: log_likelihood(likelihood, output, x))
    output, x = np.asarray(outputs()), np.asarray(images())
    whole, order = np.asarray(evaluate(output, x)), [3, 0, 4, 1, 2]
    np.testing.assert_array_equal(evaluate(output[order], x[order]), whole[order])
    np.testing.assert_allclose(evaluate(output[:1], x[:1]), whole[:1], rtol=1e-6)


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


def test_value_and_gradient_are_finite_at_extreme_outputs(likelihood):
    evaluate = jax.jit(
        jax.value_and_grad(lambda output, x: jnp.sum(log_likelihood(likelihood, output, x)))
    )
    for output in (0.0, 1e-30, -1e-8, 100.0, -100.0, 1e4, 1e8, -1e8):
        for x in (np.zeros((2, 3)), np.ones((2, 3)), np.asarray(images(shape=(2, 3)))):
            value, gradient = evaluate(np.full((2, 3), output, np.float32), x.astype(np.float32))
            assert np.isfinite(value)
            assert np.all(np.isfinite(gradient))


def test_gradients_are_those_of_finite_differences(likelihood):
    with jax.enable_x64(True):
        # Around zero and around one, where the continuous Bernoulli changes its form.
        output = np.array([[-2.2, -0.7, -1e-3, 1e-4], [0.4, 0.9, 1.1, 6.0]])
        x = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.3, output.shape))

        @jax.jit
        def function(output):
            return jnp.sum(log_likelihood(likelihood, output, x) * jnp.array([1.0, 2.0]))

        check_grads(function, (jnp.asarray(output),), order=1, modes=("fwd", "rev"), rtol=1e-4)


def test_only_the_bernoullis_are_confined_to_the_unit_interval():
    confined = [name for name, make in LIKELIHOODS.items() if make().unit_interval]
    assert confined == ["bernoulli", "continuous_bernoulli"]


def test_the_mean_is_where_the_likelihood_is_largest(likelihood):
    """For a binary or a continuous pixel alike, the likeliest output to x has mean x."""
    x = jnp.full((1, 1), 0.7)

    @jax.jit
    @jax.vmap
    def value(output):
        return log_likelihood(likelihood, output.reshape(1, 1), x)[0]

    grid = np.linspace(-3, 3, 601)
    best = grid[np.argmax(value(jnp.asarray(grid, jnp.float32)))]
    natural = likelihood.natural(likelihood.init(), jnp.full((1, 1), best))
    np.testing.assert_allclose(likelihood.mean(natural), [[0.7]], atol=0.01)
