"""What the decoder says of a pixel: normalised densities p(x|z), constants included.

Each entry of `LIKELIHOODS` is a function of keyword settings that returns a
`Likelihood`; log-likelihoods are summed over pixels, never averaged.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from betavae_jax.checks import check_positive
from betavae_jax.types import Array, Likelihood, Params

_LOG_2PI = math.log(2.0 * math.pi)


def _sum_pixels(per_pixel: Array) -> Array:
    return jnp.sum(per_pixel, axis=tuple(range(1, per_pixel.ndim)))


def _no_parameters() -> Params:
    return ()


def _unchanged(_: Params, output: Array) -> Array:
    return output


def bernoulli() -> Likelihood:
    """p(x|z) = Bernoulli, per pixel; natural parameter: the logit.

    For grey values in (0, 1) this is the customary cross-entropy, which does not
    integrate to one over [0, 1] (Loaiza-Ganem & Cunningham 2019).

    Returns:
      The likelihood; `natural` is logits `[B, ...]`.

    References:
      Kingma & Welling 2014, appendix C.1.
    """

    def log_likelihood(logits: Array, x: Array) -> Array:
        # x log p + (1 - x) log(1 - p) = x * logit - softplus(logit): finite, with a finite
        # gradient, at any logit; the form in p is not.
        return _sum_pixels(x * logits - jax.nn.softplus(logits))

    return Likelihood(_no_parameters, _unchanged, log_likelihood, jax.nn.sigmoid)


def gaussian(*, sigma: float = 0.1) -> Likelihood:
    """p(x|z) = N(mean, σ²) with a fixed σ, per pixel.

    Args:
      sigma: The standard deviation, in units of x.

    Returns:
      The likelihood; `natural` is the mean `[B, ...]`.

    Raises:
      InputError: If `sigma` is not a number above zero.
    """
    check_positive("sigma", sigma)
    log_normaliser = 0.5 * _LOG_2PI + math.log(sigma)

    def log_likelihood(mean: Array, x: Array) -> Array:
        return _sum_pixels(-0.5 * jnp.square((x - mean) / sigma) - log_normaliser)

    def mean(natural: Array) -> Array:
        return natural

    return Likelihood(_no_parameters, _unchanged, log_likelihood, mean)


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    "bernoulli": bernoulli,
    "gaussian": gaussian,
}
