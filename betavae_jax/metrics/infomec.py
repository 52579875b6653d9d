"""InfoM, InfoE, InfoC: modularity, explicitness, compactness of Hsu et al. (2023)."""

from collections.abc import Callable

import numpy as np
from scipy.special import digamma

from betavae_jax.checks import check_at_least, check_name
from betavae_jax.metrics.classifiers import check_installed, fit_logistic, standardise
from betavae_jax.metrics.information import factor_entropies
from betavae_jax.metrics.results import Result, library_versions
from betavae_jax.metrics.rows import (
    check_codes,
    check_enough,
    check_every_value,
    check_labels,
    check_num_factors,
    max_values,
)

_JITTER = 1e-10  # of the codes' standard deviation: breaks ties between codes that take few values
_ROWS_PER_VALUE = 10


def infomec(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    neighbours: int = 10,
    active: str = "range",
    explicitness: bool = True,
    seed: int = 0,
) -> Result:
    """Scores modularity, explicitness and compactness by information.

    Args:
      codes: Posterior means `[N, D]`; 10,000 rows in published studies.
      factors: Class labels `[N, K]`, K ≥ 2.
      neighbours: Of the k-nearest-neighbour estimate of mutual information.
      active: Which latents count: "range", those whose range is above a 20th of the largest
        (Hsu et al. 2023), or "iqr", the same of the interquartile range and a 10th (2024).
      explicitness: Whether to fit the classifiers of InfoE, the slow part.
      seed: Of the jitter of 1e-10 that breaks ties.

    Returns:
      InfoM in [0, 1]; `scores` also has InfoC and InfoE. Without an active latent all are 0,
      and with one active latent InfoC is 1. A latent or factor without any information counts
      as spread evenly.

    Raises:
      InputError: If K is 1, a value of a factor has no more than `neighbours` rows, or an array
        cannot be scored.

    References:
      Hsu et al. (2023), "Disentanglement via latent quantization", on InfoMEC; Ross (2014),
      "Mutual information between discrete and continuous data sets", for the estimate.
    """
    check_name("active", active, _ACTIVE)
    check_at_least("neighbours", neighbours, 1, integer=True)
    codes = check_codes(codes)
    factors = check_labels(factors, len(codes))
    check_num_factors(factors.shape[1])
    if explicitness:
        check_installed("sklearn")
    values = max_values(factors)
    check_enough("rows", len(codes), _ROWS_PER_VALUE * values, f"a factor takes {values} values")
    check_every_value(factors, neighbours + 1, f"each row has {neighbours} neighbours")
    nmi = nearest_neighbour_information(codes, factors, neighbours, seed)
    nmi /= factor_entropies(factors)  # [D, K]
    chosen = _ACTIVE[active](codes)
    scores = {
        "infom": mean_concentration(nmi[chosen]),
        "infoc": mean_concentration(nmi[chosen].T),
        "num_active": int(chosen.sum()),
    }
    per_factor = {}
    if explicitness:
        per_factor["infoe"] = (
            _explicitness(codes, factors) if chosen.any() else np.zeros(factors.shape[1])
        )
        scores["infoe"] = float(per_factor["infoe"].mean())
    return Result(
        metric="infomec",
        value=scores["infom"],
        scores=scores,
        per_factor=per_factor,
        per_latent={"active": chosen},
        matrices={"nmi": nmi},
        interval=None,
        convention=f"Hsu 2023: {neighbours} neighbours, latents active by {active}; InfoE on the "
        "same rows, logistic regression without penalty, balanced (lbfgs, 100 iterations)",
        sizes={"rows": len(codes), "latents": codes.shape[1], "factors": factors.shape[1]},
        seed=seed,
        versions=library_versions("scipy", *(["scikit-learn"] if explicitness else [])),
    )


def _active_by_range(codes: np.ndarray) -> np.ndarray:
    extent = np.ptp(codes, axis=0)
    return extent > extent.max() / 20


def _active_by_iqr(codes: np.ndarray) -> np.ndarray:
    low, high = np.quantile(codes, [0.25, 0.75], axis=0)
    return (high - low) > (high - low).max() / 10


_ACTIVE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "range": _active_by_range,
    "iqr": _active_by_iqr,
}


