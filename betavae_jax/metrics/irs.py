"""The interventional robustness score of Suter et al. (2019)."""

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.metrics.information import discretise
from betavae_jax.metrics.results import Result, library_versions
from betavae_jax.metrics.rows import check_codes, check_every_value, check_labels

_ROWS_PER_VALUE = 20  # below this the 99th percentile is the maximum, and the score rises


def irs(
    codes: np.ndarray, factors: np.ndarray, *, bins: int = 20, quantile: float = 0.99
) -> Result:
    """Scores how little each latent moves while one factor is held and all others vary.

    The rows are grouped by the value of a factor, so no simulator is needed: drawn from a
    simulator with independent factors the groups are interventions, otherwise they condition.

    Args:
      codes: Posterior means `[N, D]`; 10,000 rows in published studies.
      factors: Class labels `[N, K]`, cut into equal bins, which join the values of a factor
        with more than `bins`.
      bins: Equal bins per factor.
      quantile: Which deviation counts as the largest of a group; 1 in the paper.

    Returns:
      The mean over latents of their best factor's score, weighted by the largest deviation, in
      [0, 1]. A constant latent has no weight; constant codes score 0.

    Raises:
      InputError: If a factor value has fewer than 20 rows, or an array cannot be scored.

    References:
      Suter et al. (2019), "Robustly disentangled causal mechanisms"; the quantile is Locatello
      et al.'s (2019).
    """
    codes = check_codes(codes)
    factors = check_labels(factors, len(codes))
    if not 0 < quantile <= 1:
        raise InputError(f"expected the quantile in (0, 1]; got {quantile}")
    groups = discretise(factors, bins)
    check_every_value(groups, _ROWS_PER_VALUE, f"the {quantile} quantile is read from them")
    x = codes.astype(np.float64)
    active = np.ptp(codes, axis=0) > 0
    largest = np.where(active, np.abs(x - x.mean(axis=0)).max(axis=0), 0.0)
    deviations = np.stack([_mean_deviation(x, group, quantile) for group in groups.T], axis=1)
    share = np.divide(deviations, largest[:, None], out=np.ones_like(deviations),
                      where=active[:, None])  # fmt: skip
    matrix = 1.0 - share  # [D, K]
    per_latent = np.where(active, matrix.max(axis=1), 0.0)
    value = float(np.average(per_latent, weights=largest)) if active.any() else 0.0
    return Result(
        metric="irs",
        value=value,
        scores={"irs": value, "num_active": int(active.sum())},
        per_factor={},
        per_latent={"irs": per_latent, "factor": matrix.argmax(axis=1), "max_deviation": largest},
        matrices={"irs": matrix},
        interval=None,
        convention=f"Suter 2019 as in Locatello 2019: factors in {bins} equal bins, "
        f"{quantile} quantile of the deviation",
        sizes={"rows": len(codes), "latents": codes.shape[1], "factors": factors.shape[1]},
        seed=None,
        versions=library_versions(),
    )


def _mean_deviation(codes: np.ndarray, group: np.ndarray, quantile: float) -> np.ndarray:
    """The deviation `[D]` from a group's mean that `quantile` of it stay below, mean over groups.

    Args:
      codes: `[N, D]`, float64.
      group: `[N]`, what group a row belongs to.
      quantile: In (0, 1].
    """
    deviations = []
    for value in np.unique(group):
        rows = codes[group == value]
        deviations.append(np.quantile(np.abs(rows - rows.mean(axis=0)), quantile, axis=0))
    return np.mean(deviations, axis=0)
