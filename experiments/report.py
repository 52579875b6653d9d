"""Writes the page of a run directory again, finished or not, from its latest checkpoint.

python -m experiments.report --workdir=runs/NAME
python -m experiments.report --workdir=runs/NAME --run=3    # one run of a population
"""

import json
import pathlib
from typing import Any

import jax
from absl import flags

from betavae_jax.checks import InputError
from betavae_jax.evaluation import evaluate
from betavae_jax.population import take_runs
from betavae_jax.report import write_report
from betavae_jax.restore import Population, load_population
from betavae_jax.runs.directory import RESULTS, locked, read_config
from betavae_jax.runs.leaves import sha256_of_tree
from experiments import cli

flags.adopt_module_key_flags(cli)  # so that --help shows them
_RUN = flags.DEFINE_integer("run", None, "One run of it, for a page of its own.")


def main() -> int:
    """Loads the population and writes its page."""
    if not cli.WORKDIR.value:
        raise InputError("expected --workdir=DIRECTORY, a run directory; got none")
    workdir = pathlib.Path(cli.WORKDIR.value)
    read_config(workdir)  # before the lock, which would make the directory
    with locked(workdir):
        population = load_population(workdir)
        results = _results(workdir, population)
        page = write_report(
            workdir, population.experiment, population.carry, results, run=_RUN.value
        )
    print(f"report: {page}")
    return 0


def _results(workdir: pathlib.Path, population: Population) -> dict[str, Any]:
    """The rows of `results.json` where they are of this checkpoint, else measured now."""
    path = workdir / RESULTS
    if path.exists():
        results: dict[str, Any] = json.loads(path.read_text())
        rows = results["runs"]
        params = take_runs(population.carry.state.params, len(rows))
        digests = [
            sha256_of_tree(jax.tree.map(lambda leaf, run=run: leaf[run], params))
            for run in range(len(rows))
        ]
        if digests == [row["params_sha256"] for row in rows]:
            return results
    print(f"no results of step {population.step}: evaluating")
    return evaluate(population.experiment, population.program, population.carry)


if __name__ == "__main__":
    cli.run(main)
