"""A flag for each setting of an experiment, made from the registries themselves."""

import functools
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from betavae_jax.checks import InputError, keyword_settings
from betavae_jax.data import DATASETS, dataset_settings
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.models import PRECISIONS
from betavae_jax.networks import NETWORKS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.objectives.presets import PRESETS, describe_presets, preset
from betavae_jax.runs.precedence import lay_over
from betavae_jax.runs.settings import (
    AUTO,
    MUTABLE,
    NESTED,
    Experiment,
    Settings,
    resolve,
)
from betavae_jax.training import data_shape

# Before the names of the settings of an objective, a network or a likelihood.
_KINDS: dict[str, Mapping[str, Any]] = {
    "objective": OBJECTIVES,
    "network": NETWORKS,
    "likelihood": LIKELIHOODS,
}


@functools.cache  # drivers may share a process
def define_settings() -> None:
    """Defines the flags of an experiment."""
    default = Settings()
    flags.DEFINE_string(
        "dataset", default.dataset, f"{_names(DATASETS)} A prepared tfds set is tfds:NAME."
    )
    flags.DEFINE_float("test_fraction", default.test_fraction, "Of the examples, for evaluation.")
    flags.DEFINE_list("held_out", [], "FACTOR:VALUE, ...: such examples are for evaluation.")
    flags.DEFINE_list("correlated", [], "FACTOR:FACTOR:SIGMA: two factors drawn together.")
    flags.DEFINE_integer("device_memory_mb", None, "For data; a larger set takes turns in parts.")
    flags.DEFINE_string("objective", default.objective, _names(OBJECTIVES))
    flags.DEFINE_enum(
        "preset",
        None,
        sorted(PRESETS),
        f"Published settings of the objective; a flag goes before them.\n{describe_presets()}",
    )
    flags.DEFINE_string("network", default.network, _names([AUTO, *NETWORKS]))
    flags.DEFINE_string("likelihood", default.likelihood, _names([AUTO, *LIKELIHOODS]))
    flags.DEFINE_string("precision", default.precision, _names(PRECISIONS))
    flags.DEFINE_list("learning_rate", _texts(default.learning_rate), "A list is swept.")
    flags.DEFINE_list("seed", _texts(default.seed), "A list is swept.")
    flags.DEFINE_string("rows", None, "FIRST:LAST, of the grid that the lists make; all of it.")
    flags.DEFINE_integer("num_steps", default.num_steps, "Training steps in all.")
    flags.DEFINE_integer("batch_size", default.batch_size, "Examples in a batch.")
    flags.DEFINE_float("clip_norm", None, "The largest norm of a gradient; no limit by default.")
    flags.DEFINE_integer("num_latents", default.num_latents, "Width of the code z.")
    flags.DEFINE_list("schedule", [], "NAME:linear:START:STEPS, NAME:cyclical:START:STEPS:PERIOD.")
    flags.DEFINE_integer("checkpoint_every", default.checkpoint_every, "Steps between two.")
    flags.DEFINE_integer("keep_checkpoints", default.keep_checkpoints, "How many of the latest.")
    flags.DEFINE_integer("log_every", default.log_every, "Steps that a line of the log covers.")
    flags.DEFINE_integer("evaluate_every", default.evaluate_every, "Steps, on the test split.")
    flags.DEFINE_boolean("tensorboard", default.tensorboard, "Write TensorBoard events.")
    for name, owners in _coefficients().items():
        flags.DEFINE_list(name, None, f"A list is swept. Default: {_defaults(owners)}.")
    for name, owners in _data_settings().items():
        _define_like(name, owners, f"Of a data set. Default: {_defaults(owners)}.")
    for kind in _KINDS:
        article = "an" if kind == "objective" else "a"
        for name, owners in _settings_of(kind).items():
            _define_like(name, owners, f"Of {article} {kind}. Default: {_defaults(owners)}.")


def read_settings() -> Settings:
    """The settings that the flags give; a preset gives those that no flag names.

    Raises:
      InputError: If a list holds something that is not a number, or the preset asked for has
        nothing on the objective.
    """
    settings, given = _every_setting(), read_given()
    if flags.FLAGS.preset is not None:
        given = lay_over(preset(flags.FLAGS.preset, settings.objective), given)
    return settings._replace(**given)


