"""dSprites without a download, and its published relatives with colour, noise and pictures."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.dsprites_file import read_published
from betavae_jax.data.files import expand_user, reading
from betavae_jax.data.memory import allocate
from betavae_jax.data.sprites import (
    FACTOR_NAMES,
    FACTOR_SIZES,
    IMAGE_SIZE,
    NUM_POSITIONS,
    NUM_SPRITES,
    PACKED_SIZE,
    draw_sprite,
)
from betavae_jax.types import Array, Dataset, FactorSpace, Leaf, Splits

_PICTURE_BOX = (350, 274)  # width and height in pixels that a picture is shrunk to fit
_SILENT_SECONDS = 1  # before a progress bar is of use


class SpriteArrays(NamedTuple):
    """What the device holds: a bit a pixel."""

    packed: Leaf  # [N, 512] uint8, as `np.packbits` packs an image
    rows: Leaf | tuple[()]  # [N] int32, their numbers in the whole set; () for the whole set


class PictureArrays(NamedTuple):
    """What the device holds where the background is cut from a picture."""

    packed: Leaf  # [N, 512] uint8
    rows: Leaf | tuple[()]  # [N] int32
    picture: Leaf  # [H, W, 3] uint8


SetArrays = TypeVar("SetArrays", SpriteArrays, PictureArrays)


def load_dsprites(*, data_dir: str | os.PathLike[str] | None = None) -> Splits:
    """Loads dSprites: a white sprite on black, 737,280 images `[64, 64, 1]` of 0 and 1.

    Factors, in the published order: shape (square, ellipse, heart), scale, orientation,
    posX (along the columns) and posY (along the rows). The last orientation repeats the
    first: hold out by factor, not by row.

    Args:
      data_dir: the published `.npz` file, or the folder that holds it; it is read once and
        kept packed in the cache. By default the images are drawn from their geometry, in
        about a second: 0.014 % of them then differ from the published, in one pixel each.

    Returns:
      The full grid to learn from; no test split.

    Raises:
      InputError: there is no such file, it is damaged, or it holds other images.

    References:
      Matthey, Higgins, Hassabis and Lerchner, "dSprites: Disentanglement testing Sprites
      dataset", 2017.
    """
    return _splits(SpriteArrays(_packed_images(data_dir), ()), gather_sprites)


def load_dsprites_color(*, data_dir: str | os.PathLike[str] | None = None) -> Splits:
    """Loads Color-dSprites: a sprite of a random colour on black, `[64, 64, 3]`.

    Each channel of the colour is uniform in [0.5, 1], drawn anew at every look-up, from its
    key and the example's number.

    Args:
      data_dir: as for `load_dsprites`.

    Returns:
      The full grid to learn from; no test split.

    Raises:
      InputError: as for `load_dsprites`.

    References:
      Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of
      Disentangled Representations", 2019.
    """
    return _splits(SpriteArrays(_packed_images(data_dir), ()), gather_colored)


def load_dsprites_noisy(*, data_dir: str | os.PathLike[str] | None = None) -> Splits:
    """Loads Noisy-dSprites: a white sprite on noise, `[64, 64, 3]`.

    Every pixel and channel of the background is uniform in [0, 1], drawn anew at every
    look-up, from its key and the example's number.

    Args:
      data_dir: as for `load_dsprites`.

    Returns:
      The full grid to learn from; no test split.

    Raises:
      InputError: as for `load_dsprites`.

    References:
      Locatello et al., 2019.
    """
    return _splits(SpriteArrays(_packed_images(data_dir), ()), gather_noisy)


def load_dsprites_scream(
    *, picture: str | os.PathLike[str] | None = None, data_dir: str | os.PathLike[str] | None = None
) -> Splits:
    """Loads Scream-dSprites: a sprite inverts the colours of a background, `[64, 64, 3]`.

    The background is a random part of a picture, averaged with a random colour, both drawn
    anew at every look-up, from its key and the example's number. The picture is Munch's The
    Scream in the paper; it is shrunk to fit 350 × 274 px, as there. Pictures that are not
    RGB, which the authors' code does not take, are converted.

    Args:
      picture: an image file, more than 64 px a side once it is shrunk.
      data_dir: as for `load_dsprites`.

    Returns:
      The full grid to learn from; no test split.

    Raises:
      InputError: there is no such picture, it is damaged or too narrow; or as for
        `load_dsprites`.

    References:
      Locatello et al., 2019.
    """
    pixels = _read_picture(picture)
    return _splits(PictureArrays(_packed_images(data_dir), (), pixels), gather_scream)


def gather_sprites(arrays: SpriteArrays, index: Array, key: Array) -> Array:
    """Looks up `[B]` examples -> `[B, 64, 64, 1]` float32, 0 or 1."""
    del key  # nothing here is random
    return _unpack(arrays, index)


def gather_colored(arrays: SpriteArrays, index: Array, key: Array) -> Array:
    """Looks up `[B]` examples -> `[B, 64, 64, 3]` float32, each in a colour of its own."""

    def color(key: Array) -> Array:
        return jax.random.uniform(key, (1, 1, 3), minval=0.5, maxval=1.0)

    return _unpack(arrays, index) * jax.vmap(color)(_keys_of_examples(arrays, index, key))


def gather_noisy(arrays: SpriteArrays, index: Array, key: Array) -> Array:
    """Looks up `[B]` examples -> `[B, 64, 64, 3]` float32, each on noise of its own."""

    def noise(key: Array) -> Array:
        return jax.random.uniform(key, (IMAGE_SIZE, IMAGE_SIZE, 3))

    noises = jax.vmap(noise)(_keys_of_examples(arrays, index, key))
    return jnp.maximum(_unpack(arrays, index), noises)


def gather_scream(arrays: PictureArrays, index: Array, key: Array) -> Array:
    """Looks up `[B]` examples -> `[B, 64, 64, 3]` float32, each on a part of the picture."""
    picture = jnp.asarray(arrays.picture)
    # as in the authors' code, the last row and column of places are never drawn
    places = jnp.array(picture.shape[:2]) - IMAGE_SIZE

    def background(key: Array) -> Array:
        place_key, color_key = jax.random.split(key)
        row, column = jax.random.randint(place_key, (2,), 0, places)
        part = jax.lax.dynamic_slice(picture, (row, column, 0), (IMAGE_SIZE, IMAGE_SIZE, 3))
        return (part.astype(jnp.float32) / 255 + jax.random.uniform(color_key, (1, 1, 3))) / 2

    backgrounds = jax.vmap(background)(_keys_of_examples(arrays, index, key))
    return jnp.abs(_unpack(arrays, index) - backgrounds)  # 1 - background on the sprite


def sprite_factors(arrays: SpriteArrays | PictureArrays, index: Array) -> Array:
    """`[B]` -> `[B, 5]` int32: shape, scale, orientation, posX and posY."""
    factors = jnp.unravel_index(_numbers(arrays, index), FACTOR_SIZES)
    return jnp.stack(factors, axis=-1).astype(jnp.int32)


def take_sprites(arrays: SetArrays, rows: np.ndarray) -> SetArrays:
    """Restricts the arrays to the examples `rows [M]`, which keep their factors."""
    numbers = rows if isinstance(arrays.rows, tuple) else np.asarray(arrays.rows)[rows]
    return arrays._replace(
        packed=np.asarray(arrays.packed)[rows], rows=np.asarray(numbers, np.int32)
    )


def _numbers(arrays: SpriteArrays | PictureArrays, index: Array) -> Array:
    """The numbers of `[B]` examples in the whole set."""
    return index if isinstance(arrays.rows, tuple) else jnp.take(arrays.rows, index, mode="clip")


def _unpack(arrays: SpriteArrays | PictureArrays, index: Array) -> Array:
    """`[B]` -> `[B, 64, 64, 1]` float32."""
    packed = jnp.take(arrays.packed, index, axis=0, mode="clip")
    bits = jnp.unpackbits(packed, axis=-1)
    return bits.reshape(*index.shape, IMAGE_SIZE, IMAGE_SIZE, 1).astype(jnp.float32)


def _keys_of_examples(arrays: SpriteArrays | PictureArrays, index: Array, key: Array) -> Array:
    """Keys `[B]` that depend on the example, not on its place in a batch or a part of the set."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, _numbers(arrays, index))


