"""VAE/GAN: values against a float64 twin, and three gradients that stay apart."""

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
from scipy.special import expit

from betavae_jax.checks import InputError
from betavae_jax.critics import make_example_critic
from betavae_jax.likelihoods import bernoulli
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.objectives.presets import preset
from betavae_jax.types import Batch

ELBO_KEY, PRIOR_KEY = jax.random.split(KEY)
EPSILON, PRIOR, X = normal_of(ELBO_KEY), normal_of(PRIOR_KEY), make_batch().x[0]
FLAT = 8  # pixels


def make(**settings):
    objective = OBJECTIVES["vae_gan"](critic_channels=2, **settings)
    return objective, objective.init_critic(jax.random.key(5), X_SHAPE, D)


def twin_judge(critic, x):
    """Features (the convolution's) and logit of images of 2×4, padded to 2×4: one convolution."""
    kernel, bias = critic["conv_0"]["kernel"], critic["conv_0"]["bias"]
    padded = np.pad(x.reshape(-1, *X_SHAPE), ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.stack(
        [
            np.einsum("bhwc,hwcf->bf", padded[:, :, 2 * j : 2 * j + 4], kernel) + bias
            for j in range(2)
        ],
        axis=1,
    )
    features = np.where(out > 0, out, 0.2 * out).reshape(len(x), -1)
    hidden = features @ critic["dense_0"]["kernel"] + critic["dense_0"]["bias"]
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    return features, (hidden @ critic["logit"]["kernel"] + critic["logit"]["bias"])[:, 0]


def twin_image(params, z):
    return expit(z @ params["decoder"]["kernel"] + params["decoder"]["bias"])


def twin_parts(params, critic, z):
    """Feature distortion and L, from codes."""
    x = np.float64(X).reshape(-1, FLAT)
    images = [x, twin_image(params, z), twin_image(params, PRIOR)]
    (f, real), (g, fake), (_, sampled) = (twin_judge(critic, image) for image in images)
    distance = 0.5 * np.mean(np.sum((f - g) ** 2, axis=1))
    entropy = -np.log(expit(real)).mean()
    entropy -= sum(np.log(1 - expit(logit)).mean() for logit in (fake, sampled))
    return distance, entropy, (fake, sampled)


def test_gradients_are_those_of_three_losses():
    objective, critic = make()
    weights = {"gamma": 0.7, "beta": 2.0}
    value, terms, evidence, grads = evaluate(objective, critic, **weights)
    params, wide = in_float64(PARAMS), in_float64(critic)

    def encoder_loss(params):
        _, kl, *_, z = twin_elbo(params, X, EPSILON)
        return 2 * kl.sum() + twin_parts(params, wide, z)[0]

    *_, z = twin_elbo(in_float64(PARAMS), X, EPSILON)

    def decoder_loss(params):
        distance, entropy, _ = twin_parts(params, wide, z)
        return 0.7 * distance - entropy

    np.testing.assert_allclose(value, encoder_loss(params) + decoder_loss(params), rtol=1e-5)
    expected = twin_gradient(encoder_loss, params)["encoder"]
    assert_gradients_agree(grads["encoder"], expected, rtol=2e-3)
    expected = twin_gradient(decoder_loss, params)["decoder"]
    assert_gradients_agree(grads["decoder"], expected, rtol=2e-3)
    distance, entropy, _ = twin_parts(params, wide, z)
    np.testing.assert_allclose(terms.extras["feature_distortion"], distance, rtol=1e-4)
    # The ELBO reported is that of pixels.
    np.testing.assert_allclose(terms.distortion, twin_elbo(params, X, EPSILON)[0], rtol=1e-5)

    (loss, extras), critic_grads = critic_gradient(objective, critic, evidence, **weights)
    np.testing.assert_allclose(loss, entropy, rtol=1e-5)
    expected = twin_gradient(lambda c: twin_parts(params, c, z)[1], wide)
    assert_gradients_agree(critic_grads, expected, rtol=2e-3)
    logits = [twin_judge(wide, np.float64(X).reshape(-1, FLAT))[1], *twin_parts(params, wide, z)[2]]
    hits = [np.mean(logits[0] > 0), *(np.mean(logit < 0) for logit in logits[1:])]
    np.testing.assert_allclose(extras["critic_accuracy"], np.mean(hits), rtol=1e-6)


def test_the_encoder_hears_of_features_and_rate_alone():
    objective, critic = make()
    *_, grads = evaluate(objective, critic, gamma=0.0, beta=0.0)
    *_, other = evaluate(objective, critic, gamma=5.0, beta=0.0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        grads["encoder"],
        other["encoder"],
    )
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (grads, other)), strict=True))
    # A critic with no say on features leaves the encoder its rate, which then has no weight.
    blind = jax.tree.map(jnp.zeros_like, critic)
    *_, grads = evaluate(objective, blind, gamma=1.0, beta=0.0)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


def test_the_decoder_does_not_hear_of_the_rate():
    objective, critic = make()
    *_, grads = evaluate(objective, critic, beta=0.0)
    *_, other = evaluate(objective, critic, beta=100.0)
    jax.tree.map(np.testing.assert_array_equal, grads["decoder"], other["decoder"])


