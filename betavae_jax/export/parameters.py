"""Parameters as safetensors, beside the settings that their model is made from."""

import os
import pathlib

import jax
import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.files import expand_user, import_optional, reading
from betavae_jax.export.description import CONFIG, read_description
from betavae_jax.export.functions import Functions, functions_of
from betavae_jax.representation import Representation
from betavae_jax.restore import model_of
from betavae_jax.runs.leaves import flatten_leaves, sha256_of_leaves, unflatten_leaves
from betavae_jax.runs.settings import from_config
from betavae_jax.types import Scale

PARAMETERS = "parameters.safetensors"


def write_safetensors(representation: Representation, folder: pathlib.Path) -> None:
    """Writes `parameters.safetensors`: arrays named such as `encoder.conv_0.kernel`.

    Raises:
      InputError: If the package safetensors is not installed.
    """
    safetensors = import_optional("safetensors.numpy", "export", "to write parameters")
    leaves = flatten_leaves(representation.params)
    plain = {name: np.asarray(leaf, order="C") for name, leaf in leaves.items()}
    (folder / PARAMETERS).write_bytes(safetensors.save(plain))  # save_file's is the owner's alone


def load_exported(folder: str | os.PathLike[str]) -> Representation:
    """Loads a run from an export that holds safetensors; its data set is not needed.

    Args:
      folder: As `python -m experiments.export --format=safetensors` writes it.

    Returns:
      The representation, as `load` gives it of a run directory.

    Raises:
      InputError: If a file is missing, damaged or of a newer version, or the parameters are
        not those that the settings name.
    """
    safetensors = import_optional("safetensors.numpy", "export", "to read parameters")
    folder = expand_user(folder)
    config = read_description(folder)
    path, export = folder / PARAMETERS, config["export"]
    if not path.is_file():
        raise InputError(f"expected an export with safetensors; {path} is missing")
    with reading(path):
        leaves = safetensors.load_file(path)
    settings = from_config(config, folder)
    x_shape = tuple(config["program"]["x_shape"])
    template = jax.eval_shape(model_of(settings, x_shape).init, jax.random.key(0))
    try:
        params = unflatten_leaves(template, leaves)
    except ValueError as error:
        raise InputError(
            f"expected the parameters of {folder / CONFIG} in {path}; {error}"
        ) from None
    expected, got = export["params_sha256"], sha256_of_leaves(leaves)
    if expected != got:
        raise InputError(f"expected {path} of digest {expected[:12]}; got {got[:12]}")
    given = export["input"].get("standardize")
    scale = given and Scale(*(np.asarray(given[name]) for name in Scale._fields))
    return Representation(
        config=config,
        results=export["results"],
        step=export["step"],
        image_shape=x_shape,
        num_latents=settings.num_latents,
        params=jax.device_put(params),
        scale=scale,
    )


def load_safetensors(folder: pathlib.Path) -> Functions:
    """The functions of an export that holds safetensors; see `load_exported`."""
    return functions_of(load_exported(folder))
