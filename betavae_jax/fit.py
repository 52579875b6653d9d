"""The host loop: chunks of steps, progress, log, checkpoints, signals."""

import contextlib
import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from betavae_jax.feed import Feed, resident, taking_turns
from betavae_jax.memory import check_memory
from betavae_jax.population import (
    choose_devices,
    default_vectorized_runs,
    describe_run,
    num_runs,
    place_runs,
    replicate,
    take_runs,
)
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import Carry, Program, make_program
from betavae_jax.types import Arrays, Leaf, RunSettings, Terms

_LOGGER = logging.getLogger(__name__)

SECONDS_A_CHUNK = 5.0  # a signal is answered, and the bar moves, at least this often
_LONGEST_CHUNK = 10_000


class Hooks(NamedTuple):
    """What happens at the boundaries of chunks; steps are those done so far."""

    # Means over the interval [R, ...]; the carry.
    on_log: Callable[[int, Terms, Carry], None] = lambda _step, _means, _carry: None
    on_checkpoint: Callable[[int, Carry], None] = lambda _step, _carry: None  # host arrays [R, ...]
    on_chunk: Callable[[int], None] = lambda _step: None  # more often than the others


class Fitted(NamedTuple):
    """Where the loop ended."""

    carry: Carry  # on the devices
    step: int
    signal: int  # the signal that ended it, or 0


class Progress(NamedTuple):
    """What is fetched after each chunk, NumPy leaves `[R]` (`sums` as `Terms`)."""

    sums: Terms
    num_summed: Leaf
    failed_at: Leaf


def carry_template(program: Program, settings: RunSettings, arrays: Arrays) -> Carry:
    """The shapes and dtypes of a population's carry, leaves `[R, ...]`, without computing it."""
    runs = num_runs(settings)
    placed = place_runs(settings, program.devices)
    shapes = jax.eval_shape(program.init, placed, arrays)
    template: Carry = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct((runs, *s.shape[2:]), s.dtype), shapes
    )
    return template


