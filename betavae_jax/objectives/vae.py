"""The variational autoencoder (Kingma & Welling 2014)."""

from typing import Any, NamedTuple

from betavae_jax.objectives.elbo import evaluate_elbo, terms_of, without_critic
from betavae_jax.types import Array, Batch, Model, Objective, Params, Terms


class Coefficients(NamedTuple):
    """The VAE has none."""


def loss(
    params: Params, critic: Params, model: Model, batch: Batch, coefficients: Any, key: Array
) -> tuple[Array, tuple[Terms, Any]]:
    """Distortion + rate: the negative ELBO.

    Args:
      params: The model's parameters.
      critic: `()`.
      model: The model.
      batch: One view, `x [1, B, ...]`.
      coefficients: Empty.
      key: A PRNG key, for the sample of z.

    Returns:
      The loss `[]` in nats, and (terms, evidence `()`).

    References:
      Kingma & Welling 2014, equation 7.
    """
    del critic, coefficients
    elbo = evaluate_elbo(params, model, batch.x[0], key)
    value = elbo.distortion + elbo.rate
    return value, (terms_of(elbo, value, {}), ())


def vae() -> Objective:
    """Makes the objective: the negative ELBO, by Adam."""
    return without_critic(Coefficients, loss)
