"""The page of a study: one file that needs no network."""

import html
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from betavae_jax.report.figures import Figure
from betavae_jax.report.frame import Cell, frame_page, read_part, sortable_table
from betavae_jax.report.sections import figure_html
from betavae_jax.report.tables import say_number
from betavae_jax.runs.directory import REPORT, read_config
from betavae_jax.runs.records import write_text
from betavae_jax.study.grid import Study, labels_of
from betavae_jax.study.ledger import PackState
from betavae_jax.study.plan import PACKS, Plan, pack_directory
from betavae_jax.study.summary import (
    Choice,
    Setting,
    Spread,
    choose_by_udr,
    head_of,
    settings_of_rows,
    texts_of,
)
from betavae_jax.study.table import Row, score_names

_OF_EVERY_RUN = {"elbo": 2, "distortion": 2, "rate": 2, "active_latents": 1}
_REASONS = 6  # why scores are missing, named on the page


def write_page(
    workdir: pathlib.Path,
    study: Study,
    plan: Plan,
    states: Sequence[PackState],
    rows: Sequence[Row],
    figures: Sequence[Figure],
) -> pathlib.Path:
    """Writes `report.html`, whole or not at all.

    Args:
      workdir: The study's directory.
      study: What was asked.
      plan: How it was cut.
      states: The packs, finished.
      rows: As `table_of` gives them.
      figures: To show, in this order.

    Returns:
      The path of the page.
    """
    own = pathlib.Path(__file__).with_name("template.html").read_text("utf-8")
    scores = score_names(rows)
    body = string.Template(own).substitute(
        outcome=html.escape(_outcome(rows)),
        script=read_part("table.js"),
        figures="".join(map(figure_html, figures)),
        choices=_choices(choose_by_udr(rows)),
        settings=_settings_table(settings_of_rows(rows), scores),
        notes=_notes(states),
        runs=_runs_table(rows, scores),
        packs=html.escape(str(workdir / PACKS)),
        facts=_facts(study, plan, [_network(workdir, plan, k) for k in range(len(study.sweeps))]),
    )
    page = workdir / REPORT
    write_text(page, frame_page(f"{', '.join(labels_of(study))} on {_data_sets(study)}", body))
    return page


def _data_sets(study: Study) -> str:
    return ", ".join(dict.fromkeys(settings.dataset for settings in study.sweeps))


def _outcome(rows: Sequence[Row]) -> str:
    failed = [row for row in rows if row["failed_at"] is not None]
    text = f"{len(rows) - len(failed)} of {len(rows)} runs finished."
    if failed:
        named = "; ".join(
            f"run {row['run']} of pack {row['pack']} at step {row['failed_at']:,} ({row['cause']})"
            for row in failed[:5]
        )
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        text += f" Stopped where a value was not finite: {named}{more}."
    return text


def _word_cell(at: int, text: str) -> Cell:
    return at, html.escape(text)


def _settings_table(settings: Sequence[Setting], scores: Sequence[str]) -> str:
    digits = {**_OF_EVERY_RUN, **dict.fromkeys(scores, 3)}
    heads = ["objective", "setting", "runs", "stopped", *map(head_of, digits)]
    rows = []
    for at, setting in enumerate(settings):
        cells = [
            _word_cell(at, setting.sweep),
            _word_cell(at, setting.text),
            (setting.runs, str(setting.runs)),
            (setting.failed, str(setting.failed)),
            *(_spread_cell(setting.spreads[name], places) for name, places in digits.items()),
        ]
        rows.append((f"{setting.sweep} {setting.text.replace(',', '')}", cells))
    return sortable_table(heads, rows)


def _spread_cell(spread: Spread, digits: int) -> Cell:
    text = say_number(spread.mean, digits)
    if spread.deviation is not None:
        text += f" ± {spread.deviation:.{digits}f}"
    return spread.mean, text


