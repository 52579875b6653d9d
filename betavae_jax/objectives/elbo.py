"""The evidence lower bound, from which every objective is composed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from betavae_jax import gaussian
from betavae_jax.checks import check_at_least, check_positive
from betavae_jax.types import Array, Dataset, Model, Objective, Params, Posterior, Shape, Terms


class Elbo(NamedTuple):
    """The terms of the bound on one batch, in nats, and what they were made of."""

    distortion: Array  # [], -E log p(x|z), summed over pixels, mean over the batch
    rate: Array  # [], KL(q(z|x) || p(z)), summed over latents, mean over the batch
    kl_per_latent: Array  # [D], mean over the batch
    posterior: Posterior  # [B, D]
    z: Array  # [B, D]
    natural: Any  # the likelihood's natural parameters at z


def evaluate_elbo(params: Params, model: Model, x: Array, key: Array) -> Elbo:
    """Estimates the bound with one reparameterised sample for each example.

    Args:
      params: The model's parameters.
      model: The model.
      x: Examples `[B, ...]`.
      key: A PRNG key, for the sample.

    Returns:
      The terms; the ELBO is `-(distortion + rate)`.

    References:
      Kingma & Welling 2014, equation 7.
    """
    posterior = model.encode(params, x)  # q(z|x)
    z = gaussian.sample(key, posterior)
    natural = model.decode(params, z)  # p(x|z)
    distortion = -jnp.mean(model.log_likelihood(natural, x))
    kl = jnp.mean(gaussian.kl_per_latent(posterior), axis=0)
    return Elbo(distortion, jnp.sum(kl), kl, posterior, z, natural)


def terms_of(elbo: Elbo, value: Array, extras: dict[str, Array]) -> Terms:
    """What a step reports of a batch: the loss, the terms of the bound, and `extras`."""
    return Terms(value, elbo.distortion, elbo.rate, elbo.kl_per_latent, extras)


def draw_batch(key: Array, batch_size: int, data: Dataset) -> Array:
    """Draws one view of a batch as the set is drawn from: index `[1, B]`."""
    return data.draw(data.arrays, key, (1, batch_size), data.num_examples)


def make_draw(what: str, num_views: int = 1) -> Callable[[Array, int, Dataset], Array]:
    """Makes the draw of an objective that compares the examples of a batch.

    Args:
      what: That needs two of them, for the error.
      num_views: V, independent batches.

    Returns:
      `draw(key, batch_size, data) -> index [V, B]`, which refuses a batch of one.
    """

    def draw(key: Array, batch_size: int, data: Dataset) -> Array:
        check_at_least(f"batch_size for {what}", batch_size, 2, integer=True)
        return data.draw(data.arrays, key, (num_views, batch_size), data.num_examples)

    return draw


def no_critic(key: Array, x_shape: Shape, num_latents: int) -> Params:
    """The parameters of an absent critic: `()`."""
    del key, x_shape, num_latents
    return ()


def no_critic_loss(
    critic: Params, evidence: Any, coefficients: Any, key: Array
) -> tuple[Array, dict[str, Array]]:
    """The loss of an absent critic: zero."""
    del critic, evidence, coefficients, key
    return jnp.zeros(()), {}


def adam(learning_rate: Array) -> optax.GradientTransformation:
    """Adam at its published constants (Kingma & Ba 2015, algorithm 1), rate traced."""
    return optax.adam(learning_rate)


def without_critic(
    coefficients_type: type,
    loss: Callable[..., tuple[Array, tuple[Terms, Any]]],
    *,
    draw: Callable[[Array, int, Dataset], Array] = draw_batch,
    optimizer: Callable[[Array], optax.GradientTransformation] = adam,
    **further: Any,
) -> Objective:
    """Makes an objective that has no critic.

    Args:
      coefficients_type: A NamedTuple of floats with the paper's defaults.
      loss: As in `types.Objective`; its evidence is `()`.
      draw: As in `types.Objective`.
      optimizer: Of the learning rate.
      **further: The fields of `types.Objective` that have defaults.
    """
    return Objective(
        coefficients_type, draw, no_critic, loss, no_critic_loss, optimizer, adam, **further
    )


# The learning rate -> an optimiser, its other constants as in optax.
OPTIMIZERS: dict[str, Callable[[Array], optax.GradientTransformation]] = {
    "adagrad": optax.adagrad,
    "adam": adam,
    "rmsprop": optax.rmsprop,
}


def make_fixed_rate(
    optimizer: Callable[..., optax.GradientTransformation], learning_rate: float, **constants: float
) -> Callable[[Array], optax.GradientTransformation]:
    """Makes a critic's optimiser, whose rate is its own and not the model's.

    Args:
      optimizer: Of a learning rate, such as `optax.adam`.
      learning_rate: The critic's.
      **constants: Further ones of the optimiser.

    Returns:
      A function of the model's learning rate, which it ignores.

    Raises:
      InputError: If the rate is not above zero.
    """
    check_positive("critic_learning_rate", learning_rate)
    return lambda _: optimizer(learning_rate, **constants)
