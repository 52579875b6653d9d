"""Classifiers from scikit-learn and LightGBM, as the metrics' conventions have them."""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.checks import InputError


def check_installed(*modules: str) -> None:
    """Raises InputError, with what to install, unless the modules can be imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"expected {', '.join(missing)} to be installed (the extra betavae_jax[metrics]); "
            "got an environment without"
        )


def fit_logistic(x: np.ndarray, y: np.ndarray, **settings: Any) -> Any:
    """Fits scikit-learn's LogisticRegression.

    Args:
      x: Features `[N, D]`.
      y: Class labels `[N]`.
      **settings: Of the classifier. Where it stops at its number of iterations, that is the
        convention, and no warning.

    Returns:
      The classifier.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # Products this small are faster on one thread: on a busy machine ten times, because threads
    # that wait for each other spin.
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(**settings).fit(x, y)


def standardise(codes: np.ndarray, *further: np.ndarray) -> list[np.ndarray]:
    """Gives codes `[N, D]` mean 0 and standard deviation 1, and `further` rows the same map.

    A constant latent becomes 0, of which no classifier learns anything; so does one whose standard
    deviation is 0 because its square is too small a number.
    """
    mean, scale = codes.mean(axis=0), codes.std(axis=0)
    scale = np.where((np.ptp(codes, axis=0) > 0) & (scale > 0), scale, np.inf)
    return [(rows - mean) / scale for rows in (codes, *further)]


class Trees(NamedTuple):
    """A kind of boosted trees."""

    make: Callable[[int], Any]  # seed -> classifier on one thread
    module: str
    distribution: str
    convention: str


def _make_gbt(seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(random_state=seed)


def _make_lightgbm(seed: int) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        n_estimators=100,
        learning_rate=0.1,
        max_depth=3,
        num_leaves=8,
        min_child_samples=1,
        importance_type="gain",
        random_state=seed,
        n_jobs=1,
        deterministic=True,
        force_row_wise=True,
        verbosity=-1,
    )


TREES: dict[str, Trees] = {
    "gbt": Trees(
        _make_gbt, "sklearn", "scikit-learn", "scikit-learn's gradient-boosted trees, impurity"
    ),
    "lightgbm": Trees(
        _make_lightgbm,
        "lightgbm",
        "lightgbm",
        "LightGBM trees of the same size, gain: not the original",
    ),
}
