"""What a study asks for: sweeps of several objectives, from flags, a file, or by name."""

import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from betavae_jax.checks import (
    InputError,
    check_at_least,
    check_belong,
    check_count,
    check_name,
    check_unique,
    keyword_settings,
)
from betavae_jax.evaluation import Effort, expand_names, needs_factors
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.objectives.presets import preset
from betavae_jax.runs.precedence import lay_over
from betavae_jax.runs.settings import NESTED, Settings, grid_of, resolve
from betavae_jax.types import Splits

_LOCATELLO_2019 = (
    "beta_vae",
    "capacity_vae",
    "factor_vae",
    "dip_vae_i",
    "dip_vae_ii",
    "beta_tcvae",
)

# By name, as a file of TOML would hold them.
STUDIES: dict[str, Mapping[str, Any]] = {
    # Locatello et al. 2019: six objectives, six values each, 50 seeds; 300,000 steps.
    "locatello_dsprites": {
        "num_seeds": 50,
        "settings": {"dataset": "dsprites"},
        "sweep": [{"objective": name, "preset": "locatello"} for name in _LOCATELLO_2019],
    },
}

# A log of each 20th of a second, and its events, are too much of hundreds of runs.
_PARTS = 100  # of training, after each of which there is a checkpoint and a line of the log
_FEWEST_STEPS = 100  # between two checkpoints
_STUDY_DEFAULTS: dict[str, Any] = {"tensorboard": False, "keep_checkpoints": 2}
EFFORT = ("num_train", "num_test")  # how much the scores cost
_TOP = ("settings", "sweep", "metrics", "num_seeds", *EFFORT)
# What only some objectives take: shared by those that do.
_OF_AN_OBJECTIVE = ("coefficients", "schedules", "objective_settings")
_GRID = ("coefficients", "learning_rate", "seed")
_MOST_SEEDS = 1_000_000  # a list of more is a slip of the pen
_AUTO_METRICS = ("auto",)
# About four seconds a run on a core; the others are asked for by name.
_WITH_FACTORS = ("beta_vae_score", "factor_vae_score", "mig", "modularity", "sap", "irs",
                 "unsupervised", "udr")  # fmt: skip


class Study(NamedTuple):
    """What is to be trained, and measured of it."""

    sweeps: tuple[Settings, ...]  # resolved but for what the data decides; a program each
    metrics: tuple[str, ...] = _AUTO_METRICS  # names, or that the data decides
    num_train: int = Effort().num_train  # rows that metrics are fitted to
    num_test: int = Effort().num_test


def labels_of(study: Study) -> list[str]:
    """A name for each sweep: its objective, numbered where there are several of one."""
    names = [settings.objective for settings in study.sweeps]
    return [
        f"{name}-{names[:k].count(name) + 1}" if names.count(name) > 1 else name
        for k, name in enumerate(names)
    ]


def settle_metrics(study: Study, splits: Sequence[Splits]) -> Study:
    """Puts names in place of `auto`: where no factors are known, those that need none."""
    if study.metrics != _AUTO_METRICS:
        return study
    known = any(split.train.space is not None for split in splits)
    return study._replace(
        metrics=tuple(name for name in _WITH_FACTORS if known or not needs_factors(name))
    )


def load_study_file(path: pathlib.Path) -> dict[str, Any]:
    """Reads a study from a TOML file; see `make_study` for what it holds.

    Raises:
      InputError: If the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"expected study to be one of {', '.join(STUDIES)}, or a TOML file; {path} is missing"
        ) from None
    except OSError as error:
        raise InputError(f"expected a study file; got {path} ({error.strerror})") from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of too many digits
        raise InputError(f"expected {path} to be TOML; {error}") from None


def make_study(asked: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Study:
    """Makes a study from plain values.

    Args:
      asked: `sweep`, a list: for each program an `objective`, a `preset` if one is wanted, and
        any field of `Settings` of its own; `settings`, fields that all sweeps share, where a
        coefficient goes to those objectives that have it; `num_seeds`, in place of a list;
        `metrics`, `num_train` and `num_test` of the evaluation.
      given: The same, to go before what `asked` and its sweeps say: the flags of a command line.

    Returns:
      The study, its settings resolved.

    Raises:
      InputError: If a name is not known, a grid is not one, or two sweeps hold the same run.
    """
    given = given or {}
    for values in (asked, given):
        check_belong("parts of a study", values, _TOP)
    merged = {**asked, **given}
    shared, first = _shared(asked), _shared(given)
    sweeps = merged.get("sweep", [])
    if isinstance(sweeps, Mapping):
        raise InputError("expected sweep to be a list of tables, in TOML [[sweep]]; got one table")
    if not isinstance(sweeps, Sequence) or isinstance(sweeps, str) or not sweeps:
        raise InputError("expected a study of one sweep or more; got none")
    settings = tuple(_sweep(sweep, shared, first) for sweep in sweeps)
    _check_taken(lay_over(shared, first), settings)
    _check_distinct(settings)
    return with_scores(Study(settings), merged)


def with_scores(study: Study, asked: Mapping[str, Any]) -> Study:
    """A study of the same runs, with what is asked of their scores.

    Args:
      study: What gives way.
      asked: `metrics`, `num_train`, `num_test`, each if it is to be another.

    Raises:
      InputError: If a name is not known or a number is out of range.
    """
    for name in EFFORT:
        check_count(name, asked.get(name, 1))
    scores: dict[str, Any] = {name: asked[name] for name in EFFORT if name in asked}
    if "metrics" in asked:
        scores["metrics"] = check_metrics(asked["metrics"])
    return study._replace(**scores)


def _shareable() -> list[str]:
    return [name for name in Settings._fields if name not in ("objective", "rows")]


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = values.get(name, {})
    if not isinstance(table, Mapping):
        raise InputError(f"expected {name} of a study to be a table; got {table!r}")
    return dict(table)


def _shared(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a file, or flags, give all sweeps."""
    shared = _table(values, "settings")
    check_belong("settings of a study", shared, [*_shareable(), "preset"])
    for name in NESTED:
        _table(shared, name)
    if "num_seeds" in values:
        if "seed" in shared:
            raise InputError("expected either seed or num_seeds; got both")
        check_at_least("num_seeds", values["num_seeds"], 1, most=_MOST_SEEDS, integer=True)
        shared["seed"] = list(range(values["num_seeds"]))
    return shared


