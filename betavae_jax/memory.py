"""Whether the memory that a CPU shares with everything else holds a program, before it runs.

An accelerator says that it ran out of memory; on a CPU the kernel kills the process.
"""

import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from betavae_jax.checks import InputError

_BYTES_A_GIGABYTE = 1e9
_EXHAUSTED = "RESOURCE_EXHAUSTED"
_OF_A_KERNEL = "Shared memory"  # on the chip: no smaller program would fit
_VARIABLE = "BETAVAE_CHECK_MEMORY"  # 0: nothing is checked
_SECONDS_TO_SETTLE = (0.0, 0.5, 1.5)  # what has just been freed goes back within these


class TooLargeError(InputError):
    """Memory does not hold a program."""

    def where_others_are_refused(self) -> InputError:
        """The same, of a directory in which something stands already."""
        return InputError(f"{self}; another batch_size or number of runs needs another --workdir")


class Work(NamedTuple):
    """What takes memory, and what would take less."""

    name: str
    helps: str
    in_turns: bool  # whether fewer devices take less: a run at a time on each


TRAINING = Work("training", "a smaller batch_size", in_turns=True)
EVALUATION = Work("evaluation", "fewer latents or a smaller network", in_turns=False)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether XLA gave up for want of a device's memory."""
    if not isinstance(error, jax.errors.JaxRuntimeError):
        return False
    return _EXHAUSTED in str(error) and _OF_A_KERNEL not in str(error)


class _Group(NamedTuple):
    """Where a version of control groups keeps what a group may take and has taken."""

    folder: str
    limit: str
    used: str
    cached: tuple[str, ...]  # counted as used, and given back when it is wanted
    swap_limit: str = ""
    swap_used: str = ""


class _Left(NamedTuple):
    """Bytes that something leaves to a process; None where it sets no limit."""

    memory: int | None
    swap: int | None


_UNLIMITED = 2**60  # the first version says no limit by a number
# The first version limits swap together with memory, if at all: none is counted there.
_FIRST = _Group("memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                ("total_active_file", "total_inactive_file"))  # fmt: skip
_SECOND = _Group(".", "memory.max", "memory.current",
                 ("active_file", "inactive_file", "slab_reclaimable"),
                 "memory.swap.max", "memory.swap.current")  # fmt: skip


def available_bytes(root: pathlib.Path = pathlib.Path("/")) -> int | None:
    """What this process may still take: of the machine, and of its control groups.

    Args:
      root: Of the files in which Linux says it.

    Returns:
      Bytes, swap included; None where the system does not say.
    """
    machine = _numbers(root / "proc/meminfo")
    available, swap_free = machine.get("MemAvailable"), machine.get("SwapFree", 0)
    left = [_Left(available and available * 1024, swap_free * 1024), *_left_by_groups(root)]
    memory = [each.memory for each in left if each.memory is not None]
    swap = [each.swap for each in left if each.swap is not None]
    return min(memory) + min(swap) if memory else None


def _left_by_groups(root: pathlib.Path) -> Iterator[_Left]:
    """What is left in the control group of this process, and in each that holds it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = _FIRST if controllers else _SECOND
        parts = pathlib.PurePosixPath(path).parts[1:]
        for depth in range(len(parts) + 1):  # in a container, those above may not be shown
            folder = root.joinpath("sys/fs/cgroup", version.folder, *parts[:depth])
            cached = _numbers(folder / "memory.stat")
            given_back = sum(cached.get(name, 0) for name in version.cached)
            memory = _room(folder / version.limit, folder / version.used, given_back)
            swap = _room(folder / version.swap_limit, folder / version.swap_used)
            if memory is not None and not _text(folder / version.swap_limit):
                swap = 0  # the group does not say that it may have any
            yield _Left(memory, swap)


def _room(limit: pathlib.Path, used: pathlib.Path, given_back: int = 0) -> int | None:
    """Bytes between two numbers in files; None where there is no limit."""
    most, taken = _text(limit).strip(), _text(used).strip()
    if not (most.isdecimal() and taken.isdecimal()) or int(most) > _UNLIMITED:  # "max"
        return None
    return max(0, int(most) - max(0, int(taken) - given_back))


def _numbers(path: pathlib.Path) -> dict[str, int]:
    """Lines of a name and a number."""
    words = [line.replace(":", " ").split() for line in _text(path).splitlines()]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def check_memory(
    function: Any,
    arguments: Sequence[Any],
    devices: Sequence[jax.Device],
    work: Work = TRAINING,
) -> None:
    """Raises TooLargeError where a compiled function takes more than a CPU has left.

    The function is compiled here, and not again when it is called. Where the system does not say
    what is left, or the environment says BETAVAE_CHECK_MEMORY=0, nothing is checked.

    Args:
      function: Of `pmap` or `jit`, over all the devices.
      arguments: What it is about to be called with, placed already.
      devices: Where it runs. Those of a CPU share one memory; on others nothing is checked.
      work: What it is part of.
    """
    if not _is_checked(devices):
        return
    stats = function.lower(*arguments).compile().memory_analysis()
    if stats is None:  # its kind of executable does not say
        return
    new_outputs = stats.output_size_in_bytes - stats.alias_size_in_bytes
    needed = (stats.temp_size_in_bytes + new_outputs) * len(devices)
    jax.block_until_ready(arguments)  # what is still computed takes its memory only then
    check_room(needed, devices, work)


def check_room(needed: int, devices: Sequence[jax.Device], work: Work) -> None:
    """Raises TooLargeError where so many bytes are more than a CPU has left; see `check_memory`."""
    if not _is_checked(devices):
        return
    room = 0
    for seconds in _SECONDS_TO_SETTLE:
        time.sleep(seconds)
        said = available_bytes()
        room = needed if said is None else said
        if needed <= room:
            return
    raise TooLargeError(_say_too_large(needed, room, len(devices), work))


def _is_checked(devices: Sequence[jax.Device]) -> bool:
    return devices[0].platform == "cpu" and os.environ.get(_VARIABLE) != "0"


def _say_too_large(needed: int, room: int, num_devices: int, work: Work) -> str:
    fitting = room * num_devices // needed
    helps = work.helps
    if num_devices > 1:
        helps += " or fewer runs"
    if fitting and work.in_turns:
        helps += f"; JAX_NUM_CPU_DEVICES={fitting} trains {fitting} at a time"
    return (
        f"expected {_gigabytes(needed)} of memory, which {work.name} takes on {num_devices} "
        f"CPU device{'s' if num_devices > 1 else ''}; got {_gigabytes(room)} "
        f"({helps}; {_VARIABLE}=0 tries all the same)"
    )


def _gigabytes(number: int) -> str:
    """Three digits of a number of bytes."""
    return f"{float(f'{number / _BYTES_A_GIGABYTE:.3g}'):,g} GB"