def _runs_table(rows: Sequence[Row], scores: Sequence[str]) -> str:
    digits = {**_OF_EVERY_RUN, "active_latents": 0, **dict.fromkeys(scores, 3)}
    failed = any(row["failed_at"] is not None for row in rows)
    heads = ["pack", "run", "objective", "setting", "seed", *map(head_of, digits)]
    heads += ["stopped at", "cause"] if failed else []
    listed = []
    for at, (row, text) in enumerate(zip(rows, texts_of(rows), strict=True)):
        cells: list[Cell] = [
            (row["pack"], str(row["pack"])),
            (row["run"], str(row["run"])),
            _word_cell(at, row["sweep"]),
            _word_cell(at, text),
            (row["seed"], str(row["seed"])),
            *((row[name], say_number(row[name], places)) for name, places in digits.items()),
        ]
        if failed:
            cells += [
                (row["failed_at"], say_number(row["failed_at"], 0)),
                _word_cell(at, row["cause"] or ""),
            ]
        listed.append((_words(row["sweep"], text, row), cells))
    return sortable_table(heads, listed)


def _words(sweep: str, setting: str, row: Row) -> str:
    """What a run is found by."""
    stopped = " stopped" if row["failed_at"] is not None else ""
    return f"{sweep} {setting.replace(',', '')} seed={row['seed']}{stopped}"


def _choices(choices: Sequence[Choice]) -> str:
    if not choices:
        return (
            '<p class="note">UDR was not measured. It compares runs with each other, two at '
            "least: those of one setting, or all of an objective whose settings have one seed.</p>"
        )
    others = list(dict.fromkeys(name for choice in choices for name in choice.ranks))
    heads = ["objective", "setting", "seed", "pack", "UDR", *map(head_of, others)]
    rows = []
    for at, choice in enumerate(choices):
        run = choice.chosen
        cells: list[Cell] = [
            _word_cell(at, choice.sweep),
            _word_cell(at, choice.setting),
            (run["seed"], str(run["seed"])),
            (run["pack"], str(run["pack"])),
            (choice.udr, say_number(choice.udr, 3)),
        ]
        for name in others:
            rank = choice.ranks.get(name)
            share = "" if rank is None else f" ({round(100 * rank)} %)"
            cells.append((run[name], say_number(run[name], 3) + share))
        rows.append((_words(choice.sweep, choice.setting, run), cells))
    return (
        f'<div class="scroll">{sortable_table(heads, rows)}</div>'
        '<p class="note">The run of the highest UDR of each objective, which no label has helped '
        "to find (Duan et al. 2020). In brackets, the share of the objective's runs that it equals "
        "or beats; where ↓ stands, less is better.</p>"
    )


def _notes(states: Sequence[PackState]) -> str:
    """Why scores are missing."""
    reasons: dict[str, int] = {}
    for state in states:
        for row in state.rows:
            for name, reason in row.get("unscored", {}).items():
                reasons[f"{name}: {reason}"] = reasons.get(f"{name}: {reason}", 0) + 1
    listed = "".join(
        f"<li>{html.escape(text)} ({count} run{'s' if count > 1 else ''})</li>"
        for text, count in sorted(reasons.items(), key=lambda item: -item[1])[:_REASONS]
    )
    return f'<div class="note">Scores that are missing:<ul>{listed}</ul></div>' if listed else ""


def _network(workdir: pathlib.Path, plan: Plan, sweep: int) -> str:
    """The network of a sweep, which its data may have decided."""
    number = next(pack.number for pack in plan.packs if pack.sweep == sweep)
    return str(read_config(pack_directory(workdir, number))["settings"]["network"])


def _facts(study: Study, plan: Plan, networks: Sequence[str]) -> str:
    machine: Mapping[str, Any] = plan.machine
    speeds = ", ".join(
        f"{m['runs_per_device']}: {m['images_per_second']:,.0f}"
        if m["images_per_second"]
        else f"{m['runs_per_device']}: out of memory"
        for m in plan.measured
    )
    facts = {
        "packs": f"{len(plan.packs)}, of {plan.runs_per_device} "
        f"{'run' if plan.runs_per_device == 1 else 'runs'} a device at most",
        "images/s by runs a device": speeds,
        "training": "; ".join(
            f"{label}: {settings.num_steps:,} steps of {settings.batch_size} examples, {network}"
            for label, settings, network in zip(
                labels_of(study), study.sweeps, networks, strict=True
            )
        ),
        "scores": f"{', '.join(study.metrics)}; {study.num_train:,} rows to fit to, "
        f"{study.num_test:,} to test on" if study.metrics else "none",
        "machine": str(machine.get("device_kind", "")),
        "versions": ", ".join(f"{n} {v}" for n, v in machine.get("versions", {}).items()),
    }  # fmt: skip
    return "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items() if v)
