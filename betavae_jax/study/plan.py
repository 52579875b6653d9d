"""How a study is cut into packs: once, before the first step, in `plan.json`."""

import itertools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from betavae_jax.checks import InputError
from betavae_jax.population import num_runs
from betavae_jax.runs.records import differences, write_json
from betavae_jax.runs.settings import Settings, grid_of
from betavae_jax.study.grid import Study, labels_of

STUDY, PLAN, PACKS = "study.json", "plan.json", "packs"
_FORMAT = 1
_SCORED = "scored"


class Pack(NamedTuple):
    """Rows of one sweep that are trained together."""

    number: int
    sweep: int
    first: int
    last: int  # exclusive

    @property
    def num_runs(self) -> int:
        """How many runs it holds."""
        return self.last - self.first


class Plan(NamedTuple):
    """The packs of a study, and what they were made for."""

    packs: tuple[Pack, ...]
    runs_per_device: int
    num_devices: int  # of the process that made it
    measured: tuple[Mapping[str, Any], ...]  # images/s of each count tried, where it was measured
    machine: Mapping[str, Any]  # as `describe_machine` gives it


def pack_directory(workdir: pathlib.Path, number: int) -> pathlib.Path:
    """Where a pack is trained."""
    return workdir / PACKS / f"{number:03d}"


