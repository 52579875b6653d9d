"""Trains a population of VAEs; a single run is a population of one.

Every list is swept: `--beta=1,4,16 --seed=0,1,2` is nine runs in one program. The
same command again goes on where the last one stopped.

  python -m experiments.train --beta=4
  python -m experiments.train --dataset=arrays --data_dir=images.npz --beta=1,4 --seed=0,1,2
  python -m experiments.train --flagfile=runs/NAME/flags.txt
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from betavae_jax.population import num_runs, take_runs
from betavae_jax.runs.directory import REPORT, RESULTS
from betavae_jax.runs.records import say_value
from betavae_jax.runs.settings import build
from experiments import cli, settings_flags
from experiments.directory import train_directory
from experiments.settings_flags import default_workdir, define_settings, read_settings

define_settings()
for module in (cli, settings_flags):
    flags.adopt_module_key_flags(module)  # so that --help shows them
_OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Start anew where a run stands already.")
_REPORT = flags.DEFINE_boolean("report", True, "Draw figures and the page after training.")


def main() -> int:
    """Builds the experiment, trains it in its directory and reports."""
    cli.exclude_nondeterministic_operations()
    experiment = build(read_settings())
    workdir = pathlib.Path(cli.WORKDIR.value or default_workdir(experiment))
    trained = train_directory(
        experiment,
        workdir,
        overwrite=_OVERWRITE.value,
        allow_inexact_resume=cli.INEXACT.value,
        deterministic=cli.DETERMINISTIC.value,
        report=_REPORT.value,
    )
    fitted = trained.fitted
    if fitted.signal:
        return cli.stopped_by(fitted.signal, fitted.step)
    if trained.results:
        _say(trained.results)
    else:
        print(f"finished already, at step {fitted.step}; a larger --num_steps goes on")
    if (workdir / REPORT).exists():
        print(f"report: {workdir / REPORT}")
    else:
        print(f"results: {workdir / RESULTS} (no report: experiments.report draws one)")
    if np.all(take_runs(fitted.carry.state.failed_at, num_runs(experiment.runs)) >= 0):
        print("every run has stopped at a value that is not finite")
        return cli.EXIT_TROUBLE
    return 0


def _say(results: Mapping[str, Any]) -> None:
    """Prints a line a run."""
    print(f"{'run':>4} {'ELBO':>10} {'distortion':>10} {'rate':>8} {'active':>6}  settings")
    for row in results["runs"]:
        swept = {**row["coefficients"], "learning_rate": row["learning_rate"], "seed": row["seed"]}
        settings = ", ".join(f"{name}={say_value(value)}" for name, value in swept.items())
        active = "–" if row["active_latents"] is None else row["active_latents"]
        failed = f"  stopped at step {row['failed_at']}" if row["failed_at"] is not None else ""
        print(
            f"{row['run']:>4} {row['elbo']:>10.2f} {row['distortion']:>10.2f} "
            f"{row['rate']:>8.2f} {active:>6}  {settings}{failed}"
        )


if __name__ == "__main__":
    cli.run(main)
