"""Diagonal Gaussians: density, reparameterised samples, divergence from the prior."""

import math

import jax
import jax.numpy as jnp

from betavae_jax.types import Array, Posterior

_LOG_2PI = math.log(2.0 * math.pi)


def sample(key: Array, posterior: Posterior) -> Array:
    """Draws z = mean + sd * epsilon, differentiable in the posterior's parameters.

    Args:
      key: A PRNG key.
      posterior: q(z|x), leaves `[B, D]`.

    Returns:
      z `[B, D]`.

    References:
      Kingma & Welling 2014, section 2.4 (the reparameterisation trick).
    """
    epsilon = jax.random.normal(key, posterior.mean.shape, posterior.mean.dtype)
    return posterior.mean + jnp.exp(0.5 * posterior.log_variance) * epsilon


def kl_per_latent(posterior: Posterior) -> Array:
    """KL(q(z_d|x) || N(0, 1)) for each example and latent.

    Args:
      posterior: q(z|x), leaves `[B, D]`.

    Returns:
      Nats `[B, D]`, never negative.

    References:
      Kingma & Welling 2014, appendix B.
    """
    mean, log_variance = posterior
    # ½ (μ² + σ² - 1 - log σ²). expm1 keeps the difference exact near σ = 1, where silent
    # latents live; exp(v) - 1 - v would cancel there to noise that may be negative.
    return 0.5 * (jnp.square(mean) + jnp.expm1(log_variance) - log_variance)


def log_density(z: Array, mean: Array, log_variance: Array) -> Array:
    """Log N(z; mean, exp(log_variance)), elementwise.

    Args:
      z: Any shape, as are `mean` and `log_variance`; the three broadcast.
      mean: The mean.
      log_variance: The natural logarithm of the variance.

    Returns:
      Nats, of the broadcast shape.
    """
    # The difference is scaled before it is squared, so that a tiny variance with a distant z
    # overflows later.
    scaled = (z - mean) * jnp.exp(-0.5 * log_variance)
    return -0.5 * (_LOG_2PI + log_variance + jnp.square(scaled))
