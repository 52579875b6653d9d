"""The settings of an experiment: what `config.json` holds and a program is built from."""

import importlib.metadata
import inspect
import os
import pathlib
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from betavae_jax.checks import InputError, check_at_least, check_name
from betavae_jax.data import dataset_settings, load_dataset
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.population import make_grid
from betavae_jax.runs.leaves import sha256_of_tree
from betavae_jax.training import data_shape
from betavae_jax.types import Likelihood, Model, Objective, RunSettings, Splits

FORMAT = 1  # of the run directory

# Settings that a run directory may change between two starts; the others are its identity.
MUTABLE = ("num_steps", "checkpoint_every", "log_every", "keep_checkpoints")

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


class Settings(NamedTuple):
    """Every setting of an experiment; `resolve` fills in what an experiment leaves out."""

    dataset: str = "blobs"
    data: Mapping[str, Any] = {}  # keyword settings of the data set's loader
    objective: str = "beta_vae"
    coefficients: Mapping[str, Sequence[float]] = {}  # the values of each, a grid
    learning_rate: Sequence[float] = (1e-3,)
    seed: Sequence[int] = (0,)
    num_steps: int = 2_000
    batch_size: int = 64
    num_latents: int = 10
    network: str = "conv"
    likelihood: str = "bernoulli"
    likelihood_settings: Mapping[str, Any] = {}
    checkpoint_every: int = 1_000
    log_every: int = 50
    keep_checkpoints: int = 3


class Experiment(NamedTuple):
    """What settings build."""

    settings: Settings  # resolved
    splits: Splits
    model: Model
    objective: Objective
    runs: RunSettings  # [R]


def keyword_settings(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only parameters of a function, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def resolve(settings: Settings) -> Settings:
    """Checks names and numbers, and fills in every default.

    Raises:
      InputError: If a name is not known, a setting does not belong to what was chosen, or a
        number is out of range.
    """
    check_name("objective", settings.objective, OBJECTIVES)
    check_name("network", settings.network, NETWORKS)
    check_name("likelihood", settings.likelihood, LIKELIHOODS)
    for name in ("batch_size", "num_latents", "num_steps", "checkpoint_every", "log_every"):
        check_at_least(name, getattr(settings, name), 1, integer=True)
    check_at_least("keep_checkpoints", settings.keep_checkpoints, 2, integer=True)
    known = keyword_settings(LIKELIHOODS[settings.likelihood])
    _check_belong(f"likelihood {settings.likelihood}", settings.likelihood_settings, known)
    data_defaults = dataset_settings(settings.dataset)
    _check_belong(f"data set {settings.dataset}", settings.data, data_defaults)
    data = {**data_defaults, **settings.data}
    if data.get("data_dir") == "":
        raise InputError("expected data_dir to be a path; got an empty one")
    if data.get("data_dir") is not None:
        data["data_dir"] = str(pathlib.Path(data["data_dir"]).expanduser().absolute())
    defaults = OBJECTIVES[settings.objective].Coefficients()._asdict()
    _check_belong(f"objective {settings.objective}", settings.coefficients, defaults)
    coefficients = {
        name: _values(name, settings.coefficients.get(name, [value]))
        for name, value in defaults.items()
    }
    return settings._replace(
        data=data,
        coefficients=coefficients,
        learning_rate=_values("learning_rate", settings.learning_rate),
        seed=_values("seed", settings.seed),
        likelihood_settings={**known, **settings.likelihood_settings},
    )


def _values(name: str, values: Any) -> list[Any]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InputError(f"expected {name} to be a list of values; got {values!r}")
    return list(values)


def _check_belong(owner: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    foreign = sorted(set(given) - set(known))
    if foreign:
        takes = f"takes {', '.join(sorted(known))}" if known else "takes none"
        raise InputError(f"expected settings of {owner}, which {takes}; got {', '.join(foreign)}")


def make_likelihood(settings: Settings) -> Likelihood:
    """The likelihood that the settings name."""
    return LIKELIHOODS[settings.likelihood](**settings.likelihood_settings)


def build(settings: Settings) -> Experiment:
    """Loads the data and makes model, objective and grid of runs.

    Raises:
      InputError: If any setting or file is not as expected; nothing has been written then.
    """
    settings = resolve(settings)
    objective = OBJECTIVES[settings.objective]
    runs = make_grid(objective, settings.coefficients, settings.learning_rate, settings.seed)
    likelihood = make_likelihood(settings)
    splits = load_dataset(settings.dataset, **settings.data)
    network = NETWORKS[settings.network](data_shape(splits.train), settings.num_latents)
    return Experiment(settings, splits, make_model(network, likelihood), objective, runs)


def describe_program(
    experiment: Experiment, vectorized_runs: int, *, deterministic: bool = True
) -> dict[str, Any]:
    """What a run's bits depend on beside its settings: versions, hardware, data and V.

    Args:
      experiment: What runs.
      vectorized_runs: V of its program.
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
        "vectorized_runs": vectorized_runs,
        "deterministic": deterministic or device.platform == "cpu",
        "data_sha256": sha256_of_tree(experiment.splits.train.arrays),
        "x_shape": list(data_shape(experiment.splits.train)),
    }


def _cpu_model() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def to_config(settings: Settings, program: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `config.json`: plain JSON values."""
    return {"settings": settings._asdict(), "program": dict(program)}


def from_config(config: Mapping[str, Any]) -> Settings:
    """The settings that a `config.json` holds."""
    return Settings(**config["settings"])