def _sweep(sweep: Any, shared: Mapping[str, Any], first: Mapping[str, Any]) -> Settings:
    """The settings of a sweep: a preset's, before them the shared ones, its own, the first."""
    if not isinstance(sweep, Mapping):
        raise InputError(f"expected each sweep to be a table; got {sweep!r}")
    check_belong("settings of a sweep", sweep, [*_shareable(), "objective", "preset"])
    check_name("objective", str(sweep.get("objective", "none")), OBJECTIVES)
    for name in NESTED:
        _table(sweep, name)
    objective = str(sweep["objective"])
    chosen = lay_over(lay_over(_taken(objective, shared), sweep), _taken(objective, first))
    name = chosen.pop("preset", None)
    published = preset(name, objective) if name is not None else {}
    values = {**_STUDY_DEFAULTS, **lay_over(published, chosen)}
    steps = values.get("num_steps", Settings().num_steps)
    if isinstance(steps, int):
        often = max(steps // _PARTS, _FEWEST_STEPS)
        values = {"checkpoint_every": often, "log_every": often, **values}
    resolved = resolve(Settings(**values))
    grid_of(resolved)
    return resolved


def _taken(objective: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Shared settings without those that only other objectives take."""
    taken = dict(shared)
    for kind, names in _takes(objective).items():
        if kind in shared:
            taken[kind] = {k: v for k, v in shared[kind].items() if k in names}
    return taken


def _takes(objective: str) -> dict[str, set[str]]:
    """The names that an objective takes, by what they are."""
    make = OBJECTIVES[objective]
    coefficients = set(make().Coefficients()._asdict())
    settings = set(keyword_settings(make))
    return {
        "coefficients": coefficients,
        "schedules": coefficients,
        "objective_settings": settings,
    }


def _check_taken(shared: Mapping[str, Any], sweeps: Sequence[Settings]) -> None:
    """Raises InputError where no objective takes what was given for all."""
    objectives = sorted({settings.objective for settings in sweeps})
    for kind in _OF_AN_OBJECTIVE:
        known = set().union(*(_takes(name)[kind] for name in objectives))
        what = f"{kind} of a study of {', '.join(objectives)}"
        check_belong(what, _table(shared, kind), known)


def _check_distinct(sweeps: Sequence[Settings]) -> None:
    """Raises InputError where two sweeps hold the same run."""
    seen: set[str] = set()
    for settings in sweeps:
        fixed = str({k: v for k, v in settings._asdict().items() if k not in _GRID})
        runs = grid_of(settings)
        columns = [*runs.coefficients, runs.learning_rate, runs.seed]
        rows = {f"{fixed}{list(map(float, row))}" for row in zip(*columns, strict=True)}
        if rows & seen:
            raise InputError(
                f"expected distinct runs; got two sweeps of {settings.objective} with the same"
            )
        seen |= rows


def check_metrics(names: Any) -> tuple[str, ...]:
    """Checks the names of metrics: `auto`, `none`, or those that `expand_names` takes.

    Raises:
      InputError: If one is not known.
    """
    if not isinstance(names, Sequence) or isinstance(names, str):
        raise InputError(f"expected metrics to be a list of names; got {names!r}")
    names = [str(name) for name in names]
    if tuple(names) == _AUTO_METRICS:
        return _AUTO_METRICS
    if names in ([], ["none"]):
        return ()
    check_unique("metrics", names)
    return tuple(expand_names(names, baselines=False))
