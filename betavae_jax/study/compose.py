"""The results of a study: the table of all runs, figures, one page."""

import os
import pathlib

from betavae_jax.checks import InputError
from betavae_jax.runs.directory import FIGURES, REPORT, RESULTS, locked
from betavae_jax.runs.records import naming, sync_folder
from betavae_jax.study.figures import draw_figures
from betavae_jax.study.ledger import CODES, FINISHED, read_ledger
from betavae_jax.study.page import write_page
from betavae_jax.study.plan import load_study, pack_directory, read_plan, read_study
from betavae_jax.study.ranking import rank_across_packs
from betavae_jax.study.table import CSV, PARQUET, table_of, write_csv, write_parquet


def compose_when_finished(workdir: pathlib.Path) -> pathlib.Path | None:
    """Composes the results where every pack is finished, unless they stand already.

    Returns:
      The path of the page; None where a pack is not finished.
    """
    study = read_study(workdir)
    plan = read_plan(workdir, study) if study else None
    if study is None or plan is None:
        return None
    with locked(workdir, wait=True):
        if any(s.state != FINISHED for s in read_ledger(workdir, study, plan)):
            return None
        folders = [pack_directory(workdir, pack.number) for pack in plan.packs]
        made_of = [folder / name for folder in folders for name in (RESULTS, CODES)]
        newest = max(path.stat().st_mtime_ns for path in made_of if path.exists())
        made = [workdir / name for name in (CSV, PARQUET, REPORT)]
        if not all(_stands(path, newest) for path in made):
            compose(workdir)
            for path in made:  # no newer than what was read: what changed meanwhile is seen
                os.utime(path, ns=(newest, newest))
        return workdir / REPORT


def _stands(path: pathlib.Path, newest: int) -> bool:
    """Whether a result is there, and no older than the newest that it is made of."""
    return path.exists() and path.stat().st_size > 0 and path.stat().st_mtime_ns >= newest


def compose(workdir: pathlib.Path) -> pathlib.Path:
    """Writes the results of a study whose packs are all finished.

    Args:
      workdir: The study's directory, locked.

    Returns:
      The page.

    Raises:
      InputError: If it is no study, or a pack is not finished.
    """
    study, plan = load_study(workdir)
    states = read_ledger(workdir, study, plan)
    open_packs = [state.pack.number for state in states if state.state != FINISHED]
    if open_packs:
        raise InputError(f"expected every pack of {workdir} to be finished; got {open_packs[:8]}")
    states = rank_across_packs(workdir, study, states)
    rows = table_of(workdir, study, states)
    write_csv(workdir / CSV, rows)
    write_parquet(workdir / PARQUET, rows)
    with naming(workdir / FIGURES):
        figures = draw_figures(workdir, rows)
    sync_folder(workdir / FIGURES)
    return write_page(workdir, study, plan, states, rows, figures)  # last: the others stand then
