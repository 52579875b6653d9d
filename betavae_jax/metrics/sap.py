"""The separated attribute predictability score of Kumar et al. (2018)."""

import warnings

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.metrics.classifiers import check_installed
from betavae_jax.metrics.results import Result, influence_interval, library_versions
from betavae_jax.metrics.rows import check_codes, check_train_and_test

_NO_VARIANCE = 1e-12  # the convention: a latent with less is correlated with nothing


def sap(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    *,
    continuous: bool = False,
    seed: int = 0,
) -> Result:
    """Scores how far the most predictive latent of each factor is ahead of the second.

    Args:
      codes_train: Posterior means `[N, D]`, D ≥ 2.
      factors_train: `[N, K]`: class labels, or ordered values where `continuous`.
      codes_test: `[M, D]`; not read where `continuous`.
      factors_test: `[M, K]`; not read where `continuous`.
      continuous: Whether factors are ordered values: a latent's score is its squared
        correlation instead of a classifier's accuracy.
      seed: Of the classifier's solver.

    Returns:
      The mean over factors of best − second, in [0, 1]; constant codes score 0.

    Raises:
      InputError: If the rows are too few or cannot be scored.

    References:
      Kumar et al. (2018), "Variational inference of disentangled latent concepts from unlabeled
      observations", section 3; a linear support vector machine (C 0.01, balanced classes) a
      latent and factor as in Locatello et al. (2019).
    """
    if continuous:
        train = check_codes(codes_train, "codes_train", latents=2)
        matrix = _squared_correlation(train, _check_values(factors_train, len(train)))
        right, test_rows = None, 0
    else:
        check_installed("sklearn")
        arrays = check_train_and_test(
            codes_train, factors_train, codes_test, factors_test, latents=2
        )
        train, test_rows = arrays[0], len(arrays[2])
        right = _right_predictions(*arrays, seed=seed)  # [D, K, M]
        matrix = right.mean(axis=2)
    order = np.argsort(-matrix, axis=0, kind="stable")[:2]  # [2, K]
    best, second = np.take_along_axis(matrix, order, axis=0)
    value = float((best - second).mean())
    interval = None
    if right is not None:
        columns = np.arange(matrix.shape[1])
        ahead = right[order[0], columns].astype(float) - right[order[1], columns]  # [K, M]
        interval = influence_interval(value, (ahead - ahead.mean(1)[:, None]).mean(0), "test rows")
    kind = (
        "squared Pearson correlation"
        if continuous
        else "accuracy of a linear SVM (C 0.01, balanced) a latent and factor"
    )
    return Result(
        metric="sap",
        value=value,
        scores={"sap": value},
        per_factor={"sap": best - second, "best_latent": order[0]},
        per_latent={},
        matrices={"score": matrix},
        interval=interval,
        convention=f"Kumar 2018 as in Locatello 2019: {kind}",
        sizes={"train": len(train), "test": test_rows, "latents": matrix.shape[0],
               "factors": matrix.shape[1]},
        seed=None if continuous else seed,
        versions=library_versions(*([] if continuous else ["scikit-learn"])),
    )  # fmt: skip


def _check_values(factors: np.ndarray, rows: int) -> np.ndarray:
    """Returns ordered factor values `[N, K]` as float64, none of them constant."""
    values = np.asarray(factors)
    if values.ndim != 2 or not values.size or len(values) != rows or values.dtype.kind not in "iuf":
        raise InputError(
            f"expected factors_train [{rows}, K], numbers; got {values.dtype} of shape "
            f"{list(values.shape)}"
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or not np.all(np.ptp(values, axis=0) > 0) or rows < 10:
        raise InputError(
            f"expected finite factors that vary over at least 10 rows; got {rows} rows, ranges "
            f"{np.ptp(values, axis=0).tolist()}"
        )
    return values


def _squared_correlation(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Squared Pearson correlation `[D, K]`; 0 for a latent without variance."""
    x, y = (v.astype(np.float64) - v.mean(axis=0, dtype=np.float64) for v in (codes, factors))
    x_variance, y_variance = (np.square(v).sum(axis=0) / (len(v) - 1) for v in (x, y))
    covariance = x.T @ y / (len(x) - 1)
    varies = (x_variance > _NO_VARIANCE) & (np.ptp(codes, axis=0) > 0)
    scale = np.where(varies, x_variance, np.inf)
    return covariance**2 / np.outer(scale, y_variance)


def _right_predictions(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Whether each latent alone predicts each factor of each test row, bool `[D, K, M]`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    latents, factors = codes_train.shape[1], factors_train.shape[1]
    right = np.empty((latents, factors, len(codes_test)), bool)
    for d in range(latents):
        for k in range(factors):
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
            with warnings.catch_warnings():  # the convention stops after 1,000 iterations
                warnings.simplefilter("ignore", ConvergenceWarning)
                machine.fit(codes_train[:, d : d + 1], factors_train[:, k])
            right[d, k] = machine.predict(codes_test[:, d : d + 1]) == factors_test[:, k]
    return right
