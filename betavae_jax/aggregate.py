"""The aggregate posterior of a trained run, measured alike whatever the run minimised."""

import functools

import jax
import numpy as np

from betavae_jax import gaussian
from betavae_jax.checks import check_at_least
from betavae_jax.divergences import (
    aggregate_log_density,
    covariance,
    covariance_of_codes,
    decompose_log_densities,
    identity_penalties,
    maximum_mean_discrepancy,
)
from betavae_jax.types import Array, Posterior

_KEY = 0
_CODES_AT_ONCE = 50  # N × D densities each


def measure_aggregate(posterior: Posterior, *, num_samples: int = 1_000) -> dict[str, float]:
    """Measures q(z) = 1/N Σ_j q(z|x_j) over the N given examples, by samples from a fixed key.

    The mixture is exact for these examples: its mutual information is at most log N, and where
    the codes tell all of them apart the total correlation holds what is beyond that.

    Args:
      posterior: q(z|x) of N ≥ 2 examples, leaves `[N, D]`, finite.
      num_samples: How many examples, chosen at random by the same key, give a sample of z each.

    Returns:
      In nats, `mutual_information`, `total_correlation` and `dimensionwise_kl`, which add up to
      the sampled rate; `covariance_off_diagonal`, the sum of the squares off the diagonal of
      the covariance of the means, and `covariance_diagonal`, that of the codes' variances less
      one; `mmd_rbf` of the samples and as many of the prior, without bias, its kernel's scale
      2 D.
    """
    check_at_least("examples of an aggregate posterior", posterior.mean.shape[0], 2, integer=True)
    measured = _measure(posterior, min(num_samples, posterior.mean.shape[0]))
    return {name: float(value) for name, value in measured.items()}


@functools.partial(jax.jit, static_argnums=1)
def _measure(posterior: Posterior, num_samples: int) -> dict[str, Array]:
    count, num_latents = posterior.mean.shape
    sample_key, prior_key, choice_key = jax.random.split(jax.random.key(_KEY), 3)
    # Not the first ones: examples come in the order of their factors.
    chosen = jax.random.permutation(choice_key, count)[:num_samples]
    own = Posterior(posterior.mean[chosen], posterior.log_variance[chosen])
    z = gaussian.sample(sample_key, own)
    log_weights = np.full((1, count), -np.log(count))

    def log_densities(code: Array) -> tuple[Array, Array]:
        log_q_z, log_q_zd = aggregate_log_density(code[None], posterior, log_weights)
        return log_q_z[0], log_q_zd[0]

    parts = decompose_log_densities(
        z, own, *jax.lax.map(log_densities, z, batch_size=_CODES_AT_ONCE)
    )
    prior = jax.random.normal(prior_key, z.shape, z.dtype)
    return {
        **parts._asdict(),
        "covariance_off_diagonal": identity_penalties(covariance(posterior.mean))[0],
        "covariance_diagonal": identity_penalties(covariance_of_codes(posterior))[1],
        "mmd_rbf": maximum_mean_discrepancy(z, prior, "rbf", 2.0 * num_latents),
    }
