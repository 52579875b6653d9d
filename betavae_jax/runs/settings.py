"""The settings of an experiment: what `config.json` holds and a program is built from."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from betavae_jax.checks import (
    InputError,
    check_belong,
    check_count,
    check_kind,
    check_name,
    check_positive,
    keyword_settings,
)
from betavae_jax.data import dataset_settings, load_dataset
from betavae_jax.data.files import expand_user
from betavae_jax.data.sampling import check_sampling, sample_splits
from betavae_jax.data.shards import Shards, make_shards
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.models import PRECISIONS, make_model
from betavae_jax.networks import NETWORKS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.population import make_grid, take_rows
from betavae_jax.schedules import parse_schedule
from betavae_jax.training import check_objective, data_shape
from betavae_jax.types import Likelihood, Model, Objective, RunSettings, Shape, Splits

# Settings that a run directory may change between two starts; the others are its identity.
MUTABLE = (
    "num_steps",
    "checkpoint_every",
    "log_every",
    "evaluate_every",
    "keep_checkpoints",
    "tensorboard",
)

AUTO = "auto"  # the network and the likelihood that suit the data

_BYTES_A_MEGABYTE = 1_000_000


class Settings(NamedTuple):
    """Every setting of an experiment; `resolve` fills in what an experiment leaves out."""

    dataset: str = "blobs"
    data: Mapping[str, Any] = {}  # keyword settings of the data set's loader
    test_fraction: float = 0.0  # of the examples, kept for evaluation
    held_out: Sequence[str] = ()  # FACTOR:VALUE, kept for evaluation
    correlated: Sequence[str] = ()  # FACTOR:FACTOR:SIGMA
    device_memory_mb: int | None = None  # for the data; a larger set takes turns
    objective: str = "beta_vae"
    objective_settings: Mapping[str, Any] = {}
    coefficients: Mapping[str, Sequence[float]] = {}  # the values of each, a grid
    schedules: Mapping[str, str] = {}  # of coefficients; see `schedules.parse_schedule`
    learning_rate: Sequence[float] = (1e-3,)
    seed: Sequence[int] = (0,)
    rows: str | None = None  # FIRST:LAST of the grid, a part of a study; None for all
    num_steps: int = 2_000
    batch_size: int = 64
    clip_norm: float | None = None
    num_latents: int = 10
    network: str = AUTO
    network_settings: Mapping[str, Any] = {}
    likelihood: str = AUTO
    likelihood_settings: Mapping[str, Any] = {}
    precision: str = "float32"
    checkpoint_every: int = 1_000
    log_every: int = 50
    evaluate_every: int = 500
    keep_checkpoints: int = 3
    tensorboard: bool = True


NESTED = tuple(name for name, default in Settings()._asdict().items() if default == {})


class Experiment(NamedTuple):
    """What settings build."""

    settings: Settings  # resolved
    splits: Splits
    model: Model
    objective: Objective
    runs: RunSettings  # [R]
    shards: Shards | tuple[()] = ()  # of the training set, where it does not fit


def resolve(settings: Settings, x_shape: Shape | None = None) -> Settings:
    """Checks names and numbers, and fills in every default.

    Args:
      settings: What the caller chose.
      x_shape: The shape of an example; without it `auto` stays as it is.

    Raises:
      InputError: If a name is not known, a setting does not belong to what was chosen, or a
        number is out of range.
    """
    check_name("objective", settings.objective, OBJECTIVES)
    check_name("network", settings.network, [AUTO, *NETWORKS])
    check_name("likelihood", settings.likelihood, [AUTO, *LIKELIHOODS])
    check_name("precision", settings.precision, PRECISIONS)
    _check_plain(settings)
    check_sampling(settings.test_fraction, settings.held_out, settings.correlated)
    if x_shape is not None:
        is_image = len(x_shape) == 3
        if settings.network == AUTO:
            settings = settings._replace(network="conv" if is_image else "mlp")
        if settings.likelihood == AUTO:
            settings = settings._replace(likelihood="bernoulli" if is_image else "gaussian")
    objective = make_objective(settings)
    defaults = objective.Coefficients()._asdict()
    check_belong(f"coefficients of objective {settings.objective}", settings.coefficients, defaults)
    coefficients = {
        name: _values(name, settings.coefficients.get(name, [value]))
        for name, value in defaults.items()
    }
    return settings._replace(
        data=_resolve_data(settings),
        held_out=list(settings.held_out),
        correlated=list(settings.correlated),
        objective_settings=_fill("objective", settings, OBJECTIVES),
        coefficients=coefficients,
        schedules=_resolve_schedules(settings, objective),
        learning_rate=_values("learning_rate", settings.learning_rate),
        seed=_values("seed", settings.seed),
        network_settings=_fill("network", settings, NETWORKS),
        likelihood_settings=_fill("likelihood", settings, LIKELIHOODS),
    )


def _check_plain(settings: Settings) -> None:
    """Checks what is neither a name nor a list."""
    counts = ("batch_size", "num_latents", "num_steps", "checkpoint_every", "log_every")
    for name in (*counts, "evaluate_every"):
        check_count(name, getattr(settings, name))
    check_count("keep_checkpoints", settings.keep_checkpoints, 2)
    check_kind("tensorboard", settings.tensorboard, Settings().tensorboard)
    if settings.clip_norm is not None:
        check_positive("clip_norm", settings.clip_norm)
    if settings.device_memory_mb is not None:
        check_count("device_memory_mb", settings.device_memory_mb)
    for name in NESTED:
        if not isinstance(getattr(settings, name), Mapping):
            raise InputError(f"expected {name} to be a table; got {getattr(settings, name)!r}")


def _fill(kind: str, settings: Settings, known: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the chosen objective, network or likelihood, with its defaults."""
    name, given = getattr(settings, kind), getattr(settings, f"{kind}_settings")
    if name == AUTO:
        return dict(given)
    return _complete(f"{kind} {name}", given, keyword_settings(known[name]))


