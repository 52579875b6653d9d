"""The words and numbers of a report, as HTML."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from betavae_jax.report.frame import Cell, sortable_table
from betavae_jax.runs.records import say_value
from betavae_jax.runs.settings import Experiment

_DASH = "–"


def say_number(value: Any, digits: int = 2) -> str:
    """A number for people; a dash where there is none."""
    return _DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def run_settings(row: Mapping[str, Any]) -> dict[str, float]:
    """What distinguishes a run, by name."""
    return {**row["coefficients"], "learning_rate": row["learning_rate"], "seed": row["seed"]}


def varying_settings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the settings that differ between runs; all of them where none does."""
    every = [run_settings(row) for row in rows]
    names = list(every[0])
    varying = [name for name in names if len({settings[name] for settings in every}) > 1]
    return varying or names


def title_of_run(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """A run in words, such as `run 3, beta=4, seed=0`."""
    settings = run_settings(row)
    return ", ".join(
        [f"run {row['run']}", *(f"{name}={say_value(settings[name])}" for name in names)]
    )


def group_of_run(row: Mapping[str, Any]) -> str:
    """The objective and its coefficients: what runs that differ by chance share."""
    values = [f"{name}={say_value(value)}" for name, value in row["coefficients"].items()]
    return ", ".join(values) or row["objective"]


def best_runs(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """The run of the highest ELBO for each setting of the coefficients, the best first."""

    def worth(row: Mapping[str, Any]) -> float:
        elbo = row["elbo"]
        return elbo if elbo is not None and math.isfinite(elbo) else -math.inf

    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        group = group_of_run(row)
        if group not in best or worth(row) > worth(best[group]):
            best[group] = row
    return [row["run"] for row in sorted(best.values(), key=worth, reverse=True)]


def make_table(rows: Sequence[Mapping[str, Any]], linked: set[int]) -> str:
    """The table of runs; `linked` are those with a section of their own on the page."""
    names = varying_settings(rows)
    failed = any(row["failed_at"] is not None for row in rows)
    factors, metrics = _measured(rows)
    head = ["run", *names, "ELBO", "distortion", "rate", "active latents"]
    head += [f"|r| with {factor}" for factor in factors] + metrics
    head += ["stopped at"] if failed else []
    body = (_table_row(row, names, factors, metrics, failed, linked) for row in rows)
    return sortable_table(head, body)


def _measured(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The factors that latents were matched with, and the metrics that have a headline value."""
    factors: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for row in rows:
        factors |= dict.fromkeys(row["metrics"].get("axis_alignment", {}).get("abs_pearson_r", {}))
        named = {name for name, m in row["metrics"].items() if isinstance(m, Mapping)}
        metrics |= dict.fromkeys(sorted(named - {"axis_alignment"}))
    return list(factors), list(metrics)


def _table_row(
    row: Mapping[str, Any],
    names: Sequence[str],
    factors: Sequence[str],
    metrics: Sequence[str],
    failed: bool,
    linked: set[int],
) -> tuple[str, list[Cell]]:
    run, settings = row["run"], run_settings(row)
    alignment = row["metrics"].get("axis_alignment", {}).get("abs_pearson_r", {})
    numbers = [
        *((row[name], 2) for name in ("elbo", "distortion", "rate")),
        (row["active_latents"], 0),
        *((alignment.get(factor), 2) for factor in factors),
        *((_headline(row["metrics"].get(metric)), 3) for metric in metrics),
        *([(row["failed_at"], 0)] if failed else []),
    ]
    cells = [
        (run, f'<a href="#run{run}">{run}</a>' if run in linked else str(run)),
        *((settings[name], say_value(settings[name])) for name in names),
        *((value, say_number(value, digits)) for value, digits in numbers),
    ]
    words = " ".join(f"{name}={say_value(value)}" for name, value in settings.items())
    return f"run={run} {words}{'' if row['failed_at'] is None else ' stopped'}", cells


def _headline(metric: Any) -> Any:
    value = metric.get("value") if isinstance(metric, Mapping) else None
    return value if isinstance(value, (int, float)) else None


def make_facts(
    experiment: Experiment, rows: Sequence[Mapping[str, Any]], program: Mapping[str, Any]
) -> str:
    """What ran, as the items of a definition list."""
    settings = experiment.settings
    init = jax.eval_shape(experiment.model.init, jax.eval_shape(lambda: jax.random.key(0)))
    weights = {part: sum(leaf.size for leaf in jax.tree.leaves(init[part])) for part in init}
    split = "test split" if experiment.splits.test else "training set"
    shape = "×".join(str(size) for size in program.get("x_shape", []))
    facts = {
        "data": f"{settings.dataset}, {experiment.splits.train.num_examples:,} examples to learn "
        f"from{f' of {shape}' if shape else ''}",
        "objective": " ".join([settings.objective, *_lists(settings.coefficients)]),
        "schedules": ", ".join(f"{n} {text}" for n, text in settings.schedules.items()),
        "network": f"{settings.network}, {settings.num_latents} latents, encoder "
        f"{weights['encoder']:,} and decoder {weights['decoder']:,} weights",
        "likelihood": settings.likelihood,
        "training": f"batches of {settings.batch_size}, learning rate "
        f"{_list(settings.learning_rate)}, {settings.precision}",
        "seeds": _list(settings.seed),
        "evaluated on": f"{rows[0]['num_evaluated']:,} examples of the {split}",
        "machine": str(program.get("device_kind", "")),
        "versions": ", ".join(f"{n} {v}" for n, v in program.get("versions", {}).items()),
    }
    return "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items() if v)


def _list(values: Sequence[float]) -> str:
    return ", ".join(say_value(value) for value in values)


def _lists(named: Mapping[str, Sequence[float]]) -> list[str]:
    return [f"{name}={_list(values)}" for name, values in named.items()]


def say_outcome(rows: Sequence[Mapping[str, Any]], num_steps: int) -> str:
    """How it went, in a sentence or two."""
    failed = [row for row in rows if row["failed_at"] is not None]
    going = [row["step"] for row in rows if row["failed_at"] is None]
    what = "The run" if len(rows) == 1 else f"{len(rows) - len(failed)} of {len(rows)} runs"
    parts = []
    if going and min(going) < num_steps:
        parts.append(f"Unfinished: {min(going):,} of {num_steps:,} steps are done.")
    elif going:
        every = "All " + what.split(" of ")[1] if len(rows) > 1 and not failed else what
        parts.append(f"{every} finished {num_steps:,} steps.")
    if failed:
        runs = ", ".join(f"run {row['run']} at step {row['failed_at']:,}" for row in failed[:10])
        rest = f" and {len(failed) - 10} more" if len(failed) > 10 else ""
        parts.append(f"Stopped where a value was not finite: {runs}{rest}.")
    scored = [r for r in rows if r["elbo"] is not None and math.isfinite(r["elbo"])]
    if scored:
        top = max(scored, key=lambda row: row["elbo"])
        of = f" of run {top['run']}" if len(rows) > 1 else ""
        parts.append(
            f"The {'highest ' if of else ''}ELBO{of} is {top['elbo']:.2f} nats: distortion "
            f"{top['distortion']:.2f}, rate {top['rate']:.2f}."
        )
    return " ".join(parts)
