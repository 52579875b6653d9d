"""UDR of runs whose like were trained in other packs."""

import pathlib
from collections.abc import Sequence

import numpy as np

from betavae_jax.evaluation import outcome_of, rank_runs, say, with_score
from betavae_jax.runs.records import naming, replacing
from betavae_jax.study.grid import Study
from betavae_jax.study.ledger import CODES, UDR, PackState, has_codes, has_like_elsewhere
from betavae_jax.study.plan import pack_directory


def save_codes(folder: pathlib.Path, codes: np.ndarray) -> None:
    """Keeps the codes `[R, N, D]` of a pack for the ranking, whole or not at all."""
    with replacing(folder / CODES) as beside, beside.open("wb") as file:
        np.save(file, codes.astype(np.float32))


def _read_codes(path: pathlib.Path) -> np.ndarray:
    with naming(path):
        return np.asarray(np.load(path))


def rank_across_packs(
    workdir: pathlib.Path, study: Study, states: Sequence[PackState]
) -> list[PackState]:
    """Adds UDR to runs that a pack could not rank alone.

    Args:
      workdir: The study's directory.
      study: What was asked.
      states: The packs, finished.

    Returns:
      The packs; each run has `udr` under `metrics`, or the reason why not under `unscored`, where
      its codes stand, whether or not UDR was asked for this time, and those of all its like.
    """
    found = list(states)
    for sweep in range(len(study.sweeps)):
        own = [s for s in states if s.pack.sweep == sweep and has_like_elsewhere(study, s.pack)]
        folders = [pack_directory(workdir, state.pack.number) for state in own]
        stand = [has_codes(f, study, s.pack) for f, s in zip(folders, own, strict=True)]
        if not own or not all(stand):
            continue
        rows = [row for state in own for row in state.rows]
        codes = np.concatenate([_read_codes(folder / CODES) for folder in folders])
        kl = np.asarray([row["kl_per_latent"] for row in rows], np.float64)  # None becomes NaN
        kinds = np.asarray([[*row["coefficients"].values(), row["learning_rate"]] for row in rows])
        stopped = np.asarray([row["failed_at"] is not None for row in rows])
        ranked = rank_runs(kinds, codes, kl, stopped, "all runs of the objective")
        told = iter(
            with_score(row, say(row["run"], UDR, outcome_of(one, UDR), []))
            for row, one in zip(rows, ranked, strict=True)
        )
        for state in own:
            found[state.pack.number] = state._replace(rows=[next(told) for _ in state.rows])
    return found
