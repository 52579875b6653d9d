"""Classifiers that predict a factor, each with what it does where labels are few."""

import functools
import warnings
from collections.abc import Callable

import numpy as np

from betavae_jax.checks import check_name
from betavae_jax.metrics.classifiers import TREES, check_installed, fit_logistic

Predict = Callable[[np.ndarray], np.ndarray]  # x [M, D] -> labels [M]

_ROWS_TO_CHOOSE_ON = 1_000
_WIDE = 100  # features from which a fit is so slow that less is tried


def fit_predictor(name: str, x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
    """Fits a classifier.

    Args:
      name: A name in `PREDICTORS`.
      x: Features `[N, D]`.
      y: Labels `[N]`; labels that are not among them are never predicted.
      seed: Of folds and trees.

    Returns:
      The prediction of labels. Where all labels or all features are the same, the commonest
      label, the smallest of several.
    """
    values, counts = np.unique(y, return_counts=True)
    if len(values) == 1 or not np.any(np.ptp(x, axis=0) > 0):
        commonest = values[counts.argmax()]
        return lambda rows: np.full(len(rows), commonest)
    return PREDICTORS[name](x, y, seed)


def check_predictor(name: str) -> None:
    """Raises InputError unless the predictor is known and what it needs is installed."""
    check_name("the predictor", name, PREDICTORS)
    check_installed(TREES[name].module if name in TREES else "sklearn", "joblib")


def distribution_of(name: str) -> str:
    """The package that a predictor comes from, as its version is known by."""
    return TREES[name].distribution if name in TREES else "scikit-learn"


def describe_predictor(name: str, width: int) -> str:
    """A predictor's settings in words, for `width` features."""
    if name in TREES:
        return TREES[name].convention
    values, folds, iterations = _effort(width)
    return (
        f"logistic regression, C among {values} from 1e-4 to 1e4 by {folds} folds of at most "
        f"{_ROWS_TO_CHOOSE_ON:,} labels, then at most {iterations:,} iterations on all"
    )


def _effort(width: int) -> tuple[int, int, int]:
    """How many penalties, folds, and iterations of the last fit are affordable."""
    return (10, 10, 1_000) if width < _WIDE else (5, 3, 100)


def _fit_logistic_cv(x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
    """Chooses C by cross-validation on no more than 1,000 rows, then fits to all.

    With more labels the choice hardly changes, and would take a hundred fits to all of them. The
    last fit goes on to the optimum, which the usual 100 iterations from zero do not reach.
    """
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import KFold
    from threadpoolctl import threadpool_limits

    order = np.random.default_rng(seed).permutation(len(x))[:_ROWS_TO_CHOOSE_ON]
    values, folds, iterations = _effort(x.shape[1])
    if len(np.unique(y[order])) == 1:
        order = np.arange(len(x))
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        # It may stop at its 100 iterations; and it announces changes of what is not used here.
        warnings.simplefilter("ignore")
        search = LogisticRegressionCV(
            Cs=values, cv=KFold(min(folds, len(order))), scoring="accuracy"
        ).fit(x[order], y[order])
    best = float(np.ravel(search.C_)[0])  # an array or a number, by scikit-learn's version
    predict: Predict = fit_logistic(x, y, C=best, max_iter=iterations).predict
    return predict


def _fit_trees(x: np.ndarray, y: np.ndarray, seed: int, *, kind: str) -> Predict:
    predict: Predict = TREES[kind].make(seed).fit(x, y).predict
    return predict


PREDICTORS: dict[str, Callable[[np.ndarray, np.ndarray, int], Predict]] = {
    "logistic": _fit_logistic_cv,
    **{kind: functools.partial(_fit_trees, kind=kind) for kind in TREES},
}
