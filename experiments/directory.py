"""Training and evaluating a population in its run directory, from any driver."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from betavae_jax.evaluation import (
    Effort,
    check_evaluation,
    evaluate,
    score_population,
    with_score,
)
from betavae_jax.fit import Fitted, program_of
from betavae_jax.fit_directory import fit_directory
from betavae_jax.memory import TooLargeError, ran_out_of_memory
from betavae_jax.population import num_runs, take_runs
from betavae_jax.report import write_report
from betavae_jax.restore import Population
from betavae_jax.runs.checkpoints import steps_in
from betavae_jax.runs.directory import (
    CHECKPOINTS,
    CONFIG,
    LOG,
    RESULTS,
    check_directory,
    empty_directory,
    locked,
    prepare_directory,
    read_results,
)
from betavae_jax.runs.leaves import sha256_of_tree
from betavae_jax.runs.machine import describe_program
from betavae_jax.runs.records import read_log, write_json
from betavae_jax.runs.settings import Experiment, to_config
from betavae_jax.runs.tensorboard import write_figures
from betavae_jax.study.ledger import CODES, is_scored
from betavae_jax.study.plan import STUDY
from betavae_jax.training import Carry, Program
from experiments.settings_flags import flags_of


class Trained(NamedTuple):
    """A population after training, or where a signal ended it."""

    program: Program
    fitted: Fitted
    results: dict[str, Any] | None  # None where they stood already, or a signal came


def train_directory(
    experiment: Experiment,
    workdir: pathlib.Path,
    *,
    overwrite: bool | None = None,
    allow_inexact_resume: bool = False,
    deterministic: bool = True,
    report: bool = True,
    program: Program | None = None,
    metrics: Sequence[str] = (),
    effort: Effort | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> Trained:
    """Trains in a run directory, evaluates and reports; goes on where it had stopped.

    Args:
      experiment: What to train.
      workdir: The directory.
      overwrite: Whether to start anew where a run stands already; None where the driver has no
        flag for it.
      allow_inexact_resume: Whether to go on although versions, hardware or data have changed.
      deterministic: Whether accelerators were asked for the same bits at every call.
      report: Whether to draw figures and write the page.
      program: The program of a population of this size, where one has been made.
      metrics: What to score, by the names of `expand_names`.
      effort: How much the scores cost.
      on_chunk: Told the steps done, in place of a progress bar.

    Returns:
      Where it ended.

    Raises:
      InputError: If the directory holds another configuration, or is in use; or the memory of a
        CPU does not hold the program. What stood stands then, and nothing else.
    """
    program = program or program_of(experiment)
    described = describe_program(experiment, program.vectorized_runs, deterministic=deterministic)
    config = to_config(experiment.settings, described)
    check = functools.partial(
        check_directory, overwrite=overwrite, allow_inexact_resume=allow_inexact_resume
    )
    check(workdir, config)
    with locked(workdir):
        check(workdir, config)  # it may have changed until it was ours
        mine = {"workdir": workdir, "deterministic": deterministic}
        repeat: Mapping[str, Any] = {**mine, **flags_of(experiment.settings)}
        is_new = bool(overwrite) or not (workdir / CONFIG).exists()
        prepare_directory(workdir, config, repeat, overwrite=bool(overwrite))
        if not described["deterministic"]:
            logging.warning("--nodeterministic: resuming will not be bit-exact")
        told = _without_codes(workdir, on_chunk or (lambda _step: None))
        with _begun_where_memory_holds(workdir, is_new=is_new):
            if read_results(workdir) is None:
                check_evaluation(experiment, program)
            fitted = fit_directory(
                experiment, program, workdir, show_progress=on_chunk is None, on_chunk=told
            )
        if not fitted.signal and metrics:
            score_directory(workdir, experiment, program, fitted.carry, metrics, effort or Effort())
        if fitted.signal or read_results(workdir) is not None:
            return Trained(program, fitted, None)
        results = evaluate(experiment, program, fitted.carry)
        if report:
            write_report(workdir, experiment, fitted.carry, results)
            if experiment.settings.tensorboard:
                write_figures(workdir, results["runs"])
        write_json(workdir / RESULTS, results)  # last: where it stands, the report does
        return Trained(program, fitted, results)


def _without_codes(workdir: pathlib.Path, told: Callable[[int], None]) -> Callable[[int], None]:
    """Has the codes that a pack of a study keeps go once a step is taken: they are of before."""
    folder = workdir.absolute()
    if not (folder.parent.parent / STUDY).exists():
        return told

    def on_chunk(step: int) -> None:
        (folder / CODES).unlink(missing_ok=True)
        told(step)

    return on_chunk


@contextlib.contextmanager
def _begun_where_memory_holds(workdir: pathlib.Path, *, is_new: bool) -> Iterator[None]:
    """Leaves nothing of a run for which memory was too small from the first step on."""
    try:
        yield
    except (TooLargeError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, TooLargeError) and not ran_out_of_memory(error):
            raise
        stands = not is_new or steps_in(workdir / CHECKPOINTS) or read_log(workdir / LOG)
        if not stands:
            empty_directory(workdir)
        if isinstance(error, TooLargeError):
            raise error.where_others_are_refused() if stands else error from None
        else:
            elsewhere = " with another --workdir" if stands else ""
            error.add_note(f"a smaller batch_size{elsewhere} helps")
            raise


def score_directory(
    workdir: pathlib.Path,
    experiment: Experiment,
    program: Program,
    carry: Carry,
    names: Sequence[str],
    effort: Effort,
) -> None:
    """Evaluates and scores a population, and keeps both in `results.json`, run by run.

    A run has each score under `metrics`, or the reason why not under `unscored`; those that have
    both already are left alone.
    """
    path = workdir / RESULTS
    results = read_results(workdir) or evaluate(experiment, program, carry)
    rows = results["runs"]
    write_json(path, results)
    missing = [name for name in names if not all(is_scored(row, [name]) for row in rows)]
    runs = [row["run"] for row in rows if not is_scored(row, missing)]
    if not missing:
        return
    kl = np.asarray([row["kl_per_latent"] for row in rows], np.float64)  # None becomes NaN
    for score in score_population(experiment, program, carry, kl, missing, effort, runs=runs):
        rows[score.run] = with_score(rows[score.run], score)
        if score.name == missing[-1]:  # a kill costs no more than one run
            write_json(path, results)


def standing_results(workdir: pathlib.Path, population: Population) -> dict[str, Any]:
    """The content of `results.json` where it is of this checkpoint, else measured now."""
    results = read_results(workdir)
    standing = [row.get("params_sha256") for row in results["runs"]] if results else []
    params = take_runs(population.carry.state.params, num_runs(population.experiment.runs))
    digests = [
        sha256_of_tree(jax.tree.map(lambda leaf, run=run: leaf[run], params))
        for run in range(num_runs(population.experiment.runs))
    ]
    if results and standing == digests:
        return results
    print(f"no results of step {population.step}: evaluating")
    return evaluate(population.experiment, population.program, population.carry)
