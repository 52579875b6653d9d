"""The VAE and the β-VAE against a float64 twin, and the contract of every objective."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from linear_model import (
    KEY,
    MODEL,
    PARAMS,
    PIXELS,
    X_SHAPE,
    B,
    D,
    coefficients_of,
    decode,
    encode,
    in_float64,
    init,
    make_batch,
    twin_elbo,
    twin_gradient,
)

from betavae_jax.objectives import OBJECTIVES
from betavae_jax.objectives.elbo import evaluate_elbo
from betavae_jax.training import gather_batch
from betavae_jax.types import Dataset, FactorSpace, Model, Posterior

vae, beta_vae = OBJECTIVES["vae"](), OBJECTIVES["beta_vae"]()

# This decoder ignores z: only the rate can reach the encoder.
DEAF = MODEL._replace(decode=lambda params, z: decode(params, jnp.zeros_like(z)))
BATCH = make_batch()
X = BATCH.x


def twin_loss(params, x, epsilon, beta):
    distortion, kl, *_ = twin_elbo(params, x, epsilon)
    return distortion + beta * kl.sum()


@functools.cache
def compiled(objective, model):
    def loss(params, key, coefficients):
        return objective.loss(params, (), model, BATCH, coefficients, key)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def evaluate(objective, key=KEY, *, model=MODEL, **coefficients):
    """Loss, terms and gradient of an objective without a critic."""
    given = coefficients_of(objective, **coefficients)
    (value, (terms, _)), grads = compiled(objective, model)(PARAMS, key, given)
    return value, terms, grads


def noise_of(objective, key, **coefficients):
    """The epsilon that a loss used, read off the z that reached the decoder."""
    seen = []

    def spy(params, z):
        seen.append(np.asarray(z, np.float64))
        return decode(params, z)

    model = MODEL._replace(decode=spy)
    objective.loss(PARAMS, (), model, BATCH, coefficients_of(objective, **coefficients), key)
    (z,) = seen
    mean, log_variance = in_float64(encode(PARAMS, X[0]))
    return (z - mean) / np.exp(log_variance / 2)


@pytest.mark.parametrize(
    ("objective", "coefficients", "beta"),
    [
        (vae, {}, 1.0),
        (beta_vae, {}, 4.0),
        (beta_vae, {"beta": 0.0}, 0.0),
        (beta_vae, {"beta": 0.25}, 0.25),
        (beta_vae, {"beta": 16.0}, 16.0),
    ],
)
def test_value_terms_and_gradient_are_the_twins(objective, coefficients, beta):
    epsilon = noise_of(objective, KEY, **coefficients)
    params, x = in_float64(PARAMS), np.asarray(X[0], np.float64)
    value, terms, grads = evaluate(objective, **coefficients)
    distortion, kl, *_ = twin_elbo(params, x, epsilon)
    np.testing.assert_allclose(value, distortion + beta * kl.sum(), rtol=2e-6)
    np.testing.assert_allclose(terms.loss, value)
    np.testing.assert_allclose(terms.distortion, distortion, rtol=2e-6)
    np.testing.assert_allclose(terms.rate, kl.sum(), rtol=2e-6)
    np.testing.assert_allclose(terms.kl_per_latent, kl, rtol=1e-5)
    expected = twin_gradient(lambda p: twin_loss(p, x, epsilon, beta), params)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


def test_beta_of_one_is_the_vae():
    jax.tree.map(np.testing.assert_array_equal, evaluate(beta_vae, beta=1.0), evaluate(vae))


def test_beta_of_zero_drops_the_rate():
    value, terms, grads = evaluate(beta_vae, beta=0.0, model=DEAF)
    assert terms.rate > 0.1
    np.testing.assert_array_equal(value, terms.distortion)
    for leaf in jax.tree.leaves(grads["encoder"]):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))
    _, _, weighed = evaluate(beta_vae, beta=1.0, model=DEAF)
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(weighed["encoder"]))
    for beta in (1.0, 0.0):  # the decoder learns of the distortion alone
        _, _, other = evaluate(beta_vae, beta=beta, model=DEAF)
        jax.tree.map(np.testing.assert_array_equal, other["decoder"], grads["decoder"])


def test_the_loss_is_linear_in_beta():
    _, terms, _ = evaluate(vae)
    for beta in (0.0, 0.5, 1.0, 3.0, 4.0, 1e4):
        value, at_beta, _ = evaluate(beta_vae, beta=beta)
        expected = float(terms.distortion) + beta * float(terms.rate)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_array_equal(at_beta.rate, terms.rate)  # reported without its weight
    slope = jax.jit(jax.grad(lambda c: beta_vae.loss(PARAMS, (), MODEL, BATCH, c, KEY)[0]))
    np.testing.assert_allclose(slope(coefficients_of(beta_vae)).beta, terms.rate, rtol=1e-6)


def test_the_rate_does_not_depend_on_the_sample():
    _, first, _ = evaluate(vae, jax.random.key(0))
    _, second, _ = evaluate(vae, jax.random.key(1))
    np.testing.assert_array_equal(first.rate, second.rate)
    assert first.distortion != second.distortion


def test_the_noise_is_fresh_for_each_latent_of_each_example():
    epsilon = noise_of(vae, KEY)
    assert epsilon.shape == (B, D)
    assert len(np.unique(epsilon.round(4))) == B * D
    pooled = np.concatenate([noise_of(vae, jax.random.key(s)).ravel() for s in range(200)])
    assert scipy.stats.kstest(pooled, "norm").pvalue > 1e-3


def test_the_bound_is_below_the_exact_likelihood():
    """A linear Gaussian model has a closed-form log p(x); the mean ELBO stays below it, and
    reaches it at the exact posterior."""
    rng = np.random.default_rng(0)
    loadings, sigma = rng.normal(size=(D, PIXELS)), 0.7
    x = rng.normal(size=(64, PIXELS))
    marginal = scipy.stats.multivariate_normal(
        np.zeros(PIXELS), loadings.T @ loadings + sigma**2 * np.eye(PIXELS)
    )
    # Rotated so that the exact posterior is diagonal.
    values, vectors = np.linalg.eigh(loadings @ loadings.T)
    loadings = vectors.T @ loadings
    variance = 1 / (1 + values / sigma**2)

    def exact(params, x):
        mean = x @ jnp.asarray((loadings * variance[:, None]).T / sigma**2, jnp.float32)
        offset = jnp.asarray(params, jnp.float32)
        log_variance = jnp.broadcast_to(jnp.asarray(np.log(variance), jnp.float32), mean.shape)
        return Posterior(mean + offset, log_variance)

    def log_likelihood(mean, x):
        squared = jnp.square((x - mean) / sigma)
        return jnp.sum(-0.5 * (squared + np.log(2 * np.pi * sigma**2)), axis=1)

    weights = jnp.asarray(loadings, jnp.float32)
    model = Model(init, exact, lambda _, z: z @ weights, log_likelihood, lambda mean: mean)

    @jax.jit
    @jax.vmap
    def elbos(key):
        def elbo(offset):
            terms = evaluate_elbo(offset, model, jnp.asarray(x, jnp.float32), key)
            return -(terms.distortion + jnp.sum(terms.kl_per_latent))

        return elbo(0.0), elbo(0.5)

    at_exact, off = (np.asarray(e, np.float64) for e in elbos(jax.random.split(KEY, 2000)))
    expected = marginal.logpdf(x).mean()
    assert abs(at_exact.mean() - expected) < 5 * at_exact.std() / np.sqrt(2000)
    gap = np.sum(0.5 * 0.5**2 / variance)  # KL of two Gaussians of one variance
    assert abs(expected - gap - off.mean()) < 5 * off.std() / np.sqrt(2000)


# The contract of every objective.


def make_data(num_examples=40):
    """The full grid of two factors, the second of five values."""
    arrays = {"x": np.random.default_rng(1).random((num_examples, *X_SHAPE)).astype(np.float32)}
    sizes = (max(num_examples // 5, 1), min(num_examples, 5))
    return Dataset(
        jax.tree.map(jnp.asarray, arrays),
        lambda arrays, index, key: arrays["x"][index],
        lambda arrays, index: jnp.stack([index // sizes[1], index % sizes[1]], axis=-1),
        FactorSpace(("row", "column"), sizes, full_grid=True),
        num_examples,
    )


# Every objective, and its other forms; small critics.
CASES = {
    **{name: (name, {}) for name in OBJECTIVES},
    "beta_tcvae mws": ("beta_tcvae", {"estimator": "mws"}),
    "dip_vae_i tied": ("dip_vae_i", {"lambda_d_factor": 10.0}),
    "factor_vae": ("factor_vae", {"critic_width": 8, "critic_depth": 2}),
    "factor_vae same": (
        "factor_vae",
        {"critic_width": 8, "critic_depth": 2, "permute": "same_batch"},
    ),
    "info_vae imq": ("info_vae", {"kernel": "imq"}),
    "vae_gan": ("vae_gan", {"critic_channels": 4}),
    "vae_gan non_saturating": ("vae_gan", {"critic_channels": 4, "realism": "non_saturating"}),
    "ada_gvae any": ("ada_gvae", {"changed": 0}),
}


@functools.cache
def make_case(case):
    name, settings = CASES[case]
    return OBJECTIVES[name](**settings)


@pytest.fixture(params=sorted(CASES))
def objective(request):
    return make_case(request.param)


@functools.cache
def contract(objective):
    """Critic, batch, default coefficients, the loss, and compiled: of one run, and of three.

    Both are of one program: the loss with its gradient, beside the losses of three runs.
    """
    data = make_data()
    index = objective.draw(jax.random.key(0), 2 * B, data)
    batch = gather_batch(data, index, jax.random.key(1))
    critic = objective.init_critic(jax.random.key(3), X_SHAPE, D)

    def loss(params, key, given):
        value, (terms, _) = objective.loss(params, critic, MODEL, batch, given, key)
        return value, terms

    @jax.jit
    def program(*runs):
        first = jax.tree.map(lambda leaf: leaf[0], runs)
        return jax.value_and_grad(loss, has_aux=True)(*first), jax.vmap(loss)(*runs)

    def of_one(*run):
        return program(*jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), run))[0]

    def of_three(*runs):
        return program(*runs)[1]

    return critic, batch, coefficients_of(objective), loss, of_one, of_three


def test_coefficients_are_numbers_with_defaults(objective):
    for name, value in objective.Coefficients()._asdict().items():
        assert type(value) is float, name
        assert np.isfinite(value), name


def test_the_published_defaults():
    assert OBJECTIVES["vae"]().Coefficients() == ()
    assert OBJECTIVES["beta_vae"]().Coefficients() == (4.0,)


def test_draw_gives_rows(objective):
    draw = jax.jit(lambda key: objective.draw(key, 30, make_data()))
    index = objective.draw(jax.random.key(0), 30, make_data())
    assert index.ndim == 2
    assert index.shape[0] in (1, 2)
    assert index.shape[1] == 30
    assert index.dtype == jnp.int32
    np.testing.assert_array_equal(draw(jax.random.key(0)), index)
    assert np.any(index != draw(jax.random.key(1)))
    rows = np.concatenate([draw(jax.random.key(seed)) for seed in range(12)], axis=1)
    for view in rows:  # every row, none besides, and repetitions
        assert set(np.unique(view)) == set(range(40))


def test_loss_and_terms(objective):
    _, _, given, _, of_one, _ = contract(objective)
    (value, terms), grads = of_one(PARAMS, KEY, given)
    assert value.shape == ()
    assert terms.kl_per_latent.shape == (D,)
    for name, leaf in {**terms._asdict(), **terms.extras, "value": value}.items():
        if name != "extras":
            assert np.all(np.isfinite(leaf)), name
            assert leaf.dtype == jnp.float32, name
    assert all(leaf.shape == () for leaf in (terms.loss, terms.distortion, terms.rate))
    np.testing.assert_array_equal(terms.loss, value)
    np.testing.assert_allclose(terms.rate, np.sum(terms.kl_per_latent), rtol=1e-6)
    assert np.all(np.asarray(terms.kl_per_latent) >= 0)
    assert jax.tree.structure(grads) == jax.tree.structure(PARAMS)
    for leaf in jax.tree.leaves(grads):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf != 0)


def test_z_is_sampled(objective):
    _, _, given, _, of_one, _ = contract(objective)
    values = [float(of_one(PARAMS, jax.random.key(seed), given)[0][0]) for seed in (0, 1, 2, 0)]
    assert len(set(values)) == 3
    assert values[0] == values[3]


def test_eager_jit_and_vmap_agree(objective):
    _, _, given, loss, of_one, of_three = contract(objective)
    keys = [jax.random.key(seed) for seed in range(3)]
    scales = np.asarray([1.0, 0.5, 2.0], np.float32)
    ones = [jax.tree.map(lambda a, c=c: np.asarray(a) * c, (PARAMS, given)) for c in scales]
    params, runs = jax.tree.map(lambda *leaves: np.stack(leaves), *ones)
    mapped = jax.device_get(of_three(params, jnp.stack(keys), runs))
    # Of differences near zero (an MMD, a total correlation), times their weight.
    rounding = 1e-6 * max([1.0, *(float(np.max(values)) for values in runs)])
    for i, (key, one) in enumerate(zip(keys, ones, strict=True)):
        one_params, one_given = jax.device_put(one)
        jitted, _ = of_one(one_params, key, one_given)
        others = [jax.tree.map(lambda leaf, i=i: leaf[i], mapped)]
        if i == 0:
            others.append(loss(one_params, key, one_given))
        for got in others:
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=rounding), got, jitted
            )


def test_an_absent_critic_is_empty(objective):
    critic, batch, given, *_ = contract(objective)
    if jax.tree.leaves(critic):
        pytest.skip("this objective has a critic")
    assert critic == ()
    _, (_, evidence) = objective.loss(PARAMS, critic, MODEL, batch, given, KEY)
    assert evidence == ()
    value, extras = objective.critic_loss(critic, evidence, given, KEY)
    assert value == 0
    assert extras == {}
    optimizer = objective.critic_optimizer(jnp.float32(0.1))
    updates, _ = optimizer.update((), optimizer.init(critic), critic)
    assert optax.apply_updates(critic, updates) == ()


def test_the_optimizer_takes_a_traced_rate(objective):
    grads = jax.tree.map(jnp.ones_like, PARAMS)

    @jax.jit
    def update(rate):
        optimizer = objective.optimizer(rate)
        updates, state = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
        return updates, state

    small, large = update(jnp.float32(1e-3))[0], update(jnp.float32(1e-2))[0]
    for a, b in zip(jax.tree.leaves(small), jax.tree.leaves(large), strict=True):
        assert np.all(np.asarray(a) < 0)
        np.testing.assert_allclose(b, 10 * np.asarray(a), rtol=1e-5)
    assert update._cache_size() == 1


@pytest.mark.parametrize("name", ["beta_vae", "vae"])
def test_rows_are_drawn_uniformly_with_replacement(name):
    index = np.asarray(OBJECTIVES[name]().draw(jax.random.key(9), 20_000, make_data(50)))
    assert index.shape == (1, 20_000)
    assert scipy.stats.chisquare(np.bincount(index[0], minlength=50)).pvalue > 1e-3
    # Neighbours are independent: with replacement, a row follows itself once in 50 times.
    repeats = np.sum(index[0, 1:] == index[0, :-1])
    assert scipy.stats.binomtest(int(repeats), 19_999, 1 / 50).pvalue > 1e-3
    assert np.all(np.asarray(OBJECTIVES[name]().draw(jax.random.key(0), 8, make_data(1))) == 0)


@pytest.mark.parametrize("name", ["beta_vae", "vae"])
def test_adam_has_its_published_constants(name):
    """Three steps against algorithm 1 of Kingma & Ba in float64."""
    optimizer, rate = OBJECTIVES[name]().optimizer(jnp.float32(5e-4)), np.float64(5e-4)
    gradients = np.random.default_rng(0).normal(size=(3, 4)) * np.asarray([1e-4, 1.0, 1e3, 0.0])
    params = jnp.ones(4)
    state = optimizer.init(params)
    expected, m, v = np.ones(4), np.zeros(4), np.zeros(4)
    for t, g in enumerate(gradients, start=1):
        updates, state = optimizer.update(jnp.asarray(g, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected -= rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(params, expected, rtol=3e-7)
