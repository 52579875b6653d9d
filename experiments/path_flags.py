"""Flags that name files and folders, and files that are to be written."""

import os
import pathlib
from typing import Any

from absl import flags

from betavae_jax.checks import InputError

flags.disclaim_key_flags()  # whoever calls `define_path` has the flag


class _PathParser(flags.ArgumentParser[str | None]):
    """A shell leaves the `~` of `--name=~/...` alone: taken as it is, it would name a folder."""

    def parse(self, argument: Any) -> str:
        """The path, its `~` the home folder."""
        return os.path.expanduser(argument)


def define_path(name: str, default: str | None, help_text: str) -> flags.FlagHolder[str | None]:
    """Defines a flag whose value is a path."""
    serializer = flags.ArgumentSerializer[str | None]()
    return flags.DEFINE(_PathParser(), name, default, help_text, serializer=serializer)


def new_file(flag: flags.FlagHolder[str | None], suffix: str = "") -> pathlib.Path | None:
    """The file that a flag wants written, before what it is to hold is computed.

    Args:
      flag: Its value is the path, but for the suffix.
      suffix: What is appended.

    Returns:
      The path; None where the flag names none.

    Raises:
      InputError: If its folder is missing, or it is a folder.
    """
    if not flag.value:
        return None
    output = pathlib.Path(flag.value + suffix)
    if not output.parent.is_dir():
        raise InputError(f"expected --{flag.name} in a folder that exists; got {output}")
    if output.is_dir():
        raise InputError(f"expected --{flag.name} to be a file; got {output}, a folder")
    return output
