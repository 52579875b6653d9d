"""The mutual information gap of Chen et al. (2018)."""

import numpy as np

from betavae_jax.metrics.information import (
    discretise,
    factor_entropies,
    information_of_bins,
    label_factors,
    pointwise_information,
)
from betavae_jax.metrics.results import Result, influence_interval, library_versions
from betavae_jax.metrics.rows import check_codes, check_enough, check_labels, max_values


def mig(codes: np.ndarray, factors: np.ndarray, *, bins: int = 20) -> Result:
    """Scores how far the best latent of each factor is ahead of the second.

    Args:
      codes: Posterior means `[N, D]`, D ≥ 2; 10,000 rows in published studies.
      factors: Class labels `[N, K]`.
      bins: Equal bins per code; factors are not binned.

    Returns:
      The mean over factors of (I₁ − I₂) / H(factor), in [0, 1]; constant codes score 0.

    Raises:
      InputError: If there are fewer rows than cells of the largest table, or an array cannot
        be scored.

    References:
      Chen et al. (2018), "Isolating sources of disentanglement in VAEs", equation 6.
    """
    codes = check_codes(codes, latents=2)
    factors = check_labels(factors, len(codes))
    values = max_values(factors)
    check_enough("rows", len(codes), bins * values, f"a table has {bins} × {values} cells")
    binned, labels = discretise(codes, bins), label_factors(factors)
    information = information_of_bins(binned, labels, bins)
    entropy = factor_entropies(factors)
    order = np.argsort(-information, axis=0, kind="stable")[:2]  # [2, K]
    best, second = np.take_along_axis(information, order, axis=0)
    gaps = (best - second) / entropy
    value = float(gaps.mean())
    influence = _influence(binned, labels, order, gaps, entropy, bins)
    return Result(
        metric="mig",
        value=value,
        scores={"mig": value},
        per_factor={"mig": gaps, "entropy": entropy, "best_latent": order[0]},
        per_latent={},
        matrices={"mutual_information": information},
        interval=influence_interval(value, influence),
        convention=f"Chen 2018 as in Locatello 2019: {bins} equal bins a code, factors not "
        "binned, nats",
        sizes={"rows": len(codes), "latents": codes.shape[1], "factors": factors.shape[1]},
        seed=None,
        versions=library_versions("scipy"),
    )


def _influence(
    binned: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    gaps: np.ndarray,
    entropy: np.ndarray,
    bins: int,
) -> np.ndarray:
    """The influence `[N]` of each row on the score."""
    influence = np.zeros(len(binned))
    for k, column in enumerate(labels.T):
        pointwise = pointwise_information(binned[:, order[:, k]], column, bins)
        surprise = -np.log(np.bincount(column) / len(column))[column]
        ahead = pointwise[:, 0] - pointwise[:, 1]
        influence += (ahead - ahead.mean() - gaps[k] * (surprise - entropy[k])) / entropy[k]
    return influence / labels.shape[1]
