"""What a run directory records: the log of training, and the results."""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from betavae_jax.checks import InputError, jsonable
from betavae_jax.types import Terms

ACTIVE_NATS = 0.01  # a latent whose mean KL exceeds this is called active


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """Has what goes wrong with a file name it: once it is open, as on a full disk, it does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Writes a file whole or not at all: what is written to the path given takes its place."""
    beside = path.with_name(path.name + ".new")
    with naming(path):
        yield beside
        sync(beside)  # else a node lost soon after may leave the name, no bytes
        os.replace(beside, path)


def sync(path: pathlib.Path) -> None:
    """Waits until what was written to a file is on the disk."""
    with naming(path), path.open("rb") as written:
        os.fsync(written.fileno())


def sync_folder(folder: pathlib.Path) -> None:
    """Waits until what was written to the files of a folder is on the disk."""
    for path in filter(pathlib.Path.is_file, folder.rglob("*")):
        sync(path)


def read_text(path: pathlib.Path, errors: str = "strict") -> str:
    """The text of a file; what the disk does not give names it."""
    with naming(path):
        return path.read_text("utf-8", errors)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(jsonable(value), indent=2, allow_nan=False) + "\n")


def read_versioned(
    path: pathlib.Path,
    newest: int,
    version_of: Callable[[dict[str, Any]], Any],
    *,
    place: str,
    content: str,
) -> dict[str, Any]:
    """Reads a JSON file that names the format it was written in.

    Args:
      path: The file.
      newest: The newest format that is understood.
      version_of: Finds the format in what was read, a whole number; a ValueError, KeyError or
        TypeError says that the file is another.
      place: What holds such a file, for a message.
      content: What the file should be or do, for a message.

    Raises:
      InputError: If it is missing, is another file, or was written by a newer format.
    """
    try:
        read: dict[str, Any] = json.loads(read_text(path))
        version = version_of(read)
        if not isinstance(version, int):
            raise ValueError("its format is missing")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"expected {place}; {path} is missing") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"expected {path} to {content}; {error!r}") from None
    if version > newest:
        raise InputError(f"expected {path} of format {newest} or older; got {version}")
    return read


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], but: Collection[str] = ()
) -> list[str]:
    """What `new` has otherwise than `old`, such as "seed was [0], is [1]", but for some names."""
    return [
        f"{name} was {old.get(name)!r}, is {value!r}"
        for name, value in new.items()
        if name not in but and old.get(name) != value
    ]


def log_lines(step: int, means: Terms) -> list[dict[str, Any]]:
    """The log of one interval, a line a run.

    Args:
      step: The steps done.
      means: Means over the interval, NumPy leaves `[R, ...]`.
    """
    elbo = -(means.distortion + means.rate)
    return [
        {
            "step": step,
            "run": run,
            "loss": float(means.loss[run]),
            "elbo": float(elbo[run]),
            "distortion": float(means.distortion[run]),
            "rate": float(means.rate[run]),
            "kl_per_latent": means.kl_per_latent[run].astype(float).tolist(),
            **{name: float(values[run]) for name, values in sorted(means.extras.items())},
        }
        for run in range(len(means.loss))
    ]


def append_log(path: pathlib.Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Appends lines to the log."""
    text = "".join(json.dumps(jsonable(line), allow_nan=False) + "\n" for line in lines)
    with naming(path), path.open("a") as file:
        file.write(text)


def read_log(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the log; a line cut short by a kill ends it."""
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for text in read_text(path, "replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def cut_log(path: pathlib.Path, step: int) -> None:
    """Drops what the log holds of steps after `step`."""
    kept = [line for line in read_log(path) if line["step"] <= step]
    with replacing(path) as beside:
        beside.unlink(missing_ok=True)
        append_log(beside, kept)


def say_value(value: float) -> str:
    """A setting's value, in full where six digits are another: settings are told by their words."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def count_active(kl_per_latent: np.ndarray) -> int | None:
    """How many latents carry more than 0.01 nats; None where one is not finite."""
    if not np.all(np.isfinite(kl_per_latent)):
        return None
    return int(np.sum(kl_per_latent > ACTIVE_NATS))
