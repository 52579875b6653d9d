"""One directory a population: its identity, its lock, its files."""

import contextlib
import fcntl
import json
import logging
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from betavae_jax.checks import InputError
from betavae_jax.runs.checkpoints import steps_in
from betavae_jax.runs.machine import FORMAT
from betavae_jax.runs.records import differences, read_text, read_versioned, replacing, write_json
from betavae_jax.runs.settings import MUTABLE

_LOGGER = logging.getLogger(__name__)

CONFIG, FLAGS, LOG, RESULTS = "config.json", "flags.txt", "metrics.jsonl", "results.json"
CHECKPOINTS, FIGURES, REPORT = "checkpoints", "figures", "report.html"
TENSORBOARD = "tensorboard"
_LOCK = ".lock"
_STUDY = "study.json"  # a study has run directories in a folder
_OURS = (CONFIG, FLAGS, LOG, RESULTS, CHECKPOINTS, FIGURES, REPORT, TENSORBOARD)
_SECONDS_A_TRY = 0.1  # to take a lock
_SECONDS_SILENT = 3.0  # of waiting for one
_TRIES_TO_OPEN = 3


class BusyError(InputError):
    """Another process holds a directory."""


def check_directory(
    workdir: pathlib.Path,
    config: Mapping[str, Any],
    *,
    overwrite: bool | None = None,
    allow_inexact_resume: bool = False,
) -> None:
    """Raises InputError unless `config` may train in `workdir`; writes nothing.

    Args:
      workdir: A directory that need not exist yet.
      config: What is about to run, as `to_config` gives it.
      overwrite: Whether what another configuration left may be replaced; None where the caller
        offers no such choice, so that none is advised.
      allow_inexact_resume: Whether to go on where versions, hardware or data have changed, so
        that the bits of an uninterrupted run are not promised.
    """
    try:
        str(workdir).encode("utf-8")  # Orbax takes no surrogates, which stand for other bytes
    except UnicodeEncodeError:
        raise InputError(
            f"expected a workdir named in UTF-8, the locale's encoding too; got {str(workdir)!r}"
        ) from None
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"expected workdir {workdir} to be a directory; it is a file")
    entries = sorted(p.name for p in workdir.iterdir()) if workdir.exists() else []
    foreign = [name for name in entries if name.removesuffix(".new") not in (*_OURS, _LOCK)]
    if CONFIG not in entries and foreign:
        raise InputError(
            f"expected workdir {workdir} to be empty or a run directory; it holds {foreign[0]}"
        )
    if overwrite or CONFIG not in entries:
        return
    helps = "choose another --workdir" + (", or --overwrite" if overwrite is not None else "")
    _check_identity(workdir, read_config(workdir), config, helps, inexact=allow_inexact_resume)
    check_steps(workdir, max(steps_in(workdir / CHECKPOINTS), default=0), config["settings"])


def check_steps(workdir: pathlib.Path, done: int, settings: Mapping[str, Any]) -> None:
    """Raises InputError where a directory has done more steps than are wished for."""
    if done > settings["num_steps"]:
        raise InputError(
            f"expected num_steps of at least {done}, which {workdir} has done; "
            f"got {settings['num_steps']}"
        )


