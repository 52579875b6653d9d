"""One progress bar over a study, with the time left as far as it is known."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from betavae_jax.study.grid import Study, labels_of
from betavae_jax.study.ledger import FINISHED, PackState
from betavae_jax.study.plan import Pack


class Pace(NamedTuple):
    """What was measured of one sweep."""

    seconds: float = 0.0  # of training
    steps: float = 0.0  # of all runs, in that time
    overhead: float = 0.0  # seconds of compiling, evaluating and scoring
    packs: int = 0  # with that overhead


def seconds_left(
    paces: Mapping[str, Pace], steps: Mapping[str, float], packs: Mapping[str, int]
) -> tuple[float | None, list[str]]:
    """Estimates the time left.

    Args:
      paces: What was measured of each sweep; those without steps are not known.
      steps: Steps of all runs that each sweep has still to do.
      packs: Packs that each sweep has still to finish.

    Returns:
      Seconds, None until the pace of one sweep is known; and the sweeps that are still to run
      but not known, which are taken to be as fast as the others are on average.
    """
    known = {name: pace for name, pace in paces.items() if pace.steps > 0}
    if not known:
        return None, [name for name, number in steps.items() if number > 0]
    mean = sum(p.seconds for p in known.values()) / sum(p.steps for p in known.values())
    ended = sum(p.packs for p in paces.values())
    usual = sum(p.overhead for p in paces.values()) / ended if ended else 0.0
    left = 0.0
    for name, number in steps.items():
        pace = known.get(name)
        left += number * (pace.seconds / pace.steps if pace else mean)
        left += packs[name] * (pace.overhead / pace.packs if pace and pace.packs else usual)
    return left, [name for name, number in steps.items() if number > 0 and name not in known]


def say_left(seconds: float | None, unknown: Sequence[str]) -> str:
    """The time left in words."""
    if seconds is None:
        return "time left: measuring"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02d}:{rest:02d} left"
    return f"{text}, {', '.join(unknown)} not measured yet" if unknown else text


class StudyBar:
    """A bar over the steps of all runs of some packs; several may run at the same time."""

    def __init__(
        self, study: Study, states: Sequence[PackState], *, workers: int = 1, show: bool = True
    ) -> None:
        """Opens the bar at what the ledger says.

        Args:
          study: What was asked.
          states: The packs that the bar covers.
          workers: How many packs are trained at the same time.
          show: Whether to draw it.
        """
        self._labels = labels_of(study)
        self._num_steps = [settings.num_steps for settings in study.sweeps]
        self._packs = {state.pack.number: state.pack for state in states}
        self._done = {state.pack.number: state.step for state in states}
        self._open = {s.pack.number for s in states if s.state != FINISHED}
        self._begun: dict[int, tuple[float, float, int]] = {}  # times of start, first chunk; step
        self._paces: dict[str, Pace] = {}
        self.workers = workers  # whoever follows them may change it
        self._bar: Any = tqdm(
            total=sum(p.num_runs * self._num_steps[p.sweep] for p in self._packs.values()),
            initial=sum(self._packs[k].num_runs * step for k, step in self._done.items()),
            unit="step",
            unit_scale=True,
            disable=not show,
            mininterval=0.2 if sys.stderr.isatty() else 10.0,
            dynamic_ncols=True,
            bar_format="{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}",
            postfix=say_left(None, []),
        )

    def begin(self, number: int) -> None:
        """A pack is taken up."""
        now = time.monotonic()
        self._begun[number] = (now, 0.0, -1)
        pack = self._packs[number]
        self._bar.set_description(f"pack {number}, {self._labels[pack.sweep]}", refresh=True)

    def at(self, number: int, step: int) -> None:
        """A pack has done so many steps."""
        pack, now = self._packs[number], time.monotonic()
        start, since, before = self._begun.get(number, (now, 0.0, -1))
        if before >= 0 and step > before:
            pace = self._pace(pack)
            steps = pace.steps + (step - before) * pack.num_runs
            self._paces[self._labels[pack.sweep]] = pace._replace(
                seconds=pace.seconds + now - since, steps=steps
            )
            start += now - since  # what remains of the time is overhead
        self._begun[number] = (start, now, step)
        moved = (step - self._done[number]) * pack.num_runs
        self._done[number] = step
        self._say()
        self._bar.update(moved)

    def hold(self, text: str) -> None:
        """Nothing is trained meanwhile, for this reason."""
        self._bar.set_description(text, refresh=True)

    def tell(self, text: str) -> None:
        """A line above the bar."""
        self._bar.write(text, file=sys.stderr)

    def end(self, number: int) -> None:
        """A pack is finished."""
        pack = self._packs[number]
        start, _, before = self._begun.pop(number, (0.0, 0.0, -1))
        if before >= 0:
            pace = self._pace(pack)
            overhead = pace.overhead + time.monotonic() - start
            self._paces[self._labels[pack.sweep]] = pace._replace(
                overhead=overhead, packs=pace.packs + 1
            )
        self._open.discard(number)
        moved = (self._num_steps[pack.sweep] - self._done[number]) * pack.num_runs
        self._done[number] = self._num_steps[pack.sweep]
        self._say()
        self._bar.update(moved)

    def close(self) -> None:
        """Closes the bar."""
        self._bar.close()

    def _pace(self, pack: Pack) -> Pace:
        return self._paces.get(self._labels[pack.sweep], Pace())

    def _say(self) -> None:
        steps = dict.fromkeys(self._labels, 0.0)
        packs = dict.fromkeys(self._labels, 0)
        for number in self._open:
            pack = self._packs[number]
            label = self._labels[pack.sweep]
            steps[label] += (self._num_steps[pack.sweep] - self._done[number]) * pack.num_runs
            packs[label] += 1
        seconds, unknown = seconds_left(self._paces, steps, packs)
        left = None if seconds is None else seconds / self.workers
        self._bar.set_postfix_str(say_left(left, unknown), refresh=False)
