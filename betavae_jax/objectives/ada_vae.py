"""Ada-GVAE and Ada-ML-VAE: pairs of examples share what did not change (Locatello et al. 2020)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from betavae_jax import gaussian
from betavae_jax.checks import check_at_least
from betavae_jax.divergences import kl_of_posteriors
from betavae_jax.objectives.elbo import without_critic
from betavae_jax.objectives.pairs import draw_pairs, prepare_pairs
from betavae_jax.types import Array, Batch, Dataset, Model, Objective, Params, Posterior, Terms

_Average = Callable[[Posterior, Posterior], Posterior]


class Coefficients(NamedTuple):
    """β = 1 is the smallest of the paper's values 1 to 16."""

    beta: Any = 1.0


def average_moments(first: Posterior, second: Posterior) -> Posterior:
    """The mean of the means and of the variances, leaves `[B, D]`.

    References:
      Hosoya 2019, Group-based Learning of Disentangled Representations with Generalizability
      for Novel Contents, equation 4.
    """
    mean = 0.5 * (first.mean + second.mean)
    log_variance = jnp.logaddexp(first.log_variance, second.log_variance) - jnp.log(2.0)
    return Posterior(mean, log_variance)


def average_densities(first: Posterior, second: Posterior) -> Posterior:
    """The normalised geometric mean of the densities, leaves `[B, D]`.

    Precisions are averaged, means weighed by precision. The plain product of densities
    (Bouchacourt et al. 2018, equation 5) has half the variance, which would make an example
    paired with itself more certain; the published code averages, too.
    """
    # 1 / (1/v₁ + 1/v₂), by logarithms.
    log_variance = -jnp.logaddexp(-first.log_variance, -second.log_variance)
    weight = jnp.exp(log_variance - first.log_variance)
    mean = weight * first.mean + (1.0 - weight) * second.mean
    return Posterior(mean, log_variance + jnp.log(2.0))


def share(first: Posterior, second: Posterior, average: _Average) -> tuple[Posterior, Array]:
    """Replaces the latents that two examples share by their average.

    Latents are shared where KL(first ‖ second) lies below the middle between its smallest and
    its largest over the latents.

    Args:
      first: q(z|x₁), leaves `[B, D]`.
      second: q(z|x₂), leaves `[B, D]`.
      average: Of two posteriors.

    Returns:
      The posteriors of both, leaves `[2, B, D]`, and which latents are shared, `[B, D]`.

    References:
      Locatello et al. 2020, section 4 and equation 5.
    """
    kl = kl_of_posteriors(first, second)
    threshold = 0.5 * (jnp.max(kl, axis=1, keepdims=True) + jnp.min(kl, axis=1, keepdims=True))
    shared = kl < threshold
    averaged = average(first, second)
    both: Posterior = jax.tree.map(
        lambda a, b, c: jnp.stack([jnp.where(shared, c, a), jnp.where(shared, c, b)]),
        first,
        second,
        averaged,
    )
    return both, shared


def ada_gvae(*, changed: int = 1) -> Objective:
    """Makes Ada-GVAE: shared latents have the mean of the pair's means and variances.

    The loss is distortion + β · rate of the pair's posteriors after sharing, mean over both, by
    Adam. Rate and distortion reported are these; the pair's first posterior has the asymmetric
    KL's first place.

    Args:
      changed: Factors that differ in a pair; 0 for a number drawn for each pair from 1 to
        K - 1. The model does not learn which.

    Returns:
      The objective; `shared_latents`, the mean number of them, is among the terms. Its batches
      are pairs: twice as many examples.

    Raises:
      InputError: If the number is not a whole one from 0; later, if a set has no such pairs.

    References:
      Locatello et al. 2020, Weakly-Supervised Disentanglement Without Compromises, section 4.
    """
    return _make(average_moments, changed)


def ada_ml_vae(*, changed: int = 1) -> Objective:
    """Makes Ada-ML-VAE: shared latents have the geometric mean of the pair's densities.

    As `ada_gvae` but for the average.

    Args:
      changed: Factors that differ in a pair; 0 for a number drawn for each pair from 1 to
        K - 1. The model does not learn which.

    Returns:
      The objective; `shared_latents`, the mean number of them, is among the terms.

    Raises:
      InputError: If the number is not a whole one from 0; later, if a set has no such pairs.

    References:
      Locatello et al. 2020, section 4; Bouchacourt et al. 2018, Multi-Level Variational
      Autoencoder.
    """
    return _make(average_densities, changed)


def _make(average: _Average, changed: int) -> Objective:
    check_at_least("changed", changed, 0, integer=True)

    def draw(key: Array, batch_size: int, data: Dataset) -> Array:
        return draw_pairs(key, batch_size, data, changed)

    def prepare(data: Dataset) -> Dataset:
        return prepare_pairs(data, changed)

    def loss(
        params: Params,
        critic: Params,
        model: Model,
        batch: Batch,
        coefficients: Coefficients,
        key: Array,
    ) -> tuple[Array, tuple[Terms, Any]]:
        del critic
        # Both views go through the networks in one batch.
        x = batch.x.reshape(-1, *batch.x.shape[2:])
        both = model.encode(params, x)
        first, second = (jax.tree.map(lambda a, i=i: jnp.split(a, 2)[i], both) for i in (0, 1))
        pair, shared = share(first, second, average)
        posterior = jax.tree.map(lambda a: a.reshape(x.shape[0], -1), pair)
        z = gaussian.sample(key, posterior)
        distortion = -jnp.mean(model.log_likelihood(model.decode(params, z), x))
        kl = jnp.mean(gaussian.kl_per_latent(posterior), axis=0)
        rate = jnp.sum(kl)
        value = distortion + coefficients.beta * rate
        extras = {"shared_latents": jnp.mean(jnp.sum(shared, axis=1, dtype=jnp.float32))}
        return value, (Terms(value, distortion, rate, kl, extras), ())

    return without_critic(Coefficients, loss, draw=draw, prepare=prepare)