def mean_concentration(nmi: np.ndarray) -> float:
    """(mean of max / sum − 1/B) / (1 − 1/B) over the rows of `nmi [A, B]`.

    Args:
      nmi: Normalised information, not negative. A row of zeros counts as spread evenly.

    Returns:
      A number in [0, 1]: 0 without rows or columns, 1 with one column.
    """
    rows, columns = nmi.shape
    if rows == 0 or columns == 0:
        return 0.0
    if columns == 1:
        return 1.0
    total = nmi.sum(axis=1)
    share = np.divide(nmi.max(axis=1), total, out=np.full(rows, 1.0 / columns), where=total > 0)
    return float((share.mean() - 1 / columns) / (1 - 1 / columns))


def nearest_neighbour_information(
    codes: np.ndarray, factors: np.ndarray, neighbours: int = 10, seed: int = 0
) -> np.ndarray:
    """Mutual information of each code with each factor, from distances between codes.

    A row's k-th nearest neighbour among the rows of its label spans an interval; the fewer rows
    of other labels fall into it, the more a code tells.

    Args:
      codes: `[N, D]`.
      factors: Class labels `[N, K]`, more than `neighbours` rows a value.
      neighbours: k.
      seed: Of the jitter.

    Returns:
      `[D, K]`, in nats, not negative. A constant code has 0.

    References:
      Ross (2014), equation 2.
    """
    x = codes.astype(np.float64)
    varies = np.ptp(codes, axis=0) > 0
    x = (x - x.mean(axis=0)) / np.where(varies, x.std(axis=0), 1.0)
    x += _JITTER * np.random.default_rng(seed).standard_normal(x.shape)
    ordered = np.sort(x, axis=0)
    information = np.zeros((x.shape[1], factors.shape[1]))
    for k, labels in enumerate(factors.T):
        reach = _distance_within_label(x, labels, neighbours)
        inside = np.stack(
            [_count_closer(ordered[:, d], x[:, d], reach[:, d]) for d in range(x.shape[1])]
        )
        counts = np.unique(labels, return_counts=True)[1]
        same_label = counts @ digamma(counts) / len(labels)
        information[:, k] = digamma(len(labels)) + digamma(neighbours) - same_label
        information[:, k] -= digamma(inside).mean(axis=1)
    return np.where(varies[:, None], np.maximum(information, 0.0), 0.0)


def _distance_within_label(x: np.ndarray, labels: np.ndarray, neighbours: int) -> np.ndarray:
    """The distance `[N, D]` to the k-th nearest code of the same label, code by code.

    Sorted, a row and its k nearest neighbours are k + 1 codes in a row; the distance is the
    least, over the k + 1 such windows that hold the row, of the farther end.
    """
    distance = np.empty_like(x)
    for value in np.unique(labels):
        rows = np.flatnonzero(labels == value)
        order = np.argsort(x[rows], axis=0)
        line = np.take_along_axis(x[rows], order, axis=0)
        n = len(line)
        beyond = np.full((neighbours, x.shape[1]), np.inf)
        padded = np.concatenate([-beyond, line, beyond])
        nearest = np.full_like(line, np.inf)
        for j in range(neighbours + 1):
            left, right = padded[j : j + n], padded[j + neighbours : j + neighbours + n]
            np.minimum(nearest, np.maximum(line - left, right - line), out=nearest)
        np.put_along_axis(distance, rows[order], nearest, axis=0)
    return distance


def _count_closer(ordered: np.ndarray, x: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """How many of the sorted codes lie strictly closer to each `x [N]` than `reach [N]`."""
    low = np.searchsorted(ordered, x - reach, side="right")
    high = np.searchsorted(ordered, x + reach, side="left")
    # x ± reach is rounded; the distance itself decides whether the code at the edge is closer.
    last = len(ordered) - 1
    low += x - ordered[np.minimum(low, last)] >= reach
    low -= (low > 0) & (x - ordered[np.maximum(low - 1, 0)] < reach)
    high -= ordered[np.maximum(high - 1, 0)] - x >= reach
    high += (high <= last) & (ordered[np.minimum(high, last)] - x < reach)
    return high - low


def _explicitness(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The share `[K]` of each factor's balanced entropy that logistic regression explains."""
    from sklearn.metrics import log_loss

    (x,) = standardise(codes)
    explained = []
    for labels in factors.T:
        classifier = fit_logistic(x, labels, C=np.inf, class_weight="balanced")
        loss = log_loss(labels, classifier.predict_proba(x))
        # Without codes, balanced classes make every label equally likely.
        explained.append(1.0 - loss / np.log(len(classifier.classes_)))
    return np.asarray(explained)
