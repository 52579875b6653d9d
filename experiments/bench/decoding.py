"""How fast a folder of pictures is read."""

import os
import pathlib
import tempfile
import time

import numpy as np

from betavae_jax.data import load_dataset


def decoding_rate(count: int) -> float:
    """Decodes a folder of `count` synthetic JPEGs of 200×200 pixels; images a second."""
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