def test_the_critic_moves_no_parameter_of_the_model():
    objective, critic = make()
    batch, given = make_batch(), coefficients_of(objective)

    def critic_value(params):
        _, (_, evidence) = objective.loss(params, critic, MODEL, batch, given, KEY)
        return objective.critic_loss(critic, jax.lax.stop_gradient(evidence), given, KEY)[0]

    for leaf in jax.tree.leaves(jax.jit(jax.grad(critic_value))(PARAMS)):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


def test_non_saturating_goes_the_same_way():
    (minimax, critic), (other, _) = make(), make(realism="non_saturating")
    *_, first = evaluate(minimax, critic, gamma=0.0)
    *_, second = evaluate(other, critic, gamma=0.0)
    a, b = (np.concatenate([g.ravel() for g in jax.tree.leaves(grads["decoder"])])
            for grads in (first, second))  # fmt: skip
    assert np.dot(a, b) > 0.5 * np.linalg.norm(a) * np.linalg.norm(b)
    # Where the critic is sure of a fake, one gradient vanishes and the other does not.
    sure = jax.tree.map(lambda leaf: leaf, critic)
    sure["logit"] = {**sure["logit"], "bias": jnp.full((1,), -30.0)}
    size = [
        optax.tree.norm(evaluate(objective, sure, gamma=0.0)[3]["decoder"])
        for objective in (minimax, other)
    ]
    assert size[0] < 1e-6 < size[1]


@pytest.mark.parametrize("layer", [1, 2])
def test_the_chosen_layer_is_compared(layer):
    objective, critic = make(layer=layer)
    _, terms, evidence, _ = evaluate(objective, critic)
    judge = make_example_critic(X_SHAPE, channels=2, layer=layer).apply
    a, b = (np.asarray(judge(critic, x).features) for x in evidence[:2])
    assert a.shape[1] == {1: 4, 2: 16}[layer]
    np.testing.assert_allclose(
        terms.extras["feature_distortion"], 0.5 * np.sum((a - b) ** 2, axis=1).mean(), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("x_shape", "num_layers", "features"),
    [
        ((64, 64, 1), 5, 4 * 4 * 256),
        ((32, 32, 3), 4, 4 * 4 * 256),
        ((28, 30, 1), 4, 4 * 4 * 256),
        ((12,), 3, 256),
    ],
)
def test_layers_of_the_critic(x_shape, num_layers, features):
    critic = make_example_critic(x_shape, channels=32, layer=0)
    params = jax.eval_shape(critic.init, KEY)
    assert len(params) == num_layers + 1
    judged = jax.eval_shape(critic.apply, params, jax.ShapeDtypeStruct((3, *x_shape), jnp.float32))
    assert judged.logit.shape == (3,)
    assert judged.features.shape == (3, features)


@pytest.mark.parametrize(("realism", "passes"), [("minimax", 10), ("non_saturating", 12)])
def test_images_pass_the_critic_no_more_often_than_the_losses_need(realism, passes):
    """Forward 3; back for L 3 and for D_f 1, and the other realism 2; to the weights 3."""
    objective = OBJECTIVES["vae_gan"](critic_channels=8, realism=realism)
    shape = (16, 16, 1)
    model = make_model(NETWORKS["mlp"](shape, 2, widths="4", decoder_widths="4"), bernoulli())
    params, critic = model.init(KEY), objective.init_critic(KEY, shape, 2)
    batch = Batch(jnp.ones((1, 8, *shape)), jnp.zeros((1, 8, 0), jnp.int32), 8)
    given = coefficients_of(objective)

    def step(params, critic):
        (_, (_, evidence)), grads = jax.value_and_grad(objective.loss, has_aux=True)(
            params, critic, model, batch, given, KEY
        )
        return grads, jax.grad(lambda c: objective.critic_loss(c, evidence, given, KEY)[0])(critic)

    def forward(critic, x):
        return make_example_critic(shape, channels=8, layer=0).apply(critic, x).logit

    def flops(function, *arguments):
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    assert flops(step, params, critic) < (passes + 0.6) * flops(forward, critic, batch.x[0])


def test_the_paper_s_critic_is_the_preset_s_and_the_default_half_as_wide():
    assert preset("paper", "vae_gan")["objective_settings"] == {"critic_channels": 32}
    params = jax.eval_shape(lambda: OBJECTIVES["vae_gan"]().init_critic(KEY, (64, 64, 1), D))
    widths = [params[f"conv_{i}"]["bias"].shape[0] for i in range(4)]
    assert widths == [16, 64, 128, 128]


def test_the_optimizers_are_rmsprop():
    objective, _ = make()
    for optimizer, rate in (
        (objective.optimizer(jnp.float32(0.01)), 0.01),
        (objective.critic_optimizer(jnp.float32(0.01)), 3e-4),
    ):
        grads = jnp.asarray([1.0, -100.0])
        updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
        expected = -rate * np.sign(grads) / np.sqrt(0.1)
        np.testing.assert_allclose(updates, expected, rtol=1e-5)


def test_refusals():
    with pytest.raises(InputError, match="one of the critic's, 1 to 2, or 0 for 1; got 3"):
        make(layer=3)
    for settings in ({"layer": -1}, {"realism": "hinge"}, {"critic_learning_rate": -1.0}):
        with pytest.raises(InputError, match=next(iter(settings))):
            OBJECTIVES["vae_gan"](**settings)
