"""The report of a run directory: figures, numbers, one self-contained page."""

import functools
import html
import json
import pathlib
import shlex
import string
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from betavae_jax.checks import InputError, jsonable
from betavae_jax.coding import Coding, make_coding, map_rows
from betavae_jax.population import take_runs
from betavae_jax.report.decoder import NotForThePageError
from betavae_jax.report.examples import Examples, fetch, fetch_map
from betavae_jax.report.explorer import describe_examples, describe_run_for_page
from betavae_jax.report.figures import (
    Figure,
    draw_core,
    draw_more,
    draw_population,
)
from betavae_jax.report.frame import frame_page, read_part
from betavae_jax.report.pictures import decode_pictures, encode_examples
from betavae_jax.report.sections import (
    Budget,
    Section,
    choose_sliders,
    figure_html,
    list_beyond,
    section_bodies,
)
from betavae_jax.report.subject import make_subject, match_factors
from betavae_jax.report.tables import (
    best_runs,
    group_of_run,
    make_facts,
    make_table,
    say_outcome,
    title_of_run,
    varying_settings,
)
from betavae_jax.runs.directory import CONFIG, FIGURES, FLAGS, LOG, REPORT
from betavae_jax.runs.records import naming, read_log, sync_folder, write_text
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import Carry, data_shape
from betavae_jax.types import Params

RUNS_DRAWN = 12  # whose figures are drawn, the best of each setting first
CLOSELY = 4  # of them, with every figure that there is
MOST_BYTES = 4_900_000  # of the page


def write_report(
    workdir: pathlib.Path,
    experiment: Experiment,
    carry: Carry,
    results: Mapping[str, Any],
    *,
    run: int | None = None,
) -> pathlib.Path:
    """Draws figures and writes `report.html`, one file that needs no network.

    Of a population the page shows the best run of each setting of the coefficients closely, as
    many as 4.9 MB hold, and of the others the figures that still fit.

    Args:
      workdir: The run directory; figures go to its `figures/`.
      experiment: What was trained.
      carry: Where training ended, or a checkpoint of it, on the program's devices.
      results: As `evaluate` gives them.
      run: One run of the population: its page is `figures/runNNN.html`.

    Returns:
      The path of the page.

    Raises:
      InputError: If there is no such run.
    """
    rows = jsonable(results["runs"])
    if run is not None and not 0 <= run < len(rows):
        raise InputError(f"expected run to be from 0 to {len(rows) - 1}; got {run}")
    figures = workdir / FIGURES
    figures.mkdir(exist_ok=True)
    best = best_runs(rows) if run is None else [run]
    others = [r["run"] for r in rows if r["run"] not in best] if run is None else []
    chosen = [*best, *others][:RUNS_DRAWN]
    log = read_log(workdir / LOG)
    names = varying_settings(rows)
    titles = [title_of_run(row, names) for row in rows]
    params = take_runs(carry.state.params, len(rows))
    own = {run: jax.tree.map(lambda leaf, run=run: leaf[run], params) for run in chosen}
    coding = make_coding(experiment.settings, data_shape(experiment.splits.train))
    examples = _fetch(experiment, coding, own[chosen[0]], rows[chosen[0]])
    sections = []
    everything: list[Figure] = []
    with naming(figures):
        for place, number in enumerate(chosen):
            about = rows[number], titles[number], [line for line in log if line["run"] == number]
            depth = number in best, number in best and place < CLOSELY
            sections.append(_draw(figures, experiment, coding, own[number], about, examples, depth))
        if run is None:
            groups = [group_of_run(row) for row in rows]
            everything = draw_population(figures, rows, groups, titles, log)
    sync_folder(figures)  # where the page stands, they do
    page = workdir / REPORT if run is None else figures / f"run{run:03d}.html"
    text = _page(workdir, experiment, rows, examples, sections, everything, run)
    write_text(page, text)
    return page


