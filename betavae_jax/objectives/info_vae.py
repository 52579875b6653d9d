"""InfoVAE and MMD-VAE: the aggregate of the codes is drawn to the prior (Zhao et al. 2017)."""

from typing import Any, NamedTuple

import jax

from betavae_jax.checks import check_name, check_positive
from betavae_jax.divergences import KERNELS, maximum_mean_discrepancy
from betavae_jax.objectives.elbo import evaluate_elbo, make_draw, terms_of, without_critic
from betavae_jax.types import Array, Batch, Model, Objective, Params, Terms


class Coefficients(NamedTuple):
    """α = 0 and λ = 1000 are the paper's for MNIST; α = 1 is MMD-VAE."""

    alpha: Any = 0.0
    lambda_mmd: Any = 1000.0  # the paper's λ
    beta: Any = 1.0  # of the rate, beside 1 - α; 1 in the paper


def info_vae(*, kernel: str = "rbf", bandwidth: float = 1.0) -> Objective:
    """Makes the objective distortion + β (1 - α) · rate + (α + λ - 1) · MMD, by Adam.

    MMD is the squared maximum mean discrepancy of the codes of a batch and a sample of the prior
    as large, estimated without bias: it may be slightly negative. At α = 0, λ = 1 the loss is
    the negative ELBO. Let α exceed 1 and the rate is rewarded: keep it in [0, 1].

    Args:
      kernel: `rbf`, exp(-r²/s), or `imq`, s / (s + r²), with s = 2 D · bandwidth: the mean
        squared distance of two codes of the prior, times the bandwidth.
      bandwidth: A multiple of that; the paper leaves it open.

    Returns:
      The objective; `mmd_rbf` or `mmd_imq` is among the terms, without its weight.

    Raises:
      InputError: If a setting is not as above.

    References:
      Zhao et al. 2017, equation 6; Tolstikhin et al. 2018, section 4, for the scale and the
      inverse multiquadric kernel.
    """
    check_name("kernel", kernel, KERNELS)
    check_positive("bandwidth", bandwidth)

    def loss(
        params: Params,
        critic: Params,
        model: Model,
        batch: Batch,
        coefficients: Coefficients,
        key: Array,
    ) -> tuple[Array, tuple[Terms, Any]]:
        del critic
        elbo_key, prior_key = jax.random.split(key)
        elbo = evaluate_elbo(params, model, batch.x[0], elbo_key)
        prior = jax.random.normal(prior_key, elbo.z.shape, elbo.z.dtype)  # p(z)
        scale = 2.0 * elbo.z.shape[1] * bandwidth
        mmd = maximum_mean_discrepancy(elbo.z, prior, kernel, scale)
        alpha, lambda_mmd, beta = coefficients
        value = (
            elbo.distortion + beta * (1.0 - alpha) * elbo.rate + (alpha + lambda_mmd - 1.0) * mmd
        )
        extras = {f"mmd_{kernel}": mmd}
        return value, (terms_of(elbo, value, extras), ())

    return without_critic(Coefficients, loss, draw=make_draw("info_vae"))