def _complete(owner: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What is given of the owner's settings, checked, and its defaults for the others."""
    check_belong(f"settings of {owner}", given, defaults)
    for name, value in given.items():
        if defaults[name] is not None:  # None stands for a path
            check_kind(name, value, defaults[name])
    return {**defaults, **given}


def _resolve_data(settings: Settings) -> dict[str, Any]:
    defaults = dataset_settings(settings.dataset)
    data = _complete(f"data set {settings.dataset}", settings.data, defaults)
    paths = {name: v for name, v in data.items() if defaults[name] is None and v is not None}
    for name, value in paths.items():
        if not isinstance(value, (str, pathlib.PurePath)) or value == "":
            raise InputError(f"expected {name} to be a path; got {value!r}")
        data[name] = str(expand_user(value).absolute())
    return data


def _resolve_schedules(settings: Settings, objective: Objective) -> dict[str, str]:
    coefficients = objective.Coefficients()._asdict()
    check_belong(f"schedules of objective {settings.objective}", settings.schedules, coefficients)
    own = dict(objective.schedules)
    schedules = {**own, **settings.schedules}
    for name, text in schedules.items():
        parse_schedule(name, text)
    # Where the objective brings a schedule, "constant" says that it is not wanted.
    return {n: text for n, text in sorted(schedules.items()) if text != "constant" or n in own}


def _values(name: str, values: Any) -> list[Any]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InputError(f"expected {name} to be a list of values; got {values!r}")
    return list(values)


def make_likelihood(settings: Settings) -> Likelihood:
    """The likelihood that the settings name."""
    return LIKELIHOODS[settings.likelihood](**settings.likelihood_settings)


def make_objective(settings: Settings) -> Objective:
    """The objective that the settings name."""
    return OBJECTIVES[settings.objective](**_fill("objective", settings, OBJECTIVES))


def load_splits(settings: Settings) -> Splits:
    """Loads the data of an experiment, split and sampled as its settings say.

    Raises:
      InputError: If any setting or file is not as expected.
    """
    settings = resolve(settings)
    return sample_splits(
        load_dataset(settings.dataset, **settings.data),
        test_fraction=settings.test_fraction,
        held_out=settings.held_out,
        correlated=settings.correlated,
    )


def grid_of(settings: Settings) -> RunSettings:
    """The runs that settings ask for, NumPy arrays `[R]`.

    Raises:
      InputError: If the grid is not one, or has fewer rows than the settings want of it.
    """
    settings = resolve(settings)
    runs = make_grid(
        make_objective(settings),
        settings.coefficients,
        settings.learning_rate,
        settings.seed,
        schedules=settings.schedules,
    )
    return runs if settings.rows is None else take_rows(runs, *_first_and_last(settings.rows))


def _first_and_last(rows: str) -> tuple[int, int]:
    first, _, last = str(rows).partition(":")
    if not (first.isdecimal() and last.isdecimal()):
        raise InputError(f"expected rows to be FIRST:LAST, such as 0:8; got {rows!r}")
    return int(first), int(last)


def build(settings: Settings, splits: Splits | None = None) -> Experiment:
    """Loads the data and makes model, objective and grid of runs.

    Args:
      settings: What to build.
      splits: What `load_splits` has given for settings of the same data, so that experiments
        share it.

    Raises:
      InputError: If any setting or file is not as expected; nothing has been written then.
    """
    settings = resolve(settings)
    objective = make_objective(settings)
    runs = grid_of(settings)
    splits = splits or load_splits(settings)
    splits = splits._replace(train=objective.prepare(splits.train))
    x_shape = data_shape(splits.train)
    settings = resolve(settings, x_shape)
    network = NETWORKS[settings.network](x_shape, settings.num_latents, **settings.network_settings)
    likelihood = make_likelihood(settings)
    if likelihood.unit_interval and len(x_shape) == 1:
        real = [name for name, make in LIKELIHOODS.items() if not make().unit_interval]
        raise InputError(
            f"expected a likelihood of real values ({', '.join(sorted(real))}) for vectors; "
            f"got {settings.likelihood}"
        )
    model = make_model(network, likelihood, precision=settings.precision)
    shards: Shards | tuple[()] = ()
    if settings.device_memory_mb is not None:
        budget = settings.device_memory_mb * _BYTES_A_MEGABYTE
        shards = make_shards(splits.train, budget, settings.batch_size)
    check_objective(
        objective,
        shards.data if shards else splits.train,
        batch_size=settings.batch_size,
        num_latents=settings.num_latents,
    )
    return Experiment(settings, splits, model, objective, runs, shards)


def to_config(settings: Settings, program: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `config.json`: plain JSON values."""
    return {"settings": settings._asdict(), "program": dict(program)}


def from_config(config: Mapping[str, Any], where: pathlib.Path | str = "a run") -> Settings:
    """The settings that the `config.json` of `where` holds.

    Raises:
      InputError: If they are those of another version.
    """
    try:
        return Settings(**config["settings"])
    except TypeError as error:
        raise InputError(
            f"expected the settings of this version in {where}; got others: {error}"
        ) from None
