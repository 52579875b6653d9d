"""Measures of a representation, on plain arrays: codes `[N, D]`, factors `[N, K]`.

A metric is one file with one function and one line in `METRICS`. Its positional parameters
say what it reads, its keyword-only ones are settings with the published defaults:

- `codes, factors`: one set of rows.
- `codes_train, factors_train, codes_test, factors_test`: it fits classifiers.
- `source`: it holds factors fixed (`sources.simulator`, `grid_simulator`, `existing_rows`).
- `population, kl`: it compares runs, and returns a result for each.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.checks import InputError, check_belong, check_name, keyword_settings
from betavae_jax.metrics.beta_vae_score import beta_vae_score
from betavae_jax.metrics.dci import dci
from betavae_jax.metrics.factor_vae_score import factor_vae_score
from betavae_jax.metrics.infomec import infomec
from betavae_jax.metrics.irs import irs
from betavae_jax.metrics.mig import mig
from betavae_jax.metrics.modularity import modularity
from betavae_jax.metrics.results import Result
from betavae_jax.metrics.sap import sap
from betavae_jax.metrics.sources import Source, existing_rows
from betavae_jax.metrics.udr import udr
from betavae_jax.metrics.unsupervised import unsupervised

METRICS: dict[str, Callable[..., Any]] = {
    "beta_vae_score": beta_vae_score,
    "factor_vae_score": factor_vae_score,
    "mig": mig,
    "dci": dci,
    "sap": sap,
    "modularity": modularity,
    "irs": irs,
    "unsupervised": unsupervised,
    "udr": udr,
    "infomec": infomec,
}


class Scored(NamedTuple):
    """What was measured of one run, and why a metric was refused, each by the metric's name."""

    results: dict[str, Result]
    refused: dict[str, str]


def metric_settings(name: str) -> dict[str, Any]:
    """Returns the settings that a metric takes, with the published defaults.

    Raises:
      InputError: The name is unknown.
    """
    check_name("the metric", name, METRICS)
    return keyword_settings(METRICS[name])


def metric_inputs(name: str) -> tuple[str, ...]:
    """Returns the names of the arrays, or of the source, that a metric reads.

    Raises:
      InputError: The name is unknown.
    """
    check_name("the metric", name, METRICS)
    parameters = inspect.signature(METRICS[name]).parameters.values()
    return tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)


def evaluate_metrics(
    names: Sequence[str],
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    *,
    kl: np.ndarray | None = None,
    sources: Sequence[Source] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Scored]:
    """Scores every run of a population with every metric named.

    Args:
      names: Names in `METRICS`.
      codes_train: Posterior means `[R, N, D]`.
      factors_train: Class labels `[N, K]`, the same rows for every run.
      codes_test: `[R, M, D]`.
      factors_test: `[M, K]`.
      kl: KL per latent `[R, D]`, for `udr`.
      sources: A source a run, for the metrics that hold factors fixed; where it is absent they
        group the training rows.
      settings: Settings of a metric, by its name.

    Returns:
      A `Scored` a run. What a metric refuses of one run does not keep it from the others.

    Raises:
      InputError: If a name or a setting is unknown, or the arrays' shapes do not fit.
    """
    codes_train, codes_test = np.asarray(codes_train), np.asarray(codes_test)
    settings = _check_settings(names, settings or {})
    if codes_train.ndim != 3 or codes_test.ndim != 3 or len(codes_train) != len(codes_test):
        raise InputError(
            f"expected codes [R, N, D] and [R, M, D]; got {codes_train.shape} and "
            f"{codes_test.shape}"
        )
    scored = [Scored({}, {}) for _ in codes_train]
    for run, (train, test) in enumerate(zip(codes_train, codes_test, strict=True)):
        arrays: dict[str, Any] = {
            "codes": train, "factors": factors_train, "codes_train": train,
            "factors_train": factors_train, "codes_test": test, "factors_test": factors_test,
        }  # fmt: skip
        for name in names:
            if name == "udr":
                continue
            try:
                inputs = metric_inputs(name)
                if "source" in inputs:
                    arrays["source"] = (
                        sources[run] if sources else existing_rows(train, factors_train)
                    )
                result = METRICS[name](*(arrays[i] for i in inputs), **settings.get(name, {}))
                scored[run].results[name] = result
            except InputError as refusal:
                scored[run].refused[name] = str(refusal)
    if "udr" in names:
        _rank_population(scored, codes_train, kl, settings.get("udr", {}))
    return scored


def _check_settings(
    names: Sequence[str], settings: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Mapping[str, Any]]:
    for name in [*names, *settings]:
        check_belong(f"settings of metric {name}", settings.get(name, {}), metric_settings(name))
    return settings


def _rank_population(
    scored: list[Scored],
    codes: np.ndarray,
    kl: np.ndarray | None,
    settings: Mapping[str, Any],
) -> None:
    """Adds `udr` to the runs whose codes are finite; the others are told why not."""
    if kl is None:
        raise InputError("expected the KL per latent [R, D] for udr; got none")
    finite = [bool(np.isfinite(c).all() and np.isfinite(k).all()) for c, k in
              zip(codes, kl, strict=True)]  # fmt: skip
    kept = np.flatnonzero(finite)
    try:
        results = udr(codes[kept], np.asarray(kl)[kept], **settings)
    except InputError as refusal:
        for run in scored:
            run.refused["udr"] = str(refusal)
        return
    for at, result in zip(kept, results, strict=True):
        scored[at].results["udr"] = result
    for at in np.flatnonzero(~np.asarray(finite)):
        scored[at].refused["udr"] = "expected finite codes and KL; got NaN or infinity"
