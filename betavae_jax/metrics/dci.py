"""Disentanglement, completeness, informativeness of Eastwood & Williams (2018)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import entr

from betavae_jax.checks import InputError, check_name
from betavae_jax.metrics.classifiers import TREES, Trees, check_installed
from betavae_jax.metrics.results import Result, library_versions
from betavae_jax.metrics.rows import check_num_factors, check_train_and_test, sizes_of

_SMALL = 1e-11  # the convention's addend: an unused latent or factor has importance spread evenly
_ROUNDING = 1e-12


class DciScores(NamedTuple):
    """What an importance matrix says."""

    disentanglement: float
    completeness: float
    disentanglement_per_latent: np.ndarray  # [D]
    completeness_per_factor: np.ndarray  # [K]


def dci_from_importance(importance: np.ndarray) -> DciScores:
    """Disentanglement and completeness of an importance matrix.

    Args:
      importance: P `[D, K]`, not negative, D ≥ 2 and K ≥ 2.

    Returns:
      Σ row share · (1 − H_K(row)) and Σ column share · (1 − H_D(column)), both in [0, 1]; no
      importance at all gives 0.

    Raises:
      InputError: If the matrix is too small, negative or not finite.

    References:
      Eastwood & Williams (2018), section 2.
    """
    p = np.asarray(importance, np.float64)
    if p.ndim != 2 or min(p.shape) < 2:
        raise InputError(
            f"expected an importance matrix of 2 latents and 2 factors or more; got {p.shape}"
        )
    if not np.isfinite(p).all() or p.min() < 0:
        raise InputError("expected importances to be finite and not negative; got others")
    per_latent, per_factor = _concentration(p), _concentration(p.T)
    total = p.sum()
    row_share = p.sum(axis=1) / total if total > 0 else np.full(len(p), 1 / len(p))
    column_share = p.sum(axis=0) / total if total > 0 else np.full(p.shape[1], 1 / p.shape[1])
    return DciScores(
        float(row_share @ per_latent), float(column_share @ per_factor), per_latent, per_factor
    )


def _concentration(p: np.ndarray) -> np.ndarray:
    """1 − the normalised entropy of each row of `p [A, B]`."""
    share = p + _SMALL
    share /= share.sum(axis=1, keepdims=True)
    concentration = 1.0 - entr(share).sum(axis=1) / np.log(p.shape[1])
    return np.where(concentration < _ROUNDING, 0.0, concentration)


def dci(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    *,
    trees: str = "gbt",
    jobs: int = -1,
    seed: int = 0,
) -> Result:
    """Scores a representation by which latents boosted trees use to predict each factor.

    Args:
      codes_train: Posterior means `[N, D]`, D ≥ 2; 10,000 rows in published studies.
      factors_train: Class labels `[N, K]`, K ≥ 2.
      codes_test: `[M, D]`; 5,000 rows in published studies.
      factors_test: `[M, K]`.
      trees: "gbt", the convention, scikit-learn's GradientBoostingClassifier: minutes; or
        "lightgbm", seconds, close to it but another number (`docs/metrics.md` has both).
      jobs: Processors to use; −1 is all. It does not change the result.
      seed: Of the trees.

    Returns:
      The disentanglement in [0, 1]. `scores` also has completeness and informativeness, which
      is the test accuracy, mean over factors. Constant codes have 0, 0 and a guess's accuracy.

    Raises:
      InputError: If `trees` is unknown, or the rows are too few or cannot be scored.

    References:
      Eastwood & Williams (2018), "A framework for the quantitative evaluation of disentangled
      representations", section 2; boosted trees as in Locatello et al. (2019).
    """
    check_name("trees", trees, TREES)
    arrays = check_train_and_test(codes_train, factors_train, codes_test, factors_test, latents=2)
    check_num_factors(arrays[1].shape[1])
    kind = TREES[trees]
    check_installed(kind.module, "joblib")
    importance, train_accuracy, test_accuracy = _fit_factors(kind, arrays, jobs, seed)
    scores = dci_from_importance(importance)
    return Result(
        metric="dci",
        value=scores.disentanglement,
        scores={
            "disentanglement": scores.disentanglement,
            "completeness": scores.completeness,
            "informativeness": float(test_accuracy.mean()),
            "informativeness_train": float(train_accuracy.mean()),
        },
        per_factor={"completeness": scores.completeness_per_factor,
                    "informativeness": test_accuracy, "informativeness_train": train_accuracy},
        per_latent={"disentanglement": scores.disentanglement_per_latent},
        matrices={"importance": importance},
        interval=None,
        convention=f"Eastwood & Williams 2018 as in Locatello 2019: {kind.convention}",
        sizes=sizes_of(arrays),
        seed=seed,
        versions=library_versions("scipy", kind.distribution),
    )  # fmt: skip


def _fit_factors(
    kind: Trees, arrays: tuple[np.ndarray, ...], jobs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits one classifier a factor: importance `[D, K]`, training and test accuracy `[K]`."""
    from joblib import Parallel, cpu_count, delayed

    x, factors, x_test, factors_test = arrays
    processes = min(cpu_count() if jobs < 1 else jobs, factors.shape[1])
    # The factor with most values takes longest, and starts first.
    order = np.argsort([-len(np.unique(column)) for column in factors.T], kind="stable")
    fitted = Parallel(n_jobs=processes)(
        delayed(_fit_factor)(kind.make, x, factors[:, k], x_test, factors_test[:, k], seed)
        for k in order
    )
    importance = np.empty((x.shape[1], factors.shape[1]))
    train_accuracy, test_accuracy = np.empty(len(order)), np.empty(len(order))
    for k, (column, train, test) in zip(order, fitted, strict=True):
        importance[:, k], train_accuracy[k], test_accuracy[k] = column, train, test
    return importance, train_accuracy, test_accuracy


def _fit_factor(
    make: Callable[[int], Any],
    x: np.ndarray,
    y: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, float, float]:
    """Importance `[D]` that sums to one (to zero where nothing helps), and both accuracies."""
    if not np.any(np.ptp(x, axis=0) > 0):  # no tree can split: the commonest label is the guess
        values, counts = np.unique(y, return_counts=True)
        guess = values[counts.argmax()]
        return np.zeros(x.shape[1]), float(np.mean(y == guess)), float(np.mean(y_test == guess))
    model = make(seed).fit(x, y)
    importance = np.abs(model.feature_importances_.astype(np.float64))
    total = importance.sum()
    accuracies = [float(np.mean(model.predict(a) == b)) for a, b in ((x, y), (x_test, y_test))]
    return importance / total if total > 0 else importance, *accuracies
