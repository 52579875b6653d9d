"""Checkpoints by Orbax: whole or not there, verified by digest, the last few kept."""

import contextlib
import functools
import io
import logging
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.runs.leaves import flatten_leaves, sha256_of_leaves, unflatten_leaves
from betavae_jax.runs.records import sync_folder

_LOGGER = logging.getLogger(__name__)

_DAMAGED = "checkpoint of step %d is damaged (%s); trying the one before it"
_BYTES_AT_ONCE = 1 << 20
_SECONDS_TO_SETTLE = 0.5  # until the writing threads of a failed save have ended


class CheckpointError(OSError):
    """A checkpoint could not be written, or none of those that exist can be read."""


class Checkpoints(NamedTuple):
    """The checkpoints of one run directory."""

    save: Callable[[int, Any], None]  # (step, tree of host arrays)
    restore: Callable[[Any], tuple[int, Any] | None]  # template -> the latest whole, or None
    close: Callable[[], None]


def open_checkpoints(directory: pathlib.Path, *, keep: int) -> Checkpoints:
    """Opens, or creates, the checkpoints in a directory.

    A killed save leaves a temporary folder, which is removed here. A checkpoint whose digest
    does not agree with its arrays is set aside as `STEP.damaged`, and the one before it serves;
    one whose files cannot be read just now is left alone, and so are those before it.

    Args:
      directory: Where they are.
      keep: How many of the latest to keep.

    Returns:
      Functions that raise CheckpointError.
    """
    import orbax.checkpoint as ocp

    _remove_unfinished(directory)  # Orbax would do so too, but not always before it returns
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
    manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(step: int, tree: Any) -> None:
        leaves = flatten_leaves(tree)
        meta = {"step": step, "sha256": sha256_of_leaves(leaves)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(leaves), meta=ocp.args.JsonSave(meta))
        try:
            with _quiet_threads():
                manager.save(step, args=args, force=True)
                # Orbax waits for the arrays alone. Else a node lost soon after may leave none whole
                # of those that were saved in the last half minute.
                sync_folder(directory / str(step))
        except Exception as error:  # Orbax passes on whatever its storage layers raise
            _remove_unfinished(directory)
            raise CheckpointError(_save_message(step, error, manager.all_steps())) from error

    def restore(template: Any) -> tuple[int, Any] | None:
        steps = sorted(manager.all_steps(), reverse=True)
        for step in steps:
            try:
                read = functools.partial(manager.restore, step, args=_restore_args())
                leaves = _read(read, directory / str(step))
            except CheckpointError:
                raise
            except Exception as error:  # likewise; whatever it is, this checkpoint is no use
                _set_aside(directory / str(step))
                manager.reload()
                _LOGGER.warning(_DAMAGED, step, _first_line(error))
                continue
            return step, _fill(template, leaves, directory / str(step))
        # Those that an earlier start has set aside count too: it must not begin anew unasked.
        if steps or any(directory.glob("*.damaged")):
            raise CheckpointError(f"none of the checkpoints in {directory} can be read")
        return None

    return Checkpoints(save, restore, manager.close)


def read_latest(directory: pathlib.Path) -> tuple[int, dict[str, np.ndarray]] | None:
    """Reads the latest whole checkpoint and leaves the directory as it is.

    No lock is needed: another process may be training there. Where it removes what is being
    read, what it has written meanwhile is read.

    Args:
      directory: Where the checkpoints are.

    Returns:
      (step, arrays by path, such as `state.params.encoder.conv_0.kernel`); None without one.

    Raises:
      CheckpointError: If there are some, but none can be read, or the latest not just now.
    """
    import orbax.checkpoint as ocp

    tried: set[int] = set()
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        while steps := steps_in(directory) - tried:
            step = max(steps)
            tried.add(step)
            path = directory / str(step)
            read = functools.partial(reader.restore, path.absolute(), args=_restore_args())
            try:
                return step, _read(read, path)
            except CheckpointError:
                raise
            except Exception as error:  # as in `restore`
                _LOGGER.warning(_DAMAGED, step, _first_line(error))
    if tried or any(directory.glob("*.damaged")):
        raise CheckpointError(f"none of the checkpoints in {directory} can be read")
    return None


def steps_in(directory: pathlib.Path) -> set[int]:
    """The steps of the checkpoints in a directory, which need not exist."""
    return {int(path.name) for path in directory.glob("*") if path.name.isdecimal()}


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keeps the tracebacks of Orbax's writing threads from the terminal.

    A failure is raised as well, and then says the same in one line. They print for a while
    after it. What is printed without a failure is passed on.
    """
    printed = io.StringIO()
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(printed):
            try:
                yield
            except Exception:
                time.sleep(_SECONDS_TO_SETTLE)
                raise
    finally:
        logging.disable(level)
    sys.stderr.write(printed.getvalue())


def _read(restore: Callable[[], Any], path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint; CheckpointError where not it is at fault but what it lies on."""
    step = int(path.name)
    try:
        return _verify(restore(), step)
    except Exception as error:
        _check_readable(path, error)
    return _verify(restore(), step)  # what a disk refuses once, it may give the next time


def _check_readable(path: pathlib.Path, error: Exception) -> None:
    """Raises CheckpointError unless the files of a checkpoint can be read, whatever they hold."""
    try:
        if isinstance(error, MemoryError):
            raise error
        for place, _, names in os.walk(path, onerror=_raise):
            for name in names:
                with open(os.path.join(place, name), "rb") as file:
                    while file.read(_BYTES_AT_ONCE):
                        pass
    except FileNotFoundError:  # it is removed, or not whole
        return
    except (MemoryError, OSError) as trouble:
        reason = str(trouble) or type(trouble).__name__
        raise CheckpointError(f"could not read {path} ({reason}); it is left as it is") from trouble


def _raise(error: OSError) -> None:
    raise error


def _restore_args() -> Any:
    import orbax.checkpoint as ocp

    return ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())


def _verify(restored: Any, step: int) -> dict[str, np.ndarray]:
    leaves = {name: np.asarray(leaf) for name, leaf in restored["state"].items()}
    if restored["meta"]["step"] != step:
        raise ValueError(f"it is of step {restored['meta']['step']}")
    expected, got = restored["meta"]["sha256"], sha256_of_leaves(leaves)
    if expected != got:
        raise ValueError(f"expected digest {expected[:12]}, got {got[:12]}")
    return leaves


def _fill(template: Any, leaves: dict[str, np.ndarray], path: pathlib.Path) -> Any:
    try:
        return unflatten_leaves(template, leaves)
    except ValueError as error:
        raise CheckpointError(f"{path} is whole but of another program: {error}") from error


def _set_aside(damaged: pathlib.Path) -> None:
    aside = damaged.with_name(f"{damaged.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    damaged.rename(aside)


def _remove_unfinished(directory: pathlib.Path) -> None:
    for path in directory.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(path, ignore_errors=True)


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    # The storage layer names the array first and the cause last.
    return line if len(line) <= 240 else f"{line[:80]} ... {line[-155:]}"


def _save_message(step: int, error: Exception, whole: list[int]) -> str:
    last = f"the checkpoint of step {max(whole)} is whole" if whole else "there is none before it"
    return f"could not write the checkpoint of step {step} ({_first_line(error)}); {last}"