def cut(study: Study, most_runs: int) -> tuple[Pack, ...]:
    """Cuts a study into packs of at most `most_runs`.

    The seeds of one setting stay together where a pack holds them all; otherwise each setting is
    cut apart from the others. Packs of one sweep are as equal in size as that allows.

    Args:
      study: What to cut.
      most_runs: Runs that one program holds, on all devices together.

    Returns:
      The packs, sweep by sweep, in the order of the grid.
    """
    packs: list[Pack] = []
    for number, settings in enumerate(study.sweeps):
        seeds = len(settings.seed)
        groups = num_runs(grid_of(settings)) // seeds
        if seeds <= most_runs:
            sizes = [seeds * part for part in _parts(groups, most_runs // seeds)]
        else:
            sizes = _parts(seeds, most_runs) * groups
        bounds = [0, *itertools.accumulate(sizes)]
        packs += [
            Pack(len(packs) + k, number, first, last)
            for k, (first, last) in enumerate(itertools.pairwise(bounds))
        ]
    return tuple(packs)


def _parts(total: int, most: int) -> list[int]:
    """Splits `total` into the fewest parts of at most `most`, which differ by one at most."""
    count = math.ceil(total / most)
    return [total // count + (k < total % count) for k in range(count)]


def write_study(workdir: pathlib.Path, study: Study, *, scored: bool = False) -> None:
    """Writes `study.json`.

    Args:
      workdir: The study's directory, locked.
      study: The study.
      scored: Whether scores may be made from now on though it names no metrics.
    """
    scored = scored or bool(study.metrics) or may_be_scored(workdir)
    write_json(workdir / STUDY, {"format": _FORMAT, **_plain(study), _SCORED: scored})


def may_be_scored(workdir: pathlib.Path) -> bool:
    """Whether somebody may be making scores, so that what they cost is no longer to change."""
    content = _read(workdir / STUDY) or {}
    return bool(content.get(_SCORED, content.get("metrics")))


def _plain(study: Study) -> dict[str, Any]:
    plain = {**study._asdict(), "sweeps": [settings._asdict() for settings in study.sweeps]}
    # Through JSON, so that tuples and lists compare as the file holds them.
    return dict(json.loads(json.dumps(plain)))


def read_study(workdir: pathlib.Path) -> Study | None:
    """Reads `study.json`; None where there is none.

    Raises:
      InputError: If it is not what a study writes.
    """
    content = _read(workdir / STUDY)
    if content is None:
        return None
    try:
        sweeps = tuple(Settings(**settings) for settings in content["sweeps"])
        return Study(sweeps, tuple(content["metrics"]), content["num_train"], content["num_test"])
    except (KeyError, TypeError) as error:
        raise InputError(f"expected {workdir / STUDY} to be a study; {error}") from None


def check_same_study(workdir: pathlib.Path, old: Study, new: Study) -> None:
    """Raises InputError, naming what differs, unless the runs of two studies are the same."""
    was, now = labels_of(old), labels_of(new)
    different = differences(_by_name(old), _by_name(new))
    if was != now:
        different = [f"its objectives were {', '.join(was)}, are {', '.join(now)}"]
    if different:
        raise InputError(
            f"expected the study that {workdir} holds; got another: {'; '.join(different[:3])} "
            "(choose another --workdir)"
        )


def _by_name(study: Study) -> dict[str, Any]:
    """Every setting of every sweep."""
    sweeps = zip(labels_of(study), _plain(study)["sweeps"], strict=True)
    return {f"{name} of {label}": value for label, sweep in sweeps for name, value in sweep.items()}


def describe_plan(workdir: pathlib.Path, study: Study, plan: Plan) -> str:
    """How a study was cut, in a line."""
    runs, packs = sum(pack.num_runs for pack in plan.packs), len(plan.packs)
    text = f"{workdir}: {runs} run{'s' if runs > 1 else ''} of {', '.join(labels_of(study))}"
    text += f" in {packs} pack{'s' if packs > 1 else ''}"
    speeds = [f"{m['runs_per_device']}: {m['images_per_second'] or 0:,.0f}" for m in plan.measured]
    return f"{text}; images/s by runs a device {', '.join(speeds)}" if speeds else text


def write_plan(workdir: pathlib.Path, plan: Plan) -> None:
    """Writes `plan.json`, whole or not at all."""
    packs = [pack._asdict() for pack in plan.packs]
    write_json(workdir / PLAN, {"format": _FORMAT, **plan._asdict(), "packs": packs})


def read_plan(workdir: pathlib.Path, study: Study) -> Plan | None:
    """Reads `plan.json`; None where there is none.

    Raises:
      InputError: If it is damaged, or does not hold every run of the study once.
    """
    path = workdir / PLAN
    content = _read(path)
    if content is None:
        return None
    try:
        packs = tuple(Pack(**pack) for pack in content["packs"])
        plan = Plan(
            packs,
            int(content["runs_per_device"]),
            int(content["num_devices"]),
            tuple(content["measured"]),
            dict(content["machine"]),
        )
        _check_whole(study, packs)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"expected {path} to be the plan of this study; {error}") from None
    return plan


def _check_whole(study: Study, packs: Sequence[Pack]) -> None:
    at = [0] * len(study.sweeps)
    for number, pack in enumerate(packs):
        if pack.number != number or not 0 <= pack.sweep < len(at):
            raise ValueError(f"its pack {number} is another")
        if pack.first != at[pack.sweep] or pack.last <= pack.first:
            raise ValueError(f"the rows of its pack {number} do not follow those before")
        at[pack.sweep] = pack.last
    wanted = [num_runs(grid_of(settings)) for settings in study.sweeps]
    if at != wanted:
        raise ValueError(f"it holds {sum(at)} runs of {sum(wanted)}")


def check_machine(workdir: pathlib.Path, plan: Plan, machine: Mapping[str, Any]) -> None:
    """Raises InputError unless packs made for one machine run alike on another."""
    different = differences(plan.machine, machine)
    if different:
        raise InputError(
            f"expected the versions and hardware that {workdir / PLAN} was made with; got "
            f"{'; '.join(different)} (--allow_inexact_resume goes on, without the same bits)"
        )


def _read(path: pathlib.Path) -> Any:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise InputError(f"expected {path} to be JSON; {error}") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"expected {path} of format {_FORMAT}; got another")
    return content


def load_study(workdir: pathlib.Path) -> tuple[Study, Plan]:
    """Reads a study that has been planned.

    Raises:
      InputError: If there is none.
    """
    study = read_study(workdir)
    plan = read_plan(workdir, study) if study else None
    if study is None or plan is None:
        raise InputError(f"expected {workdir} to be a study with a plan; it is none")
    return study, plan
