"""The figures of a study."""

import pathlib
from collections.abc import Sequence

import numpy as np

from betavae_jax.plots.curves import draw_rate_distortion
from betavae_jax.plots.study import draw_boxes, draw_rank_correlations
from betavae_jax.report.figures import Figure
from betavae_jax.runs.directory import FIGURES
from betavae_jax.study.summary import columns_of, finished, head_of, rank_correlations, texts_of
from betavae_jax.study.table import Row, score_names

_ALWAYS = ("elbo", "rate", "active_latents")

# The caption of a figure, and what it shows in words.
_BOXES = (
    "Each metric by objective and setting: the box holds the middle half of the seeds.",
    "Box plots of every metric by objective and setting.",
)
_PLANE = (
    "Rate against distortion; on the dashed line the ELBO is that of the best run.",
    "The runs in the plane of rate and distortion, coloured by objective.",
)
_MATRIX = (
    "Spearman's correlation of every two metrics, over {} runs. Of a metric with ↓ less is better.",
    "A matrix of rank correlations between metrics.",
)


def draw_figures(workdir: pathlib.Path, rows: Sequence[Row]) -> list[Figure]:
    """Draws each metric by setting, rank correlations, and rate against distortion.

    Args:
      workdir: The study's directory; figures go to its `figures/`.
      rows: As `table_of` gives them.

    Returns:
      The figures, in the order of the page: of metrics where a run has a finite value of one, of
      rank correlations where there are two scores.
    """
    folder = workdir / FIGURES
    folder.mkdir(exist_ok=True)
    sweeps = [row["sweep"] for row in rows]
    scores = score_names(rows)
    measured = [*scores, *_ALWAYS]
    values = columns_of(rows, measured)
    shown = [k for k in range(len(measured)) if np.isfinite(values[k]).any()]
    boxes, plane, matrix = (
        folder / f"{name}.png" for name in ("metrics", "rate_distortion", "rank_correlations")
    )
    figures = []
    if shown:
        heads = [head_of(measured[k]) for k in shown]
        draw_boxes(values[shown], heads, sweeps, texts_of(rows), boxes)
        figures.append(Figure(boxes, *_BOXES))
    rate, distortion = columns_of(rows, ["rate", "distortion"])
    draw_rate_distortion(rate, distortion, sweeps, plane)
    figures.append(Figure(plane, *_PLANE))
    if len(scores) > 1:
        compared = [*scores, "elbo"]
        correlations = rank_correlations(columns_of(rows, compared))
        draw_rank_correlations(correlations, [head_of(name) for name in compared], matrix)
        caption, words = _MATRIX
        figures.append(Figure(matrix, caption.format(len(finished(rows))), words))
    return figures
