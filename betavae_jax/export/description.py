"""The `config.json` of an export: what its files take and give, and where they come from."""

import pathlib
from typing import Any

from betavae_jax.checks import InputError, jsonable
from betavae_jax.representation import Representation
from betavae_jax.runs.leaves import sha256_of_tree
from betavae_jax.runs.records import read_versioned
from betavae_jax.runs.settings import Settings, from_config

CONFIG = "config.json"
_FORMAT = 1  # of the entry `export`


def settings_of(representation: Representation) -> Settings:
    """The settings of a representation, every default filled in."""
    return from_config(representation.config)


def check_finished(representation: Representation) -> None:
    """Raises InputError unless a run has done all its steps, is finite, and was evaluated."""
    wanted = settings_of(representation).num_steps
    results = representation.results
    if representation.step < wanted:
        raise InputError(
            f"expected a finished run; got one that has done {representation.step} of {wanted}"
            " steps"
        )
    if results is None:
        raise InputError(
            "expected a finished run; got one without results: the command that trained it makes"
            " them"
        )
    if results["failed_at"] is not None:
        raise InputError(
            "expected a run that stayed finite; got one that stopped at step"
            f" {results['failed_at']}"
        )


def describe(representation: Representation, run: int) -> dict[str, Any]:
    """What an export says of a run, plain JSON values.

    Args:
      representation: The run.
      run: Its number in the population.
    """
    x_shape, scale = representation.image_shape, representation.scale
    takes: dict[str, Any] = {"name": "x", "shape": ["batch", *x_shape], "dtype": "float32"}
    if scale is not None:
        takes["standardize"] = {"mean": scale.mean, "scale": scale.scale}  # (raw − mean) / scale
    elif len(x_shape) == 3:
        takes["range"] = [0.0, 1.0]
    described = {
        "format": _FORMAT,
        "run": run,
        "step": representation.step,
        "input": takes,
        "num_latents": representation.num_latents,
        "params_sha256": sha256_of_tree(representation.params),
        "results": representation.results,
    }
    program = {**representation.config.get("program", {}), "x_shape": list(x_shape)}
    settings = settings_of(representation)._asdict()
    config = {"settings": settings, "program": program, "export": described}
    return dict(jsonable(config))


def read_description(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the `config.json` of an export.

    Raises:
      InputError: If it is missing, is no export's, or was written by a newer version.
    """

    def version_of(config: dict[str, Any]) -> Any:
        if not config["program"]["x_shape"]:
            raise ValueError("its shape is missing")
        return config["export"]["format"]

    return read_versioned(
        folder / CONFIG,
        _FORMAT,
        version_of,
        place="the folder of an export",
        content="describe an export",
    )
