"""Trains a population of VAEs; a single run is a population of one.

Every list is swept: `--beta=1,4,16 --seed=0,1,2` is nine runs in one program. The
same command again goes on where the last one stopped.

  python -m experiments.train --beta=4
  python -m experiments.train --dataset=arrays --data_dir=images.npz --beta=1,4 --seed=0,1,2
  python -m experiments.train --flagfile=runs/NAME/flags.txt
"""

import pathlib
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags, logging

from betavae_jax.evaluation import evaluate
from betavae_jax.fit import program_of
from betavae_jax.fit_directory import fit_directory
from betavae_jax.population import num_runs, take_runs
from betavae_jax.report import write_report
from betavae_jax.runs.directory import (
    REPORT,
    RESULTS,
    check_directory,
    locked,
    prepare_directory,
)
from betavae_jax.runs.records import write_json
from betavae_jax.runs.settings import Experiment, build, describe_program, to_config
from betavae_jax.runs.tensorboard import write_figures
from betavae_jax.training import Program
from experiments import cli, settings_flags
from experiments.settings_flags import default_workdir, define_settings, flags_of, read_settings

define_settings()
flags.adopt_module_key_flags(settings_flags)  # so that --help shows them
_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory; by default one under runs/.")
_OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Start anew where a run stands already.")
_DETERMINISTIC = flags.DEFINE_boolean(
    "deterministic", True, "On a GPU: the same bits at every call, at some cost in speed."
)
_INEXACT = flags.DEFINE_boolean(
    "allow_inexact_resume", False, "Go on although versions, hardware or data have changed."
)


def main() -> int:
    """Builds the experiment, trains it in its directory and reports."""
    if _DETERMINISTIC.value:
        cli.exclude_nondeterministic_operations()
    experiment = build(read_settings())
    workdir = pathlib.Path(_WORKDIR.value or default_workdir(experiment))
    program = program_of(experiment)
    described = describe_program(
        experiment, program.vectorized_runs, deterministic=_DETERMINISTIC.value
    )
    config = to_config(experiment.settings, described)
    permissions = {"overwrite": _OVERWRITE.value, "allow_inexact_resume": _INEXACT.value}
    check_directory(workdir, config, **permissions)
    with locked(workdir):
        check_directory(workdir, config, **permissions)  # it may have changed until it was ours
        mine = {"workdir": workdir, "deterministic": _DETERMINISTIC.value}
        repeat = {**mine, **flags_of(experiment.settings)}
        prepare_directory(workdir, config, repeat, overwrite=_OVERWRITE.value)
        if not described["deterministic"]:
            logging.warning("--nodeterministic: resuming will not be bit-exact")
        return _train(experiment, program, workdir)


def _train(experiment: Experiment, program: Program, workdir: pathlib.Path) -> int:
    fitted = fit_directory(experiment, program, workdir)
    if fitted.signal:
        print(f"stopped at step {fitted.step}, run again to resume")
        terminated = fitted.signal == signal.SIGTERM
        return cli.EXIT_TERMINATED if terminated else cli.EXIT_INTERRUPTED
    if not (workdir / RESULTS).exists():
        results = evaluate(experiment, program, fitted.carry)
        write_report(workdir, experiment, fitted.carry, results)
        if experiment.settings.tensorboard:
            write_figures(workdir, results["runs"])
        write_json(workdir / RESULTS, results)  # last: where it stands, the report does
        _say(results)
    else:
        print(f"finished already, at step {fitted.step}; a larger --num_steps goes on")
    print(f"report: {workdir / REPORT}")
    if np.all(take_runs(fitted.carry.state.failed_at, num_runs(experiment.runs)) >= 0):
        print("every run has stopped at a value that is not finite")
        return cli.EXIT_TROUBLE
    return 0


def _say(results: Mapping[str, Any]) -> None:
    """Prints a line a run."""
    print(f"{'run':>4} {'ELBO':>10} {'distortion':>10} {'rate':>8} {'active':>6}  settings")
    for row in results["runs"]:
        swept = {**row["coefficients"], "learning_rate": row["learning_rate"], "seed": row["seed"]}
        settings = ", ".join(f"{name}={value:g}" for name, value in swept.items())
        active = "–" if row["active_latents"] is None else row["active_latents"]
        failed = f"  stopped at step {row['failed_at']}" if row["failed_at"] is not None else ""
        print(
            f"{row['run']:>4} {row['elbo']:>10.2f} {row['distortion']:>10.2f} "
            f"{row['rate']:>8.2f} {active:>6}  {settings}{failed}"
        )


if __name__ == "__main__":
    cli.run(main)
