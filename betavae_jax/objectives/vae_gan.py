"""VAE/GAN: reconstructions are compared in the layers of a critic (Larsen et al. 2016)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from betavae_jax.checks import check_at_least, check_name
from betavae_jax.critics import Critic, make_example_critic
from betavae_jax.objectives.elbo import draw_batch, evaluate_elbo, make_fixed_rate
from betavae_jax.types import Array, Batch, Model, Objective, Params, Shape, Terms

_REALISM = ("minimax", "non_saturating")


class Coefficients(NamedTuple):
    """The paper names no γ: at 1 the decoder weighs the two alike. β = 1 is the paper's."""

    gamma: Any = 1.0  # of the distortion of features against realism, for the decoder
    beta: Any = 1.0  # of the rate, for the encoder


class Evidence(NamedTuple):
    """What the critic tells apart: the first from the others."""

    real: Array  # [B, ...]
    reconstructed: Array  # [B, ...], decoded from q(z|x)
    sampled: Array  # [B, ...], decoded from p(z)


def vae_gan(
    *,
    layer: int = 0,
    critic_channels: int = 32,
    critic_learning_rate: float = 3e-4,
    realism: str = "minimax",
) -> Objective:
    """Makes the objective whose similarity is learned, by RMSProp.

    Three losses, each of its own parameters:

        encoder: β · rate + D_f
        decoder: γ · D_f - L
        critic: L = -E log C(x) - E log(1 - C(x̃)) - E log(1 - C(x_p))

    D_f = ½ ‖f(x) - f(x̃)‖², f being the critic's chosen layer, is the negative log density of a
    Gaussian of unit variance without its constant; x̃ is the mean of p(x|z) for z ~ q(z|x), x_p
    for z ~ p(z). The paper's equation 8 writes L with the other sign, its algorithm 1 with
    this one. The loss reported is the sum of encoder's and decoder's, whose gradients stay apart:
    the decoder's parameters are constants for the encoder, the codes for the decoder.
    The distortion reported is that of pixels, which nothing minimises, so that the ELBO can
    be compared; parameters of the likelihood other than its mean are not learned.

    Args:
      layer: Of the critic, whose outputs are compared, counted from 1; 0 for the last
        convolution, or of vectors the last layer but one.
      critic_channels: Of the critic's first convolution; see `critics.make_example_critic` for
        the others, and for what departs from the paper.
      critic_learning_rate: Of the critic's RMSProp; the model's rate leaves it alone.
      realism: What the decoder makes of L: `minimax` as above, or `non_saturating`, in which
        it minimises -E log C(x̃) - E log C(x_p) instead, whose gradient does not vanish where the
        critic is sure.

    Returns:
      The objective; `feature_distortion`, `critic_loss` and `critic_accuracy` are among the terms.

    Raises:
      InputError: If a setting is not as above, or the critic has no such layer.

    References:
      Larsen et al. 2016, algorithm 1 and equations 6 to 8.
    """
    check_name("realism", realism, _REALISM)
    check_at_least("layer", layer, 0, integer=True)

    def critic_of(x_shape: Shape) -> Critic:
        return make_example_critic(x_shape, channels=critic_channels, layer=layer)

    def init_critic(key: Array, x_shape: Shape, num_latents: int) -> Params:
        del num_latents
        return critic_of(x_shape).init(key)

    return Objective(
        Coefficients,
        draw_batch,
        init_critic,
        _make_loss(critic_of, realism),
        _make_critic_loss(critic_of),
        optax.rmsprop,
        make_fixed_rate(optax.rmsprop, critic_learning_rate),
    )


def _make_loss(critic_of: Callable[[Shape], Critic], realism: str) -> Callable[..., Any]:
    def loss(
        params: Params,
        critic: Params,
        model: Model,
        batch: Batch,
        coefficients: Coefficients,
        key: Array,
    ) -> tuple[Array, tuple[Terms, Any]]:
        judge = critic_of(batch.x.shape[2:]).apply
        elbo_key, prior_key = jax.random.split(key)
        x = batch.x[0]
        # The encoder's path: the decoder's parameters are constants.
        frozen = {**params, "decoder": jax.lax.stop_gradient(params["decoder"])}
        elbo = evaluate_elbo(frozen, model, x, elbo_key)
        real = jax.lax.stop_gradient(judge(critic, x))
        for_encoder = _distance(real.features, judge(critic, model.mean(elbo.natural)).features)
        # The decoder's: the codes are constants.
        z = jax.lax.stop_gradient(elbo.z)
        reconstructed = model.mean(model.decode(params, z))
        sampled = model.mean(model.decode(params, jax.random.normal(prior_key, z.shape, z.dtype)))
        fakes = [judge(critic, fake) for fake in (reconstructed, sampled)]
        for_decoder = _distance(real.features, fakes[0].features)
        realism_loss = _realism_loss(real.logit, [fake.logit for fake in fakes], realism)

        rate = jnp.sum(elbo.kl_per_latent)
        value = coefficients.beta * rate + for_encoder
        value += coefficients.gamma * for_decoder + realism_loss
        distortion = jax.lax.stop_gradient(elbo.distortion)
        terms = Terms(
            value, distortion, rate, elbo.kl_per_latent, {"feature_distortion": for_encoder}
        )
        return value, (terms, Evidence(x, reconstructed, sampled))

    return loss


def _make_critic_loss(critic_of: Callable[[Shape], Critic]) -> Callable[..., Any]:
    def critic_loss(
        critic: Params, evidence: Evidence, coefficients: Coefficients, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        del coefficients, key
        judge = critic_of(evidence.real.shape[1:]).apply
        real, *fakes = (judge(critic, x).logit for x in evidence)
        value = _cross_entropy(real, fakes)
        accuracy = (jnp.mean(real > 0) + sum(jnp.mean(fake < 0) for fake in fakes)) / 3.0
        return value, {"critic_loss": value, "critic_accuracy": accuracy}

    return critic_loss


def _distance(a: Array, b: Array) -> Array:
    """½ ‖a - b‖² of features `[B, F]`, mean over the batch."""
    return 0.5 * jnp.mean(jnp.sum(jnp.square(a - b), axis=1))


def _cross_entropy(real: Array, fakes: list[Array]) -> Array:
    """L of logits `[B]`; softplus(-l) is -log C, softplus(l) is -log(1 - C)."""
    return jnp.mean(jax.nn.softplus(-real)) + sum(jnp.mean(jax.nn.softplus(f)) for f in fakes)


def _realism_loss(real: Array, fakes: list[Array], realism: str) -> Array:
    if realism == "non_saturating":
        return jnp.sum(jnp.stack([jnp.mean(jax.nn.softplus(-fake)) for fake in fakes]))
    return -_cross_entropy(real, fakes)
