"""Planning a study, and training one of its packs: all that an executor has to call."""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from betavae_jax.checks import InputError
from betavae_jax.evaluation import Effort, encode_drawn
from betavae_jax.fit import carry_template, feed_of, program_of
from betavae_jax.population import num_runs, take_rows
from betavae_jax.runs.directory import FIGURES, REPORT, BusyError, locked
from betavae_jax.runs.machine import describe_machine
from betavae_jax.runs.settings import Experiment, Settings, build, load_splits
from betavae_jax.study.grid import Study, settle_metrics
from betavae_jax.study.ledger import (
    FINISHED,
    has_codes,
    is_ranked_later,
    read_pack,
    scored_in_pack,
)
from betavae_jax.study.measure import (
    Measured,
    choose_count,
    counts_to_try,
    measure_counts,
    ran_out_of_memory,
)
from betavae_jax.study.plan import (
    PACKS,
    PLAN,
    STUDY,
    Plan,
    check_machine,
    check_same_study,
    cut,
    load_study,
    pack_directory,
    read_plan,
    read_study,
    write_plan,
    write_study,
)
from betavae_jax.study.ranking import save_codes
from betavae_jax.study.table import CSV, PARQUET
from betavae_jax.training import Program
from betavae_jax.types import Splits
from experiments.directory import train_directory

_OURS = (STUDY, PLAN, PACKS, CSV, PARQUET, FIGURES, REPORT, ".lock")
_DATA = ("dataset", "data", "test_fraction", "held_out", "correlated")
_TAKING_TURNS = ("cpu",)  # backends on which one more run of a device needs next to no memory
_SECONDS_MEASURED = {"cpu": 15.0}  # where runs take turns there is little to find
_SECONDS_ELSEWHERE = 300.0


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
      on_chunk: Called with the steps done, every two seconds or so.
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
        check_machine(workdir, plan, _machine(deterministic))
    pack = plan.packs[number]
    state = read_pack(workdir, study, pack)
    if state.state == FINISHED:
        return PackEnd("finished", state.step, 0)
    whole = _build(_key(study.sweeps[pack.sweep]))
    experiment = whole._replace(
        settings=whole.settings._replace(rows=f"{pack.first}:{pack.last}"),
        runs=take_rows(whole.runs, pack.first, pack.last),
    )
    folder = pack_directory(workdir, number)
    try:
        trained = train_directory(
            experiment,
            folder,
            program=_program(_key(study.sweeps[pack.sweep]), pack.num_runs),
            allow_inexact_resume=allow_inexact_resume,
            deterministic=deterministic,
            report=False,
            metrics=scored_in_pack(study, pack),
            effort=Effort(study.num_train, study.num_test),
            on_chunk=on_chunk,
        )
    except BusyError:
        return PackEnd("busy", state.step, 0)
    except jax.errors.JaxRuntimeError as error:
        if ran_out_of_memory(error):
            raise InputError(_does_not_fit(study, pack.sweep, pack.num_runs)) from None
        raise
    fitted = trained.fitted
    if fitted.signal:
        return PackEnd("stopped", fitted.step, fitted.signal)
    if is_ranked_later(study, pack):
        with locked(folder, wait=True):
            if not has_codes(folder, study, pack):
                effort = Effort(study.num_train, study.num_test)
                save_codes(folder, encode_drawn(experiment, trained.program, fitted.carry, effort))
    return PackEnd("finished", fitted.step, 0)


def plan_study(
    workdir: pathlib.Path,
    study: Study,
    *,
    runs_per_device: int | None = None,
    deterministic: bool = True,
    allow_inexact_resume: bool = False,
) -> tuple[Study, Plan]:
    """Cuts a study into packs, once; where a plan stands already, verifies that it serves.

    Args:
      workdir: The study's directory, or where it is to be.
      study: What is asked. Its metrics may differ from those of an earlier start.
      runs_per_device: Of a pack; None has it measured.
      deterministic: Whether accelerators were asked for the same bits at every call.
      allow_inexact_resume: Whether a plan of other versions or hardware serves.

    Returns:
      The study, its metrics named, and the plan.

    Raises:
      InputError: If the directory holds something else, data or settings are not as expected,
        or memory does not hold one run. Nothing has been written then.
    """
    _check_place(workdir)
    standing = read_study(workdir)
    if standing:
        check_same_study(workdir, standing, study)
    splits = [_build(_key(settings)).splits for settings in study.sweeps]
    study = settle_metrics(study, splits)
    with locked(workdir, wait=True):
        plan = read_plan(workdir, study) if read_study(workdir) else None
        if plan is None:
            measured = _measure(study, runs_per_device)
            count = runs_per_device or _choose(study, measured)
            devices = jax.local_device_count()
            plan = Plan(
                cut(study, count * devices),
                count,
                devices,
                tuple(m._asdict() for m in measured),
                _machine(deterministic),
            )
            write_study(workdir, study)
            write_plan(workdir, plan)
        else:
            if runs_per_device not in (None, plan.runs_per_device):
                raise InputError(
                    f"expected runs_per_device to be {plan.runs_per_device}, with which {workdir} "
                    f"was planned, or auto; got {runs_per_device}"
                )
            if not allow_inexact_resume:
                check_machine(workdir, plan, _machine(deterministic))
            write_study(workdir, study)
    return study, plan