def _fetch(
    experiment: Experiment, coding: Coding, params: Params, row: Mapping[str, Any]
) -> Examples:
    """The examples, with a map of the two factors that the latents of one run follow best."""
    data = experiment.splits.test or experiment.splits.train
    examples = fetch(data)
    means = map_rows(functools.partial(coding.encode, params), examples.population).mean
    matched = match_factors(row, examples, means)
    strength = [matched[name][1] if name in matched else 0.0 for name in examples.factor_names]
    return fetch_map(data, examples, np.asarray(strength))


def _draw(
    folder: pathlib.Path,
    experiment: Experiment,
    coding: Coding,
    params: Params,
    about: tuple[Mapping[str, Any], str, Sequence[Mapping[str, Any]]],
    examples: Examples,
    depth: tuple[bool, bool],
) -> Section:
    """Draws one run: `about` is its row, title and log; `depth`: with sliders, every figure."""
    coded = encode_examples(coding, params, examples)
    matched = match_factors(about[0], examples, np.asarray(coded.population.mean))
    subject = make_subject(*about, matched)
    shown = decode_pictures(coding, params, coded, subject.kl)
    sliders, why = "", ""
    if depth[0]:
        try:
            described = describe_run_for_page(
                experiment, coding, params, subject, coded, shown, examples
            )
            sliders = json.dumps(described, allow_nan=False, separators=(",", ":"))
        except NotForThePageError as reason:
            why = str(reason)
    more = draw_more(folder, subject, examples, shown, coded) if depth[1] else []
    return Section(subject, draw_core(folder, subject, examples, shown), more, sliders, why)


def _page(
    workdir: pathlib.Path,
    experiment: Experiment,
    rows: Sequence[Mapping[str, Any]],
    examples: Examples,
    sections: Sequence[Section],
    everything: Sequence[Figure],
    run: int | None,
) -> str:
    settings = experiment.settings
    shown_rows = rows if run is None else [rows[run]]
    title = f"{settings.objective} on {settings.dataset}"
    if run is not None:
        title += f": {sections[0].subject.title}"
    parts = {
        "outcome": html.escape(say_outcome(shown_rows, settings.num_steps)),
        "facts": make_facts(experiment, rows, _program(workdir)),
        "repeat": html.escape(
            f"python -m experiments.train --flagfile={shlex.quote(str(workdir / FLAGS))}"
        ),
        "filter": 'class="filter"' if len(shown_rows) > 1 else 'class="filter" hidden',
        "population": "".join(map(figure_html, everything)),
        **{name.replace(".", "_"): read_part(name) for name in
           ("decoder.js", "sliders.js", "table.js")},
    }  # fmt: skip
    chosen = json.dumps(describe_examples(examples), separators=(",", ":"))
    table = make_table(shown_rows, {row["run"] for row in shown_rows})
    fixed = [chosen, frame_page(title, ""), *parts.values(), table, table]
    budget = Budget(MOST_BYTES - sum(len(part.encode()) for part in fixed) - 20_000)
    sliders = choose_sliders(sections, budget)
    bodies = section_bodies(workdir, sections, set(sliders), budget)
    beyond = [row["run"] for row in shown_rows if row["run"] not in bodies]
    data = f'{{"examples":{chosen},"runs":[{",".join(sliders)}]}}'
    body = string.Template(read_part("template.html")).substitute(
        parts,
        table=make_table(shown_rows, set(bodies)),
        data=data.replace("</", "<\\/"),
        no_sliders="hidden" if sliders else "",
        sliders="" if sliders else "hidden",
        beyond=list_beyond(workdir, beyond),
        sections="".join(bodies.values()),
    )
    return frame_page(title, body)


def _program(workdir: pathlib.Path) -> Mapping[str, Any]:
    """What `config.json` says of versions and hardware; nothing where it is missing."""
    path = workdir / CONFIG
    program: Mapping[str, Any] = json.loads(path.read_text())["program"] if path.exists() else {}
    return program
