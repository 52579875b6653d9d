"""A trained population, or one run of it, back from its run directory."""

import logging
import os
import pathlib
from typing import Any, NamedTuple

import jax

from betavae_jax.checks import InputError, check_name, is_whole
from betavae_jax.data.files import expand_user
from betavae_jax.examples import plain
from betavae_jax.fit import carry_template, feed_of, program_of
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS
from betavae_jax.population import place_runs
from betavae_jax.runs.checkpoints import CheckpointError, open_checkpoints, read_latest
from betavae_jax.runs.directory import CHECKPOINTS, read_config, read_results
from betavae_jax.runs.leaves import sha256_of_tree, unflatten_leaves
from betavae_jax.runs.settings import Experiment, Settings, build, from_config, make_likelihood
from betavae_jax.training import Carry, Program
from betavae_jax.types import Model, Params, Shape

_LOGGER = logging.getLogger(__name__)

_PARAMS = "state.params."  # of the arrays of a checkpoint


class Population(NamedTuple):
    """What a run directory holds of its runs."""

    experiment: Experiment
    program: Program
    carry: Carry  # of the latest whole checkpoint, on the program's devices
    step: int  # steps done


class Run(NamedTuple):
    """One run of a directory, without its data."""

    config: dict[str, Any]  # the content of `config.json`
    settings: Settings  # resolved
    x_shape: Shape
    params: Params  # NumPy leaves
    step: int  # of the checkpoint
    results: dict[str, Any] | None  # its row of `results.json`, if that is of this checkpoint


def load_population(workdir: pathlib.Path) -> Population:
    """Loads data, model and latest whole checkpoint of a run directory.

    Where the data is not that of training, such as a file that was written anew, a warning says
    so. Nothing is written, but a checkpoint that is found damaged is set aside, so hold the
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
    settings = from_config(config, workdir)
    if not (workdir / CHECKPOINTS).is_dir():  # opening them would make the folder
        raise InputError(f"expected {workdir} to hold a checkpoint; it has none yet")
    experiment = build(settings)
    digest = sha256_of_tree(experiment.splits.train.arrays)
    if digest != config["program"].get("data_sha256", digest):
        _LOGGER.warning("%s was trained on other data than is read now and measured", workdir)
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


def read_run(workdir: str | os.PathLike[str], run: int) -> Run:
    """Reads one run of a directory from its latest whole checkpoint; loads no data.

    Nothing is written and no lock is needed: the directory may be in training.

    Args:
      workdir: A run directory, finished or not.
      run: The run's number, from 0.

    Returns:
      The run.

    Raises:
      InputError: If it is no run directory, is of a newer format, has no checkpoint yet or no
        such run.
      CheckpointError: If no checkpoint can be read, or it is of another program.
    """
    if not isinstance(workdir, (str, os.PathLike)):
        raise InputError(f"expected workdir to be a path; got {workdir!r}")
    workdir = expand_user(workdir)
    config = read_config(workdir)
    settings = from_config(config, workdir)
    if "x_shape" not in config["program"]:
        raise InputError(f"expected {workdir} to say the shape of its examples; it is older")
    x_shape = tuple(config["program"]["x_shape"])
    latest = read_latest(workdir / CHECKPOINTS)
    if latest is None:
        raise InputError(f"expected {workdir} to hold a checkpoint; it has none yet")
    step, leaves = latest
    runs = len(leaves["state.step"])
    if not is_whole(run := plain(run)) or not 0 <= run < runs:
        known = f"a run of {workdir}, 0 to {runs - 1}" if runs > 1 else f"0, the run of {workdir}"
        raise InputError(f"expected run to be {known}; got {run!r}")
    failed_at = int(leaves["state.failed_at"][run])
    if failed_at >= 0:
        _LOGGER.warning("run %d of %s stopped at step %d, as before it", run, workdir, failed_at)
    template = jax.eval_shape(model_of(settings, x_shape).init, jax.random.key(0))
    mine = {
        name.removeprefix(_PARAMS): leaf[run]
        for name, leaf in leaves.items()
        if name.startswith(_PARAMS)
    }
    try:
        params = unflatten_leaves(template, mine)
    except ValueError as error:
        raise CheckpointError(f"{workdir} is whole but of another program: {error}") from error
    return Run(config, settings, x_shape, params, step, _standing_row(workdir, run, params))


def model_of(settings: Settings, x_shape: Shape) -> Model:
    """The model that resolved settings name, for examples of a shape; loads no data."""
    check_name("network", settings.network, NETWORKS)
    check_name("likelihood", settings.likelihood, LIKELIHOODS)
    make = NETWORKS[settings.network]
    network = make(x_shape, settings.num_latents, **settings.network_settings)
    return make_model(network, make_likelihood(settings), precision=settings.precision)


def _standing_row(workdir: pathlib.Path, run: int, params: Params) -> dict[str, Any] | None:
    """The run's row of `results.json`, where there is one of just these parameters."""
    results = read_results(workdir)
    rows: list[dict[str, Any]] = results["runs"] if results else []
    if run >= len(rows) or rows[run].get("params_sha256") != sha256_of_tree(params):
        return None
    return rows[run]
