"""How far each pack of a study has come, read from its directory."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.population import num_runs
from betavae_jax.runs.checkpoints import steps_in
from betavae_jax.runs.directory import CHECKPOINTS, CONFIG, LOG, read_results
from betavae_jax.runs.records import read_log
from betavae_jax.runs.settings import grid_of
from betavae_jax.study.grid import Study
from betavae_jax.study.plan import Pack, Plan, pack_directory

ABSENT, BEGUN, TRAINED, FINISHED = "absent", "begun", "trained", "finished"
CODES = "codes.npy"  # of a pack whose runs are ranked with those of others: [R, N, D] float32
UDR = "udr"
_NOT_SCALARS = ("step", "run", "kl_per_latent")


class PackState(NamedTuple):
    """How far a pack has come."""

    pack: Pack
    state: str  # absent, begun, trained (not all scores are there), finished
    step: int  # of its latest checkpoint
    rows: Sequence[Mapping[str, Any]]  # of `results.json`, once it is trained


def read_ledger(workdir: pathlib.Path, study: Study, plan: Plan) -> list[PackState]:
    """Reads the state of every pack; writes nothing."""
    return [read_pack(workdir, study, pack) for pack in plan.packs]


def read_pack(workdir: pathlib.Path, study: Study, pack: Pack) -> PackState:
    """Reads the state of one pack."""
    folder = pack_directory(workdir, pack.number)
    if not (folder / CONFIG).exists():
        return PackState(pack, ABSENT, 0, [])
    num_steps = study.sweeps[pack.sweep].num_steps
    results = read_results(folder)
    rows: list[Mapping[str, Any]] = results["runs"] if results else []
    if len(rows) == pack.num_runs and all(_is_done(row, num_steps) for row in rows):
        names = scored_in_pack(study, pack)
        scored = all(is_scored(row, names) for row in rows)
        scored &= not is_ranked_later(study, pack) or has_codes(folder, study, pack)
        return PackState(pack, FINISHED if scored else TRAINED, num_steps, rows)
    return PackState(pack, BEGUN, max(steps_in(folder / CHECKPOINTS), default=0), [])


def is_ranked_later(study: Study, pack: Pack) -> bool:
    """Whether UDR is asked for, and some of the runs that it compares are in other packs."""
    return UDR in study.metrics and has_like_elsewhere(study, pack)


def has_like_elsewhere(study: Study, pack: Pack) -> bool:
    """Whether some of the runs that UDR compares with those of a pack are in other packs."""
    settings = study.sweeps[pack.sweep]
    if 2 <= len(settings.seed) <= pack.num_runs:
        return False
    return pack.num_runs < num_runs(grid_of(settings))


def scored_in_pack(study: Study, pack: Pack) -> list[str]:
    """The metrics of a study that its pack can be scored on alone."""
    later = is_ranked_later(study, pack)
    return [name for name in study.metrics if not (later and name == UDR)]


def has_codes(folder: pathlib.Path, study: Study, pack: Pack) -> bool:
    """Whether the codes that UDR compares stand in the directory of a pack."""
    try:
        shape = np.load(folder / CODES, mmap_mode="r").shape
    except (OSError, ValueError, EOFError):
        return False
    # Of a set that has no more examples, they are fewer than what is asked for.
    return len(shape) == 3 and shape[0] == pack.num_runs and 0 < shape[1] <= study.num_train


def _is_done(row: Mapping[str, Any], num_steps: int) -> bool:
    return row["failed_at"] is not None or row["step"] >= num_steps


def is_scored(row: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether a run has every score, or the reason why it has not."""
    return all(name in row["metrics"] or name in row.get("unscored", {}) for name in names)


def causes_of_failure(folder: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """What was not finite of each run that stopped, by run: the terms of its last line."""
    failed = {row["run"] for row in rows if row["failed_at"] is not None}
    if not failed:
        return {}
    last = {line["run"]: line for line in read_log(folder / LOG) if line["run"] in failed}
    causes = {}
    for run in sorted(failed):
        terms = last.get(run, {})
        bad = [k for k, v in terms.items() if v is None and k not in _NOT_SCALARS]
        named = [name for name in bad if name not in ("elbo", "grad_norm")] or bad
        causes[run] = f"{', '.join(named)} not finite" if named else "not finite"
    return causes
