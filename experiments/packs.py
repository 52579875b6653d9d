"""Training one pack of a study: what an executor calls once the study is planned."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

from betavae_jax.checks import InputError
from betavae_jax.evaluation import Effort, encode_drawn
from betavae_jax.memory import TooLargeError, ran_out_of_memory
from betavae_jax.population import take_rows
from betavae_jax.runs.directory import BusyError, locked
from betavae_jax.runs.settings import Experiment
from betavae_jax.study.grid import Study
from betavae_jax.study.ledger import (
    FINISHED,
    has_codes,
    is_ranked_later,
    read_pack,
    scored_in_pack,
)
from betavae_jax.study.plan import Pack, check_machine, load_study, pack_directory
from betavae_jax.study.ranking import save_codes
from betavae_jax.training import Program
from experiments.built import experiment_of, machine_of, program_for, say_too_large
from experiments.directory import Trained, train_directory


class PackEnd(NamedTuple):
    """How the training of a pack ended."""

    status: str  # "finished"; "stopped" by a signal, after a checkpoint; "busy" elsewhere
    step: int
    signal: int  # that stopped it, or 0


def run_pack(
    workdir: pathlib.Path,
    number: int,
    on_chunk: Callable[[int], None] = lambda _step: None,
    *,
    deterministic: bool = True,
    allow_inexact_resume: bool = False,
) -> PackEnd:
    """Trains, evaluates and scores one pack of a study; goes on where it had stopped.

    Everything else is read from the study's directory. Data and compiled programs are kept for
    the next pack of this process.

    Args:
      workdir: The study's directory, with its plan.
      number: The pack.
      on_chunk: Called with the steps done, every five seconds or so.
      deterministic: Whether accelerators were asked for the same bits at every call.
      allow_inexact_resume: Whether to go on although versions or hardware have changed.

    Returns:
      How it ended.

    Raises:
      InputError: If there is no such pack, it was begun otherwise, or memory does not hold it.
    """
    study, plan = load_study(workdir)
    if not 0 <= number < len(plan.packs):
        raise InputError(f"expected pack to be from 0 to {len(plan.packs) - 1}; got {number}")
    if not allow_inexact_resume:
        check_machine(workdir, plan, machine_of(deterministic=deterministic))
    pack = plan.packs[number]
    state = read_pack(workdir, study, pack)
    if state.state == FINISHED:
        return PackEnd("finished", state.step, 0)
    experiment, program = _prepare(study, pack)
    folder = pack_directory(workdir, number)
    try:
        with _out_of_memory_in_a_line(study, pack, program):
            trained = train_directory(
                experiment,
                folder,
                program=program,
                allow_inexact_resume=allow_inexact_resume,
                deterministic=deterministic,
                report=False,
                metrics=scored_in_pack(study, pack),
                effort=Effort(study.num_train, study.num_test),
                on_chunk=on_chunk,
            )
            fitted = trained.fitted
            if not fitted.signal and is_ranked_later(study, pack):
                _keep_codes(folder, study, pack, experiment, trained)
    except BusyError:
        return PackEnd("busy", state.step, 0)
    return PackEnd("stopped" if fitted.signal else "finished", fitted.step, fitted.signal)


@contextlib.contextmanager
def _out_of_memory_in_a_line(study: Study, pack: Pack, program: Program) -> Iterator[None]:
    try:
        yield
    except TooLargeError as error:
        raise error.where_others_are_refused() from None
    except jax.errors.JaxRuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        runs = -(-pack.num_runs // len(program.devices))
        reason = say_too_large(study.sweeps[pack.sweep], runs, planned=True)
        raise InputError(reason) from None


def _prepare(study: Study, pack: Pack) -> tuple[Experiment, Program]:
    """The runs of a pack, and the program that it shares with others of its size."""
    settings = study.sweeps[pack.sweep]
    whole = experiment_of(settings)
    experiment = whole._replace(
        settings=whole.settings._replace(rows=f"{pack.first}:{pack.last}"),
        runs=take_rows(whole.runs, pack.first, pack.last),
    )
    return experiment, program_for(settings, pack.num_runs)


def _keep_codes(
    folder: pathlib.Path, study: Study, pack: Pack, experiment: Experiment, trained: Trained
) -> None:
    """Keeps what UDR compares with other packs."""
    with locked(folder, wait=True):
        if not has_codes(folder, study, pack):
            effort = Effort(study.num_train, study.num_test)
            carry = trained.fitted.carry
            save_codes(folder, encode_drawn(experiment, trained.program, carry, effort))
