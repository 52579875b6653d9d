"""The sections of a report: a run each, as many as the page has room for."""

import base64
import html
import io
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from betavae_jax.report.figures import Figure
from betavae_jax.report.subject import Subject

_LARGEST_WEBP = 16_383  # pixels of a side
_SLIDERS_SHARE = 0.6  # of the page, at most, for the decoders of a population


class Section(NamedTuple):
    """A run on the page."""

    subject: Subject
    figures: list[Figure]
    more: list[Figure]
    sliders: str  # JSON, or nothing
    why_no_sliders: str


class Budget:
    """The bytes that the page still has room for."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, text: str) -> bool:
        """Whether the text fits; then its bytes are taken."""
        size = len(text.encode())
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits


def choose_sliders(sections: Sequence[Section], budget: Budget) -> list[str]:
    """The sliders that fit: the first run's, and of the others what leaves room for figures."""
    room = Budget(int(_SLIDERS_SHARE * budget.left))
    return [
        section.sliders
        for section in sections
        if section.sliders
        and (room.take(section.sliders) or section is sections[0])
        and budget.take(section.sliders)
    ]


def figure_html(figure: Figure) -> str:
    """A figure in the page: lossless WebP, which is about 0.6 of PNG; what is none, as it is."""
    from PIL import Image

    kind, data = figure.path.suffix.removeprefix("."), figure.path.read_bytes()
    with Image.open(figure.path) as image:
        width, height = image.size
        if kind == "png" and max(image.size) <= _LARGEST_WEBP:
            smaller = io.BytesIO()
            image.convert("RGB").save(smaller, "webp", lossless=True)
            kind, data = "webp", smaller.getvalue()
    return (
        f'<figure><img loading="lazy" width="{width}" height="{height}" '
        f'alt="{html.escape(figure.alt)}" '
        f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{html.escape(figure.caption)}</figcaption></figure>"
    )


def section_bodies(
    workdir: pathlib.Path, sections: Sequence[Section], sliders: set[str], budget: Budget
) -> dict[int, str]:
    """Makes the sections of the runs that fit, by run.

    Args:
      workdir: The run directory.
      sections: The runs, the most important first; it has everything before the others' figures.
      sliders: Which of the sections' sliders are on the page.
      budget: What is left of the page; it is used up.
    """
    core: dict[int, str] = {}
    more: dict[int, str] = {}
    for section in sections:
        text = "".join(map(figure_html, section.figures))
        if budget.take(text):
            core[section.subject.row["run"]] = text
        if section is sections[0]:
            more[section.subject.row["run"]] = _more(section, sliders, budget)
    for section in sections[1:]:
        if section.subject.row["run"] in core:
            more[section.subject.row["run"]] = _more(section, sliders, budget)
    return {
        section.subject.row["run"]: _body(workdir, section, core, more, sliders)
        for section in sections
        if section.subject.row["run"] in core
    }


def _more(section: Section, sliders: set[str], budget: Budget) -> str:
    """The further figures of a run that fit."""
    # Where there are sliders, they show more than an animation does.
    wanted = [f for f in section.more if f.path.suffix != ".gif" or section.sliders not in sliders]
    return "".join(text for text in map(figure_html, wanted) if budget.take(text))


def _body(
    workdir: pathlib.Path,
    section: Section,
    core: Mapping[int, str],
    more: Mapping[int, str],
    sliders: set[str],
) -> str:
    row = section.subject.row
    run = row["run"]
    notes = ""
    if row["failed_at"] is not None:
        notes += (
            f'<p class="failed">This run stopped at step {row["failed_at"]}: a value was not '
            "finite. Everything below shows its last finite parameters.</p>"
        )
    if section.sliders in sliders and section.sliders:
        notes += (
            f'<p><button type="button" class="open" data-run="{run}">Move its latents</button></p>'
        )
    elif section.why_no_sliders:
        reason = html.escape(section.why_no_sliders)
        notes += f'<p class="note">No sliders for this run: {reason}.</p>'
    else:
        notes += f'<p class="note">A page of its own, with sliders: {_command(workdir, run)}</p>'
    title = html.escape(section.subject.title)
    title = title[0].upper() + title[1:]
    figures = core[run] + more.get(run, "")
    figures = f'<div class="figures">{figures}</div>'
    return f'<section id="run{run}"><h2>{title}</h2>{notes}{figures}</section>'


def _command(workdir: pathlib.Path, run: int) -> str:
    command = f"python -m experiments.report --workdir={shlex.quote(str(workdir))} --run={run}"
    return f"<code>{html.escape(command)}</code>"


def list_beyond(workdir: pathlib.Path, runs: Sequence[int]) -> str:
    """The runs that are in the table only, with the commands that make their pages."""
    if not runs:
        return ""
    listed = "".join(f"<li>{_command(workdir, run)}</li>" for run in runs)
    return (
        f"<details><summary>{len(runs)} more run{'s' if len(runs) > 1 else ''}</summary>"
        f"<p>Each has a page of its own after</p><ul>{listed}</ul></details>"
    )
