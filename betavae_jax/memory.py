"""Whether the memory that a CPU shares with everything else holds a program, before it runs.

An accelerator says that it ran out of memory; on a CPU the kernel kills the process.
"""

import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from betavae_jax.checks import InputError

_BYTES_A_GIGABYTE = 1e9
_EXHAUSTED = "RESOURCE_EXHAUSTED"
_SECONDS_TO_SETTLE = (0.0, 0.5, 1.5)  # what has just been freed goes back within these


class TooLargeError(InputError):
    """Memory does not hold a program."""


def ran_out_of_memory(error: Exception) -> bool:
    """Whether XLA gave up for want of memory."""
    return isinstance(error, jax.errors.JaxRuntimeError) and _EXHAUSTED in str(error)


class _Group(NamedTuple):
    """Where a version of control groups keeps what a group may take and has taken."""

    folder: str
    limit: str
    used: str
    cached: tuple[str, ...]  # counted as used, and given back when it is wanted


_FIRST = _Group("memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                ("total_active_file", "total_inactive_file"))  # fmt: skip
_SECOND = _Group(".", "memory.max", "memory.current", ("active_file", "inactive_file"))


def available_bytes(root: pathlib.Path = pathlib.Path("/")) -> int | None:
    """What this process may still take: of the machine, and of its control groups.

    Args:
      root: Of the files in which Linux says it.

    Returns:
      Bytes, swap included; None where the system does not say.
    """
    machine = _numbers(root / "proc/meminfo")
    rooms = [*_rooms_of_groups(root)]
    if "MemAvailable" in machine:
        rooms.append(machine["MemAvailable"] * 1024)
    return min(rooms) + machine.get("SwapFree", 0) * 1024 if rooms else None


def _rooms_of_groups(root: pathlib.Path) -> Iterator[int]:
    """What is left in the control group of this process, and in each that holds it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = _FIRST if controllers else _SECOND
        parts = pathlib.PurePosixPath(path).parts[1:]
        for depth in range(len(parts) + 1):  # in a container, those above may not be shown
            folder = root.joinpath("sys/fs/cgroup", version.folder, *parts[:depth])
            limit, used = (_text(folder / name).strip() for name in (version.limit, version.used))
            if limit.isdecimal() and used.isdecimal():  # not "max"
                cached = _numbers(folder / "memory.stat")
                given_back = sum(cached.get(name, 0) for name in version.cached)
                yield max(0, int(limit) - max(0, int(used) - given_back))


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
    function: Callable[..., Any], arguments: Sequence[Any], devices: Sequence[jax.Device]
) -> None:
    """Raises TooLargeError where a compiled function takes more than a CPU has left.

    The function is compiled here, and not again when it is called.

    Args:
      function: Of `pmap` or `jit`, over all the devices.
      arguments: What it is about to be called with, placed already.
      devices: Where it runs. Those of a CPU share one memory; on others nothing is checked.
    """
    room = available_bytes() if devices[0].platform == "cpu" else None
    if room is None:
        return
    compiled: Any = function
    stats = compiled.lower(*arguments).compile().memory_analysis()
    if stats is None:  # its kind of executable does not say
        return
    new_outputs = stats.output_size_in_bytes - stats.alias_size_in_bytes
    needed = (stats.temp_size_in_bytes + new_outputs) * len(devices)
    for seconds in _SECONDS_TO_SETTLE:
        time.sleep(seconds)
        room = available_bytes() or 0
        if needed <= room:
            return
    raise TooLargeError(_say_too_large(needed, room, len(devices)))


def _say_too_large(needed: int, room: int, num_devices: int) -> str:
    fitting = room * num_devices // needed
    helps = "a smaller batch_size"
    if num_devices > 1:
        helps += " or fewer runs"
    if fitting:
        helps += f"; JAX_NUM_CPU_DEVICES={fitting} trains {fitting} at a time"
    gigabytes, left = needed / _BYTES_A_GIGABYTE, room / _BYTES_A_GIGABYTE
    return (
        f"expected {gigabytes:.1f} GB of memory, which training takes on {num_devices} "
        f"CPU device{'s' if num_devices > 1 else ''}; got {left:.1f} GB ({helps})"
    )
