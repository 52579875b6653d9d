"""β-TCVAE: the KL term in three parts, the total correlation weighed by β (Chen et al. 2018)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from betavae_jax.checks import InputError, check_at_least, check_name
from betavae_jax.divergences import ESTIMATORS, decompose_kl
from betavae_jax.objectives.elbo import evaluate_elbo, terms_of, without_critic
from betavae_jax.types import (
    Array,
    Batch,
    Dataset,
    Model,
    Objective,
    Params,
    Terms,
    draw_uniformly,
)


class Coefficients(NamedTuple):
    """β = 6 is the paper's value for dSprites; each weighs a part in nats."""

    alpha: Any = 1.0  # of the mutual information of x and z
    beta: Any = 6.0  # of the total correlation
    gamma: Any = 1.0  # of the divergence of each latent from its prior


def beta_tcvae(*, estimator: str = "mss") -> Objective:
    """Makes the objective distortion + α · MI + β · TC + γ · dimension-wise KL, by Adam.

    The three parts are of the sampled KL, so at α = β = γ = 1 the loss is the negative ELBO with
    log q(z|x) - log p(z) in the place of its closed form.

    Args:
      estimator: Of the aggregate posterior q(z): `mss`, stratified; `mws`, weighed, the paper's
        first and disentanglement_lib's up to a constant; `exact`, the mixture over the whole
        set, which is then the batch at every step.

    Returns:
      The objective; the three parts are among the terms, their names ending in the estimator.

    Raises:
      InputError: If the estimator is not known.

    References:
      Chen et al. 2018, equation 4.
    """
    check_name("estimator", estimator, ESTIMATORS)

    def draw(key: Array, batch_size: int, data: Dataset) -> Array:
        check_at_least("batch_size for beta_tcvae", batch_size, 2, integer=True)
        ESTIMATORS[estimator](batch_size, data.num_examples)  # refuses what it cannot weigh
        if estimator == "exact":
            if data.draw is not draw_uniformly:
                raise InputError(
                    "expected a set that is drawn uniformly and whole for the exact mixture;"
                    " got one that is drawn otherwise"
                )
            return jnp.arange(batch_size, dtype=jnp.int32)[None]
        return data.draw(data.arrays, key, (1, batch_size), data.num_examples)

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
        log_weights = ESTIMATORS[estimator](batch.x.shape[1], batch.num_examples)
        parts = decompose_kl(elbo.z, elbo.posterior, log_weights)
        value = (
            elbo.distortion
            + coefficients.alpha * parts.mutual_information
            + coefficients.beta * parts.total_correlation
            + coefficients.gamma * parts.dimensionwise_kl
        )
        extras = {f"{name}_{estimator}": part for name, part in parts._asdict().items()}
        return value, (terms_of(elbo, value, extras), ())

    return without_critic(Coefficients, loss, draw=draw)
