"""What is measured and drawn of populations trained on the white dot."""

import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from betavae_jax.codes import encode_rows, fetch_examples, fetch_factors
from betavae_jax.metrics.alignment import axis_alignment
from betavae_jax.metrics.smoothness import grid_jumps, linear_r_squared
from betavae_jax.plots.dots import DotPanel, draw_dots, draw_posterior_widths
from betavae_jax.population import replicate, take_runs
from betavae_jax.runs.records import ACTIVE_NATS
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import Carry, Program

_SYMBOLS = {"beta": "β", "gamma": "γ", "capacity": "C"}
_STEPS = 11
_SPAN = 3.0
_COLUMNS = {
    "active": "active latents",
    "align_x": "abs r, x",
    "align_y": "abs r, y",
    "r2": "R², x and y",
    "jumps": "jumps",
    "width": "posterior variance",
    "elbo": "ELBO",
}


class Measured(NamedTuple):
    """A population and what was measured of it."""

    experiment: Experiment
    rows: list[dict[str, Any]]  # one a run
    params: Any  # host arrays [R, ...]
    mean: np.ndarray  # [R, N, D], posterior means over the whole grid
    variance: np.ndarray  # [R, N, D]


def measure(
    experiment: Experiment, program: Program, carry: Carry, results: Sequence[Mapping[str, Any]]
) -> Measured:
    """Encodes every dot with every run: the three claims as numbers, a row a run.

    Args:
      experiment: What was trained.
      program: Its program.
      carry: Where training ended.
      results: The rows of its `results.json`, where a number that is not finite is None.
    """
    runs, data = len(experiment.runs.seed), experiment.splits.train
    index = np.arange(data.num_examples, dtype=np.int32)
    arrays = replicate(data.arrays, program.devices)
    posterior = encode_rows(
        experiment.model, data, program, carry.state.params, arrays, index, runs
    )
    mean, variance = np.asarray(posterior.mean), np.exp(np.asarray(posterior.log_variance))
    factors = fetch_factors(data, index)
    rows = []
    for run, row in enumerate(results):
        alignment = axis_alignment(mean[run], factors)
        kl = np.asarray(row["kl_per_latent"], np.float64)
        carried = kl > ACTIVE_NATS
        coefficients = row["coefficients"]
        rows.append(
            {
                "objective": row["objective"],
                "setting": ", ".join(f"{_SYMBOLS[k]} = {v:.3g}" for k, v in coefficients.items()),
                "coefficients": coefficients,
                "seed": row["seed"],
                "elbo": math.nan if row["elbo"] is None else float(row["elbo"]),
                "active": row["active_latents"],
                "kl_per_latent": kl.tolist(),
                "align_x": float(alignment.correlation[0]),
                "align_y": float(alignment.correlation[1]),
                "latents": alignment.latent.tolist(),
                "r2": float(linear_r_squared(mean[run], factors)[:2].mean()),
                "jumps": grid_jumps(mean[run][:, carried], data.space.sizes) if data.space else 0,
                "width": float(variance[run][:, carried].mean()) if carried.any() else 1.0,
            }
        )
    return Measured(experiment, rows, take_runs(carry.state.params, runs), mean, variance)


def measure_radius(measured: Measured) -> dict[str, np.ndarray]:
    """For each factor, what its latent carries and how wide its posterior is, over runs [R, K]."""
    latents = np.asarray([row["latents"] for row in measured.rows])  # [R, K]
    kl = np.asarray([row["kl_per_latent"] for row in measured.rows])
    deviation = np.sqrt(measured.variance).mean(axis=1)  # [R, D]
    return {
        "kl": np.take_along_axis(kl, latents, axis=1),
        "deviation": np.take_along_axis(deviation, latents, axis=1),
    }


def _interval(values: npt.ArrayLike) -> str:
    """The mean with a 95 % interval over seeds (Student's t)."""
    import scipy.stats

    array = np.asarray(values, np.float64)
    half = scipy.stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    digits = 1 if abs(array.mean()) >= 10 else 2
    return f"{array.mean():.{digits}f} ± {half:.{digits}f}"


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: a line a setting, each number over its seeds."""
    lines = ["| setting | seeds | two, aligned | " + " | ".join(_COLUMNS.values()) + " |"]
    lines += ["|---" * (3 + len(_COLUMNS)) + "|"]
    for setting, group in itertools.groupby(rows, key=lambda row: row["setting"]):
        runs = list(group)
        aligned = sum(
            row["active"] == 2 and min(row["align_x"], row["align_y"]) >= 0.9 for row in runs
        )
        cells = [setting, str(len(runs)), f"{aligned} of {len(runs)}"]
        cells += [_interval([row[name] for row in runs]) for name in _COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def widths_table_of(widths: Mapping[str, np.ndarray]) -> str:
    """A Markdown table: a line a factor, with what its latent carries and its width."""
    lines = ["| factor | KL of its latent (nats) | posterior sd |", "|---|---|---|"]
    for k, name in enumerate(("x", "y", "radius")):
        cells = [name, _interval(widths["kl"][:, k]), _interval(widths["deviation"][:, k])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_figures(
    workdir: pathlib.Path, measured: Measured, widths: Mapping[str, np.ndarray]
) -> None:
    """Draws seed 0 of each β side by side, and the widths of the posteriors."""
    betas = sorted({row["coefficients"]["beta"] for row in measured.rows})
    panels = []
    for beta in betas:
        runs = [run for run, row in enumerate(measured.rows) if row["coefficients"]["beta"] == beta]
        panels.append(_panel(measured, runs[0]))
    draw_dots(panels, workdir / "whitedot.png")
    names = ("x", "y", "radius")
    draw_posterior_widths(names, widths["kl"], widths["deviation"], workdir / "widths.png")


def _panel(measured: Measured, run: int) -> DotPanel:
    experiment, row = measured.experiment, measured.rows[run]
    model, data = experiment.model, experiment.splits.train
    params = jax.tree.map(lambda leaf: leaf[run], measured.params)
    sizes = data.space.sizes if data.space else ()
    # Dots along a diagonal of the plane, and a traversal from its middle.
    place = np.linspace(0, sizes[0] - 1, _STEPS).astype(np.int32)
    originals = fetch_examples(data, place * sizes[1] + place)
    middle = measured.mean[run, (sizes[0] // 2) * sizes[1] + sizes[1] // 2]
    latents = len(middle)
    moved = np.eye(latents, dtype=bool)[:, None, :]
    values = np.linspace(-_SPAN, _SPAN, _STEPS)[None, :, None]
    z = np.where(moved, values, middle).astype(np.float32)  # [D, T, D]

    def decode(z: Any) -> np.ndarray:
        return np.asarray(model.mean(model.decode(params, jnp.asarray(z))))

    flat = decode(z.reshape(-1, latents))
    return DotPanel(
        f"{row['setting']}, seed {row['seed']}",
        originals,
        decode(measured.mean[run, place * sizes[1] + place]),
        flat.reshape(latents, _STEPS, *flat.shape[1:]),
        measured.mean[run].T.reshape(latents, *sizes),
        np.asarray(row["kl_per_latent"]),
    )
