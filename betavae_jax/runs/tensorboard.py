"""TensorBoard events of a run directory, by tensorboardX."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from betavae_jax.runs.directory import FIGURES, TENSORBOARD


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
    from tensorboardX import SummaryWriter

    writers = [
        SummaryWriter(
            str(workdir / TENSORBOARD / f"run{run:03d}"),
            purge_step=purge_step,
            write_to_disk=True,
        )
        for run in range(runs)
    ]

    def scalars(lines: Sequence[Mapping[str, Any]]) -> None:
        for line in lines:
            for name, value in _scalars(line).items():
                writers[line["run"]].add_scalar(name, value, line["step"])

    def close() -> None:
        for writer in writers:
            writer.close()

    return Events(scalars, close)


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
    from tensorboardX import SummaryWriter

    for row in rows:
        stem = f"run{row['run']:03d}"
        with SummaryWriter(str(workdir / TENSORBOARD / stem)) as writer:
            for path in sorted((workdir / FIGURES).glob(f"{stem}_*.png")):
                with PIL.Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB"))
                name = path.stem.removeprefix(f"{stem}_")
                writer.add_image(name, pixels, row["step"], dataformats="HWC")
