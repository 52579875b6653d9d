"""VAE/GAN: reconstructions are compared in the layers of a critic (Larsen et al. 2016)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from betavae_jax.checks import check_at_least, check_name
from betavae_jax.critics import Critic, Judgement, make_example_critic
from betavae_jax.objectives.elbo import draw_batch, evaluate_elbo, make_fixed_rate
from betavae_jax.types import Array, Batch, Model, Objective, Params, Shape, Terms

_REALISM = ("minimax", "non_saturating")


class Coefficients(NamedTuple):
    """The paper names no γ: at 1 the decoder weighs the two alike. β = 1 is the paper's."""

    gamma: Any = 1.0  # of the distortion of features against realism, for the decoder
    beta: Any = 1.0  # of the rate, for the encoder


class Evidence(NamedTuple):
    """What the critic tells apart, the first from the others, and what it made of them.

    The critic's gradient comes with the decoder's, from the same passes through the critic: it
    is L's where the critic stood then, and nowhere else.
    """

    real: Array  # [B, ...]
    reconstructed: Array  # [B, ...], decoded from q(z|x)
    sampled: Array  # [B, ...], decoded from p(z)
    value: Array  # [], L
    accuracy: Array  # []
    gradient: Params  # of L, for the critic


class _Verdict(NamedTuple):
    """Losses in the critic's layers, and their gradients for the images judged."""

    distance: Array  # [], D_f
    realism: Array  # [], what the decoder minimises beside it
    from_distance: Array  # [B, ...], of D_f, for the reconstructions
    from_realism: tuple[Array, Array]  # [B, ...], for the reconstructions and for the samples
    value: Array  # [], L
    accuracy: Array  # []
    gradient: Params  # of L, for the critic


def vae_gan(
    *,
    layer: int = 0,
    critic_channels: int = 16,
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
        the others, and for what departs from the paper. The paper has 32, with which the
        critic's arithmetic alone is twelve times that of a VAE's step.
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
        _critic_loss,
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
        elbo_key, prior_key = jax.random.split(key)
        x = batch.x[0]
        # The encoder's path: the decoder's parameters are constants.
        frozen = {**params, "decoder": jax.lax.stop_gradient(params["decoder"])}
        elbo = evaluate_elbo(frozen, model, x, elbo_key)
        for_encoder = model.mean(elbo.natural)
        # The decoder's: the codes are constants.
        z = jax.lax.stop_gradient(elbo.z)
        reconstructed = model.mean(model.decode(params, z))
        sampled = model.mean(model.decode(params, jax.random.normal(prior_key, z.shape, z.dtype)))

        judge = critic_of(x.shape[1:]).apply
        verdict = jax.lax.stop_gradient(_judge(judge, critic, x, reconstructed, sampled, realism))
        # A scalar product with an image's gradient has the gradient of what that came from.
        gamma, (on_reconstructed, on_sampled) = coefficients.gamma, verdict.from_realism
        slope = jnp.vdot(verdict.from_distance, for_encoder) + jnp.vdot(on_sampled, sampled)
        slope += jnp.vdot(gamma * verdict.from_distance + on_reconstructed, reconstructed)

        value = coefficients.beta * elbo.rate + _with_gradient_of(
            slope, (1.0 + gamma) * verdict.distance + verdict.realism
        )
        distortion = jax.lax.stop_gradient(elbo.distortion)
        extras = {"feature_distortion": verdict.distance}
        terms = Terms(value, distortion, elbo.rate, elbo.kl_per_latent, extras)
        told = (verdict.value, verdict.accuracy, verdict.gradient)
        return value, (terms, Evidence(x, reconstructed, sampled, *told))

    return loss


def _judge(
    judge: Callable[[Params, Array], Judgement],
    critic: Params,
    real: Array,
    reconstructed: Array,
    sampled: Array,
    realism: str,
) -> _Verdict:
    """Passes each image through the critic once, and back as seldom as the losses allow."""
    passes = [jax.vjp(judge, critic, images) for images in (real, reconstructed, sampled)]
    judged = [judgement for judgement, _ in passes]
    logits = [judgement.logit for judgement in judged]
    features = [judgement.features for judgement in judged]

    def back(slopes: list[Array]) -> list[tuple[Params, Array]]:
        return [
            pull_back(Judgement(slope, jnp.zeros_like(judgement.features)))
            for slope, (judgement, pull_back) in zip(slopes, passes, strict=True)
        ]

    value, slopes = jax.value_and_grad(_cross_entropy)(logits)
    backward = back(slopes)
    distance, slope = jax.value_and_grad(_distance)(features[1], features[0])
    _, from_distance = passes[1][1](Judgement(jnp.zeros_like(logits[1]), slope))
    if realism == "non_saturating":
        of_decoder, slopes = jax.value_and_grad(_non_saturating)(logits)
        on_images = [on_image for _, on_image in back(slopes)]
    else:
        of_decoder, on_images = -value, [-on_image for _, on_image in backward]
    hits = jnp.mean(logits[0] > 0) + sum(jnp.mean(logit < 0) for logit in logits[1:])
    gradient = jax.tree.map(lambda *leaves: sum(leaves), *(of_critic for of_critic, _ in backward))
    on_fakes = (on_images[1], on_images[2])
    return _Verdict(distance, of_decoder, from_distance, on_fakes, value, hits / 3.0, gradient)


def _critic_loss(
    critic: Params, evidence: Evidence, coefficients: Coefficients, key: Array
) -> tuple[Array, dict[str, Array]]:
    del coefficients, key
    slope: Array = optax.tree.vdot(critic, evidence.gradient)
    value = _with_gradient_of(slope, evidence.value)
    return value, {"critic_loss": evidence.value, "critic_accuracy": evidence.accuracy}


def _with_gradient_of(slope: Array, value: Array) -> Array:
    """A number with the gradient of another."""
    return value + (slope - jax.lax.stop_gradient(slope))


def _distance(a: Array, b: Array) -> Array:
    """½ ‖a - b‖² of features `[B, F]`, mean over the batch."""
    return 0.5 * jnp.mean(jnp.sum(jnp.square(a - b), axis=1))


def _cross_entropy(logits: list[Array]) -> Array:
    """L of logits `[B]`, real ones first; softplus(-l) is -log C, softplus(l) is -log(1 - C)."""
    real, *fakes = logits
    return jnp.mean(jax.nn.softplus(-real)) + sum(jnp.mean(jax.nn.softplus(f)) for f in fakes)


def _non_saturating(logits: list[Array]) -> Array:
    """-E log C(x̃) - E log C(x_p), of logits; those of real images have no say."""
    return jnp.sum(jnp.stack([jnp.mean(jax.nn.softplus(-fake)) for fake in logits[1:]]))
