"""Every metric and downstream score of a trained population."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.downstream import principal_components
from betavae_jax.evaluation.codes_file import Four
from betavae_jax.evaluation.draws import (
    Rows,
    draw_rows,
    make_encoder,
    read_factors,
    read_pixels,
    whole,
)
from betavae_jax.evaluation.names import BASELINES, NEEDS_DISTINCT, needs_factors
from betavae_jax.evaluation.ranking import rank_runs
from betavae_jax.evaluation.scores import (
    Effort,
    Outcome,
    Score,
    outcome_of,
    say,
    score_few_labels,
    score_rows,
)
from betavae_jax.metrics import Scored
from betavae_jax.metrics.sources import EncodeFn, Source, grid_simulator
from betavae_jax.population import num_runs, take_runs
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import Carry, Program
from betavae_jax.types import Dataset, FactorSpace

_MOST_CODES = 10**8  # numbers of a full grid, of all runs together
_PIXELS_AND_VALUES = 30_000  # pixels times values of all factors: minutes of boosted trees
_MOST_PIXELS = {"downstream_pixels": 1_024, "downstream_pca": 4_096}
_FEWEST_PIXELS = 64


class _Grid(NamedTuple):
    """The codes of a full grid, whose factors all vary."""

    codes: np.ndarray  # [R, N, D]
    space: FactorSpace


class _Population(NamedTuple):
    """What is scored; functions do their work when they are first called."""

    drawn: Four  # codes [R, N, D]
    first_places: tuple[np.ndarray, np.ndarray]  # of the different examples among the rows
    factor_names: list[str]  # of those that vary
    grid: _Grid | None
    udr: Callable[[], list[Scored]]
    apart: Callable[[], Four]
    baseline: Callable[[str], Outcome]


def score_population(
    experiment: Experiment,
    program: Program,
    carry: Carry,
    kl: np.ndarray,
    names: Sequence[str],
    effort: Effort,
    *,
    runs: Sequence[int] | None = None,
) -> Iterator[Score]:
    """Scores every run of a population.

    The rows are those of `draw_rows`, the same for all runs; scores of few labels have rows of
    their own, and of a full grid too they are different examples. Metrics that hold factors fixed
    look codes up on a full grid of no more than `grid_limit` examples, and group the drawn rows
    otherwise.

    Args:
      experiment: What was trained.
      program: The program that holds the population.
      carry: Where training ended.
      kl: KL per latent `[R, D]`, nats, as in `results.json`; for `udr`.
      names: Names as `expand_names` gives them.
      effort: Rows, seed, processors.
      runs: Those to score, among all that they are compared with; None for all.

    Yields:
      A score for each run and name, run by run.
    """
    material = _prepare(experiment, program, carry, kl, names, effort)
    absent = f"expected a data set with known factors; {experiment.settings.dataset} has none"
    scorers = _scorers_of_own(material, effort)

    def score(run: int, name: str) -> Outcome:
        if needs_factors(name) and not material.factor_names:
            return absent
        if name in scorers:
            return scorers[name](run)
        held = _hold(material.grid, run)
        four = _of_run(material.drawn, run)
        if name in NEEDS_DISTINCT:
            train, test = material.first_places
            four = four[0][train], four[1][train], four[2][test], four[3][test]
        return score_rows(name, four, effort, *held)

    for run in range(num_runs(experiment.runs)) if runs is None else runs:
        for name in names:
            yield say(run, name, score(run, name), material.factor_names)


def _scorers_of_own(
    material: _Population, effort: Effort
) -> Mapping[str, Callable[[int], Outcome]]:
    """What is not scored on the drawn rows of one run, by name."""

    def few_labels(run: int) -> Outcome:
        return score_few_labels(_of_run(material.apart(), run), effort)

    def baseline(name: str) -> Callable[[int], Outcome]:
        return lambda _run: material.baseline(name)

    return {
        "udr": lambda run: outcome_of(material.udr()[run], "udr"),
        "downstream": few_labels,
        **{name: baseline(name) for name in BASELINES},
    }


def encode_drawn(
    experiment: Experiment, program: Program, carry: Carry, effort: Effort
) -> np.ndarray:
    """The codes that UDR compares: of the rows that metrics are fitted to.

    Returns:
      Posterior means `[R, N, D]`.
    """
    train, _ = draw_rows(experiment, effort.num_train, effort.num_test, effort.seed)
    return make_encoder(experiment, program, carry)(train)


def _prepare(
    experiment: Experiment,
    program: Program,
    carry: Carry,
    kl: np.ndarray,
    names: Sequence[str],
    effort: Effort,
) -> _Population:
    encode = make_encoder(experiment, program, carry)

    def draw(*, apart: bool) -> tuple[Rows, Rows]:
        sizes = effort.num_train, effort.num_test
        return draw_rows(experiment, *sizes, effort.seed, apart=apart)

    train, test = draw(apart=False)
    factors = read_factors(train), read_factors(test)
    varying = np.flatnonzero([np.ptp(column) > 0 for column in factors[0].T]).astype(int)
    known = experiment.splits.train.space
    drawn = encode(train), factors[0][:, varying], encode(test), factors[1][:, varying]
    rows_apart = functools.cache(lambda: draw(apart=True))

    @functools.cache
    def apart() -> Four:
        first, second = rows_apart()
        return (encode(first), read_factors(first)[:, varying],
                encode(second), read_factors(second)[:, varying])  # fmt: skip

    return _Population(
        drawn,
        (train.first_places, test.first_places),
        [known.names[k] for k in varying] if known else [],
        _encode_grid(experiment, encode, names, effort, varying),
        functools.cache(lambda: _rank(experiment, carry, drawn[0], kl)),
        apart,
        functools.cache(lambda name: _score_baseline(name, rows_apart(), apart(), effort)),
    )


def _of_run(four: Four, run: int) -> Four:
    return four[0][run], four[1], four[2][run], four[3]


def _score_baseline(name: str, rows: tuple[Rows, Rows], four: Four, effort: Effort) -> Outcome:
    """Few labels on the examples themselves, or on as many principal components as latents."""
    most = _MOST_PIXELS[name]
    if name == "downstream_pixels":
        values = sum(len(np.unique(column)) for column in four[1].T)
        most = min(max(_PIXELS_AND_VALUES // values, _FEWEST_PIXELS), most)
    x, x_test = (read_pixels(part, most) for part in rows)
    what = f"{x.shape[1]:,} numbers an example"
    if name == "downstream_pca":
        what = f"principal components of {what}"
        width = min(four[0].shape[-1], *x.shape)
        try:
            x, x_test = principal_components(x, x_test, width, seed=effort.seed)
        except InputError as refusal:  # such as an environment without scikit-learn
            return str(refusal)
    outcome = score_few_labels((x, four[1], x_test, four[3]), effort)
    if isinstance(outcome, str):
        return outcome
    return outcome._replace(metric=name, convention=f"{what}; {outcome.convention}")


def _encode_grid(
    experiment: Experiment,
    encode: Callable[..., np.ndarray],
    names: Sequence[str],
    effort: Effort,
    varying: np.ndarray,
) -> _Grid | None:
    """The codes of the whole set, where it is a grid, it is affordable, and somebody asks."""
    data: Dataset = experiment.splits.train
    asked = {"beta_vae_score", "factor_vae_score", "strong_generalisation", "fairness"} & {*names}
    if not asked or data.space is None or not data.space.full_grid or not len(varying):
        return None
    numbers = data.num_examples * num_runs(experiment.runs) * experiment.settings.num_latents
    if data.num_examples > effort.grid_limit or numbers > _MOST_CODES:
        return None
    sizes = data.space.sizes
    if math.prod(sizes[k] for k in varying) != data.num_examples:
        return None  # so few rows were drawn that a factor did not vary among them
    space = FactorSpace(
        tuple(data.space.names[k] for k in varying), tuple(sizes[k] for k in varying), True
    )
    return _Grid(encode(whole(data)), space)


def _hold(grid: _Grid | None, run: int) -> tuple[Source | None, EncodeFn | None]:
    """How a factor is held or set, where there is a grid."""
    if grid is None or not np.all(np.isfinite(grid.codes[run])):
        return None, None
    codes, sizes = grid.codes[run], grid.space.sizes

    def encode_fn(factors: np.ndarray) -> np.ndarray:
        found: np.ndarray = codes[np.ravel_multi_index(tuple(factors.T), sizes)]
        return found

    return grid_simulator(codes, grid.space), encode_fn


def _rank(experiment: Experiment, carry: Carry, codes: np.ndarray, kl: np.ndarray) -> list[Scored]:
    """UDR of every run."""
    settings = experiment.runs
    columns = [*settings.coefficients, settings.learning_rate]
    kinds = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    failed_at = np.asarray(take_runs(carry.state.failed_at, num_runs(settings)))
    return rank_runs(kinds, codes, kl, failed_at >= 0, "all runs of the population")
