"""A trained run for other programs: StableHLO, safetensors and ONNX, each read back and compared.

Each entry of `FORMATS` writes files of its own names, so one folder may hold several.
"""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

from betavae_jax.checks import InputError, check_name, check_unique
from betavae_jax.export.description import CONFIG, check_finished, describe, read_description
from betavae_jax.export.functions import Functions, functions_of, largest_difference
from betavae_jax.export.onnx_files import load_onnx, write_onnx
from betavae_jax.export.parameters import load_exported, load_safetensors, write_safetensors
from betavae_jax.export.stablehlo import load_stablehlo, write_stablehlo
from betavae_jax.representation import Representation
from betavae_jax.runs.records import sync_folder, write_json

__all__ = [
    "FORMATS",
    "Format",
    "Functions",
    "RoundTripError",
    "check_finished",
    "check_output",
    "export_run",
    "load_exported",
    "read_description",
]


class RoundTripError(OSError):
    """What was read back of an export differs from the model by more than its format may."""


class Format(NamedTuple):
    """A way to write a run."""

    write: Callable[[Representation, pathlib.Path], None]  # (run, folder); files of its own names
    load: Callable[[pathlib.Path], Functions]
    tolerance: float  # of `largest_difference`


FORMATS: dict[str, Format] = {
    "stablehlo": Format(write_stablehlo, load_stablehlo, 1e-5),
    "safetensors": Format(write_safetensors, load_safetensors, 1e-5),
    "onnx": Format(write_onnx, load_onnx, 1e-4),
}


def check_output(formats: Sequence[str], output: pathlib.Path) -> None:
    """Checks what an export is asked for, before anything is loaded.

    Raises:
      InputError: If a format is not known or named twice, or the folder is in use.
    """
    check_unique("format", formats)
    for name in formats:
        check_name("format", name, FORMATS)
    if output.exists() and not output.is_dir():
        raise InputError(f"expected output to be a folder; {output} is a file")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"expected output to be a new or empty folder; got {output}, which is not")


def export_run(
    representation: Representation, formats: Sequence[str], output: pathlib.Path, *, run: int = 0
) -> dict[str, float]:
    """Writes a run in some formats, reads each back, and compares it with the model.

    The folder is there, with all its files, once everything agrees; else nothing is left.

    Args:
      representation: The run.
      formats: Names in `FORMATS`.
      output: A folder that is new or empty.
      run: The run's number in its population, to be noted.

    Returns:
      The largest difference of each format; see `functions.largest_difference`.

    Raises:
      InputError: If a format cannot represent the run, a package of it is not installed, or the
        folder is in use.
      RoundTripError: If a difference is larger than the format's tolerance.
    """
    check_output(formats, output)
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.new-", dir=output.parent))
    try:
        beside.chmod(0o755)  # mkdtemp's is for the owner alone
        write_json(beside / CONFIG, describe(representation, run))
        expected = functions_of(representation)
        differences = {}
        for name in formats:
            FORMATS[name].write(representation, beside)
            got = FORMATS[name].load(beside)
            difference = largest_difference(
                expected, got, representation.image_shape, representation.num_latents
            )
            if difference > FORMATS[name].tolerance:
                raise RoundTripError(
                    f"{name} read back differs from the model by {difference:.1e}, more than"
                    f" {FORMATS[name].tolerance:.0e}; nothing is kept"
                )
            differences[name] = difference
        sync_folder(beside)
        os.replace(beside, output)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return differences
