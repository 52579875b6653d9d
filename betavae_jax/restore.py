"""A trained population, back from its run directory."""

import pathlib
from typing import NamedTuple

from betavae_jax.checks import InputError
from betavae_jax.fit import carry_template, feed_of, program_of
from betavae_jax.population import place_runs
from betavae_jax.runs.checkpoints import open_checkpoints
from betavae_jax.runs.directory import CHECKPOINTS, read_config
from betavae_jax.runs.settings import Experiment, build, from_config
from betavae_jax.training import Carry, Program


class Population(NamedTuple):
    """What a run directory holds of its runs."""

    experiment: Experiment
    program: Program
    carry: Carry  # of the latest whole checkpoint, on the program's devices
    step: int  # steps done


def load_population(workdir: pathlib.Path) -> Population:
    """Loads data, model and latest whole checkpoint of a run directory.

    Nothing is written, but a checkpoint that is found damaged is set aside, so hold the
    directory's lock where another process may be training in it.

    Args:
      workdir: A run directory.

    Returns:
      The population, finished or not.

    Raises:
      InputError: If it is no run directory, has no checkpoint yet, or its data is not as expected.
      CheckpointError: If no checkpoint can be read, or it is of another program.
    """
    config = read_config(workdir)
    try:
        settings = from_config(config)
    except TypeError as error:
        raise InputError(
            f"expected the settings of this version in {workdir}; got others: {error}"
        ) from None
    if not (workdir / CHECKPOINTS).is_dir():  # opening them would make the folder
        raise InputError(f"expected {workdir} to hold a checkpoint; it has none yet")
    experiment = build(settings)
    program = program_of(experiment)
    feed = feed_of(experiment, program)
    try:
        template = carry_template(program, experiment.runs, feed.arrays(0))
    finally:
        feed.close()
    checkpoints = open_checkpoints(workdir / CHECKPOINTS, keep=experiment.settings.keep_checkpoints)
    try:
        restored = checkpoints.restore(template)
    finally:
        checkpoints.close()
    if restored is None:
        raise InputError(f"expected {workdir} to hold a checkpoint; it has none yet")
    step, carry = restored
    return Population(experiment, program, place_runs(carry, program.devices), step)