def _check_place(workdir: pathlib.Path) -> None:
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"expected workdir {workdir} to be a directory; it is a file")
    entries = sorted(p.name for p in workdir.iterdir()) if workdir.exists() else []
    foreign = [name for name in entries if name.removesuffix(".new") not in _OURS]
    if foreign and STUDY not in entries:
        raise InputError(
            f"expected workdir {workdir} to be empty or a study; it holds {foreign[0]}"
        )


def _machine(deterministic: bool) -> dict[str, Any]:
    """What the bits of all packs depend on; on accelerators the number of devices too."""
    machine = describe_machine(deterministic=deterministic)
    if jax.default_backend() != "cpu":
        machine["num_devices"] = jax.local_device_count()
    return machine


def _measure(study: Study, given: int | None) -> list[Measured]:
    """Measures the sweep whose runs are the largest; a given count too, where it may not fit."""
    backend, devices = jax.default_backend(), jax.local_device_count()
    if given and backend in _TAKING_TURNS:
        return []
    sweep = _heaviest(study)
    most = max(num_runs(_build(_key(s)).runs) for s in study.sweeps)
    if given:
        counts = [min(given, -(-most // devices))]
    else:
        turns = backend in _TAKING_TURNS
        counts = counts_to_try(most, _most_seeds(study), devices, takes_turns=turns)
    seconds = _SECONDS_MEASURED.get(backend, _SECONDS_ELSEWHERE)
    measured = measure_counts(_build(_key(study.sweeps[sweep])), counts, seconds=seconds)
    if given and measured[0].images_per_second is None:
        raise InputError(_does_not_fit(study, sweep, counts[0]))
    return measured


def _choose(study: Study, measured: list[Measured]) -> int:
    wanted = -(-_most_seeds(study) // jax.local_device_count())
    count = choose_count(measured, wanted)
    if count is None:
        raise InputError(_does_not_fit(study, _heaviest(study), 1))
    return count


def _most_seeds(study: Study) -> int:
    return max(len(settings.seed) for settings in study.sweeps)


def _heaviest(study: Study) -> int:
    """The sweep whose runs carry the most numbers from step to step."""

    def size(settings: Settings) -> int:
        experiment = _build(_key(settings))
        program = program_of(experiment)
        feed = feed_of(experiment, program)
        template = carry_template(program, take_rows(experiment.runs, 0, 1), feed.arrays(0))
        feed.close()
        return sum(leaf.size for leaf in jax.tree.leaves(template)) * settings.batch_size

    sizes = [size(settings) for settings in study.sweeps]
    return sizes.index(max(sizes))


def _does_not_fit(study: Study, sweep: int, runs: int) -> str:
    settings = study.sweeps[sweep]
    return (
        f"expected the memory of a device to hold {'one run' if runs == 1 else f'{runs} runs'} "
        f"of {settings.objective}; it does not (a smaller batch_size than {settings.batch_size}, "
        "device_memory_mb for the data, or fewer --runs_per_device)"
    )


def _key(settings: Settings) -> str:
    return json.dumps(settings._asdict())


@functools.lru_cache(maxsize=1)
def _load(key: str) -> Splits:
    return load_splits(Settings(**json.loads(key)))


@functools.lru_cache(maxsize=16)  # the data is the same object in those that share it
def _build(key: str) -> Experiment:
    settings = Settings(**json.loads(key))
    data = {name: getattr(settings, name) for name in _DATA}
    return build(settings, _load(json.dumps(data)))


@functools.lru_cache(maxsize=2)
def _program(key: str, runs: int) -> Program:
    experiment = _build(key)
    return program_of(experiment._replace(runs=take_rows(experiment.runs, 0, runs)))
