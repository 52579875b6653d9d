"""What every metric returns: the number, its parts, and all that is needed to read them."""

import functools
import importlib.metadata
import math
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.checks import jsonable

_Z = 1.959963984540054  # the normal distribution's 97.5th percentile


class Interval(NamedTuple):
    """A 95 % interval of the headline value; training again is not part of it."""

    low: float
    high: float
    method: str


class Result(NamedTuple):
    """A metric of one representation."""

    metric: str
    value: float  # the headline, one of `scores`
    scores: dict[str, float]  # every scalar, by its published name
    per_factor: dict[str, np.ndarray]  # [K]
    per_latent: dict[str, np.ndarray]  # [D]
    matrices: dict[str, np.ndarray]  # [D, K] unless its name says otherwise
    interval: Interval | None
    convention: str  # whose definition, with the settings that change the number
    sizes: dict[str, int]  # rows and points used, latents, factors
    seed: int | None  # None where nothing is drawn
    versions: dict[str, str]  # of the libraries that computed it

    def to_json(self) -> dict[str, Any]:
        """The result in numbers, strings, lists and dictionaries; non-finite numbers are None."""
        return dict(jsonable(self))


@functools.cache
def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


def library_versions(*distributions: str) -> dict[str, str]:
    """The installed versions of NumPy and of further `distributions`."""
    return {name: _version(name) for name in ("numpy", *distributions)}


def binomial_interval(accuracy: float, trials: int) -> Interval:
    """Wilson's interval of an accuracy over independent test points.

    Args:
      accuracy: Successes over `trials`, in [0, 1].
      trials: Number of test points, above 0.

    Returns:
      The 95 % interval, given the classifier: how it was fitted is held fixed.

    References:
      Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    from scipy.stats import binomtest  # a second to import

    found = binomtest(round(accuracy * trials), trials).proportion_ci(method="wilson")
    return Interval(float(found.low), float(found.high), "95 %, Wilson over test points")


def influence_interval(value: float, influence: np.ndarray, what: str = "rows") -> Interval:
    """The interval of a bootstrap over rows in its limit, from each row's influence.

    The infinitesimal jackknife is what the variance of a bootstrap over rows tends to with
    many resamples; it needs one pass and no random numbers.

    Args:
      value: A statistic in [0, 1] of N rows.
      influence: `[N]`, the derivative of the statistic by each row's weight, mean 0.
      what: What a row is.

    Returns:
      value ± 1.96 standard errors, cut to [0, 1].

    References:
      Efron (1982), "The jackknife, the bootstrap and other resampling plans", section 6.6.
    """
    half = _Z * math.sqrt(float(np.mean(np.square(influence))) / len(influence))
    method = f"95 %, normal, infinitesimal jackknife over {what}"
    return Interval(max(value - half, 0.0), min(value + half, 1.0), method)
