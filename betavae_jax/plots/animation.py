"""Moving pictures: latents that swing there and back."""

import pathlib

import numpy as np

from betavae_jax.checks import check_shape
from betavae_jax.plots.images import tile_images
from betavae_jax.plots.latents import order_latents

_MILLISECONDS = 80  # a frame
_MOST, _COLUMNS = 10, 5  # latents that are shown, and how many of them in a row
_LARGEST_TILE = 128  # pixels; a small image is enlarged by whole numbers up to here


def draw_animation(traversals: np.ndarray, kl_per_latent: np.ndarray, path: pathlib.Path) -> None:
    """Writes an animation of the ten latents of the largest KL, side by side, there and back.

    Args:
      traversals: Decoded images `[D, T, H, W, C]` in [0, 1], T at least 2.
      kl_per_latent: Mean KL of each latent `[D]`, nats.
      path: The file to write, GIF; it repeats for ever.
    """
    from PIL import Image

    check_shape("traversals", traversals.shape, (len(kl_per_latent), *(None,) * 4))
    shown = traversals[order_latents(kl_per_latent)[:_MOST]]
    count, steps, height, width = shown.shape[:4]
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    blank = np.zeros((rows * columns - count, *shown.shape[1:]), shown.dtype)
    tiles = np.concatenate([shown, blank]).reshape(rows, columns, *shown.shape[1:])
    scale = max(1, min(2, _LARGEST_TILE // max(height, width)))
    there_and_back = [*range(steps), *range(steps - 2, 0, -1)]
    frames = []
    for step in there_and_back:
        pixels = np.round(255 * tile_images(tiles[:, :, step])).astype(np.uint8)
        frame = Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))
        frames.append(frame.quantize(64 if shown.shape[-1] > 2 else 256))
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0, optimize=True
    )