def _every_setting() -> Settings:
    """The settings that the flags give, with the defaults of those that are not given."""
    values = flags.FLAGS.flag_values_dict()
    given = {name: value for name, value in values.items() if value is not None}
    plain = {name: values[name] for name in Settings._fields if name in values}
    plain["learning_rate"] = _numbers("learning_rate", values["learning_rate"], float)
    plain["seed"] = _numbers("seed", values["seed"], int)
    plain["coefficients"] = {
        name: _numbers(name, given[name], float) for name in _coefficients() if name in given
    }
    plain["schedules"] = dict(_named_schedule(text) for text in values["schedule"])
    plain["data"] = {name: given[name] for name in _data_settings() if name in given}
    for kind in _KINDS:
        plain[f"{kind}_settings"] = {
            name.removeprefix(f"{kind}_"): given[name]
            for name in _settings_of(kind)
            if name in given
        }
    return Settings(**plain)


def read_given() -> dict[str, Any]:
    """The settings that flags on the command line give, and no others.

    Raises:
      InputError: If a list holds something that is not a number.
    """
    settings = _every_setting()
    given = {
        name: value
        for name, value in settings._asdict().items()
        if name not in NESTED and flags.FLAGS[name].present
    }
    nested = {name: getattr(settings, name) for name in NESTED}
    return given | {name: dict(values) for name, values in nested.items() if values}


def _named_schedule(text: str) -> tuple[str, str]:
    name, _, schedule = text.partition(":")
    if not name or not schedule:
        raise InputError(f"expected schedule to be NAME:KIND:...; got {text!r}")
    return name, schedule


def flags_of(settings: Settings) -> dict[str, Any]:
    """The flags that repeat an experiment, from its resolved settings."""
    every = {name: value for name, value in settings._asdict().items() if name not in NESTED}
    every |= {**settings.coefficients, **settings.data}
    every["schedule"] = [f"{name}:{text}" for name, text in settings.schedules.items()]
    for kind in _KINDS:
        own = getattr(settings, f"{kind}_settings")
        every |= {f"{kind}_{name}": value for name, value in own.items()}
    return {name: value for name, value in every.items() if value not in (None, [])}


def default_workdir(experiment: Experiment) -> pathlib.Path:
    """A directory under `runs/`, named by what differs from the defaults, and by β."""
    settings, x_shape = experiment.settings, data_shape(experiment.splits.train)
    choices = ("dataset", "objective")
    usual_settings = Settings(**{name: getattr(settings, name) for name in choices})
    usual = flags_of(resolve(usual_settings, x_shape))
    parts = [settings.dataset, settings.objective]
    for name, value in flags_of(settings).items():
        differs = name == "beta" or usual.get(name) != value
        if differs and name not in (*choices, *MUTABLE):
            text = ",".join(map(_text, value)) if isinstance(value, list) else str(value)
            parts.append(f"{name}={pathlib.PurePath(text).name}")
    name = "-".join(parts).replace(":", "_").replace("/", "_")
    return pathlib.Path("runs", name.encode("utf-8", "ignore")[:200].decode("utf-8", "ignore"))


def _define_like(name: str, owners: Mapping[str, Any], help_text: str) -> None:
    """Defines a flag of the type of its defaults; without it on the command line it is None."""
    value = next(iter(owners.values()))
    if isinstance(value, bool):
        flags.DEFINE_boolean(name, None, help_text)
    elif isinstance(value, int):
        flags.DEFINE_integer(name, None, help_text)
    elif isinstance(value, float):
        flags.DEFINE_float(name, None, help_text)
    else:
        flags.DEFINE_string(name, None, help_text)


def _defaults(owners: Mapping[str, Any]) -> str:
    """Who takes a flag, and each one's default."""
    return ", ".join(f"{owner} {value!r}" for owner, value in owners.items())


def _collect(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each name in the sources, who has it and its default there."""
    found: dict[str, dict[str, Any]] = {}
    for owner, settings in sorted(sources.items()):
        for name, value in settings.items():
            found.setdefault(name, {})[owner] = value
    return dict(sorted(found.items()))


def _coefficients() -> dict[str, dict[str, Any]]:
    return _collect({n: make().Coefficients()._asdict() for n, make in OBJECTIVES.items()})


def _data_settings() -> dict[str, dict[str, Any]]:
    # Any member stands for a collection: all of them take the same settings.
    return _collect({name: dataset_settings(name) for name in DATASETS})


def _settings_of(kind: str) -> dict[str, dict[str, Any]]:
    """The flags of the settings of objectives, networks or likelihoods."""
    found = _collect({name: keyword_settings(make) for name, make in _KINDS[kind].items()})
    return {f"{kind}_{name}": value for name, value in found.items()}


def _names(known: Iterable[str]) -> str:
    return f"One of {', '.join(sorted(known))}."


def _texts(values: Iterable[float]) -> list[str]:
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


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
