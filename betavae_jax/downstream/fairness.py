"""Do predictions of one factor change with another, sensitive one?"""

from collections.abc import Callable
from typing import Any

import numpy as np

from betavae_jax.checks import check_at_least
from betavae_jax.downstream.predictors import (
    Predict,
    check_predictor,
    describe_predictor,
    distribution_of,
    fit_predictor,
)
from betavae_jax.metrics.results import Result, library_versions
from betavae_jax.metrics.rows import check_num_factors, check_train_and_test, sizes_of
from betavae_jax.metrics.sources import EncodeFn

_SHUFFLES = 10


def fairness(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    *,
    encode_fn: EncodeFn | None = None,
    predictor: str = "lightgbm",
    points: int = 100,
    jobs: int = -1,
    seed: int = 0,
) -> Result:
    """Scores how far predictions of each factor depend on each other, sensitive factor.

    Args:
      codes_train: Posterior means `[N, D]`.
      factors_train: Class labels `[N, K]`, K ≥ 2.
      codes_test: `[M, D]`.
      factors_test: `[M, K]`.
      encode_fn: Codes `[n, D]` of the examples with factors `[n, K]`. With it the sensitive
        factor of the same examples is set to each of its values, as published; without, the
        test rows are grouped by it.
      predictor: "gbt", scikit-learn's boosted trees, the convention; "lightgbm"; or "logistic".
      points: Examples whose sensitive factor is set.
      jobs: Processors to use; −1 is all. It does not change the result.
      seed: Of the trees, and of the shuffles.

    Returns:
      The unfairness in [0, 1], lower is better: the total variation between the distribution of
      predictions under a value of the sensitive factor and under all, mean over rows,
      sensitive factors and predicted ones. `scores` also has maxima, and where rows are grouped
      the value that the same predictions have when the sensitive factor is shuffled, which is
      what few rows a value alone amount to.

    Raises:
      InputError: If K is 1, or the rows are too few or cannot be scored.

    References:
      Locatello et al. (2019), "On the fairness of disentangled representations", section 4.
    """
    check_predictor(predictor)
    check_at_least("points", points, 1, integer=True)
    arrays = check_train_and_test(codes_train, factors_train, codes_test, factors_test)
    check_num_factors(arrays[1].shape[1])
    predicts = _fit_targets(arrays, predictor, jobs, seed)
    mean, largest, shuffled = _measure(arrays, predicts, encode_fn, points, seed)
    scores = {**_combine(mean, "mean_fairness"), **_combine(largest, "max_fairness")}
    if encode_fn is None:
        scores["mean_fairness:shuffled"] = float(np.nanmean(shuffled))
    accuracy = [float(np.mean(p(arrays[2]) == y))
                for p, y in zip(predicts, arrays[3].T, strict=True)]  # fmt: skip
    how = f"set to each value in {points} test rows" if encode_fn else "grouping the test rows"
    return Result(
        metric="fairness",
        value=scores["mean_fairness:mean_pred:mean_sens"],
        scores=scores,
        per_factor={
            "test_accuracy": np.asarray(accuracy),
            "mean_fairness_as_target": np.nanmean(mean, axis=1),
            "mean_fairness_as_sensitive": np.nanmean(mean, axis=0),
        },
        per_latent={},
        matrices={"mean_by_target_and_sensitive": mean, "max_by_target_and_sensitive": largest},
        interval=None,
        convention=f"Locatello 2019: total variation, the sensitive factor {how}; lower is "
        f"better; {describe_predictor(predictor, arrays[0].shape[1])}",
        sizes=sizes_of(arrays),
        seed=seed,
        versions=library_versions(distribution_of(predictor)),
    )


def total_variation(predicted: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """How far the distribution of predictions in a group is from that over all rows.

    Args:
      predicted: Labels `[M]`.
      groups: The sensitive label of each row `[M]`.

    Returns:
      ½ Σ |p(ŷ | s) − p(ŷ)|: the mean over rows, and the maximum over groups.
    """
    _, y = np.unique(predicted, return_inverse=True)
    _, s = np.unique(groups, return_inverse=True)
    values = int(s.max()) + 1
    counts = np.bincount(y * values + s, minlength=(int(y.max()) + 1) * values)
    counts = counts.reshape(-1, values)  # [predictions, groups]
    sizes = counts.sum(axis=0)
    overall = counts.sum(axis=1, keepdims=True) / len(predicted)
    distance = np.abs(counts / sizes - overall).sum(axis=0) / 2
    return float(distance @ sizes / len(predicted)), float(distance.max())


def _fit_targets(
    arrays: tuple[np.ndarray, ...], predictor: str, jobs: int, seed: int
) -> list[Predict]:
    from joblib import Parallel, delayed

    fitted: list[Predict] = Parallel(n_jobs=jobs)(
        delayed(fit_predictor)(predictor, arrays[0], column, seed) for column in arrays[1].T
    )
    return fitted


def _measure(
    arrays: tuple[np.ndarray, ...],
    predicts: list[Predict],
    encode_fn: EncodeFn | None,
    points: int,
    seed: int,
) -> np.ndarray:
    """Total variation `[3, K, K]` of predictions of a factor under another, NaN on the diagonal.

    The mean over rows, the largest, and the mean where the groups of rows are shuffled.
    """
    num_factors = len(predicts)
    measured = np.full((3, num_factors, num_factors), np.nan)
    rng = np.random.default_rng(seed)
    for sensitive in range(num_factors):
        if encode_fn is None:
            x, groups = arrays[2], arrays[3][:, sensitive]
        else:
            x, groups = _intervene(arrays, sensitive, encode_fn, points)
        for target in np.delete(np.arange(num_factors), sensitive):
            predicted = predicts[target](x)
            measured[:2, target, sensitive] = total_variation(predicted, groups)
            if encode_fn is None:
                measured[2, target, sensitive] = np.mean(
                    [total_variation(predicted, rng.permutation(groups))[0]
                     for _ in range(_SHUFFLES)]
                )  # fmt: skip
    return measured


def _intervene(
    arrays: tuple[np.ndarray, ...], sensitive: int, encode_fn: EncodeFn, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the same examples under each value of a factor, and the value of each row."""
    chosen = arrays[3][:points]
    values = np.unique(arrays[1][:, sensitive])
    factors = np.tile(chosen, (len(values), 1))
    factors[:, sensitive] = np.repeat(values, len(chosen))
    return encode_fn(factors), factors[:, sensitive]


def _combine(matrix: np.ndarray, prefix: str) -> dict[str, float]:
    """Means and maxima over targets and sensitive factors, by their published names."""
    kinds: dict[str, Callable[..., Any]] = {"mean": np.nanmean, "max": np.nanmax}
    return {
        f"{prefix}:{over}_pred:{inner}_sens": float(kinds[over](kinds[inner](matrix, axis=1)))
        for over in kinds
        for inner in kinds
    }
