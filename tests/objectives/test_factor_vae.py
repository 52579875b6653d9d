"""FactorVAE against a float64 twin; its critic, and the wall between the two."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear_model import (
    KEY,
    MODEL,
    PARAMS,
    X_SHAPE,
    B,
    D,
    assert_gradients_agree,
    coefficients_of,
    critic_gradient,
    evaluate,
    in_float64,
    make_batch,
    normal_of,
    twin_elbo,
    twin_gradient,
)

from betavae_jax.checks import InputError
from betavae_jax.critics import make_code_critic
from betavae_jax.data.blobs import load_blobs
from betavae_jax.divergences import permute_latents
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.objectives.factor_vae import Evidence

SMALL = {"critic_width": 7, "critic_depth": 2}
ELBO_KEY = jax.random.split(KEY, 3)[0]
EPSILON = normal_of(ELBO_KEY)


def make(permute="second_batch"):
    objective = OBJECTIVES["factor_vae"](permute=permute, **SMALL)
    critic = objective.init_critic(jax.random.key(5), X_SHAPE, D)
    return objective, critic, {"same_batch": 1, "second_batch": 2}[permute]


def twin_logits(critic, z):
    for i in range(SMALL["critic_depth"]):
        z = z @ critic[f"dense_{i}"]["kernel"] + critic[f"dense_{i}"]["bias"]
        z = np.where(z > 0, z, 0.2 * z)
    return z @ critic["logits"]["kernel"] + critic["logits"]["bias"]


@pytest.mark.parametrize("permute", ["same_batch", "second_batch"])
def test_value_terms_and_gradient_are_the_twins(permute):
    objective, critic, num_views = make(permute)
    weights = {"gamma": 35.0, "beta": 2.0}
    value, terms, evidence, grads = evaluate(objective, critic, num_views=num_views, **weights)
    x, wide = make_batch(num_views).x[0], in_float64(critic)

    def twin(params):
        distortion, kl, _, _, z = twin_elbo(params, x, EPSILON)
        logits = twin_logits(wide, z)
        return distortion + 2 * kl.sum() + 35 * np.mean(logits[:, 0] - logits[:, 1])

    params = in_float64(PARAMS)
    np.testing.assert_allclose(value, twin(params), rtol=1e-5)
    assert_gradients_agree(grads, twin_gradient(twin, params))
    *_, z = twin_elbo(params, x, EPSILON)
    np.testing.assert_allclose(evidence.z, z, rtol=1e-4, atol=1e-5)
    logits = twin_logits(wide, z)
    np.testing.assert_allclose(
        terms.extras["total_correlation_critic"],
        np.mean(logits[:, 0] - logits[:, 1]),
        rtol=1e-4,
        atol=1e-6,
    )


def test_the_permuted_codes_are_of_the_right_batch():
    for permute in ("same_batch", "second_batch"):
        objective, critic, num_views = make(permute)
        _, _, evidence, _ = evaluate(objective, critic, num_views=num_views)
        permuted, z = np.sort(evidence.permuted, axis=0), np.sort(evidence.z, axis=0)
        assert np.all(permuted == z) == (permute == "same_batch")
        assert np.any(evidence.permuted != evidence.z)
    # Those of the second batch are codes of its examples.
    second = make_batch(2).x[1]
    epsilon = normal_of(jax.random.split(KEY, 3)[1])
    *_, z = twin_elbo(in_float64(PARAMS), second, epsilon)
    np.testing.assert_allclose(permuted, np.sort(z, axis=0), rtol=1e-4, atol=1e-5)


def test_the_second_batch_is_independent():
    objective, _, _ = make()
    data = load_blobs(image_size=8, blob_grid=10, blob_margin=2.0).train
    index = np.asarray(objective.draw(KEY, 5000, data))
    assert index.shape == (2, 5000)
    assert abs(np.corrcoef(index)[0, 1]) < 0.06
    assert make("same_batch")[0].draw(KEY, 5, data).shape == (1, 5)


def test_without_weight_it_is_the_vae():
    objective, critic, num_views = make()
    value, terms, _, grads = evaluate(objective, critic, num_views=num_views, gamma=0.0)
    expected, of_vae, _, expected_grads = evaluate(
        OBJECTIVES["vae"](), num_views=num_views, key=ELBO_KEY
    )
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_array_equal(terms.kl_per_latent, of_vae.kl_per_latent)
    assert_gradients_agree(grads, in_float64(expected_grads), rtol=1e-5)


def test_the_critics_loss_is_a_cross_entropy():
    objective, critic, _ = make()
    _, _, evidence, _ = evaluate(objective, critic, num_views=2)
    (value, extras), grads = critic_gradient(objective, critic, evidence)

    def twin(critic):
        losses = []
        for right, z in enumerate(in_float64(evidence)):
            logits = twin_logits(critic, z)
            probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            losses.append(-np.log(probabilities[:, right]).mean())
        return 0.5 * sum(losses)

    wide = in_float64(critic)
    np.testing.assert_allclose(value, twin(wide), rtol=1e-5)
    np.testing.assert_array_equal(extras["critic_loss"], value)
    assert_gradients_agree(grads, twin_gradient(twin, wide))
    hits = [
        (np.argmax(twin_logits(wide, z), axis=1) == i).mean()
        for i, z in enumerate(map(in_float64, evidence))
    ]
    np.testing.assert_allclose(extras["critic_accuracy"], np.mean(hits), rtol=1e-6)


def test_neither_gradient_reaches_the_other():
    objective, critic, num_views = make()
    batch, given = make_batch(num_views), coefficients_of(objective)

    def critic_value(params):
        _, (_, evidence) = objective.loss(params, critic, MODEL, batch, given, KEY)
        return objective.critic_loss(critic, jax.lax.stop_gradient(evidence), given, KEY)[0]

    for leaf in jax.tree.leaves(jax.jit(jax.grad(critic_value))(PARAMS)):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))

    # The second batch, which only the critic needs, moves no parameter of the model.
    @jax.jit
    @jax.grad
    def gradient(params, x):
        return objective.loss(params, critic, MODEL, batch._replace(x=x), given, KEY)[0]

    other = batch.x.at[1].set(1.0 - batch.x[1])
    a, b = (gradient(PARAMS, x) for x in (batch.x, other))
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_critic_learns_the_total_correlation():
    """Of two correlated Gaussians, -½ log(1 - ρ²), by the difference of its logits."""
    correlation = 0.9
    critic = make_code_critic(2, width=64, depth=2)
    objective = OBJECTIVES["factor_vae"](critic_width=64, critic_depth=2)
    factor = jnp.linalg.cholesky(jnp.asarray([[1.0, correlation], [correlation, 1.0]]))
    optimizer = optax.adam(2e-3)
    given = coefficients_of(objective)

    def evidence_of(key):
        keys = jax.random.split(key, 3)
        z, second = (jax.random.normal(k, (256, 2)) @ factor.T for k in keys[:2])
        return Evidence(z, permute_latents(keys[2], second))

    def body(i, state):
        params, opt_state = state
        evidence = evidence_of(jax.random.fold_in(KEY, i))
        grads = jax.grad(lambda p: objective.critic_loss(p, evidence, given, KEY)[0])(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = critic.init(jax.random.key(1))
    params, _ = jax.jit(lambda s: jax.lax.fori_loop(0, 1500, body, s))(
        (params, optimizer.init(params))
    )
    z = jax.random.normal(jax.random.key(9), (20_000, 2)) @ factor.T
    logits = critic.apply(params, z)
    estimate = float(jnp.mean(logits[:, 0] - logits[:, 1]))
    assert abs(estimate - -0.5 * np.log(1 - correlation**2)) < 0.12


def test_the_published_critic():
    objective = OBJECTIVES["factor_vae"]()
    shapes = jax.eval_shape(lambda key: objective.init_critic(key, X_SHAPE, 10), KEY)
    kernels = [shapes[name]["kernel"].shape for name in sorted(shapes)]
    assert kernels == [(10, 1000), *[(1000, 1000)] * 5, (1000, 2)]
    assert objective.Coefficients() == (35.0, 1.0)


@pytest.mark.parametrize("learning_rate", [1e-3, 7.0])
def test_the_critics_adam_does_not_follow_the_models_rate(learning_rate):
    optimizer = OBJECTIVES["factor_vae"]().critic_optimizer(jnp.float32(learning_rate))
    params, state, m, v = jnp.ones(3), optimizer.init(jnp.ones(3)), np.zeros(3), np.zeros(3)
    expected = np.ones(3)
    for t, g in enumerate(np.random.default_rng(0).normal(size=(3, 3)), start=1):
        updates, state = optimizer.update(jnp.asarray(g, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g**2
        expected -= 1e-4 * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)
        np.testing.assert_allclose(params, expected, rtol=3e-7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"permute": "inside_a_sample"}, "one of same_batch, second_batch"),
        ({"critic_width": 0}, "critic_width"),
        ({"critic_depth": 0}, "critic_depth"),
        ({"critic_learning_rate": 0.0}, "critic_learning_rate"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        OBJECTIVES["factor_vae"](**settings)


@pytest.mark.parametrize("name", ["factor_vae", "dip_vae_i", "dip_vae_ii", "info_vae"])
def test_a_batch_of_one_is_refused(name):
    data = load_blobs(image_size=8, blob_grid=3, blob_margin=2.0).train
    with pytest.raises(InputError, match=f"batch_size for {name} to be .* at least 2; got 1"):
        OBJECTIVES[name]().draw(KEY, 1, data)
    assert OBJECTIVES[name]().draw(KEY, B, data).shape[1] == B