def _check_identity(
    workdir: pathlib.Path,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    helps: str,
    *,
    inexact: bool,
) -> None:
    # Through JSON, so that tuples and lists compare as the file holds them.
    new = json.loads(json.dumps(new))
    settings = differences(old["settings"], new["settings"], but=MUTABLE)
    if settings:
        raise InputError(
            f"expected the configuration that {workdir} was made with; got another: "
            f"{'; '.join(settings)} ({helps})"
        )
    program = differences(old["program"], new["program"])
    if program and not inexact:
        raise InputError(
            f"expected the versions, hardware and data that {workdir} was made with; got "
            f"{'; '.join(program)} (--allow_inexact_resume goes on, without the same bits)"
        )


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads `config.json`.

    Raises:
      InputError: If it is missing, is not JSON, or was written by a newer format.
    """

    def version_of(config: dict[str, Any]) -> Any:
        if not isinstance(config["settings"], dict):
            raise ValueError("its settings are missing")
        return config["program"]["format"]

    return read_versioned(
        workdir / CONFIG,
        FORMAT,
        version_of,
        place=f"a run directory{_such_as(workdir)}",
        content="be the configuration of a run",
    )


def _such_as(workdir: pathlib.Path) -> str:
    """Of a study: a run directory in it, in words."""
    found = sorted(workdir.glob(f"*/*/{CONFIG}")) if (workdir / _STUDY).exists() else []
    return f", such as {found[0].parent} of this study" if found else ""


def read_results(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Reads `results.json`; None where there is none, or it holds no rows of runs."""
    try:
        results: dict[str, Any] = json.loads(read_text(workdir / RESULTS))
        rows = results["runs"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    is_table = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    return results if is_table else None


@contextlib.contextmanager
def locked(workdir: pathlib.Path, *, wait: bool = False) -> Iterator[None]:
    """Creates `workdir` where it is missing, and holds it against other processes.

    Args:
      workdir: The directory.
      wait: Whether to wait until another process lets it go.

    Raises:
      BusyError: If another process holds it.
      InputError: If it cannot be written, or its file system has no locks.
    """
    made, lock = _acquire(workdir, wait)
    with lock:
        try:
            yield
        finally:
            _forget(workdir, made)


def _acquire(workdir: pathlib.Path, wait: bool) -> tuple[bool, IO[str]]:
    """Whether the directory was made for it, and its file, locked."""
    while True:
        made, lock = _open_lock(workdir)
        with contextlib.ExitStack() as refused:
            refused.enter_context(lock)
            try:
                _flock(lock, workdir, wait)
            except OSError as error:
                _forget(workdir, made)
                raise InputError(
                    f"expected {workdir} on a file system with locks; got {error.strerror}"
                ) from None
            if _stands(lock, workdir / _LOCK):
                try:
                    _note_holder(lock)
                except OSError as error:
                    _forget(workdir, made)
                    raise InputError(_say_unwritable(workdir, error.strerror)) from None
                refused.pop_all()
                return made, lock


def _open_lock(workdir: pathlib.Path) -> tuple[bool, IO[str]]:
    """Whether the directory was made for it, and its file, which another process may hold."""
    for _ in range(_TRIES_TO_OPEN):  # another process may just be removing the directory
        made = not workdir.exists()
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            return made, (workdir / _LOCK).open("a+")
        except OSError as error:
            reason = error.strerror
    raise InputError(_say_unwritable(workdir, reason))


def _say_unwritable(workdir: pathlib.Path, reason: str | None) -> str:
    return f"expected a workdir that can be written; got {workdir} ({reason})"


def _flock(lock: IO[str], workdir: pathlib.Path, wait: bool) -> None:
    """Takes a lock; says once whom it is waiting for."""
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise BusyError(
                    f"expected {workdir} to be free; process {_holder(lock)} is using it"
                ) from None
        else:
            return
        if time.monotonic() - began > _SECONDS_SILENT:
            break
        time.sleep(_SECONDS_A_TRY)
    _LOGGER.warning("waiting for process %s, which is using %s", _holder(lock), workdir)
    fcntl.flock(lock, fcntl.LOCK_EX)


def _note_holder(lock: IO[str]) -> None:
    """Writes who we are past the file's buffer: what a full disk refuses is not tried again."""
    os.ftruncate(lock.fileno(), 0)
    os.write(lock.fileno(), str(os.getpid()).encode())


def _holder(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip() or "unknown"


def _stands(lock: IO[str], path: pathlib.Path) -> bool:
    """Whether an open file is still the one at a path: a removed one is seen by nobody else."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _forget(workdir: pathlib.Path, made: bool) -> None:
    """Leaves no directory behind in which nothing was begun."""
    if made and sorted(p.name for p in workdir.iterdir()) == [_LOCK]:
        (workdir / _LOCK).unlink()
        with contextlib.suppress(OSError):  # another process opens it again
            workdir.rmdir()


def prepare_directory(
    workdir: pathlib.Path, config: Mapping[str, Any], flags: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Writes the configuration of a run, and removes an earlier one where that is wished.

    Args:
      workdir: The directory, locked.
      config: As `to_config` gives it.
      flags: The flags that repeat the run, by name; lists are written with commas.
      overwrite: Whether to start anew.
    """
    if overwrite:
        _empty(workdir, _OURS[1:])  # the configuration is replaced: without one, notes are foreign
    lines = [f"--{name}={_flag_value(value)}\n" for name, value in flags.items()]
    # A locale that is not UTF-8 gives names as surrogates, which turn back into their bytes.
    with replacing(workdir / FLAGS) as beside:
        beside.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    write_json(workdir / CONFIG, config)


def empty_directory(workdir: pathlib.Path) -> None:
    """Removes all that a run has in a directory, which is locked, but the lock."""
    _empty(workdir, _OURS)


def _empty(workdir: pathlib.Path, names: Sequence[str]) -> None:
    # The configuration goes last: killed half way, the directory still is a run directory.
    for name in reversed(names):
        _remove(workdir / name)


def _remove(path: pathlib.Path) -> None:
    if path.is_symlink() and path.is_dir():
        for child in path.iterdir():  # a folder on another disk is emptied and stays linked
            _remove(child)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flag_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(str(v) for v in value)
    return str(value)
