"""Reading files of arrays: NumPy's own and MNIST's idx, with every byte accounted for."""

import contextlib
import gzip
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np

from betavae_jax.checks import InputError

Archive: TypeAlias = Mapping[str, np.ndarray]  # an open .npz file

_UNSIGNED_BYTE = 0x08  # the only element type of an idx file that holds images or labels


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
    """Turns whatever reading a damaged file raises into one line that names it."""
    try:
        yield
    except InputError:
        raise
    # damaged bytes surface as a dozen unrelated classes of zipfile, zlib, numpy, protobuf, PIL
    except Exception as error:
        got = f"{type(error).__name__}: {error}"[:300]
        # numpy has no class of its own for arrays of Python objects, which could run code
        got = "pickled objects" if "allow_pickle" in got else got
        raise InputError(f"expected {path} to be whole and readable; got {got}") from error


def read_npy(path: pathlib.Path) -> np.ndarray:
    """Reads the array of a `.npy` file.

    Raises:
      InputError: the file is damaged, is none of NumPy's, or holds pickled objects.
    """
    with reading(path), path.open("rb") as file:
        _check_magic(path, file.read(6), b"\x93NUMPY")
        file.seek(0)
        return np.asarray(np.load(file, allow_pickle=False))


@contextlib.contextmanager
def open_npz(path: pathlib.Path) -> Iterator[Archive]:
    """Opens a `.npz` file, whose arrays `read_member` reads one by one.

    Raises:
      InputError: the file is damaged, or is none of NumPy's.
    """
    with reading(path), path.open("rb") as file:
        _check_magic(path, file.read(2), b"PK")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            yield archive


def read_member(path: pathlib.Path, archive: Archive, name: str) -> np.ndarray:
    """Reads an array of an open `.npz` file.

    Raises:
      InputError: the array is damaged, or holds pickled objects.
    """
    with reading(path):
        return np.asarray(archive[name])


def _check_magic(path: pathlib.Path, start: bytes, magic: bytes) -> None:
    # without this, np.load takes foreign bytes for a pickle and says so
    if start != magic:
        raise InputError(f"expected {path} to be a NumPy file that begins {magic!r}; got {start!r}")


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads an idx file of unsigned bytes, plain or compressed with gzip.

    The format: two zero bytes, the element type, the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the elements in row-major order.

    Returns:
      uint8, of the shape in the header.

    Raises:
      InputError: the file is damaged, or its length is not what its header says.
    """
    with reading(path):
        content = path.read_bytes()
        # by content, since downloads often unpack a file and keep its name
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    start = content[:4]
    if len(start) < 4 or start[:2] != b"\x00\x00" or start[3] == 0:
        raise InputError(f"expected {path} to begin with the four bytes of idx; got {start!r}")
    if start[2] != _UNSIGNED_BYTE:
        raise InputError(f"expected unsigned bytes (idx type 0x08) in {path}; got 0x{start[2]:02x}")
    data_at = 4 + 4 * start[3]
    if len(content) < data_at:
        raise InputError(
            f"expected a header of {data_at} bytes in {path}; got a file of {len(content)}"
        )
    shape = [int(size) for size in np.frombuffer(content, ">u4", count=start[3], offset=4)]
    if len(content) - data_at != math.prod(shape):
        raise InputError(
            f"expected {math.prod(shape)} bytes of data in {path}, as its header {shape} says;"
            f" got {len(content) - data_at}"
        )
    # frombuffer is a view of read-only bytes
    return np.frombuffer(content, np.uint8, offset=data_at).reshape(shape).copy()
