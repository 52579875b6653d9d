"""Pictures in files: decoded, turned upright, laid on black, cut and resized."""

import pathlib
import stat
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from betavae_jax.checks import InputError, check_at_least, check_name
from betavae_jax.data.files import reading

if TYPE_CHECKING:
    import PIL.Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")  # PIL's names; the content decides, not the suffix
_MODES = {1: "L", 3: "RGB"}  # PIL's name by the number of channels


class Look(NamedTuple):
    """How a picture becomes pixels."""

    image_size: int
    channels: int
    image_fit: str


def check_look(image_size: int, channels: int, image_fit: str) -> Look:
    """Collects how a picture becomes pixels.

    Raises:
      InputError: A setting is out of range.
    """
    check_at_least("image_size", image_size, 8, most=256, integer=True)
    if channels not in _MODES:
        raise InputError(f"expected channels to be 1 (grey) or 3 (colours); got {channels!r}")
    check_name("image_fit", image_fit, _FITS)
    return Look(image_size, channels, image_fit)


def decode_some(
    paths: Sequence[pathlib.Path], look: Look, pixels: np.ndarray, rows: range
) -> dict[int, str]:
    """Decodes some images in place.

    Args:
      paths: The files `[N]`.
      look: How they become pixels.
      pixels: What is written, `[N, H, W, C]` uint8.
      rows: Which of them.

    Returns:
      Of each that cannot be read, by its row, why.
    """
    refusals = {}
    for row in rows:
        try:
            with reading(paths[row]):
                pixels[row] = decode(paths[row], look)
        except InputError as error:
            refusals[row] = str(error)
    return refusals


def decode(path: pathlib.Path, look: Look) -> np.ndarray:
    """Decodes an image -> `[H, W, C]` uint8; raises where it cannot be read."""
    import PIL.Image
    import PIL.ImageOps

    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe is to wait for who writes to it
        raise InputError(f"expected {path} to be a file; got a pipe, a socket or a device")
    mode = _MODES[look.channels]
    with PIL.Image.open(path, formats=_FORMATS) as image:
        # a JPEG is decoded at 1/2, 1/4 or 1/8, where that is still twice what is kept
        side = min(image.size) if look.image_fit == "crop" else max(image.size)
        width, height = (max(1, 2 * look.image_size * n // side) for n in image.size)
        image.draft(mode, (width, height))
        PIL.ImageOps.exif_transpose(image, in_place=True)
        pixels = np.asarray(_FITS[look.image_fit](_opaque(image).convert(mode), look.image_size))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _opaque(image: "PIL.Image.Image") -> "PIL.Image.Image":
    """Lays an image on black, and cuts 16 bits a grey pixel to 8."""
    import PIL.Image

    if image.mode.startswith("I;16"):  # convert would clip, not scale
        return PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    black = PIL.Image.new("RGBA", image.size, (0, 0, 0, 255))
    return PIL.Image.alpha_composite(black, image.convert("RGBA"))


def _crop(image: "PIL.Image.Image", size: int) -> "PIL.Image.Image":
    import PIL.Image
    import PIL.ImageOps

    return PIL.ImageOps.fit(image, (size, size), PIL.Image.Resampling.BICUBIC)


def _pad(image: "PIL.Image.Image", size: int) -> "PIL.Image.Image":
    import PIL.Image
    import PIL.ImageOps

    longer = max(image.size)
    shape = [round(n / longer * size) for n in image.size]
    if min(shape) == 0:  # a side that PIL would round to nothing keeps a pixel
        width, height = (max(1, n) for n in shape)
        image = image.resize((width, height), PIL.Image.Resampling.BICUBIC)
    return PIL.ImageOps.pad(image, (size, size), PIL.Image.Resampling.BICUBIC)


_FITS: dict[str, "Callable[[PIL.Image.Image, int], PIL.Image.Image]"] = {
    "crop": _crop,
    "pad": _pad,
}
