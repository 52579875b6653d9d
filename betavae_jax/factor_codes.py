"""Which code stands for which value of a factor of variation, in one run."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.checks import LARGEST_NUMBER, InputError, is_number, is_whole
from betavae_jax.codes import fetch_examples, fetch_factors, fixed_rows
from betavae_jax.examples import as_array, plain
from betavae_jax.runs.settings import Settings, load_splits

LEAST_R = 0.5  # |r| from which a latent is said to follow a factor
_ROWS_AT_ONCE = 1_000


class FactorCodes(NamedTuple):
    """The latent that follows a factor, and its mean code at each value of the factor."""

    latent: int
    size: int  # the factor's values are 0 to size - 1
    values: np.ndarray  # [V], those that were seen
    codes: np.ndarray  # [V]

    def at(self, value: Any) -> float:
        """The mean code at a value; between two values, the straight line between theirs.

        Raises:
          InputError: If it is not a number within the factor's values.
        """
        value = plain(value)
        if not is_number(value) or not 0 <= value <= self.size - 1:
            raise InputError(
                f"expected the factor's value from 0 to {self.size - 1}; got {value!r}"
            )
        return float(np.interp(value, self.values, self.codes))


def matched_latents(results: Mapping[str, Any] | None) -> dict[str, tuple[int, float]]:
    """For each factor, the latent matched with it and their abs Pearson r, as measured.

    Args:
      results: A run's row of `results.json`, or None.

    Returns:
      By the factor's name; empty where nothing was matched.
    """
    measured = ((results or {}).get("metrics") or {}).get("axis_alignment") or {}
    return {
        factor: (int(latent), float(measured["abs_pearson_r"][factor] or 0.0))
        for factor, latent in measured.get("latent", {}).items()
    }


def find_latent(name: Any, num_latents: int, matched: Mapping[str, tuple[int, float]]) -> int:
    """The number of a latent, or of the one that follows a factor.

    Args:
      name: A number, "z3", or a factor's name.
      num_latents: D.
      matched: As `matched_latents` gives it.

    Raises:
      InputError: If there is no such latent or factor, or no latent follows the factor.
    """
    if isinstance(name, str) and name in matched:
        latent, r = matched[name]
        if r < LEAST_R:
            raise InputError(
                f"expected a factor that a latent follows, with |r| of {LEAST_R} or more; got"
                f" {name}, to which z{latent} is the closest with {r:.2f}"
            )
        return latent
    number = latent_number(plain(name))
    if number is None or not 0 <= number < num_latents:
        known = f", or a factor ({', '.join(matched)})"
        factors = known if matched else " (which latents follow factors is not known)"
        raise InputError(
            f"expected a latent, 0 to {num_latents - 1} or z0 to z{num_latents - 1}{factors};"
            f" got {name!r}"
        )
    return number


def latent_number(name: Any) -> int | None:
    """The number in 3 or "z3"; None of anything else."""
    if isinstance(name, str) and name[:1] == "z" and name[1:].isdecimal():
        return int(name[1:])
    return name if is_whole(name) else None


def check_code(name: Any, value: Any) -> float:
    """Checks the value that a latent is set to; raises InputError unless float32 has it."""
    value = plain(value)
    if not is_number(value) or not abs(value) <= LARGEST_NUMBER:
        raise InputError(f"expected the value of {name!r} to be a finite number; got {value!r}")
    return float(value)


def check_ends(span: Any) -> tuple[float, float]:
    """The two ends of a traversal; raises InputError unless they are numbers that rise."""
    values = as_array("span", span)
    if values.dtype.kind in "iuf" and values.shape in ((), (2,)):
        values = values.astype(np.float64)  # a byte has no opposite
        low, high = (-values, values) if values.ndim == 0 else values
        if -LARGEST_NUMBER <= low < high <= LARGEST_NUMBER:
            return float(low), float(high)
    raise InputError(f"expected span to be two numbers that rise, or one above 0; got {span!r}")


def fit_factor_codes(
    settings: Settings,
    matched: Mapping[str, tuple[int, float]],
    encode: Callable[[np.ndarray], np.ndarray],
) -> dict[str, FactorCodes]:
    """Finds the mean code of each matched latent at each value of its factor.

    It is measured on the examples that the run was evaluated on; the data set is loaded.

    Args:
      settings: Of the run.
      matched: As `matched_latents` gives it.
      encode: Examples as the model sees them `[B, ...]` -> their mean codes `[B, D]`.

    Returns:
      By the factor's name.

    Raises:
      InputError: If the data cannot be loaded, or does not have these factors.
    """
    splits = load_splits(settings)
    data, rows = fixed_rows(splits.test or splits.train)
    names = data.space.names if data.space else ()
    if data.space is None or not set(matched) <= set(names):
        raise InputError(
            f"expected the data set to have the factors {', '.join(matched)}; it has"
            f" {', '.join(names) or 'none'}"
        )
    starts = range(0, len(rows), _ROWS_AT_ONCE)
    codes = np.concatenate(
        [encode(fetch_examples(data, rows[start : start + _ROWS_AT_ONCE])) for start in starts]
    )
    factors = fetch_factors(data, rows)
    found = {}
    for factor, (latent, _) in matched.items():
        column = names.index(factor)
        values, inverse, counts = np.unique(
            factors[:, column], return_inverse=True, return_counts=True
        )
        means = np.bincount(inverse, codes[:, latent].astype(np.float64)) / counts
        found[factor] = FactorCodes(latent, data.space.sizes[column], values, means)
    return found
