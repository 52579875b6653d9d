"""A flag for each setting of an experiment, made from the registries themselves."""

import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from betavae_jax.checks import InputError
from betavae_jax.data import DATASETS, dataset_settings
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.networks import NETWORKS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.runs.settings import MUTABLE, Settings, keyword_settings, resolve

_LIKELIHOOD = "likelihood_"  # before the names of a likelihood's own settings
_NESTED = ("coefficients", "data", "likelihood_settings")


def define_settings() -> None:
    """Defines the flags of an experiment."""
    default = Settings()
    flags.DEFINE_string(
        "dataset", default.dataset, f"{_names(DATASETS)}; a prepared tfds set is tfds:NAME."
    )
    flags.DEFINE_string("objective", default.objective, _names(OBJECTIVES))
    flags.DEFINE_string("network", default.network, _names(NETWORKS))
    flags.DEFINE_string("likelihood", default.likelihood, _names(LIKELIHOODS))
    flags.DEFINE_list("learning_rate", _texts(default.learning_rate), "Of Adam; a list is swept.")
    flags.DEFINE_list("seed", _texts(default.seed), "A list is swept.")
    flags.DEFINE_integer("num_steps", default.num_steps, "Training steps in all.")
    flags.DEFINE_integer("batch_size", default.batch_size, "Examples in a batch.")
    flags.DEFINE_integer("num_latents", default.num_latents, "Width of the code z.")
    flags.DEFINE_integer("checkpoint_every", default.checkpoint_every, "Steps between two.")
    flags.DEFINE_integer("keep_checkpoints", default.keep_checkpoints, "How many of the latest.")
    flags.DEFINE_integer("log_every", default.log_every, "Steps that a line of the log covers.")
    for name, (owners, value) in _coefficients().items():
        flags.DEFINE_list(name, None, f"Of {owners}; {value:g} by default; a list is swept.")
    for name, (owners, value) in _data_settings().items():
        _define_like(name, value, f"Of the data set {owners}; {value} by default.")
    for name, (owners, value) in _likelihood_settings().items():
        _define_like(name, value, f"Of the likelihood {owners}; {value} by default.")


def read_settings() -> Settings:
    """The settings that the flags give.

    Raises:
      InputError: If a list holds something that is not a number.
    """
    values = flags.FLAGS.flag_values_dict()
    given = {name: value for name, value in values.items() if value is not None}
    plain = {name: values[name] for name in Settings._fields if name in values}
    plain["learning_rate"] = _numbers("learning_rate", values["learning_rate"], float)
    plain["seed"] = _numbers("seed", values["seed"], int)
    coefficients = {n: _numbers(n, given[n], float) for n in _coefficients() if n in given}
    data = {name: given[name] for name in _data_settings() if name in given}
    likelihood = {
        name.removeprefix(_LIKELIHOOD): given[name]
        for name in _likelihood_settings()
        if name in given
    }
    return Settings(**plain, coefficients=coefficients, data=data, likelihood_settings=likelihood)


def flags_of(settings: Settings) -> dict[str, Any]:
    """The flags that repeat an experiment, from its resolved settings."""
    plain = {name: value for name, value in settings._asdict().items() if name not in _NESTED}
    likelihood = {_LIKELIHOOD + name: v for name, v in settings.likelihood_settings.items()}
    every = {**plain, **settings.coefficients, **settings.data, **likelihood}
    return {name: value for name, value in every.items() if value is not None}


def default_workdir(settings: Settings) -> pathlib.Path:
    """A directory under `runs/`, named by what differs from the defaults, and by β."""
    choices = ("dataset", "objective")
    usual = flags_of(resolve(Settings(**{name: getattr(settings, name) for name in choices})))
    parts = [settings.dataset, settings.objective]
    for name, value in flags_of(settings).items():
        differs = name == "beta" or usual.get(name) != value
        if differs and name not in (*choices, *MUTABLE):
            text = ",".join(_texts(value)) if isinstance(value, list) else str(value)
            parts.append(f"{name}={pathlib.PurePath(text).name}")
    return pathlib.Path("runs", "-".join(parts).replace(":", "_").replace("/", "_")[:200])


def _define_like(name: str, value: Any, help_text: str) -> None:
    """Defines a flag of the type of `value`; without it on the command line it is None."""
    if isinstance(value, bool):
        flags.DEFINE_boolean(name, None, help_text)
    elif isinstance(value, int):
        flags.DEFINE_integer(name, None, help_text)
    elif isinstance(value, float):
        flags.DEFINE_float(name, None, help_text)
    else:
        flags.DEFINE_string(name, None, help_text)


def _collect(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, Any]]:
    """For each name in the sources, who has it and its default there."""
    found: dict[str, tuple[str, Any]] = {}
    for owner, settings in sorted(sources.items()):
        for name, value in settings.items():
            owners = f"{found[name][0]}, {owner}" if name in found else owner
            found[name] = (owners, value)
    return dict(sorted(found.items()))


def _coefficients() -> dict[str, tuple[str, Any]]:
    return _collect({name: o.Coefficients()._asdict() for name, o in OBJECTIVES.items()})


def _data_settings() -> dict[str, tuple[str, Any]]:
    # Any member stands for a collection: all of them take the same settings.
    return _collect({name: dataset_settings(name) for name in DATASETS})


def _likelihood_settings() -> dict[str, tuple[str, Any]]:
    found = _collect({name: keyword_settings(make) for name, make in LIKELIHOODS.items()})
    return {_LIKELIHOOD + name: value for name, value in found.items()}


def _names(known: Iterable[str]) -> str:
    return f"One of {', '.join(sorted(known))}."


def _texts(values: Iterable[float]) -> list[str]:
    return [f"{value:g}" for value in values]


def _numbers(name: str, texts: Sequence[str], kind: type) -> list[Any]:
    """Parses the members of a list flag."""
    try:
        numbers = [kind(text) for text in texts]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError
    except ValueError:
        wanted = "whole numbers" if kind is int else "finite numbers"
        raise InputError(f"expected {name} to be {wanted}; got {','.join(texts)!r}") from None
    return numbers