@contextlib.contextmanager
def listen() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT; a second one acts at once, as if nobody listened."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)
        previous.clear()

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is None:
            continue  # of a program that embeds Python, as R does: it could not be given back
        with contextlib.suppress(ValueError):  # not the main thread: signals are not ours
            previous[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        restore()


def fit(
    program: Program,
    settings: RunSettings,
    feed: Feed,
    *,
    num_steps: int,
    start: tuple[int, Carry] | None = None,
    log_every: int = 50,
    checkpoint_every: int = 1_000,
    hooks: Hooks | None = None,
    show_progress: bool = True,
) -> Fitted:
    """Trains a population up to `num_steps`.

    Args:
      program: The compiled program.
      settings: One row a run, NumPy `[R]`.
      feed: The data; `resident(arrays)` of arrays placed on the program's devices.
      num_steps: Steps in all, those of `start` counted in.
      start: (step, carry as host arrays `[R, ...]`) to go on from.
      log_every: Steps between two calls of `on_log`.
      checkpoint_every: Steps between two calls of `on_checkpoint`, which also comes at the end
        and at a signal.
      hooks: What to do then.
      show_progress: Whether to draw a progress bar on standard error.

    Returns:
      Where it ended: at `num_steps`, at a signal, or when no run was left.

    Raises:
      TooLargeError: If the memory of a CPU does not hold the program; nothing was trained then.
    """
    hooks = hooks or Hooks()
    placed = place_runs(settings, program.devices)
    step = start[0] if start else 0
    if start and step >= num_steps:
        return Fitted(place_runs(start[1], program.devices), step, 0)
    chunk = 1
    with listen() as signals, _bar(step, num_steps, show_progress) as bar:
        bar.set_description("compiling")
        arrays = feed.arrays(step)
        carry = start_program(program, placed, arrays, start[1] if start else None)
        bar.set_description()
        bar.unpause()  # the estimate of the time left starts here
        known = fetch_progress(carry, num_runs(settings)).failed_at
        saved = step if start else -1
        while step < num_steps and not signals and np.any(known < 0):
            boundary = min(_after(step, log_every), _after(step, checkpoint_every), num_steps)
            count = int(min(boundary - step, chunk, feed.until(step) - step))
            arrays = feed.arrays(step)
            began = time.monotonic()
            carry = program.advance(carry, placed, arrays, _steps(program, count))
            progress = fetch_progress(carry, num_runs(settings))
            chunk = _next_chunk(count, time.monotonic() - began)
            step += count
            bar.update(count)
            hooks.on_chunk(step)
            known = _report_failures(settings, known, progress)
            _show_elbo(bar, progress)
            if step % log_every == 0 or step == num_steps or np.all(known >= 0):
                hooks.on_log(step, _means(progress), carry)
                carry = program.report(carry)
            if step % checkpoint_every == 0 and step < num_steps:
                hooks.on_checkpoint(step, take_runs(carry, num_runs(settings)))
                saved = step
        if step != saved:
            hooks.on_checkpoint(step, take_runs(carry, num_runs(settings)))
    return Fitted(carry, step, signals[0] if signals else 0)


def start_program(
    program: Program, placed: RunSettings, arrays: Arrays, start: Carry | None = None
) -> Carry:
    """Compiles a program, and places what its loop carries.

    Args:
      program: The program.
      placed: The settings, on its devices.
      arrays: The data, on its devices.
      start: Host arrays `[R, ...]` to go on from; without them the runs begin.

    Returns:
      The carry, no step taken.

    Raises:
      TooLargeError: If the memory of a CPU does not hold the program.
    """
    if start is None:
        check_memory(program.init, (placed, arrays), program.devices)
        carry = program.init(placed, arrays)
    else:
        carry = place_runs(start, program.devices)
    none = _steps(program, 0)
    check_memory(program.advance, (carry, placed, arrays, none), program.devices)
    return program.advance(carry, placed, arrays, none)  # leaves the carry as it is


def _bar(step: int, num_steps: int, show: bool) -> Any:
    return tqdm(
        total=num_steps,
        initial=step,
        unit="step",
        disable=not show,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
        dynamic_ncols=True,
    )


def _steps(program: Program, count: int) -> Any:
    return replicate(np.int32(count), program.devices)


def _after(step: int, every: int) -> int:
    return (step // every + 1) * every


def _next_chunk(count: int, seconds: float) -> int:
    """The number of steps that takes about the wished time, growing by no more than tenfold."""
    wished = SECONDS_A_CHUNK / max(seconds, 1e-6) * count
    return max(1, min(math.floor(wished), 10 * count, _LONGEST_CHUNK))


def fetch_progress(carry: Carry, runs: int) -> Progress:
    """The one transfer to the host that a chunk ends with: sums of its terms, and failures."""
    return take_runs(Progress(carry.sums, carry.num_summed, carry.state.failed_at), runs)


def _means(progress: Progress) -> Terms:
    def mean(sums: np.ndarray) -> np.ndarray:
        count = progress.num_summed.reshape((-1,) + (1,) * (sums.ndim - 1))
        return sums / np.maximum(count, 1)

    means: Terms = jax.tree.map(mean, progress.sums)
    return means


def _show_elbo(bar: Any, progress: Progress) -> None:
    means = _means(progress)
    elbo = -(means.distortion + means.rate)
    alive = progress.failed_at < 0
    if np.any(alive):
        bar.set_postfix({"ELBO": f"{float(np.mean(elbo[alive])):.2f}"}, refresh=False)


def _report_failures(settings: RunSettings, known: np.ndarray, progress: Progress) -> np.ndarray:
    """Warns of each run that failed since last time, naming the step and the term."""
    for run in np.flatnonzero((known < 0) & (progress.failed_at >= 0)):
        terms = progress.sums
        scalars = {"loss": terms.loss, "distortion": terms.distortion, "rate": terms.rate}
        scalars |= terms.extras
        bad = [f"{name} {v[run]}" for name, v in scalars.items() if not np.isfinite(v[run])]
        _LOGGER.warning(
            "run %d (%s) stopped at step %d, its parameters as before it: %s",
            run,
            describe_run(settings, int(run)),
            progress.failed_at[run],
            ", ".join(bad) or "its gradient is not finite",
        )
    return progress.failed_at


def program_of(
    experiment: Experiment, devices: Sequence[jax.Device] = (), *, vectorized_runs: int = 0
) -> Program:
    """Makes the program of an experiment, on all local devices or on those given.

    V is `vectorized_runs`, or where that is 0 what is fastest there.
    """
    runs = num_runs(experiment.runs)
    used = choose_devices(runs, devices or jax.local_devices())
    data = experiment.shards.data if experiment.shards else experiment.splits.train
    return make_program(
        experiment.model,
        experiment.objective,
        data,
        batch_size=experiment.settings.batch_size,
        num_latents=experiment.settings.num_latents,
        devices=used,
        vectorized_runs=vectorized_runs or default_vectorized_runs(runs, used),
        clip_norm=experiment.settings.clip_norm,
    )


def feed_of(experiment: Experiment, program: Program) -> Feed:
    """Places the training set of an experiment on the program's devices, whole or in turns."""
    if experiment.shards:
        return taking_turns(experiment.shards, program.devices)
    return resident(replicate(experiment.splits.train.arrays, program.devices))
