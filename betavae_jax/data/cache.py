"""Arrays that are slow to make, kept on disk: whole or not there, verified by digest."""

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.files import expand_user

_LOGGER = logging.getLogger(__name__)

_FORMAT = 1  # of the files; one of another format is made anew
_HEADER = "header.json"  # beside the arrays: the format, the key and the digest
_VARIABLE = "BETAVAE_CACHE"


def cache_folder() -> pathlib.Path:
    """Returns the folder of cached arrays; it need not exist.

    It is `$BETAVAE_CACHE`, else `betavae_jax` below `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
      InputError: none of them is set and the user has no home.
    """
    if chosen := os.environ.get(_VARIABLE):
        return expand_user(chosen).absolute()
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return base.expanduser().absolute() / "betavae_jax"
    except RuntimeError as error:
        raise InputError(f"expected a home folder, or {_VARIABLE} to name one; got none") from error


def cached_arrays(
    name: str, key: Mapping[str, Any], make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Reads arrays from the cache, or makes and keeps them.

    A file that is damaged or of another format is made anew, with a warning. Of several
    processes that want the same arrays one makes them and the others wait for it. Where
    the default folder cannot be written to, the arrays are made and not kept, with a warning.

    Args:
      name: the first part of the file's name: letters, digits, `-` and `_`.
      key: all that the arrays depend on: settings, the version of what makes them, a
        fingerprint of what they are made from. JSON values; the file's name holds its digest.
      make: makes the arrays by name; called at most once.

    Returns:
      The arrays by name, free to be written to.

    Raises:
      InputError: `$BETAVAE_CACHE` names a folder that cannot be written to, or the disk is
        full; no part of a file is left.
    """
    folder = cache_folder()
    text = json.dumps(key, sort_keys=True)
    path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    found = _read(path, text)
    if found is not None:
        return found
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            waited = stack.enter_context(_locked(path.with_suffix(".lock")))
        except OSError as error:
            if os.environ.get(_VARIABLE):
                raise InputError(_refusal(folder, error)) from error
            _LOGGER.warning("%s; going on without a cache", _refusal(folder, error))
            return make()
        found = _read(path, text) if waited else None
        if found is None:
            found = make()
            _write(path, text, found)
    return found


def _refusal(folder: pathlib.Path, error: OSError) -> str:
    return (
        f"expected to write to the cache folder {folder}; got {error.strerror or error}"
        f" (the environment variable {_VARIABLE} chooses another folder)"
    )


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[bool]:
    """Holds a lock, which ends with the process; yields whether another one had it before."""
    with path.open("ab") as file:
        waited = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOGGER.warning("waiting for another process that makes %s", path.with_suffix(".npz"))
            fcntl.flock(file, fcntl.LOCK_EX)
            waited = True
        yield waited


def _digest(key: str, arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 over the key and the arrays sorted by name: name, dtype, shape, bytes."""
    digest = hashlib.sha256(key.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name}:{array.dtype.str}:{list(array.shape)}:".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _read(path: pathlib.Path, key: str) -> dict[str, np.ndarray] | None:
    """Reads a file; None where there is none, or it is of no use."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            header = json.loads(archive[_HEADER])
            if header["format"] != _FORMAT:
                raise ValueError(f"format {header['format']}, not {_FORMAT}")
            arrays = {name: archive[name] for name in archive.files if name != _HEADER}
        if header["key"] != json.loads(key) or header["sha256"] != _digest(key, arrays):
            raise ValueError("its content is not what its digest says")
    except (FileNotFoundError, NotADirectoryError):
        return None  # where the folder is no folder, writing will say so
    # damaged bytes surface as a dozen unrelated classes; whatever it is, the file is no use
    except Exception as error:
        got = " ".join(f"{type(error).__name__}: {error}"[:200].split())
        _LOGGER.warning("the cached arrays %s are of no use (%s): making them anew", path, got)
        return None
    return arrays


def _write(path: pathlib.Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a file under another name and renames it; the caller holds the file's lock."""
    header = {"format": _FORMAT, "key": json.loads(key), "sha256": _digest(key, arrays)}
    # the lock's holder alone has this name; what a killed process left there is overwritten
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            _write_npz(file, header, arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise InputError(_refusal(path.parent, error)) from error
    finally:
        unfinished.unlink(missing_ok=True)  # not there any more once it has its name


def _write_npz(
    file: io.BufferedWriter, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_HEADER, json.dumps(header))
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
