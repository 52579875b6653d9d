"""Dependence between latents, without factors: three scores of Locatello et al. (2019)."""

import numpy as np

from betavae_jax.metrics.information import discretise, information_of_bins
from betavae_jax.metrics.results import Result, library_versions
from betavae_jax.metrics.rows import check_codes, check_enough


def unsupervised(codes: np.ndarray, *, bins: int = 20) -> Result:
    """Scores how far the latents are from independence; 0 is independent.

    Args:
      codes: Posterior means `[N, D]`, D ≥ 2; 10,000 rows in published studies.
      bins: Equal bins per code, for the mutual information.

    Returns:
      The total correlation of a Gaussian with the codes' covariance, in nats, from 0. `scores`
      also has the Gaussian Wasserstein correlation, in squared units of the codes and over the
      total variance, and the mean mutual information of two latents. A constant latent depends
      on nothing; of constant codes all are 0.

    Raises:
      InputError: If there are fewer rows than cells of a table, or the codes cannot be scored.

    References:
      Locatello et al. (2019), "Challenging common assumptions in the unsupervised learning of
      disentangled representations", on the correlation of mean representations; Watanabe (1960)
      for the total correlation.
    """
    codes = check_codes(codes, latents=2)
    check_enough("rows", len(codes), bins * bins, f"a table has {bins} × {bins} cells")
    active = np.ptp(codes, axis=0) > 0
    covariance = np.atleast_2d(np.cov(codes[:, active], rowvar=False))
    wasserstein = gaussian_wasserstein_correlation(covariance)
    binned = discretise(codes, bins)
    information = information_of_bins(binned, binned - 1, bins)
    off_diagonal = ~np.eye(codes.shape[1], dtype=bool)
    scores = {
        "gaussian_total_correlation": gaussian_total_correlation(covariance),
        "gaussian_wasserstein_correlation": wasserstein,
        "gaussian_wasserstein_correlation_norm": (
            wasserstein / float(np.trace(covariance)) if active.any() else 0.0
        ),
        "mutual_information": float(information[off_diagonal].mean()),
        "num_active": int(active.sum()),
    }
    return Result(
        metric="unsupervised",
        value=scores["gaussian_total_correlation"],
        scores=scores,
        per_factor={},
        per_latent={},
        matrices={"mutual_information_of_latents": information},
        interval=None,
        convention=f"Locatello 2019: covariance of the codes without constant latents, {bins} "
        "equal bins a code, nats; lower is better",
        sizes={"rows": len(codes), "latents": codes.shape[1]},
        seed=None,
        versions=library_versions("scipy"),
    )


def gaussian_total_correlation(covariance: np.ndarray) -> float:
    """½ (Σ log diag C − log det C), in nats.

    It is −½ Σ log λ over the eigenvalues of the correlation matrix. They are cut off at machine
    precision, so that a copy of a latent costs about 17 nats instead of infinitely many.

    Args:
      covariance: C `[D, D]`, positive diagonal; D may be 0.
    """
    scale = np.sqrt(np.diag(covariance))
    eigenvalues = np.linalg.eigvalsh(covariance / np.outer(scale, scale))
    smallest = len(covariance) * np.finfo(np.float64).eps
    # Independent latents may round to just below zero.
    return max(0.0, float(-0.5 * np.log(np.maximum(eigenvalues, smallest)).sum()))


def gaussian_wasserstein_correlation(covariance: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of N(0, C) from N(0, diag C): 2 tr C − 2 tr (diag C · C)^½.

    Args:
      covariance: C `[D, D]`; D may be 0.
    """
    scale = np.sqrt(np.diag(covariance))
    eigenvalues = np.linalg.eigvalsh(covariance * np.outer(scale, scale))
    root = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    return max(0.0, float(2.0 * np.trace(covariance) - 2.0 * root))
