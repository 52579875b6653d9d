"""Prediction of a factor where another takes values that were never seen in training."""

from typing import NamedTuple

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
from betavae_jax.metrics.rows import (
    check_every_value,
    check_labels,
    check_num_factors,
    check_train_and_test,
    sizes_of,
)
from betavae_jax.metrics.sources import EncodeFn

_ROWS_PER_VALUE = 10


class _Accuracies(NamedTuple):
    """Of one target factor, a number for each experiment."""

    strong: list[float]
    ordinary: list[float]
    held: list[int]  # the factor held


def strong_generalisation(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    *,
    encode_fn: EncodeFn | None = None,
    predictor: str = "lightgbm",
    experiments: int = 5,
    jobs: int = -1,
    seed: int = 0,
) -> Result:
    """Scores predictions after training with another factor held at one value of many.

    Each experiment draws another factor than the predicted one, and one of its values. The
    classifier learns from examples of this value alone, and is tested on all other values.

    Args:
      codes_train: Posterior means `[N, D]`.
      factors_train: Class labels `[N, K]`, K ≥ 2.
      codes_test: `[M, D]`.
      factors_test: `[M, K]`.
      encode_fn: Codes `[n, D]` of the examples with factors `[n, K]`. With it the factor is set
        in all N training rows, as published; without, only the training rows that have the
        value are kept, and a classifier of equally many rows stands beside it.
      predictor: "gbt", scikit-learn's boosted trees, the convention; "lightgbm"; or "logistic".
      experiments: For each factor that is predicted.
      jobs: Processors to use; −1 is all. It does not change the result.
      seed: Of the factors and values, and of the trees.

    Returns:
      The test accuracy on values held out, mean over factors and experiments. `scores` also has
      that of ordinary training, and the strong generalisation gap, 1 − their ratio.

    Raises:
      InputError: If K is 1, a factor value has fewer than 10 training rows or the test rows have
        one value of a factor alone where they are to be grouped, or the rows cannot be scored.

    References:
      Locatello et al. (2020), "A sober look at the unsupervised learning of disentangled
      representations and their evaluation", on strong generalization under covariate shift.
    """
    check_predictor(predictor)
    check_at_least("experiments", experiments, 1, integer=True)
    arrays = check_train_and_test(codes_train, factors_train, codes_test, factors_test)
    num_factors = arrays[1].shape[1]
    check_num_factors(num_factors)
    if encode_fn is None:
        check_labels(arrays[3], len(arrays[3]), "factors_test")  # else there may be no other value
        check_every_value(arrays[1], _ROWS_PER_VALUE, "a classifier learns from one value")
    rng = np.random.default_rng(seed)
    plans = [[_draw(rng, arrays[1], k) for _ in range(experiments)] for k in range(num_factors)]
    if encode_fn is None:
        done = _in_parallel(arrays, plans, predictor, jobs, seed)
    else:
        done = [_set_factor(arrays, k, plan, encode_fn, predictor, seed, rng)
                for k, plan in enumerate(plans)]  # fmt: skip
    strong, ordinary = (np.asarray([getattr(a, part) for a in done]).mean(axis=1)
                        for part in ("strong", "ordinary"))  # fmt: skip
    value, usual = float(strong.mean()), float(ordinary.mean())
    how = "set in all training rows" if encode_fn else "training rows of one value kept"
    return Result(
        metric="strong_generalisation",
        value=value,
        scores={
            "mean_strong_test_accuracy": value,
            "mean_test_accuracy": usual,
            "strong_generalisation_gap": 1.0 - value / usual if usual > 0 else 0.0,
        },
        per_factor={"strong_test_accuracy": strong, "test_accuracy": ordinary},
        per_latent={},
        matrices={"factor_held_by_target_and_experiment": np.asarray([a.held for a in done])},
        interval=None,
        convention=f"Locatello 2020: another factor {how}, tested on its other values; "
        f"{experiments} experiments a factor; {describe_predictor(predictor, arrays[0].shape[1])}",
        sizes=sizes_of(arrays),
        seed=seed,
        versions=library_versions(distribution_of(predictor)),
    )


def _draw(rng: np.random.Generator, factors: np.ndarray, target: int) -> tuple[int, int]:
    """Another factor than the target, and one of its values."""
    others = np.delete(np.arange(factors.shape[1]), target)
    held = int(rng.choice(others))
    return held, int(rng.choice(np.unique(factors[:, held])))


def _in_parallel(
    arrays: tuple[np.ndarray, ...],
    plans: list[list[tuple[int, int]]],
    predictor: str,
    jobs: int,
    seed: int,
) -> list[_Accuracies]:
    from joblib import Parallel, delayed

    done: list[_Accuracies] = Parallel(n_jobs=jobs)(
        delayed(_keep_rows)(arrays, k, plan, predictor, seed) for k, plan in enumerate(plans)
    )
    return done


def _keep_rows(
    arrays: tuple[np.ndarray, ...],
    target: int,
    plan: list[tuple[int, int]],
    predictor: str,
    seed: int,
) -> _Accuracies:
    """Trains on the rows that have a value, and on as many of any value."""
    x, factors, x_test, factors_test = arrays
    rng = np.random.default_rng((seed, target))
    done = _Accuracies([], [], [])
    for held, value in plan:
        kept = np.flatnonzero(factors[:, held] == value)
        other = factors_test[:, held] != value
        same_number = rng.choice(len(x), len(kept), replace=False)
        for rows, accuracies in ((kept, done.strong), (same_number, done.ordinary)):
            predict = fit_predictor(predictor, x[rows], factors[rows, target], seed)
            accuracies.append(_accuracy(predict, x_test[other], factors_test[other, target]))
        done.held.append(held)
    return done


def _set_factor(
    arrays: tuple[np.ndarray, ...],
    target: int,
    plan: list[tuple[int, int]],
    encode_fn: EncodeFn,
    predictor: str,
    seed: int,
    rng: np.random.Generator,
) -> _Accuracies:
    """Sets the factor in all rows; the ordinary classifier is that of the rows as they are."""
    x, factors, x_test, factors_test = arrays
    usual = fit_predictor(predictor, x, factors[:, target], seed)
    ordinary = _accuracy(usual, x_test, factors_test[:, target])
    done = _Accuracies([], [], [])
    for held, value in plan:
        train, test = factors.copy(), factors_test.copy()
        values = np.unique(factors[:, held])
        train[:, held] = value
        test[:, held] = rng.choice(values[values != value], len(test))
        predict = fit_predictor(predictor, encode_fn(train), train[:, target], seed)
        done.strong.append(_accuracy(predict, encode_fn(test), test[:, target]))
        done.ordinary.append(ordinary)
        done.held.append(held)
    return done


def _accuracy(predict: Predict, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(predict(x) == y))
