"""β-VAE: the KL term weighed by β (Higgins et al. 2017)."""

from typing import Any, NamedTuple

from betavae_jax.checks import check_name
from betavae_jax.objectives.elbo import OPTIMIZERS, evaluate_elbo, terms_of, without_critic
from betavae_jax.types import Array, Batch, Model, Objective, Params, Terms


class Coefficients(NamedTuple):
    """β = 4 is the paper's value for dSprites; the KL is in nats, summed over latents."""

    beta: Any = 4.0


def loss(
    params: Params,
    critic: Params,
    model: Model,
    batch: Batch,
    coefficients: Coefficients,
    key: Array,
) -> tuple[Array, tuple[Terms, Any]]:
    """Distortion + β · rate.

    Args:
      params: The model's parameters.
      critic: `()`.
      model: The model.
      batch: One view, `x [1, B, ...]`.
      coefficients: β, `[]`.
      key: A PRNG key, for the sample of z.

    Returns:
      The loss `[]` in nats, and (terms, evidence `()`). The terms hold the unweighed rate.

    References:
      Higgins et al. 2017, equation 4.
    """
    del critic
    elbo = evaluate_elbo(params, model, batch.x[0], key)
    value = elbo.distortion + coefficients.beta * elbo.rate
    return value, (terms_of(elbo, value, {}), ())


def beta_vae(*, optimizer: str = "adam") -> Objective:
    """Makes the objective: distortion + β · rate.

    Args:
      optimizer: `adam`; `adagrad`, the paper's for dSprites, with a learning rate of 0.01; or
        `rmsprop`.

    Returns:
      The objective.

    Raises:
      InputError: If the optimiser is not known.
    """
    check_name("optimizer", optimizer, OPTIMIZERS)
    return without_critic(Coefficients, loss, optimizer=OPTIMIZERS[optimizer])
