"""Training in a run directory: resume, log, test split, events, checkpoints."""

import logging
import pathlib
from collections.abc import Callable
from typing import Any

from betavae_jax.checks import InputError
from betavae_jax.codes import Bound, make_bound
from betavae_jax.fit import Fitted, Hooks, carry_template, feed_of, fit
from betavae_jax.population import num_runs
from betavae_jax.runs.checkpoints import open_checkpoints
from betavae_jax.runs.directory import CHECKPOINTS, LOG, REPORT, RESULTS, check_steps
from betavae_jax.runs.records import append_log, cut_log, log_lines, sync
from betavae_jax.runs.settings import Experiment
from betavae_jax.runs.tensorboard import Events, no_events, open_events
from betavae_jax.schedules import last_change
from betavae_jax.training import Carry, Program
from betavae_jax.types import Terms

_LOGGER = logging.getLogger(__name__)

_TEST_ROWS = 1_000  # that represent the test split during training


def fit_directory(
    experiment: Experiment,
    program: Program,
    workdir: pathlib.Path,
    *,
    show_progress: bool = True,
    on_chunk: Callable[[int], None] = lambda _step: None,
) -> Fitted:
    """Trains in a run directory, going on from its latest whole checkpoint.

    Args:
      experiment: What to train.
      program: Its program.
      workdir: The directory, locked and prepared.
      show_progress: Whether to draw a progress bar.
      on_chunk: Called after each chunk with the steps done.

    Returns:
      Where training ended. `results.json` is gone if a step was taken: it was of another state.

    Raises:
      InputError: If the directory is already past the wished number of steps, or the memory of a
        CPU does not hold the program; what stood in it stands still.
      CheckpointError: If a checkpoint cannot be written, or none can be read.
    """
    settings = experiment.settings
    feed = feed_of(experiment, program)
    template = carry_template(program, experiment.runs, feed.arrays(0))
    checkpoints = open_checkpoints(workdir / CHECKPOINTS, keep=settings.keep_checkpoints)
    start = checkpoints.restore(template)
    step = start[0] if start else 0
    try:
        check_steps(workdir, step, settings._asdict())
    except InputError:
        feed.close()
        raise
    cut_log(workdir / LOG, step)
    events = no_events()
    if step < settings.num_steps and settings.tensorboard:
        purge_step = step + 1 if start else None
        events = open_events(workdir, num_runs(experiment.runs), purge_step=purge_step)

    try:
        return fit(
            program,
            experiment.runs,
            feed,
            num_steps=settings.num_steps,
            start=start,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            hooks=_hooks(experiment, program, workdir, checkpoints.save, events, on_chunk),
            show_progress=show_progress,
        )
    finally:
        feed.close()
        checkpoints.close()
        events.close()  # last: a full disk may have it fail


def _hooks(
    experiment: Experiment,
    program: Program,
    workdir: pathlib.Path,
    save: Any,
    events: Events,
    on_chunk: Callable[[int], None],
) -> Hooks:
    _warn_of_long_schedules(experiment)
    settings, runs, test = experiment.settings, num_runs(experiment.runs), experiment.splits.test
    bound = test and make_bound(experiment.model, test, program, runs, num_rows=_TEST_ROWS)

    def on_log(step: int, means: Terms, carry: Carry) -> None:
        lines = log_lines(step, means)
        # A step decides alone whether the test split's turn has come, so a resumed log is equal.
        is_due = step // settings.evaluate_every > (step - settings.log_every) // (
            settings.evaluate_every
        )
        if bound and is_due:
            evaluated = bound(carry.state.params)
            lines = [{**line, **_test_terms(evaluated, line["run"])} for line in lines]
        append_log(workdir / LOG, lines)
        events.scalars(lines)

    def on_checkpoint(step: int, carry: Carry) -> None:
        sync(workdir / LOG)  # else a node lost soon after may have the checkpoint, and not its log
        save(step, carry)

    stale = [REPORT, RESULTS]  # of an earlier state; gone before the next is saved

    def after_chunk(done: int) -> None:
        while stale:
            (workdir / stale.pop()).unlink(missing_ok=True)
        on_chunk(done)

    return Hooks(on_log, on_checkpoint, after_chunk)


def _warn_of_long_schedules(experiment: Experiment) -> None:
    for name, schedule in experiment.runs.schedules.items():
        end = last_change(schedule)
        if end > experiment.settings.num_steps:
            _LOGGER.warning(
                "the schedule of %s (%s) ends at step %d, after num_steps=%d",
                name,
                experiment.settings.schedules[name],
                end,
                experiment.settings.num_steps,
            )


def _test_terms(bound: Bound, run: int) -> dict[str, float]:
    return {
        "test_elbo": float(bound.elbo[run]),
        "test_distortion": float(bound.distortion[run]),
        "test_rate": float(bound.rate[run]),
    }
