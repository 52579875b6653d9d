"""How many runs a device trains best together, measured."""

import collections
import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from betavae_jax.data.shards import size_in_bytes
from betavae_jax.feed import Feed
from betavae_jax.fit import feed_of, program_of, start_program
from betavae_jax.memory import TooLargeError, ran_out_of_memory
from betavae_jax.population import choose_devices, num_runs, place_runs, replicate
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import Program, data_shape, make_init, make_step
from betavae_jax.types import Arrays, RunSettings

_CLOSE = 0.97  # of the best speed: as good, and smaller packs are lost and moved more easily
_SECONDS_TIMED = 0.5


class Measured(NamedTuple):
    """A count of runs on each device, and its speed."""

    runs_per_device: int
    images_per_second: float | None  # on all devices together; None where memory did not hold it


def memory_of(experiment: Experiment, runs: int) -> int:
    """About how many bytes of a device training takes: data, carries, and what a step computes.

    One step is traced, in well under a second; nothing is compiled or placed. XLA needs less,
    or more where it pads or keeps copies: the numbers say which of two experiments is the larger.

    Args:
      experiment: What is trained.
      runs: On a device, all advancing together.

    Returns:
      Bytes.
    """
    data = experiment.shards.data if experiment.shards else experiment.splits.train
    settings = experiment.settings
    init = make_init(experiment.model, experiment.objective, data_shape(data), settings.num_latents)
    step = make_step(
        experiment.model, experiment.objective, data, settings.batch_size, settings.clip_norm
    )
    row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype),
                       experiment.runs)  # fmt: skip
    arrays = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), data.arrays)
    state = jax.eval_shape(init, row)
    traced = jax.make_jaxpr(step)(state, row, arrays)
    parts = 2 if experiment.shards else 1  # one serves while the next arrives
    return parts * size_in_bytes(arrays) + runs * (size_in_bytes(state) + _alive(traced.jaxpr))


def _alive(jaxpr: Jaxpr) -> int:
    """The most bytes that are alive at once of what a program computes, arguments not counted."""
    last_use = {
        variable: at
        for at, equation in enumerate(jaxpr.eqns)
        for variable in equation.invars
        if not isinstance(variable, Literal)
    }
    last_use |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if not isinstance(v, Literal)}
    ending: collections.Counter[int] = collections.Counter()
    alive = most = 0
    for at, equation in enumerate(jaxpr.eqns):
        results = {v: _bytes(v.aval) for v in equation.outvars}
        within = max((_alive(inner) for inner in _inner(equation.params)), default=0)
        most = max(most, alive + max(within, sum(results.values())))
        for variable, size in results.items():
            if variable in last_use:
                ending[last_use[variable]] += size
                alive += size
        alive -= ending[at]
    return most


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs within an operation, such as the branches of a condition."""
    for value in jax.tree.leaves(params):
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * int(aval.dtype.itemsize)


def counts_to_try(
    num_runs: int, num_seeds: int, num_devices: int, *, takes_turns: bool
) -> list[int]:
    """The counts of runs on each device that are worth measuring, in rising order.

    Args:
      num_runs: Of the largest sweep.
      num_seeds: Of one setting.
      num_devices: That share a pack.
      takes_turns: Whether the runs of a device are trained one after another, so that one more
        changes nothing; then those that hold the seeds of a setting are enough.

    Returns:
      Powers of two up to all runs, and the count that holds all seeds.
    """
    most, together = -(-num_runs // num_devices), -(-num_seeds // num_devices)
    if takes_turns:
        return sorted({together, min(2 * together, most)})
    powers = {2**k for k in range(most.bit_length()) if 2**k <= most}
    return sorted(powers | {most, together})


def measure_counts(
    experiment: Experiment, counts: Sequence[int], *, seconds: float
) -> list[Measured]:
    """Measures the speed of training with different counts of runs on each device.

    Args:
      experiment: Whose program to measure; its rows are repeated to make up a count.
      counts: What to try, in rising order.
      seconds: After which no further count is begun.

    Returns:
      A measurement for each count, up to the first that is slower than those before, or does
      not fit.

    Raises:
      TooLargeError: If the memory of a CPU does not hold the first of them.
    """
    began = time.monotonic()
    measured: list[Measured] = []
    devices = choose_devices(num_runs(experiment.runs), jax.local_devices())
    with contextlib.ExitStack() as stack:  # the next part of the data takes memory meanwhile
        feed: Feed | None = None
        for count in counts:
            runs = _repeat(experiment.runs, count * len(devices))
            trial = experiment._replace(runs=runs)
            program = program_of(trial)
            try:
                if feed is None:
                    feed = feed_of(trial, program)
                    stack.callback(feed.close)
                speed = _images_per_second(trial, program, feed.arrays(0))
            except TooLargeError:
                if not measured:
                    raise
                return [*measured, Measured(count, None)]
            except jax.errors.JaxRuntimeError as error:
                if not ran_out_of_memory(error):
                    raise
                return [*measured, Measured(count, None)]
            measured.append(Measured(count, speed))
            best = max(m.images_per_second or 0.0 for m in measured)
            if speed < _CLOSE * best or time.monotonic() - began > seconds:
                break
    return measured


def check_fits(experiment: Experiment, program: Program) -> None:
    """Raises TooLargeError where the memory of a CPU does not hold a program; takes no step.

    Args:
      experiment: Of as many runs as the program has.
      program: The program, which is compiled then.
    """
    settings = place_runs(experiment.runs, program.devices)
    with contextlib.closing(feed_of(experiment, program)) as feed:
        jax.block_until_ready(start_program(program, settings, feed.arrays(0)))


def choose_count(measured: Sequence[Measured], wanted: int) -> int:
    """The smallest count within 3 % of the best speed.

    Args:
      measured: As `measure_counts` gives them; one of them fits.
      wanted: The count that keeps the seeds of a setting together: the smallest that is not
        below it, where one is as fast as the best.

    Returns:
      The count.
    """
    speeds = {m.runs_per_device: m.images_per_second for m in measured if m.images_per_second}
    best = max(speeds.values())
    close = [count for count, speed in speeds.items() if speed >= _CLOSE * best]
    return min((count for count in close if count >= wanted), default=min(close))


def _repeat(runs: RunSettings, number: int) -> RunSettings:
    repeated: RunSettings = jax.tree.map(lambda leaf: np.resize(leaf, (number,)), runs)
    return repeated


def _images_per_second(experiment: Experiment, program: Program, arrays: Arrays) -> float:
    settings = place_runs(experiment.runs, program.devices)
    carry = jax.block_until_ready(start_program(program, settings, arrays))

    def seconds_of(steps: int) -> float:
        nonlocal carry
        count = replicate(np.int32(steps), program.devices)
        began = time.monotonic()
        carry = jax.block_until_ready(program.advance(carry, settings, arrays, count))
        return time.monotonic() - began

    steps, elapsed = 1, seconds_of(1)
    while elapsed < _SECONDS_TIMED:
        wished = 1.2 * _SECONDS_TIMED / max(elapsed, 1e-4) * steps
        steps = min(max(steps + 1, int(wished)), 100 * steps)
        elapsed = seconds_of(steps)
    batch = len(experiment.runs.seed) * experiment.settings.batch_size
    return steps * batch / elapsed
