"""What a process builds once for all packs of a study: data, experiments, programs."""

import functools
import json
from typing import Any

import jax

from betavae_jax.fit import program_of
from betavae_jax.population import take_rows
from betavae_jax.runs.machine import describe_machine
from betavae_jax.runs.settings import Experiment, Settings, build, load_splits
from betavae_jax.training import Program
from betavae_jax.types import Splits

_DATA = ("dataset", "data", "test_fraction", "held_out", "correlated")


def experiment_of(settings: Settings) -> Experiment:
    """The experiment of a sweep; the last few are kept, and the data of the last."""
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


def say_too_large(settings: Settings, runs: int) -> str:
    """That so many runs of a sweep do not fit a device, and what would help."""
    return (
        f"expected the memory of a device to hold {'one run' if runs == 1 else f'{runs} runs'} "
        f"of {settings.objective}; it does not (a smaller batch_size than {settings.batch_size}, "
        "device_memory_mb for the data, or fewer --runs_per_device)"
    )


def _key(settings: Settings) -> str:
    return json.dumps(settings._asdict())


@functools.lru_cache(maxsize=1)
def _load(key: str) -> Splits:
    return load_splits(Settings(**json.loads(key)))


@functools.lru_cache(maxsize=16)  # the data is the same object in those that share it
def _build(key: str) -> Experiment:
    settings = Settings(**json.loads(key))
    data = {name: getattr(settings, name) for name in _DATA}
    return build(settings, _load(json.dumps(data)))


@functools.lru_cache(maxsize=2)
def _program(key: str, runs: int) -> Program:
    experiment = _build(key)
    return program_of(experiment._replace(runs=take_rows(experiment.runs, 0, runs)))
