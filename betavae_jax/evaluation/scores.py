"""One score of one representation, and of codes made elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from betavae_jax.checks import InputError
from betavae_jax.downstream import DOWNSTREAM
from betavae_jax.downstream.few_labels import LABELS
from betavae_jax.evaluation.codes_file import Four
from betavae_jax.evaluation.names import BASELINES, DCI_LIGHTGBM, needs_factors
from betavae_jax.metrics import Scored, evaluate_metrics, metric_settings
from betavae_jax.metrics.results import Result
from betavae_jax.metrics.sources import EncodeFn, Source

GRID_LIMIT = 200_000  # examples of a full grid that are all encoded

Outcome = Result | str  # the string says why not


class Score(NamedTuple):
    """One score of one run."""

    run: int
    name: str
    result: dict[str, Any]  # as in `results.json`; empty where it was refused
    refused: str  # why; empty where it was not


class Effort(NamedTuple):
    """How much is drawn and computed."""

    num_train: int = 10_000
    num_test: int = 5_000
    seed: int = 0
    jobs: int = -1
    grid_limit: int = GRID_LIMIT


def score_codes(four: Four, names: Sequence[str], effort: Effort) -> Iterator[Score]:
    """Scores codes that were made elsewhere.

    Args:
      four: As `load_codes` gives them.
      names: Names as `expand_names` gives them.
      effort: Seed and processors.

    Yields:
      A score for each name.
    """
    known = four[1].shape[1] > 0
    for name in names:
        if needs_factors(name) and not known:
            outcome: Outcome = "expected factors; got codes alone"
        elif name == "udr":
            outcome = "expected codes of 2 runs or more; a file of codes holds one"
        elif name in BASELINES:
            outcome = "expected examples to compare codes with; a file of codes holds none"
        elif name == "downstream":
            outcome = score_few_labels(four, effort)
        else:
            outcome = score_rows(name, four, effort, None, None)
        yield say(0, name, outcome, [])


def say(run: int, name: str, outcome: Outcome, factor_names: Sequence[str]) -> Score:
    """A score as `results.json` holds it; the names of factors stand beside what reads them."""
    if isinstance(outcome, str):
        return Score(run, name, {}, outcome)
    result = outcome.to_json()
    if factor_names and needs_factors(name):
        result["factor_names"] = list(factor_names)
    return Score(run, name, result, "")


def with_score(row: Mapping[str, Any], score: Score) -> dict[str, Any]:
    """A run's row of `results.json` with a score, or under `unscored` why there is none."""
    unscored = {name: why for name, why in row.get("unscored", {}).items() if name != score.name}
    if score.refused:
        return {**row, "unscored": {**unscored, score.name: score.refused}}
    told = {"unscored": unscored} if "unscored" in row else {}
    return {**row, "metrics": {**row["metrics"], score.name: score.result}, **told}


def outcome_of(scored: Scored, name: str) -> Outcome:
    """What became of one metric of a run."""
    return scored.results[name] if name in scored.results else scored.refused[name]


def score_rows(
    name: str, four: Four, effort: Effort, source: Source | None, encode_fn: EncodeFn | None
) -> Outcome:
    """One score of one run's codes."""
    if name in DOWNSTREAM:
        settings: dict[str, Any] = {"seed": effort.seed, "jobs": effort.jobs}
        return _attempt(lambda: DOWNSTREAM[name](*four, encode_fn=encode_fn, **settings))
    metric = "dci" if name == DCI_LIGHTGBM else name
    own = {"seed": effort.seed, "jobs": effort.jobs, "trees": "lightgbm"}
    chosen = {k: v for k, v in own.items() if k in metric_settings(metric)}
    if name == "dci":
        del chosen["trees"]
    train, train_factors, test, test_factors = four
    scored = evaluate_metrics(
        [metric], train[None], train_factors, test[None], test_factors,
        sources=[source] if source else None, settings={metric: chosen},
    )  # fmt: skip
    return outcome_of(scored[0], metric)


def _attempt(score: Callable[[], Result]) -> Outcome:
    try:
        return score()
    except InputError as refusal:
        return str(refusal)


def score_few_labels(four: Four, effort: Effort) -> Outcome:
    """Few labels of codes, or other features: those published numbers that there are rows for."""
    labels = [n for n in LABELS if n <= len(four[0])]
    settings = {"labels": labels, "seed": effort.seed, "jobs": effort.jobs}
    return _attempt(lambda: DOWNSTREAM["downstream"](*four, **settings))
