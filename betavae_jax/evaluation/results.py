"""What is measured of a trained population: the rows of `results.json`."""

import math
from typing import Any

import jax
import numpy as np

from betavae_jax.codes import (
    ROWS_EVALUATED,
    encode_rows,
    fetch_factors,
    fixed_rows,
    make_bound,
)
from betavae_jax.grids import varying_factors
from betavae_jax.memory import EVALUATION, check_room
from betavae_jax.metrics.alignment import axis_alignment
from betavae_jax.population import num_runs, replicate, take_runs
from betavae_jax.runs.leaves import sha256_of_tree
from betavae_jax.runs.records import count_active
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import Carry, Program, data_shape
from betavae_jax.types import Dataset


def check_evaluation(experiment: Experiment, program: Program) -> None:
    """Raises TooLargeError where a CPU's memory does not hold the KL of every run, row and latent.

    `evaluate` takes more; this is known before anything is trained.
    """
    data = experiment.splits.test or experiment.splits.train
    rows = min(data.num_examples, ROWS_EVALUATED)
    numbers = num_runs(experiment.runs) * rows * experiment.settings.num_latents
    check_room(numbers * np.dtype(np.float32).itemsize, program.devices, EVALUATION)


def evaluate(experiment: Experiment, program: Program, carry: Carry) -> dict[str, Any]:
    """Evaluates every run on the test split, or on fixed rows where there is none.

    Args:
      experiment: What was trained.
      program: The program that holds the population.
      carry: Where training ended, on the program's devices.

    Returns:
      The content of `results.json`: `{"runs": [...]}`, a row a run.
    """
    runs = len(experiment.runs.seed)
    data = experiment.splits.test or experiment.splits.train
    bound = make_bound(experiment.model, data, program, runs)(carry.state.params)
    host = take_runs(carry.state, runs)
    metrics = _align(experiment, program, carry, data)
    rows = []
    for run in range(runs):
        failed_at = int(host.failed_at[run])
        run_params = jax.tree.map(lambda leaf, run=run: leaf[run], host.params)
        rows.append(
            {
                "run": run,
                **_describe(experiment, run),
                "step": int(host.step[run]),
                "elbo": bound.elbo[run],
                "distortion": bound.distortion[run],
                "rate": bound.rate[run],
                "num_evaluated": bound.num_evaluated,
                "kl_per_latent": bound.kl_per_latent[run],
                "active_latents": count_active(bound.kl_per_latent[run]),
                "failed_at": None if failed_at < 0 else failed_at,
                "params_sha256": sha256_of_tree(run_params),
                "metrics": metrics[run],
            }
        )
    return {"runs": rows}


def _describe(experiment: Experiment, run: int) -> dict[str, Any]:
    """The settings of one run. `beta_norm` is β·D/(H·W·C) (Higgins et al. 2017, section 4.2)."""
    settings = experiment.runs
    coefficients = {
        name: _short(values[run]) for name, values in settings.coefficients._asdict().items()
    }
    described = {
        "objective": experiment.settings.objective,
        "coefficients": coefficients,
        "learning_rate": _short(settings.learning_rate[run]),
        "seed": int(settings.seed[run]),
    }
    if "beta" in coefficients:
        pixels = math.prod(data_shape(experiment.splits.train))
        scale = experiment.settings.num_latents / pixels
        described["beta_norm"] = coefficients["beta"] * scale
    return described


def _short(value: np.float32) -> float:
    """The shortest decimal that is this float32: 0.0005, not 0.0005000000237487257."""
    return float(str(value))


def _align(
    experiment: Experiment, program: Program, carry: Carry, data: Dataset
) -> list[dict[str, Any]]:
    """Axis alignment of each run, where the factors are known and ordered (a full grid)."""
    runs = len(experiment.runs.seed)
    space = data.space
    varying = varying_factors(space)
    most = experiment.settings.num_latents
    if space is None or not space.full_grid or not 0 < len(varying) <= most:
        return [{} for _ in range(runs)]
    names = [space.names[k] for k in varying]
    data, rows = fixed_rows(data)
    arrays = replicate(data.arrays, program.devices)
    factors = fetch_factors(data, rows)[:, varying]
    codes = np.asarray(
        encode_rows(experiment.model, data, program, carry.state.params, arrays, rows, runs).mean
    )
    metrics: list[dict[str, Any]] = []
    for run in range(runs):
        if not np.all(np.isfinite(codes[run])):
            metrics.append({})
            continue
        alignment = axis_alignment(codes[run], factors)
        metrics.append(
            {
                "axis_alignment": {
                    "value": alignment.value,
                    "abs_pearson_r": dict(zip(names, alignment.correlation, strict=True)),
                    "latent": dict(zip(names, alignment.latent, strict=True)),
                    "num_examples": len(rows),
                }
            }
        )
    return metrics