def _splits(arrays: Any, gather: Callable[[Any, Array, Array], Array]) -> Splits:
    dataset = Dataset(
        arrays=arrays,
        gather=gather,
        factors=sprite_factors,
        space=FactorSpace(FACTOR_NAMES, FACTOR_SIZES, full_grid=True),
        num_examples=len(arrays.packed),
        take=take_sprites,
    )
    return Splits(train=dataset, test=None)


def _packed_images(data_dir: str | os.PathLike[str] | None) -> np.ndarray:
    """Draws the images, or reads the published ones -> `[N, 512]` uint8."""
    if data_dir is None:
        return _draw_images()  # not cached: to read and verify 377 MB would take about as long
    return read_published(data_dir)


def _draw_images() -> np.ndarray:
    import tqdm

    packed = allocate((NUM_SPRITES, NUM_POSITIONS, PACKED_SIZE), np.uint8)
    with tqdm.tqdm(packed, "drawing dSprites", unit="sprite", delay=_SILENT_SECONDS) as bar:
        for sprite, images in enumerate(bar):
            images[:] = draw_sprite(sprite)
    return packed.reshape(-1, PACKED_SIZE)


def _read_picture(picture: str | os.PathLike[str] | None) -> np.ndarray:
    """Reads an image file -> `[H, W, 3]` uint8, shrunk."""
    import PIL.Image

    if not picture:
        raise InputError("expected picture to name an image file; got none")
    path = expand_user(picture)
    if not path.is_file():
        raise InputError(f"expected picture to name an image file; got {path}, which is none")
    with reading(path), PIL.Image.open(path) as image:
        color = image if image.mode == "RGB" else image.convert("RGB")
        color.thumbnail(_PICTURE_BOX)
        pixels = np.array(color)
    if min(pixels.shape[:2]) <= IMAGE_SIZE:
        raise InputError(
            f"expected a picture of more than {IMAGE_SIZE} px a side, once it is shrunk to fit"
            f" {_PICTURE_BOX[0]} × {_PICTURE_BOX[1]} px; got {pixels.shape[1]} × {pixels.shape[0]}"
            f" px of {path}"
        )
    return pixels
