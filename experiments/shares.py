"""The share of a study that one process trains."""

import functools
import pathlib
from collections.abc import Sequence

from betavae_jax.checks import InputError
from betavae_jax.study.grid import Study
from betavae_jax.study.ledger import FINISHED, read_pack
from betavae_jax.study.plan import Pack
from experiments.packs import PackEnd, run_pack
from experiments.study_bar import StudyBar


def parse_shard(text: str) -> tuple[int, int]:
    """Reads I/N, the I-th of N shards, counted from 0.

    Raises:
      InputError: If it is something else.
    """
    first, _, number = text.partition("/")
    if not (first.isdecimal() and number.isdecimal() and int(first) < int(number)):
        raise InputError(f"expected shard to be I/N with I from 0 to N - 1; got {text!r}")
    return int(first), int(number)


def parse_count(text: str) -> int | None:
    """Reads a number of runs on each device; None for `auto`.

    Raises:
      InputError: If it is something else.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"expected runs_per_device to be auto or a number from 1; got {text!r}")
    return int(text)


def train_packs(
    workdir: pathlib.Path,
    study: Study,
    packs: Sequence[Pack],
    *,
    deterministic: bool = True,
    allow_inexact_resume: bool = False,
) -> PackEnd:
    """Trains packs one after another; those that another process holds are tried again last.

    Args:
      workdir: The study's directory.
      study: The study.
      packs: Those to train, finished or not.
      deterministic: Whether accelerators were asked for the same bits at every call.
      allow_inexact_resume: Whether to go on although versions or hardware have changed.

    Returns:
      The end that stopped it: of a signal, with the steps done of that pack; or `finished`; or
      `busy`, where others hold a pack still.
    """
    bits = {"deterministic": deterministic, "allow_inexact_resume": allow_inexact_resume}
    states = [read_pack(workdir, study, pack) for pack in packs]
    waiting = [state.pack for state in states if state.state != FINISHED]
    end = PackEnd("finished", 0, 0)
    if not waiting:
        return end
    bar = StudyBar(study, states)
    try:
        for _ in range(2):
            held: list[Pack] = []
            for pack in waiting:
                number = pack.number
                bar.begin(number)
                end = run_pack(workdir, number, functools.partial(bar.at, number), **bits)
                if end.signal:
                    return end
                if end.status == "busy":
                    held.append(pack)
                else:
                    bar.end(number)
            waiting = held
        return PackEnd("busy" if waiting else "finished", end.step, 0)
    finally:
        bar.close()
