"""Axis alignment: does one latent follow one ordered factor?"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from betavae_jax.checks import InputError


class Alignment(NamedTuple):
    """For each factor, the latent that follows it; the latents are distinct."""

    value: float  # mean over factors
    correlation: np.ndarray  # [K], abs Pearson r
    latent: np.ndarray  # [K], int


def axis_alignment(codes: np.ndarray, factors: np.ndarray) -> Alignment:
    """Matches each factor with a latent of its own, by absolute correlation.

    Args:
      codes: Posterior means `[N, D]`.
      factors: Values of ordered factors `[N, K]`, K ≤ D.

    Returns:
      The matching with the largest sum of abs Pearson r. A constant latent or factor
      correlates with nothing.

    Raises:
      InputError: If the rows differ in number, there are fewer latents than factors, or a
        value is not finite.
    """
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise InputError(
            f"expected codes [N, D] and factors [N, K]; got {codes.shape} and {factors.shape}"
        )
    if codes.shape[1] < factors.shape[1]:
        raise InputError(
            f"expected at least as many latents as factors; got {codes.shape[1]} latents and "
            f"{factors.shape[1]} factors"
        )
    if not np.all(np.isfinite(codes)) or not np.all(np.isfinite(factors)):
        raise InputError("expected finite codes and factors; got NaN or infinity")
    r = np.abs(_standardise(factors).T @ _standardise(codes)) / len(codes)  # [K, D]
    rows, columns = linear_sum_assignment(r, maximize=True)
    return Alignment(float(np.mean(r[rows, columns])), r[rows, columns], columns)


def _standardise(values: np.ndarray) -> np.ndarray:
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    scale = centred.std(axis=0)
    return np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)
