"""Planning a study: what is asked, verified, measured and cut into packs."""

import pathlib

import jax

from betavae_jax.checks import InputError
from betavae_jax.population import num_runs, take_rows
from betavae_jax.runs.directory import FIGURES, REPORT, locked
from betavae_jax.runs.settings import Settings
from betavae_jax.study.effort import check_effort
from betavae_jax.study.grid import Study, settle_metrics
from betavae_jax.study.measure import (
    Measured,
    check_fits,
    choose_count,
    counts_to_try,
    measure_counts,
    memory_of,
)
from betavae_jax.study.plan import (
    PACKS,
    PLAN,
    STUDY,
    Plan,
    check_machine,
    check_same_study,
    cut,
    read_plan,
    read_study,
    write_plan,
    write_study,
)
from betavae_jax.study.table import CSV, PARQUET
from experiments.built import experiment_of, machine_of, program_for, say_too_large

_OURS = (STUDY, PLAN, PACKS, CSV, PARQUET, FIGURES, REPORT, ".lock")
_TAKING_TURNS = ("cpu",)  # backends on which one more run of a device needs next to no memory
_SECONDS_MEASURED = {"cpu": 15.0}  # where runs take turns there is little to find
_SECONDS_ELSEWHERE = 300.0


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
      study: What is asked. Its metrics may differ from those of an earlier start; its effort too,
        until there may be scores.
      runs_per_device: Of a pack; None has it measured.
      deterministic: Whether accelerators were asked for the same bits at every call.
      allow_inexact_resume: Whether a plan of other versions or hardware serves.

    Returns:
      The study, its metrics named, and the plan.

    Raises:
      InputError: If the directory holds something else or is scored with another effort, data or
        settings are not as expected, or memory does not hold one run, or as many as asked for.
        Nothing has been written then.
    """
    _check_place(workdir)
    _read_same_study(workdir, study)
    splits = [experiment_of(settings).splits for settings in study.sweeps]
    study = settle_metrics(study, splits)
    with locked(workdir, wait=True):
        standing = _read_same_study(workdir, study)  # another may have planned meanwhile
        plan = read_plan(workdir, study) if standing else None
        if plan is None:
            measured = _measure(study, runs_per_device)
            count = runs_per_device or _choose(study, measured)
            devices = jax.local_device_count()
            plan = Plan(
                cut(study, count * devices),
                count,
                devices,
                tuple(m._asdict() for m in measured),
                machine_of(deterministic=deterministic),
            )
            if not measured:
                _check_largest(study, plan)
            write_study(workdir, study)
            write_plan(workdir, plan)
        else:
            check_effort(workdir, standing or study, study, plan)
            if runs_per_device not in (None, plan.runs_per_device):
                raise InputError(
                    f"expected runs_per_device to be {plan.runs_per_device}, with which {workdir} "
                    f"was planned, or auto; got {runs_per_device}"
                )
            if not allow_inexact_resume:
                check_machine(workdir, plan, machine_of(deterministic=deterministic))
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


def _read_same_study(workdir: pathlib.Path, study: Study) -> Study | None:
    """What a directory holds; InputError where that is another study."""
    standing = read_study(workdir)
    if standing:
        check_same_study(workdir, standing, study)
    return standing


def _measure(study: Study, given: int | None) -> list[Measured]:
    """Measures the sweep that takes the most memory; a given count where runs take no turns."""
    backend, devices = jax.default_backend(), jax.local_device_count()
    if given and backend in _TAKING_TURNS:
        return []
    most = max(num_runs(experiment_of(s).runs) for s in study.sweeps)
    turns = backend in _TAKING_TURNS
    counts = counts_to_try(most, _most_seeds(study), devices, takes_turns=turns)
    settings, runs = _heaviest(study, given or counts[-1])
    if given:
        counts = [runs]
    seconds = _SECONDS_MEASURED.get(backend, _SECONDS_ELSEWHERE)
    measured = measure_counts(experiment_of(settings), counts, seconds=seconds)
    if measured[0].images_per_second is None:
        raise InputError(say_too_large(settings, counts[0]))
    return measured


def _check_largest(study: Study, plan: Plan) -> None:
    """Raises TooLargeError where a CPU does not hold a pack of the sweep that takes the most."""
    settings, _ = _heaviest(study, plan.runs_per_device)
    runs = max(pack.num_runs for pack in plan.packs if study.sweeps[pack.sweep] is settings)
    experiment = experiment_of(settings)
    largest = experiment._replace(runs=take_rows(experiment.runs, 0, runs))
    check_fits(largest, program_for(settings, runs))


def _choose(study: Study, measured: list[Measured]) -> int:
    wanted = -(-_most_seeds(study) // jax.local_device_count())
    return choose_count(measured, wanted)


def _most_seeds(study: Study) -> int:
    return max(len(settings.seed) for settings in study.sweeps)


def _heaviest(study: Study, most: int) -> tuple[Settings, int]:
    """The sweep whose packs take the most memory, and their runs on a device, `most` or fewer."""

    def weigh(settings: Settings) -> tuple[int, int]:
        experiment = experiment_of(settings)
        runs = min(most, -(-num_runs(experiment.runs) // jax.local_device_count()))
        return memory_of(experiment, runs), runs

    weights = [weigh(settings) for settings in study.sweeps]
    heaviest = weights.index(max(weights))
    return study.sweeps[heaviest], weights[heaviest][1]
