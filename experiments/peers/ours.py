"""Our own step, and its parts, to be measured beside the peers."""

import pathlib
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np

from betavae_jax.data import load_dataset
from betavae_jax.fit import program_of
from betavae_jax.population import place_runs, replicate
from betavae_jax.runs.settings import Experiment, Settings, build
from betavae_jax.types import Array, Arrays

_DOTS = {"image_size": 64, "blob_margin": 10.0, "blob_sigma": 4.0}


def make_experiment(settings: Settings) -> Experiment:
    """Builds what is measured: 64×64 images of a set that needs no files."""
    return build(settings._replace(data=_DOTS if settings.dataset == "blobs" else {}))


def make_step(experiment: Experiment) -> Callable[[int], None]:
    """Makes the function that takes `count` steps in the compiled program."""
    program = program_of(experiment)
    arrays = replicate(experiment.splits.train.arrays, program.devices)
    settings = place_runs(experiment.runs, program.devices)
    carry = program.init(settings, arrays)

    def advance(count: int) -> None:
        nonlocal carry
        steps = replicate(np.int32(count), program.devices)
        carry = jax.block_until_ready(program.advance(carry, settings, arrays, steps))

    return advance


def make_gather(experiment: Experiment) -> Callable[[int], None]:
    """Makes the function that only draws and gathers `count` batches, in a compiled loop."""
    data, batch_size = experiment.splits.train, experiment.settings.batch_size
    arrays = jax.device_put(data.arrays)

    @jax.jit
    def loop(arrays: Arrays, count: Array) -> Array:
        def body(step: Array, total: Array) -> Array:
            draw_key, gather_key = jax.random.split(jax.random.fold_in(jax.random.key(0), step))
            index = data.draw(arrays, draw_key, (batch_size,), data.num_examples)
            # A sum over the batch needs every pixel, so that none is left out.
            return total + data.gather(arrays, index, gather_key).sum(axis=0)

        shape = jax.eval_shape(data.gather, arrays, np.zeros(1, np.int32), jax.random.key(0))
        return jax.lax.fori_loop(0, count, body, jax.numpy.zeros(shape.shape[1:]))

    def advance(count: int) -> None:
        jax.block_until_ready(loop(arrays, np.int32(count)))

    return advance


def decoding_rate(count: int) -> float:
    """Decodes a folder of `count` synthetic JPEGs of 200×200 pixels; images a second."""
    import os

    import PIL.Image

    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        small = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
        for number, pixels in enumerate(small):
            image = PIL.Image.fromarray(pixels).resize((200, 200), PIL.Image.Resampling.BICUBIC)
            image.save(pathlib.Path(folder, f"{number:06d}.jpg"), quality=90)
        os.environ["BETAVAE_CACHE"] = str(pathlib.Path(folder, ".cache"))
        began = time.perf_counter()
        load_dataset("folder", data_dir=folder)
        return count / (time.perf_counter() - began)
