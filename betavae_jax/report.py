"""The report of a run directory: figures, numbers, one self-contained page."""

import base64
import html
import pathlib
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax.codes import fetch_examples
from betavae_jax.plots.curves import draw_kl_history
from betavae_jax.plots.images import draw_reconstructions, draw_samples, draw_traversals
from betavae_jax.plots.vectors import (
    draw_vector_reconstructions,
    draw_vector_samples,
    draw_vector_traversals,
)
from betavae_jax.population import describe_run, take_runs
from betavae_jax.runs.directory import FIGURES, LOG, REPORT
from betavae_jax.runs.records import read_log
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import Carry
from betavae_jax.types import Array, Leaf, Model, Params

RUNS_DRAWN = 12  # a run's figures weigh about 150 kB in the page
_SPAN = 3.0
_TRAVERSAL_STEPS = 11
_NUM_EXAMPLES = 10
_NUM_SAMPLES = 40
_VECTORS_DRAWN = 8  # originals, and samples; each has a panel of its own


class Pictures(NamedTuple):
    """What one run shows."""

    reconstructions: Leaf  # [N, H, W, C] or [N, F]
    samples: Leaf  # [S, H, W, C] or [S, F]
    traversals: Leaf  # [D, T, H, W, C] or [D, T, F]


def make_pictures(model: Model, num_latents: int) -> Callable[[Params, Array, Array], Pictures]:
    """Makes the compiled function `(params, examples [N, ...], seed_image [...]) -> Pictures`.

    Reconstructions decode the posterior's mean. Samples decode the same draws from the prior
    for every run. A traversal moves one latent over [-3, 3] and keeps the others at the seed
    image's mean.
    """
    values = jnp.linspace(-_SPAN, _SPAN, _TRAVERSAL_STEPS)

    def decode(params: Params, z: Array) -> Array:
        return model.mean(model.decode(params, z))

    def pictures(params: Params, examples: Array, seed_image: Array) -> Pictures:
        reconstructions = decode(params, model.encode(params, examples).mean)
        prior = jax.random.normal(jax.random.key(0), (_NUM_SAMPLES, num_latents))
        base = model.encode(params, seed_image[None]).mean[0]
        moved = jnp.eye(num_latents, dtype=bool)[:, None, :]  # [D, 1, D]
        z = jnp.where(moved, values[None, :, None], base[None, None, :])  # [D, T, D]
        flat = decode(params, z.reshape(-1, num_latents))
        traversals = flat.reshape(z.shape[:2] + flat.shape[1:])
        return Pictures(reconstructions, decode(params, prior), traversals)

    return jax.jit(pictures)


def write_report(
    workdir: pathlib.Path, experiment: Experiment, carry: Carry, results: Mapping[str, Any]
) -> pathlib.Path:
    """Draws the figures of each run and writes `report.html`.

    Args:
      workdir: The run directory; figures go to its `figures/`.
      experiment: What was trained.
      carry: Where training ended.
      results: As `evaluate` gives them.

    Returns:
      The path of the page. Beyond the first 12 runs a population is in the table only.
    """
    rows = results["runs"]
    figures = workdir / FIGURES
    figures.mkdir(exist_ok=True)
    params = take_runs(carry.state.params, len(rows))
    data = experiment.splits.test or experiment.splits.train
    index = np.linspace(0, data.num_examples - 1, _NUM_EXAMPLES).astype(np.int32)
    examples = fetch_examples(data, index)
    seed_image = fetch_examples(data, np.asarray([_central_row(data.num_examples)]))[0]
    pictures = make_pictures(experiment.model, experiment.settings.num_latents)
    log = read_log(workdir / LOG)
    sections = []
    for run, row in enumerate(rows[:RUNS_DRAWN]):
        run_params = jax.tree.map(lambda leaf, run=run: leaf[run], params)
        drawn = jax.device_get(pictures(run_params, jnp.asarray(examples), jnp.asarray(seed_image)))
        paths = _draw_run(figures, row, drawn, examples, [r for r in log if r["run"] == run])
        sections.append(_section(describe_run(experiment.runs, run), row, paths))
    page = workdir / REPORT
    page.write_text(_page(experiment, rows, sections), encoding="utf-8")
    return page


def _central_row(num_examples: int) -> int:
    """The middle of a set; on a square grid of two factors, the middle of both."""
    side = int(np.sqrt(num_examples))
    return (num_examples + side) // 2 if side * side == num_examples else num_examples // 2


def _factor_names(row: Mapping[str, Any], num_latents: int) -> list[str]:
    """For each latent, the factor that it follows with abs r of at least 0.5, or nothing."""
    names = [""] * num_latents
    alignment = row["metrics"].get("axis_alignment")
    if alignment:
        for name, latent in alignment["latent"].items():
            if alignment["abs_pearson_r"][name] >= 0.5:
                names[int(latent)] = f"({name})"
    return names


