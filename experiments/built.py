"""What a process builds once for all packs of a study: data, experiments, programs."""

import functools
import json
from typing import Any

import jax

from betavae_jax.checks import InputError
from betavae_jax.data.shards import size_in_bytes
from betavae_jax.fit import program_of
from betavae_jax.population import take_rows
from betavae_jax.runs.machine import describe_machine
from betavae_jax.runs.settings import Experiment, Settings, build, load_splits
from betavae_jax.training import Program
from betavae_jax.types import Splits

_BYTES_A_MEGABYTE = 1_000_000
_DATA = ("dataset", "data", "test_fraction", "held_out", "correlated")


def experiment_of(settings: Settings) -> Experiment:
    """The experiment of a sweep; the last sixteen are kept, each with its data.

    Sweeps of the same data share it where they follow each other.
    """
    return _build(_key(settings))


def program_for(settings: Settings, runs: int) -> Program:
    """The program for so many runs of a sweep; the last two are kept."""
    return _program(_key(settings), runs)


def machine_of(*, deterministic: bool) -> dict[str, Any]:
    """What the bits of all packs depend on; on accelerators the number of devices too."""
    machine = describe_machine(deterministic=deterministic)
    if jax.default_backend() != "cpu":
        machine["num_devices"] = jax.local_device_count()
    return machine


def say_too_large(settings: Settings, runs: int, *, planned: bool = False) -> str:
    """That so many runs of a sweep do not fit a device, and what would help.

    Args:
      settings: Those of the sweep.
      runs: On a device.
      planned: Whether the study stands already, so that only another one can be different.
    """
    helps = [f"batch_size below {settings.batch_size}"] if settings.batch_size > 2 else []
    megabytes = _smaller_parts(settings)
    if megabytes:
        helps.append(f"device_memory_mb={megabytes} for the data")
    if runs > 1:
        helps.append(f"--runs_per_device below {runs}")
    where = "with another --workdir: " if planned else ""
    return (
        f"expected the memory of a device to hold {'one run' if runs == 1 else f'{runs} runs'} "
        f"of {settings.objective}; it does not "
        f"({where}{' or '.join(helps) or 'a smaller network'})"
    )


def _smaller_parts(settings: Settings) -> int | None:
    """Megabytes of data on a device, half of what it is now; None where a set cannot be cut so."""
    whole = size_in_bytes(experiment_of(settings).splits.train.arrays) // _BYTES_A_MEGABYTE
    megabytes = min(whole, settings.device_memory_mb or whole) // 2
    try:
        build(settings._replace(device_memory_mb=megabytes), _splits(settings))
    except InputError:
        return None
    return megabytes


def _key(settings: Settings) -> str:
    return json.dumps(settings._asdict())


def _splits(settings: Settings) -> Splits:
    return _load(json.dumps({name: getattr(settings, name) for name in _DATA}))


@functools.lru_cache(maxsize=1)
def _load(key: str) -> Splits:
    return load_splits(Settings(**json.loads(key)))


@functools.lru_cache(maxsize=16)  # the data is the same object in those that share it
def _build(key: str) -> Experiment:
    settings = Settings(**json.loads(key))
    return build(settings, _splits(settings))


@functools.lru_cache(maxsize=2)
def _program(key: str, runs: int) -> Program:
    experiment = _build(key)
    return program_of(experiment._replace(runs=take_rows(experiment.runs, 0, runs)))
