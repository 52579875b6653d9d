"""DIP-VAE I and II: the covariance of the codes is drawn to the identity (Kumar et al. 2018)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from betavae_jax.checks import check_at_least
from betavae_jax.divergences import covariance, covariance_of_codes, identity_penalties
from betavae_jax.objectives.elbo import evaluate_elbo, make_draw, terms_of, without_critic
from betavae_jax.types import Array, Batch, Model, Objective, Params, Posterior, Terms

_Covariance = Callable[[Posterior], Array]


class CoefficientsI(NamedTuple):
    """λ_d = 10 λ_od, as in the paper."""

    lambda_od: Any = 10.0  # of the squares off the diagonal
    lambda_d: Any = 100.0  # of the squared differences from 1 on it
    beta: Any = 1.0  # of the rate; 1 in the paper


class CoefficientsII(NamedTuple):
    """λ_d = λ_od, as in the paper."""

    lambda_od: Any = 10.0
    lambda_d: Any = 10.0
    beta: Any = 1.0


class TiedCoefficients(NamedTuple):
    """λ_d is a fixed multiple of λ_od, so that a sweep of λ_od keeps the ratio."""

    lambda_od: Any = 10.0
    beta: Any = 1.0


def covariance_of_means(posterior: Posterior) -> Array:
    """Cov over the batch of the means of q(z|x), `[D, D]`."""
    return covariance(posterior.mean)


def dip_vae_i(*, lambda_d_factor: float = 0.0) -> Objective:
    """Makes DIP-VAE-I, which draws the covariance M of the posterior means to the identity.

    The loss is distortion + β · rate + λ_od Σ_{i≠j} m_ij² + λ_d Σ_i (m_ii - 1)², by Adam; M is
    estimated from the batch, divided by B.

    Args:
      lambda_d_factor: λ_d / λ_od, 10 in the paper and in the study of Locatello et al.; the
        coefficient `lambda_d` is then absent. 0 for a `lambda_d` of its own.

    Returns:
      The objective; both sums are among the terms, without their weights.

    Raises:
      InputError: If the factor is negative.

    References:
      Kumar et al. 2018, equation 6.
    """
    return _make(CoefficientsI, covariance_of_means, lambda_d_factor, "dip_vae_i")


def dip_vae_ii(*, lambda_d_factor: float = 0.0) -> Objective:
    """Makes DIP-VAE-II, which draws the covariance M of the codes to the identity.

    As `dip_vae_i`, with M = Cov(means) + diag(E[variances]).

    Args:
      lambda_d_factor: λ_d / λ_od, 1 in the paper and in the study of Locatello et al.; the
        coefficient `lambda_d` is then absent. 0 for a `lambda_d` of its own.

    Returns:
      The objective; both sums are among the terms, without their weights.

    Raises:
      InputError: If the factor is negative.

    References:
      Kumar et al. 2018, equation 7.
    """
    return _make(CoefficientsII, covariance_of_codes, lambda_d_factor, "dip_vae_ii")


def _make(
    coefficients_type: type, covariance_of: _Covariance, lambda_d_factor: float, name: str
) -> Objective:
    check_at_least("lambda_d_factor", lambda_d_factor, 0)

    def loss(
        params: Params, critic: Params, model: Model, batch: Batch, coefficients: Any, key: Array
    ) -> tuple[Array, tuple[Terms, Any]]:
        del critic
        elbo = evaluate_elbo(params, model, batch.x[0], key)
        off_diagonal, diagonal = identity_penalties(covariance_of(elbo.posterior))
        lambda_od = coefficients.lambda_od
        lambda_d = lambda_d_factor * lambda_od if lambda_d_factor else coefficients.lambda_d
        value = (
            elbo.distortion
            + coefficients.beta * elbo.rate
            + lambda_od * off_diagonal
            + lambda_d * diagonal
        )
        extras = {"covariance_off_diagonal": off_diagonal, "covariance_diagonal": diagonal}
        return value, (terms_of(elbo, value, extras), ())

    swept = TiedCoefficients if lambda_d_factor else coefficients_type
    return without_critic(swept, loss, draw=make_draw(name))