def _draw_run(
    figures: pathlib.Path,
    row: Mapping[str, Any],
    drawn: Pictures,
    examples: np.ndarray,
    log: Sequence[Mapping[str, Any]],
) -> dict[str, pathlib.Path]:
    """Draws the figures of one run; returns them by the caption that they stand under."""
    stem = f"run{row['run']:03d}"
    kl = np.asarray(row["kl_per_latent"], np.float64)
    captions = {
        "Each latent moved alone, the most informative first": "traversals",
        "Originals and their reconstructions": "reconstructions",
        "Samples from the prior": "samples",
        "KL of each latent over training": "kl",
    }
    paths = {caption: figures / f"{stem}_{name}.png" for caption, name in captions.items()}
    traversals, reconstructions, samples, history = paths.values()
    names = _factor_names(row, len(kl))
    if examples.ndim == 2:
        few = slice(_VECTORS_DRAWN)
        draw_vector_traversals(drawn.traversals, kl, traversals, span=_SPAN, names=names)
        draw_vector_reconstructions(examples[few], drawn.reconstructions[few], reconstructions)
        draw_vector_samples(drawn.samples[few], samples)
    else:
        draw_traversals(drawn.traversals, kl, traversals, span=_SPAN, names=names)
        draw_reconstructions(examples, drawn.reconstructions, reconstructions)
        draw_samples(drawn.samples, samples)
    if log:
        values = [[np.nan if v is None else v for v in line["kl_per_latent"]] for line in log]
        draw_kl_history(np.asarray([line["step"] for line in log]), np.asarray(values), history)
    else:
        del paths["KL of each latent over training"]
    return paths


def _number(value: Any, digits: int = 2) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _section(title: str, row: Mapping[str, Any], paths: Mapping[str, pathlib.Path]) -> str:
    failed = (
        f'<p class="failed">This run stopped at step {row["failed_at"]}: a value was not finite. '
        "Everything below shows its last finite parameters.</p>"
        if row["failed_at"] is not None
        else ""
    )
    figures = "".join(
        f'<figure><img alt="{html.escape(caption)}, {html.escape(title)}" '
        f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, path in paths.items()
    )
    heading = f"Run {row['run']}: {html.escape(title)}"
    return f'<section id="run{row["run"]}"><h2>{heading}</h2>{failed}{figures}</section>'


def _table(experiment: Experiment, rows: Sequence[Mapping[str, Any]]) -> str:
    columns = ["run", "settings", "ELBO", "distortion", "rate", "active latents"]
    factors = list(rows[0]["metrics"].get("axis_alignment", {}).get("abs_pearson_r", {}))
    head = "".join(f"<th>{c}</th>" for c in columns + [f"|r| with {f}" for f in factors])
    body = []
    for row in rows:
        alignment = row["metrics"].get("axis_alignment", {}).get("abs_pearson_r", {})
        label = html.escape(describe_run(experiment.runs, row["run"]))
        link = f'<a href="#run{row["run"]}">{label}</a>' if row["run"] < RUNS_DRAWN else label
        numbers = [_number(row[name]) for name in ("elbo", "distortion", "rate")]
        numbers += [_number(row["active_latents"], digits=0)]
        numbers += [_number(alignment.get(name)) for name in factors]
        cells = "".join(f"<td>{cell}</td>" for cell in [str(row["run"]), link, *numbers])
        body.append(f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _page(
    experiment: Experiment, rows: Sequence[Mapping[str, Any]], sections: Sequence[str]
) -> str:
    settings = experiment.settings
    facts = {
        "data set": settings.dataset,
        "objective": settings.objective,
        "network": settings.network,
        "likelihood": settings.likelihood,
        "latents": settings.num_latents,
        "batch size": settings.batch_size,
        "steps": settings.num_steps,
        "runs": len(rows),
        "evaluated on": f"{rows[0]['num_evaluated']:,} examples of the "
        + ("test split" if experiment.splits.test else "training set"),
    }
    items = "".join(f"<dt>{k}</dt><dd>{html.escape(str(v))}</dd>" for k, v in facts.items())
    beyond = (
        f"<p>Figures are drawn for the first {RUNS_DRAWN} of {len(rows)} runs.</p>"
        if len(rows) > RUNS_DRAWN
        else ""
    )
    template = string.Template(
        pathlib.Path(__file__).with_name("report.template.html").read_text("utf-8")
    )
    return template.substitute(
        title=html.escape(f"{settings.objective} on {settings.dataset}"),
        facts=items,
        table=_table(experiment, rows),
        beyond=beyond,
        sections="".join(sections),
    )
