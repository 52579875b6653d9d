"""What the bits of a run depend on beside its settings: versions, hardware, data."""

import importlib.metadata
import os
import pathlib
import platform
from typing import Any

import jax

from betavae_jax import kernels
from betavae_jax.layers import choose_form
from betavae_jax.runs.leaves import sha256_of_tree
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import data_shape
from betavae_jax.types import Scale

FORMAT = 2  # of the run directory

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
# What of JAX's configuration changes numbers, as it is unless somebody has set it.
_USUAL_OPTIONS = {
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_enable_x64": False,
    "jax_default_matmul_precision": None,
}


def describe_machine(*, deterministic: bool = True) -> dict[str, Any]:
    """Versions, hardware and unusual options of JAX of this process.

    Args:
      deterministic: Whether accelerators were asked to leave out operations whose result
        varies from call to call; CPUs have none.
    """
    device = jax.devices()[0]
    hardware = device.device_kind
    if device.platform == "cpu":
        hardware = f"cpu, {_cpu_model()}, {os.cpu_count()} cores"
    return {
        "format": FORMAT,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device_kind": hardware,
        "deterministic": deterministic or device.platform == "cpu",
        **({"jax_config": changed} if (changed := _changed_options()) else {}),
    }


def _changed_options() -> dict[str, Any]:
    values = {name: getattr(jax.config, name) for name in _USUAL_OPTIONS}
    return {name: value for name, value in values.items() if value != _USUAL_OPTIONS[name]}


def describe_program(
    experiment: Experiment, vectorized_runs: int, *, deterministic: bool = True
) -> dict[str, Any]:
    """What a run's bits depend on beside its settings: versions, hardware, data, V, convolutions.

    Args:
      experiment: What runs.
      vectorized_runs: V of its program.
      deterministic: Whether accelerators were asked to leave out operations whose result
        varies from call to call; CPUs have none.
    """
    machine = describe_machine(deterministic=deterministic)
    arrays, scale = experiment.splits.train.arrays, experiment.splits.train.scale
    form = _name_form(experiment.settings.network_settings.get("convolution"))
    return {
        **machine,
        "vectorized_runs": vectorized_runs,
        "data_sha256": sha256_of_tree(arrays),
        "x_shape": list(data_shape(experiment.splits.train)),
        **({"convolution": form} if form else {}),
        **({"standardized": _in_lists(scale)} if scale else {}),  # what `load` undoes
    }


def _name_form(form: str | None) -> str | None:
    """The form that is meant, for `auto` is none, and the version of the one that has versions."""
    chosen = choose_form(form) if form else None
    return f"{chosen} {kernels.VERSION}" if chosen == "kernels" else chosen


def _in_lists(scale: Scale) -> dict[str, list[float]]:
    return {name: leaf.tolist() for name, leaf in scale._asdict().items()}


def _cpu_model() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()
