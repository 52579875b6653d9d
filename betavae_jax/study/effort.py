"""How much the scores of a study cost: the same for all of its table."""

import pathlib
from collections.abc import Mapping

from betavae_jax.checks import InputError
from betavae_jax.evaluation import Effort, expand_names
from betavae_jax.runs.directory import locked
from betavae_jax.study.grid import EFFORT, Study
from betavae_jax.study.ledger import read_ledger
from betavae_jax.study.plan import PACKS, Plan, may_be_scored, read_study, write_study


def check_effort(workdir: pathlib.Path, old: Study, new: Study, plan: Plan) -> None:
    """Raises InputError where scores are made, or stand, of other numbers of rows.

    Args:
      workdir: The study's directory, locked.
      old: What it holds.
      new: What is asked.
      plan: Its plan.
    """
    before, after = (
        ", ".join(f"{name}={getattr(study, name)}" for name in EFFORT) for study in (old, new)
    )
    if before != after and (may_be_scored(workdir) or _has_scores(workdir, old, plan)):
        raise InputError(
            f"expected {before}, with which scores of {workdir} are made; got {after} "
            "(choose another --workdir)"
        )


def _has_scores(workdir: pathlib.Path, study: Study, plan: Plan) -> bool:
    rows = [row for state in read_ledger(workdir, study, plan) for row in state.rows]
    scores = set(expand_names(["all", "fast"]))  # what else is measured is of all examples
    return any(scores & {*row["metrics"], *row.get("unscored", {})} for row in rows)


def settle_effort(folder: pathlib.Path, effort: Effort, named: Mapping[str, str]) -> Effort:
    """How the runs of a directory are to be scored: those of a pack as their study says.

    The study keeps to it from then on.

    Args:
      folder: A run directory.
      effort: What is asked for.
      named: Those of its fields that were asked for by name, and how they are called.

    Returns:
      The effort.

    Raises:
      InputError: If another was named than that of the study.
    """
    workdir = folder.resolve().parent.parent
    if folder.resolve().parent.name != PACKS or read_study(workdir) is None:
        return effort
    with locked(workdir, wait=True):
        study = read_study(workdir)
        if study is None:  # removed just now
            return effort
        own = Effort(study.num_train, study.num_test, jobs=effort.jobs)
        differ = [field for field in named if getattr(effort, field) != getattr(own, field)]
        if differ:
            expected, got = (
                ", ".join(f"{named[field]}={getattr(each, field)}" for field in differ)
                for each in (own, effort)
            )
            raise InputError(
                f"expected {expected}, as all scores of the study {workdir} are made; got {got} "
                f"(a copy of {folder} elsewhere is scored with any)"
            )
        write_study(workdir, study, scored=True)
    return own
