"""Writes the page of a run directory again, finished or not, from its latest checkpoint.

python -m experiments.report --workdir=runs/NAME
python -m experiments.report --workdir=runs/NAME --run=3    # one run of a population
"""

import pathlib

from absl import flags

from betavae_jax.checks import InputError
from betavae_jax.report import write_report
from betavae_jax.restore import load_population
from betavae_jax.runs.directory import locked, read_config
from experiments import cli
from experiments.directory import standing_results
from experiments.file_flags import RUN

flags.declare_key_flag(cli.WORKDIR.name)  # so that --help shows it
flags.declare_key_flag(RUN.name)  # for a page of its own


def main() -> int:
    """Loads the population and writes its page."""
    if not cli.WORKDIR.value:
        raise InputError("expected --workdir=DIRECTORY, a run directory; got none")
    workdir = pathlib.Path(cli.WORKDIR.value)
    read_config(workdir)  # before the lock, which would make the directory
    with locked(workdir):
        population = load_population(workdir)
        results = standing_results(workdir, population)
        page = write_report(
            workdir, population.experiment, population.carry, results, run=RUN.value
        )
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    cli.run(main)
