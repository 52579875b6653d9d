"""How well factors, or classes, are predicted from a representation and few labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from betavae_jax.checks import InputError, check_at_least, check_unique
from betavae_jax.downstream.predictors import (
    check_predictor,
    describe_predictor,
    distribution_of,
    fit_predictor,
)
from betavae_jax.metrics.classifiers import check_installed
from betavae_jax.metrics.results import Result, influence_interval, library_versions
from betavae_jax.metrics.rows import check_codes, check_enough, check_train_and_test, sizes_of

LABELS = (10, 100, 1_000, 10_000)
_HEADLINE = 100
_FEW, _MANY = 100, 10_000  # whose ratio is the sample efficiency


def downstream(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    *,
    labels: Sequence[int] = LABELS,
    predictors: Sequence[str] = ("logistic", "lightgbm"),
    jobs: int = -1,
    seed: int = 0,
) -> Result:
    """Scores a representation by the accuracy of classifiers fitted to few labelled codes.

    Args:
      codes_train: Posterior means `[N, D]`, or other features.
      factors_train: Class labels `[N, K]`.
      codes_test: `[M, D]`; 5,000 rows in published studies.
      factors_test: `[M, K]`.
      labels: Numbers of labelled rows, none above N; the fewer are among the more.
      predictors: "logistic"; "gbt", scikit-learn's boosted trees, the convention, which take
        minutes; or "lightgbm", seconds, and close to them.
      jobs: Processors to use; −1 is all. It does not change the result.
      seed: Of the choice of rows, of folds and trees.

    Returns:
      The test accuracy, mean over factors, of the first predictor from 100 labels (from the most
      labels, where 100 are not asked for). `scores` has every predictor and number, mean and
      worst factor, as `logistic:100:mean_test_accuracy`, and where both numbers are asked for,
      `logistic:sample_efficiency`, the mean accuracy from 100 labels over that from 10,000.

    Raises:
      InputError: If a predictor is unknown, or the rows are too few or cannot be scored.

    References:
      Locatello et al. (2019), "Challenging common assumptions in the unsupervised learning of
      disentangled representations", section 5.5. There C is chosen on all labels by 5 folds, here
      on no more than 1,000 of them by 10.
    """
    for name in predictors:
        check_predictor(name)
    check_unique("predictors", predictors)
    labels = _check_labels(labels)
    arrays = check_train_and_test(codes_train, factors_train, codes_test, factors_test)
    check_enough("training rows", len(arrays[0]), labels[-1], "so many labels are asked for")
    right = _fit_all(arrays, labels, predictors, jobs, seed)  # {(predictor, n): [M, K]}
    headline = right[predictors[0], _HEADLINE if _HEADLINE in labels else labels[-1]].mean(axis=1)
    value = float(headline.mean())
    return Result(
        metric="downstream",
        value=value,
        scores=_scores(right, predictors),
        per_factor={
            f"{name}:{n}:test_accuracy": rows.mean(axis=0) for (name, n), rows in right.items()
        },
        per_latent={},
        matrices={},
        interval=influence_interval(value, headline - value, "test rows"),
        convention="Locatello 2019: accuracy, mean over factors; "
        + "; ".join(describe_predictor(name, arrays[0].shape[1]) for name in predictors),
        sizes=sizes_of(arrays),
        seed=seed,
        versions=library_versions("scikit-learn", *map(distribution_of, predictors)),
    )


def _check_labels(labels: Sequence[int]) -> list[int]:
    for number in labels:
        check_at_least("a number of labels", number, 2, integer=True)
    check_unique("labels", labels)
    return sorted(labels)


def _fit_all(
    arrays: tuple[np.ndarray, ...],
    labels: Sequence[int],
    predictors: Sequence[str],
    jobs: int,
    seed: int,
) -> dict[tuple[str, int], np.ndarray]:
    """Which test rows each predictor gets right `[M, K]`, by predictor and number of labels."""
    from joblib import Parallel, delayed

    x, factors, x_test, factors_test = arrays
    order = np.random.default_rng(seed).permutation(len(x))
    num_factors = factors.shape[1]
    # What takes longest starts first.
    tasks = [(n, name, k) for n in reversed(labels) for name in predictors
             for k in range(num_factors)]  # fmt: skip
    fitted = Parallel(n_jobs=jobs)(
        delayed(_fit_one)(name, x[order[:n]], factors[order[:n], k], x_test, factors_test[:, k],
                          seed)
        for n, name, k in tasks
    )  # fmt: skip
    done = dict(zip(tasks, fitted, strict=True))
    return {
        (name, n): np.stack([done[n, name, k] for k in range(num_factors)], axis=1)
        for name in predictors
        for n in labels
    }


def _fit_one(
    name: str, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, seed: int
) -> np.ndarray:
    right: np.ndarray = fit_predictor(name, x, y, seed)(x_test) == y_test
    return right


def _scores(
    right: dict[tuple[str, int], np.ndarray], predictors: Sequence[str]
) -> dict[str, float]:
    scores: dict[str, float] = {}
    for (name, n), rows in right.items():
        accuracy = rows.mean(axis=0)
        scores[f"{name}:{n}:mean_test_accuracy"] = float(accuracy.mean())
        scores[f"{name}:{n}:min_test_accuracy"] = float(accuracy.min())
    for name in predictors:
        few, many = (scores.get(f"{name}:{n}:mean_test_accuracy") for n in (_FEW, _MANY))
        if few is not None and many:  # accuracy 0 has no ratio
            scores[f"{name}:sample_efficiency"] = few / many
    return scores


def principal_components(
    x_train: np.ndarray, x_test: np.ndarray, width: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The principal components of the training rows: the linear code of the same width.

    Args:
      x_train: `[N, F]`.
      x_test: `[M, F]`.
      width: D, the number of components; no more than F and N.
      seed: Of the randomised solver that scikit-learn takes for large matrices.

    Returns:
      Codes `[N, D]` and `[M, D]`.

    Raises:
      InputError: If the widths disagree, or there are fewer features or rows than components.
    """
    x_train, x_test = check_codes(x_train, "x_train"), check_codes(x_test, "x_test")
    if x_train.shape[1] != x_test.shape[1]:
        raise InputError(
            f"expected training and test rows of one width; got {x_train.shape[1]} and "
            f"{x_test.shape[1]}"
        )
    check_at_least("width", width, 1, integer=True)
    check_enough("rows and features", min(x_train.shape), width, "so many components are wished")
    check_installed("sklearn")
    from sklearn.decomposition import PCA

    pca: Any = PCA(width, random_state=seed).fit(x_train)
    return pca.transform(x_train), pca.transform(x_test)
