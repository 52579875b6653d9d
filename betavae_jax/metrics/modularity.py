"""Modularity and explicitness of Ridgeway & Mozer (2018)."""

import numpy as np

from betavae_jax.metrics.classifiers import check_installed, fit_logistic, standardise
from betavae_jax.metrics.information import (
    discretise,
    information_of_bins,
    label_factors,
    pointwise_information,
)
from betavae_jax.metrics.results import Result, influence_interval, library_versions
from betavae_jax.metrics.rows import (
    check_enough,
    check_num_factors,
    check_train_and_test,
    max_values,
    sizes_of,
)


def modularity(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    *,
    bins: int = 20,
    explicitness: bool = True,
) -> Result:
    """Scores whether each latent informs about one factor, and how linearly factors are read.

    Args:
      codes_train: Posterior means `[N, D]`.
      factors_train: Class labels `[N, K]`, K ≥ 2.
      codes_test: `[M, D]`; only explicitness reads the test rows.
      factors_test: `[M, K]`.
      bins: Equal bins per code; factors are not binned.
      explicitness: Whether to fit the classifiers of explicitness, the slow part.

    Returns:
      The modularity in [0, 1]; a latent without information counts as 0. `scores` also has the
      explicitness, in [0.5, 1] apart from noise; constant codes have 0.5.

    Raises:
      InputError: If K is 1, or the rows are too few or cannot be scored.

    References:
      Ridgeway & Mozer (2018), "Learning deep disentangled embeddings with the F-statistic
      loss", on modularity and explicitness, as implemented by Locatello et al. (2019): the area
      under the curve is not rescaled.
    """
    arrays = check_train_and_test(codes_train, factors_train, codes_test, factors_test)
    codes_train, factors_train, *_ = arrays
    check_num_factors(factors_train.shape[1])
    values = max_values(factors_train)
    check_enough("rows", len(codes_train), bins * values, f"a table has {bins} × {values} cells")
    binned, labels = discretise(codes_train, bins), label_factors(factors_train)
    information = information_of_bins(binned, labels, bins)
    per_latent = modularity_per_latent(information)
    value = float(per_latent.mean())
    scores, per_factor = {"modularity": value}, {}
    if explicitness:
        check_installed("sklearn")
        areas = _explicitness(*arrays)  # [K, 2]
        per_factor = {"explicitness_train": areas[:, 0], "explicitness": areas[:, 1]}
        scores |= {name: float(area.mean()) for name, area in per_factor.items()}
    return Result(
        metric="modularity",
        value=value,
        scores=scores,
        per_factor=per_factor,
        per_latent={"modularity": per_latent},
        matrices={"mutual_information": information},
        interval=influence_interval(value, _influence(binned, labels, information, bins)),
        convention=f"Ridgeway & Mozer 2018 as in Locatello 2019: {bins} equal bins a code, "
        "factors not binned; logistic regression (C 1, lbfgs, 100 iterations) on z-scored "
        "codes, one-vs-rest ROC-AUC, not rescaled",
        sizes=sizes_of(arrays),
        seed=None,
        versions=library_versions("scipy", *(["scikit-learn"] if explicitness else [])),
    )  # fmt: skip


def modularity_per_latent(information: np.ndarray) -> np.ndarray:
    """1 − (Σ I² − max I²) / (max I² (K − 1)) of each latent; 0 where it has no information.

    Args:
      information: Mutual information `[..., D, K]`, K ≥ 2.

    Returns:
      `[..., D]`, in [0, 1].
    """
    squared = np.square(information)
    best = squared.max(axis=-1)
    spread = (squared.sum(axis=-1) - best) / (information.shape[-1] - 1)
    return 1.0 - np.divide(spread, best, out=np.ones_like(best), where=best > 0)


def _influence(
    binned: np.ndarray, labels: np.ndarray, information: np.ndarray, bins: int
) -> np.ndarray:
    """The influence `[N]` of each training row on the modularity."""
    best = information.max(axis=1, keepdims=True)  # [D, 1]
    informed = best > 0
    safe = np.where(informed, best, 1.0)
    others = np.square(information).sum(axis=1, keepdims=True) - best**2
    slope = np.where(
        np.arange(information.shape[1]) == information.argmax(axis=1)[:, None],
        2.0 * others / safe**3,
        -2.0 * information / safe**2,
    )
    slope = np.where(informed, slope / (information.shape[1] - 1), 0.0)  # [D, K]
    influence = np.zeros(len(binned))
    for k, column in enumerate(labels.T):
        influence += (pointwise_information(binned, column, bins) - information[:, k]) @ slope[:, k]
    return influence / information.shape[0]


def _explicitness(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
) -> np.ndarray:
    """The area under the ROC curve on training and test rows, `[K, 2]`, mean over values."""
    x_train, x_test = standardise(codes_train, codes_test)
    areas = []
    for y_train, y_test in zip(factors_train.T, factors_test.T, strict=True):
        classifier = fit_logistic(x_train, y_train)
        rows = ((x_train, y_train), (x_test, y_test))
        areas.append(
            [mean_area(classifier.predict_proba(x), y, classifier.classes_) for x, y in rows]
        )
    return np.asarray(areas)


def mean_area(probabilities: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> float:
    """The one-vs-rest area under the ROC curve, mean over classes.

    It is the chance that a row of the class has the higher probability of two, from the sum of
    ranks (Mann-Whitney); scikit-learn's `roc_auc_score` a class takes ten times as long.

    Args:
      probabilities: `[M, S]`.
      labels: `[M]`.
      classes: `[S]`, the label of each column.

    Returns:
      The mean over the classes that have rows in `labels` beside others; 0.5 without any.
    """
    from scipy.stats import rankdata  # a second to import

    ranks = rankdata(probabilities, axis=0)
    member = labels[:, None] == classes
    inside = member.sum(axis=0)
    pairs = inside * (len(labels) - inside)
    wins = (ranks * member).sum(axis=0) - inside * (inside + 1) / 2
    return float((wins[pairs > 0] / pairs[pairs > 0]).mean()) if np.any(pairs) else 0.5
