"""What the decoder says of a pixel: normalised densities p(x|z), constants included.

Each entry of `LIKELIHOODS` is a function of keyword settings that returns a
`Likelihood`; log-likelihoods are summed over pixels, never averaged.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from betavae_jax.checks import InputError, check_positive
from betavae_jax.types import Array, Likelihood, Params

_LOG_2PI = math.log(2.0 * math.pi)
_NEAR_ZERO = 1.0  # a logit; below it the series err by less than the closed forms cancel


class Normal(NamedTuple):
    """Natural parameters of a Gaussian whose σ is learned."""

    mean: Array  # [B, ...]
    log_sigma: Array  # [], one for all pixels


def _sum_pixels(per_pixel: Array) -> Array:
    return jnp.sum(per_pixel, axis=tuple(range(1, per_pixel.ndim)))


def _no_parameters() -> Params:
    return ()


def _unchanged(_: Params, output: Array) -> Array:
    return output


def _itself(natural: Array) -> Array:
    return natural


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

    return Likelihood(
        _no_parameters, _unchanged, log_likelihood, jax.nn.sigmoid, unit_interval=True
    )


def continuous_bernoulli() -> Likelihood:
    """p(x|z) ∝ λ^x (1 − λ)^(1 − x) over [0, 1], per pixel; natural parameter: the logit of λ.

    The density that the Bernoulli's cross-entropy of grey values leaves unnormalised.
    Its mean is not λ.

    Returns:
      The likelihood; `natural` is logits `[B, ...]`.

    References:
      Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli: fixing a pervasive error
      in variational autoencoders.
    """

    def log_likelihood(logits: Array, x: Array) -> Array:
        # With η = logit(λ), C(λ) λ^x (1 - λ)^(1 - x) = exp(x η) / ∫ exp(u η) du over [0, 1],
        # as C(λ) = 2 artanh(1 - 2λ) / (1 - 2λ) = η / tanh(η / 2).
        return _sum_pixels(x * logits - _log_integral(logits))

    return Likelihood(_no_parameters, _unchanged, log_likelihood, _tilted_mean, unit_interval=True)


def _log_integral(logits: Array) -> Array:
    """The logarithm of ∫ exp(u η) du = (exp(η) − 1) / η over [0, 1], for any logit η.

    Near zero the gradient of the closed form cancels, 1/η against 1/η; there the series
    of log(sinh(η/2) / (η/2)) takes over. Each branch sees logits that it is safe for,
    or the gradient of the one not taken would be NaN times zero.
    """
    is_near = jnp.abs(logits) < _NEAR_ZERO
    near, far = jnp.where(is_near, logits, 0.0), jnp.where(is_near, _NEAR_ZERO, logits)
    s = jnp.square(near)
    series = near / 2 + s * (1 / 24 - s * (1 / 2880 - s * (1 / 181440 - s / 9676800)))
    size = jnp.abs(far)
    closed = jnp.maximum(far, 0.0) + jnp.log(-jnp.expm1(-size) / size)
    return jnp.where(is_near, series, closed)


def _tilted_mean(logits: Array) -> Array:
    """The mean of the density ∝ exp(u η) over [0, 1], the derivative of `_log_integral`.

    λ / (2λ − 1) + 1 / (2 artanh(1 − 2λ)) in the paper; in the logit it is
    1 / |η| − 1 / (exp(|η|) − 1) below zero, and one minus that above.
    """
    is_near = jnp.abs(logits) < _NEAR_ZERO
    near, far = jnp.where(is_near, logits, 0.0), jnp.where(is_near, _NEAR_ZERO, logits)
    s = jnp.square(near)
    series = 0.5 + near * (1 / 12 - s * (1 / 720 - s * (1 / 30240 - s / 1209600)))
    size = jnp.abs(far)
    below = 1 / size + jnp.exp(-size) / jnp.expm1(-size)  # exp(|η|) itself overflows
    return jnp.where(is_near, series, jnp.where(far < 0, below, 1 - below))


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

    return Likelihood(_no_parameters, _unchanged, log_likelihood, _itself)


def gaussian_learned(*, initial_sigma: float = 0.1, min_sigma: float = 1e-3) -> Likelihood:
    """p(x|z) = N(mean, σ²) with one σ for all pixels, learned with the decoder.

    The parameter is `{"log_sigma": []}`, softly bounded below:
    log σ = log(min_sigma) + softplus(log_sigma − log(min_sigma)), that is,
    σ = min_sigma + exp(log_sigma).

    Args:
      initial_sigma: σ before the first step, in units of x; above `min_sigma`.
      min_sigma: What σ cannot fall below.

    Returns:
      The likelihood; `natural` is `Normal`.

    Raises:
      InputError: If a setting is not a number above zero, or σ would start below its bound.

    References:
      Rybkin et al. 2021, Simple and Effective VAE Training with Calibrated Decoders.
      Chua et al. 2018, Deep Reinforcement Learning in a Handful of Trials using
      Probabilistic Dynamics Models, appendix A.1, for the bound.
    """
    check_positive("min_sigma", min_sigma)
    check_positive("initial_sigma", initial_sigma)
    if initial_sigma <= min_sigma:
        raise InputError(
            f"expected initial_sigma to be above min_sigma, {min_sigma}; got {initial_sigma}"
        )
    floor = math.log(min_sigma)

    def init() -> Params:
        return {"log_sigma": jnp.asarray(math.log(initial_sigma - min_sigma), jnp.float32)}

    def natural(params: Params, output: Array) -> Normal:
        return Normal(output, floor + jax.nn.softplus(params["log_sigma"] - floor))

    def log_likelihood(natural: Normal, x: Array) -> Array:
        residual = (x - natural.mean) * jnp.exp(-natural.log_sigma)
        return _sum_pixels(-0.5 * jnp.square(residual) - natural.log_sigma - 0.5 * _LOG_2PI)

    def mean(natural: Normal) -> Array:
        return natural.mean

    return Likelihood(init, natural, log_likelihood, mean)


def gaussian_optimal(*, min_sigma: float = 1e-3) -> Likelihood:
    """p(x|z) = N(mean, σ²) with σ² the mean squared error over the batch and its pixels.

    That σ is the likeliest for the batch, in closed form, and the gradient flows through
    it. It is the batch's, chosen in hindsight: an example's log-likelihood depends on
    what it is evaluated with, so a value on test data holds for the batches of that
    evaluation and is a little above what any σ fixed beforehand gives. Of one example alone
    it would be no density: it has no integral over x.

    Args:
      min_sigma: What σ is not taken below, in units of x.

    Returns:
      The likelihood; `natural` is the mean `[B, ...]`.

    Raises:
      InputError: If `min_sigma` is not a number above zero.

    References:
      Rybkin et al. 2021, Simple and Effective VAE Training with Calibrated Decoders.
    """
    check_positive("min_sigma", min_sigma)

    def log_likelihood(mean: Array, x: Array) -> Array:
        residual = x - mean
        # The bound is inside the root and the logarithm, whose gradients at 0 are infinite.
        variance = jnp.maximum(jnp.mean(jnp.square(residual)), min_sigma**2)
        scaled = residual / jnp.sqrt(variance)
        return _sum_pixels(-0.5 * jnp.square(scaled) - 0.5 * (jnp.log(variance) + _LOG_2PI))

    return Likelihood(_no_parameters, _unchanged, log_likelihood, _itself, of_a_batch=True)


def laplace(*, scale: float = 0.1) -> Likelihood:
    """p(x|z) = Laplace(mean, b) with a fixed scale b, per pixel; the mean is the median too.

    Args:
      scale: b, the mean absolute deviation, in units of x.

    Returns:
      The likelihood; `natural` is the mean `[B, ...]`.

    Raises:
      InputError: If `scale` is not a number above zero.
    """
    check_positive("scale", scale)
    log_normaliser = math.log(2.0 * scale)

    def log_likelihood(mean: Array, x: Array) -> Array:
        return _sum_pixels(-jnp.abs(x - mean) / scale - log_normaliser)

    return Likelihood(_no_parameters, _unchanged, log_likelihood, _itself)


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    "bernoulli": bernoulli,
    "continuous_bernoulli": continuous_bernoulli,
    "gaussian": gaussian,
    "gaussian_learned": gaussian_learned,
    "gaussian_optimal": gaussian_optimal,
    "laplace": laplace,
}
