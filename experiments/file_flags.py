"""Flags of drivers that read one run or write one thing."""

import pathlib

from absl import flags

from betavae_jax.checks import InputError

RUN = flags.DEFINE_integer("run", None, "One run of a population, counted from 0.")
OUTPUT = flags.DEFINE_string("output", None, "What to write: see the driver's first lines.")


def new_file() -> pathlib.Path | None:
    """The file that is to be written; None where no flag names one.

    Raises:
      InputError: If its folder is missing, or it is a folder.
    """
    if not OUTPUT.value:
        return None
    output = pathlib.Path(OUTPUT.value)
    if not output.parent.is_dir():
        raise InputError(f"expected --output in a folder that exists; got {output}")
    if output.is_dir():
        raise InputError(f"expected --output to be a file; got {output}, a folder")
    return output
