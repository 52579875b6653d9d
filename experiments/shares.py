"""The share of a study that one process trains."""

import functools
import pathlib
import time
from collections.abc import Sequence

from betavae_jax.checks import InputError
from betavae_jax.study.grid import Study
from betavae_jax.study.ledger import FINISHED, read_ledger, read_pack
from betavae_jax.study.plan import Pack, Plan
from experiments.cli import EXIT_TERMINATED
from experiments.packs import PackEnd, run_pack
from experiments.study_bar import StudyBar

# Seconds before each further try of a pack that another process holds: two minutes in all, which
# outlast the lease of a lock whose node is lost.
WAITS = tuple(2.0**k for k in range(7))
_AT_ONCE = (0.0,)
_NAMED = 8  # packs in a line


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
    waits: Sequence[float] = _AT_ONCE,
    deterministic: bool = True,
    allow_inexact_resume: bool = False,
) -> PackEnd:
    """Trains packs one after another; those that another process holds are tried again last.

    Args:
      workdir: The study's directory.
      study: The study.
      packs: Those to train, finished or not.
      waits: Seconds before each further try of what others hold.
      deterministic: Whether accelerators were asked for the same bits at every call.
      allow_inexact_resume: Whether to go on although versions or hardware have changed.

    Returns:
      The end that stopped it: of a signal, with the steps done of that pack; or `finished`; or
      `busy`, where others hold a pack still.
    """
    bits = {"deterministic": deterministic, "allow_inexact_resume": allow_inexact_resume}
    states = [read_pack(workdir, study, pack) for pack in packs]
    waiting = [state.pack.number for state in states if state.state != FINISHED]
    end = PackEnd("finished", 0, 0)
    if not waiting:
        return end
    bar = StudyBar(study, states)
    try:
        for wait in (0.0, *waits):
            if wait:
                bar.hold(f"{say_in_use(waiting)}, tried again in {wait:g} s")
                time.sleep(wait)  # a signal ends it
            held: list[int] = []
            for number in waiting:
                bar.begin(number)
                end = run_pack(workdir, number, functools.partial(bar.at, number), **bits)
                if end.signal:
                    return end
                if end.status == "busy":
                    held.append(number)
                else:
                    bar.end(number)
            waiting = held
            if not waiting:
                break
        return PackEnd("busy" if waiting else "finished", end.step, 0)
    finally:
        bar.close()


# Packs of a shard are nobody else's: what holds one has to let it go, or somebody to come back.
train_shard = functools.partial(train_packs, waits=WAITS)


def say_in_use(numbers: Sequence[int]) -> str:
    """That another process holds packs, which are one at least."""
    listed = ", ".join(map(str, numbers[:_NAMED])) + (", …" if len(numbers) > _NAMED else "")
    subject = f"packs {listed} are" if len(numbers) > 1 else f"pack {listed} is"
    return f"{subject} in use by another process"


def say_unfinished(workdir: pathlib.Path, study: Study, plan: Plan, own: Sequence[Pack]) -> int:
    """Says how much of a study is finished, where not all of it is.

    Args:
      workdir: The study's directory.
      study: The study.
      plan: Its plan.
      own: The packs that nobody but this process is to train.

    Returns:
      The exit code: of those own packs that others hold somebody has to come back to.
    """
    states = read_ledger(workdir, study, plan)
    finished = sum(state.state == FINISHED for state in states)
    done = f"{finished} of {len(states)} packs are finished"
    left = [pack.number for pack in own if states[pack.number].state != FINISHED]
    if not left:
        print(f"{done}; others still work")
        return 0
    print(f"{done}; {say_in_use(left)}, run again to go on")
    return EXIT_TERMINATED
