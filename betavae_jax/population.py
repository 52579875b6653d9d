"""The grid of runs: rows of settings, and their places on devices."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from betavae_jax.checks import (
    InputError,
    check_at_least,
    check_belong,
    check_count,
    check_positive,
    check_unique,
)
from betavae_jax.schedules import parse_schedule, repeat_schedule
from betavae_jax.types import Arrays, Objective, RunSettings

Tree = TypeVar("Tree")


def make_grid(
    objective: Objective,
    coefficients: Mapping[str, Sequence[float]],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    *,
    schedules: Mapping[str, str] | None = None,
) -> RunSettings:
    """Makes one run for each combination of the given values; seeds vary fastest.

    Args:
      objective: Whose coefficients these are.
      coefficients: Values for each coefficient that is not at its default.
      learning_rates: Learning rates.
      seeds: Seeds, from 0 to 2³¹ - 1.
      schedules: Of coefficients, the same for every run; see `schedules.parse_schedule`.

    Returns:
      NumPy arrays `[R]`.

    Raises:
      InputError: If a coefficient is not the objective's, a value is negative or not a number,
        or a list is empty or names a value twice.
    """
    defaults = objective.Coefficients()._asdict()
    check_belong("coefficients of this objective", coefficients, defaults)
    axes = {name: list(coefficients.get(name, [value])) for name, value in defaults.items()}
    for name, values in axes.items():
        for value in values:
            check_at_least(name, value, 0)
        check_unique(name, values)
    for rate in learning_rates:
        check_positive("learning_rate", rate)
    check_unique("learning_rate", learning_rates)
    for seed in seeds:
        check_count("seed", seed, 0)
    check_unique("seed", seeds)

    rows = list(itertools.product(*axes.values(), learning_rates, seeds))
    columns = list(zip(*rows, strict=True))
    values = [np.asarray(column, np.float32) for column in columns[: len(axes)]]
    return RunSettings(
        objective.Coefficients(*values),
        np.asarray(columns[-2], np.float32),
        np.asarray(columns[-1], np.int32),
        {
            name: repeat_schedule(parse_schedule(name, text), len(rows))
            for name, text in (schedules or {}).items()
        },
    )


def take_rows(settings: RunSettings, first: int, last: int) -> RunSettings:
    """The rows from `first` up to `last`, which is left out.

    Raises:
      InputError: If there are no such rows.
    """
    runs = num_runs(settings)
    if not 0 <= first < last <= runs:
        raise InputError(f"expected rows within 0:{runs}, one or more; got {first}:{last}")
    taken: RunSettings = jax.tree.map(lambda leaf: leaf[first:last], settings)
    return taken


def num_runs(settings: RunSettings) -> int:
    """R, the number of rows."""
    return len(settings.seed)


def choose_devices(runs: int, devices: Sequence[jax.Device]) -> tuple[jax.Device, ...]:
    """The devices that a population of `runs` uses: no more than there are runs."""
    return tuple(devices[: min(runs, len(devices))])


def _sharding(devices: tuple[jax.Device, ...], *axes: str) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(devices), ("runs",)), PartitionSpec(*axes))


def replicate(arrays: Arrays, devices: tuple[jax.Device, ...]) -> Arrays:
    """Places one copy of every array on each device, once."""
    return jax.device_put(arrays, _sharding(devices))


def place_runs(tree: Tree, devices: tuple[jax.Device, ...]) -> Tree:
    """Spreads leaves `[R, ...]` over devices as `[num_devices, ceil(R / num_devices), ...]`.

    The last run is repeated to fill the last device; `take_runs` drops the repetitions.
    """
    count = len(devices)

    def place(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        per_device = math.ceil(leaf.shape[0] / count)
        index = np.minimum(np.arange(count * per_device), leaf.shape[0] - 1)
        return leaf[index].reshape((count, per_device, *leaf.shape[1:]))

    placed: Tree = jax.device_put(jax.tree.map(place, tree), _sharding(devices, "runs"))
    return placed


def take_runs(tree: Tree, runs: int) -> Tree:
    """Fetches leaves `[num_devices, R / num_devices, ...]` as NumPy arrays `[R, ...]`."""
    fetched = jax.device_get(tree)
    flat: Tree = jax.tree.map(lambda a: a.reshape((-1, *a.shape[2:]))[:runs], fetched)
    return flat


def default_vectorized_runs(runs: int, devices: tuple[jax.Device, ...]) -> int:
    """V: 1 on the CPU, where a loop over runs is faster; all runs of a device elsewhere."""
    if devices[0].platform == "cpu":
        return 1
    return math.ceil(runs / len(devices))


def describe_run(settings: RunSettings, run: int) -> str:
    """One row in words, such as `beta=4, learning_rate=0.0005, seed=0`."""
    values = {**settings.coefficients._asdict(), "learning_rate": settings.learning_rate}
    parts = [f"{name}={float(value[run]):g}" for name, value in values.items()]
    return ", ".join([*parts, f"seed={int(settings.seed[run])}"])
