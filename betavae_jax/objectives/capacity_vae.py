"""β-VAE with controlled capacity: the KL is held at C nats (Burgess et al. 2018)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from betavae_jax import gaussian
from betavae_jax.objectives.elbo import evaluate_elbo, terms_of, without_critic
from betavae_jax.types import Array, Batch, Model, Objective, Params, Terms


class Coefficients(NamedTuple):
    """The paper's values for dSprites; C is in nats, for the KL summed over latents."""

    gamma: Any = 1000.0
    capacity: Any = 25.0


def capacity_vae(*, per_sample: bool = False) -> Objective:
    """Makes the objective distortion + γ · abs(KL - C), in which C rises over training.

    The paper's C rises linearly from 0 over the first 100,000 steps; another schedule of
    `capacity` replaces it.

    Args:
      per_sample: Whether each example's own KL is held at C. Otherwise, as in the paper, the
        mean over the batch is, and examples may share the capacity unevenly.

    Returns:
      The objective; `capacity` among the terms is C at that step.

    References:
      Burgess et al. 2018, equation 8.
    """

    def loss(
        params: Params,
        critic: Params,
        model: Model,
        batch: Batch,
        coefficients: Coefficients,
        key: Array,
    ) -> tuple[Array, tuple[Terms, Any]]:
        del critic
        elbo = evaluate_elbo(params, model, batch.x[0], key)
        excess = jnp.abs(elbo.rate - coefficients.capacity)
        if per_sample:
            rates = jnp.sum(gaussian.kl_per_latent(elbo.posterior), axis=1)  # [B]
            excess = jnp.mean(jnp.abs(rates - coefficients.capacity))
        value = elbo.distortion + coefficients.gamma * excess
        extras = {"capacity": jnp.asarray(coefficients.capacity, jnp.float32)}
        return value, (terms_of(elbo, value, extras), ())

    return without_critic(Coefficients, loss, schedules=(("capacity", "linear:0:100000"),))
