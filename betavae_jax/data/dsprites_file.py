"""The published file of dSprites: read once, a few images at a time, and kept packed."""

import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.cache import cached_arrays
from betavae_jax.data.files import expand_user, reading
from betavae_jax.data.memory import allocate
from betavae_jax.data.sprites import IMAGE_SIZE, NUM_IMAGES, PACKED_SIZE

_FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
_MEMBER = "imgs.npy"
_READ_VERSION = 1  # of what `_read_images` makes of the file
_IMAGES_AT_ONCE = 256  # 1 MB unpacked; of all together it would be 3 GB
_SILENT_SECONDS = 1  # before a progress bar is of use

_HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[Any, ...]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_published(data_dir: str | os.PathLike[str]) -> np.ndarray:
    """Reads the published images, from the cache where they have been read before.

    Args:
      data_dir: the file, or the folder that holds it under its published name.

    Returns:
      `[737280, 512]` uint8, packed as by `np.packbits`.

    Raises:
      InputError: there is no such file, it is damaged, or it holds other images.
    """
    path = expand_user(data_dir).absolute()
    path = path / _FILE if path.is_dir() else path
    if not path.is_file():
        raise InputError(
            f"expected data_dir to name {_FILE}, or a folder with it; got {path},"
            " which does not exist"
        )
    status = path.stat()
    source = {"file": str(path), "size": status.st_size, "modified": status.st_mtime_ns}
    key = {"version": _READ_VERSION, **source}
    return cached_arrays("dsprites", key, lambda: {"packed": _read_images(path)})["packed"]


def _read_images(path: pathlib.Path) -> np.ndarray:
    """Reads and packs the images of the published file, a few at a time."""
    import tqdm

    packed = allocate((NUM_IMAGES, PACKED_SIZE), np.uint8)
    starts = range(0, NUM_IMAGES, _IMAGES_AT_ONCE)
    with reading(path), zipfile.ZipFile(path) as archive:
        if _MEMBER not in archive.namelist():
            raise InputError(f"expected an array imgs in {path}; got {archive.namelist()[:8]}")
        with archive.open(_MEMBER) as file:
            _check_header(path, file)
            for start in tqdm.tqdm(starts, "reading dSprites", delay=_SILENT_SECONDS):
                rows = packed[start : start + _IMAGES_AT_ONCE]
                content = file.read(len(rows) * IMAGE_SIZE**2)
                # reshape refuses a file that ends early
                pixels = np.frombuffer(content, np.uint8).reshape(len(rows), IMAGE_SIZE**2)
                if pixels.max() > 1:
                    raise InputError(f"expected pixels 0 and 1 in {path}; got {pixels.max()}")
                rows[:] = np.packbits(pixels, axis=1)
            if file.read(1):  # reading past the end also verifies the checksum
                raise ValueError("more bytes than the shape says")
    return packed


def _check_header(path: pathlib.Path, file: IO[bytes]) -> None:
    """Reads the header of an array, and refuses one that is not the published images'."""
    shape, fortran_order, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    expected = (NUM_IMAGES, IMAGE_SIZE, IMAGE_SIZE)
    if shape != expected or dtype != np.uint8 or fortran_order:
        raise InputError(
            f"expected imgs of uint8 {list(expected)} in {path}; got {dtype} {list(shape)}"
            f"{' in Fortran order' if fortran_order else ''}"
        )
