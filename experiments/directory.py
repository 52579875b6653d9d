"""Training and evaluating a population in its run directory, from any driver."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from absl import logging

from betavae_jax.evaluation import evaluate
from betavae_jax.fit import Fitted, program_of
from betavae_jax.fit_directory import fit_directory
from betavae_jax.population import num_runs, take_runs
from betavae_jax.report import write_report
from betavae_jax.restore import Population
from betavae_jax.runs.directory import RESULTS, check_directory, locked, prepare_directory
from betavae_jax.runs.leaves import sha256_of_tree
from betavae_jax.runs.machine import describe_program
from betavae_jax.runs.records import write_json
from betavae_jax.runs.settings import Experiment, to_config
from betavae_jax.runs.tensorboard import write_figures
from betavae_jax.training import Program
from experiments.settings_flags import flags_of


class Trained(NamedTuple):
    """A population after training, or where a signal ended it."""

    program: Program
    fitted: Fitted
    results: dict[str, Any] | None  # None where they stood already, or a signal came


def train_directory(
    experiment: Experiment,
    workdir: pathlib.Path,
    *,
    overwrite: bool = False,
    allow_inexact_resume: bool = False,
    deterministic: bool = True,
    report: bool = True,
) -> Trained:
    """Trains in a run directory, evaluates and reports; goes on where it had stopped.

    Args:
      experiment: What to train.
      workdir: The directory.
      overwrite: Whether to start anew where a run stands already.
      allow_inexact_resume: Whether to go on although versions, hardware or data have changed.
      deterministic: Whether accelerators were asked for the same bits at every call.
      report: Whether to draw figures and write the page.

    Returns:
      Where it ended.

    Raises:
      InputError: If the directory holds another configuration, or is in use.
    """
    program = program_of(experiment)
    described = describe_program(experiment, program.vectorized_runs, deterministic=deterministic)
    config = to_config(experiment.settings, described)
    permissions = {"overwrite": overwrite, "allow_inexact_resume": allow_inexact_resume}
    check_directory(workdir, config, **permissions)
    with locked(workdir):
        check_directory(workdir, config, **permissions)  # it may have changed until it was ours
        mine = {"workdir": workdir, "deterministic": deterministic}
        repeat: Mapping[str, Any] = {**mine, **flags_of(experiment.settings)}
        prepare_directory(workdir, config, repeat, overwrite=overwrite)
        if not described["deterministic"]:
            logging.warning("--nodeterministic: resuming will not be bit-exact")
        fitted = fit_directory(experiment, program, workdir)
        if fitted.signal or (workdir / RESULTS).exists():
            return Trained(program, fitted, None)
        results = evaluate(experiment, program, fitted.carry)
        if report:
            write_report(workdir, experiment, fitted.carry, results)
            if experiment.settings.tensorboard:
                write_figures(workdir, results["runs"])
        write_json(workdir / RESULTS, results)  # last: where it stands, the report does
        return Trained(program, fitted, results)


def standing_results(workdir: pathlib.Path, population: Population) -> dict[str, Any]:
    """The content of `results.json` where it is of this checkpoint, else measured now."""
    try:
        results: dict[str, Any] = json.loads((workdir / RESULTS).read_text())
        standing = [row["params_sha256"] for row in results["runs"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or not ours
        standing = []
    params = take_runs(population.carry.state.params, num_runs(population.experiment.runs))
    digests = [
        sha256_of_tree(jax.tree.map(lambda leaf, run=run: leaf[run], params))
        for run in range(num_runs(population.experiment.runs))
    ]
    if standing == digests:
        return results
    print(f"no results of step {population.step}: evaluating")
    return evaluate(population.experiment, population.program, population.carry)
