"""TensorBoard events of a run directory, in the records of tensorboardX."""

import contextlib
import math
import pathlib
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from betavae_jax.runs.directory import FIGURES, TENSORBOARD
from betavae_jax.runs.records import naming

_Add: TypeAlias = Callable[[int, Sequence[Any]], None]  # (step, tensorboardX's summaries)


class Events(NamedTuple):
    """Writers of the events of a population, one folder a run."""

    scalars: Callable[[Sequence[Mapping[str, Any]]], None]  # lines of the log
    close: Callable[[], None]


def no_events() -> Events:
    """Events that nobody wants."""
    return Events(lambda _: None, lambda: None)


def open_events(workdir: pathlib.Path, runs: int, *, purge_step: int | None = None) -> Events:
    """Opens the events of every run, `tensorboard/run000` and so on.

    Args:
      workdir: The run directory.
      runs: R.
      purge_step: Events from this step on, of an earlier start, are to be forgotten; None at
        a first start.
    """
    from tensorboardX.summary import scalar

    folders = [workdir / TENSORBOARD / f"run{run:03d}" for run in range(runs)]
    with contextlib.ExitStack() as opening:
        files = [opening.enter_context(_open_file(folder, purge_step)) for folder in folders]
        opened = opening.pop_all()

    def scalars(lines: Sequence[Mapping[str, Any]]) -> None:
        for line in lines:
            named = _scalars(line).items()
            files[line["run"]](line["step"], [scalar(name, value) for name, value in named])

    return Events(scalars, opened.close)


@contextlib.contextmanager
def _open_file(folder: pathlib.Path, purge_step: int | None = None) -> Iterator[_Add]:
    """Opens a new file of events in a folder.

    Who adds some writes them: tensorboardX's own writers leave that to a thread, and once this
    could not write, as on a full disk, the next to add one waits for ever.
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.record_writer import masked_crc32c

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
    with naming(path), path.open("ab") as file:

        def write(**content: Any) -> None:
            data = Event(wall_time=time.time(), **content).SerializeToString()
            for part in (struct.pack("<Q", len(data)), data):
                file.write(part + struct.pack("<I", masked_crc32c(part)))

        def add(step: int, summaries: Sequence[Any]) -> None:
            with naming(path):
                for summary in summaries:
                    write(step=step, summary=summary)
                file.flush()

        write(file_version="brain.Event:2")
        if purge_step is not None:
            write(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        yield add


def _scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """What a line of the log holds, by the names that group well; numbers alone."""
    named: dict[str, Any] = {}
    for name, value in line.items():
        if name == "kl_per_latent":
            named |= {f"kl/z{latent}": kl for latent, kl in enumerate(value)}
        elif name.startswith("test_"):
            named[f"test/{name.removeprefix('test_')}"] = value
        elif name not in ("step", "run"):
            named[f"train/{name}"] = value
    return {n: v for n, v in named.items() if v is not None and math.isfinite(v)}


def write_figures(workdir: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds the figures of a run directory to its events.

    Args:
      workdir: The run directory, its figures drawn.
      rows: The rows of `results.json`.
    """
    import numpy as np
    import PIL.Image
    from tensorboardX.summary import image as image_summary

    for row in rows:
        stem = f"run{row['run']:03d}"
        with _open_file(workdir / TENSORBOARD / stem) as add:
            for path in sorted((workdir / FIGURES).glob(f"{stem}_*.png")):
                with PIL.Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB"))
                name = path.stem.removeprefix(f"{stem}_")
                add(row["step"], [image_summary(name, pixels, dataformats="HWC")])
