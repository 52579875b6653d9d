"""Reading files of arrays: NumPy's, HDF5 and MNIST's idx, with every byte accounted for."""

import contextlib
import gzip
import importlib
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, Literal, TypeAlias

import numpy as np

from betavae_jax.checks import InputError

Archive: TypeAlias = Mapping[str, Any]  # an open .npz or .h5 file: its arrays by name

_UNSIGNED_BYTE = 0x08  # the only element type of an idx file that holds images or labels
_LONGEST_IDX_HEADER = 4 + 4 * 255
_GZIP = b"\x1f\x8b"
_MAPPED_FROM = 1 << 30  # bytes of a .npy file that is mapped, not read


def expand_user(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path whose `~` is the home folder; where there is no such user, it is part of the name."""
    return pathlib.Path(os.path.expanduser(path))


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


def import_optional(module: str, extra: str, purpose: str) -> Any:
    """Imports a package that only an extra of this one installs.

    Raises:
      InputError: it is not installed; the text names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"expected the package {module.partition('.')[0]} {purpose}; got {error}"
            f" (pip install 'betavae_jax[{extra}]' installs it)"
        ) from error


def read_npy(path: pathlib.Path) -> np.ndarray:
    """Reads the array of a `.npy` file; one of 1 GiB or more is mapped, read when it is used.

    Raises:
      InputError: the file is damaged, is none of NumPy's, or holds pickled objects.
    """
    with reading(path), path.open("rb") as file:
        _check_magic(path, file.read(6), b"\x93NUMPY")
        # copy on write: what is changed in memory never reaches the file
        mode: Literal["c"] | None = "c" if path.stat().st_size >= _MAPPED_FROM else None
        return np.asarray(np.load(path, mmap_mode=mode, allow_pickle=False))


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


@contextlib.contextmanager
def open_hdf5(path: pathlib.Path) -> Iterator[Archive]:
    """Opens a `.h5` file, whose arrays `read_member` reads one by one.

    Raises:
      InputError: the file is damaged, is none of HDF5, or h5py is not installed.
    """
    h5py = import_optional("h5py", "hdf5", f"to read {path}")
    with reading(path), h5py.File(path, "r") as archive:
        yield archive


def read_member(path: pathlib.Path, archive: Archive, name: str) -> np.ndarray:
    """Reads an array of an open `.npz` or `.h5` file.

    Raises:
      InputError: the array is damaged or empty, holds pickled objects, or is a group of arrays.
    """
    with reading(path):
        member = archive[name]
        if getattr(member, "shape", None) is None:  # NumPy would take the names in a group
            got = f"a group of {_listed(member)}" if isinstance(member, Mapping) else "no data"
            raise InputError(f"expected {name} in {path} to be an array; got {got}")
        return np.asarray(member)


def _listed(group: Mapping[str, Any]) -> str:
    names = sorted(group)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def describe_member(path: pathlib.Path, archive: Archive, name: str) -> tuple[str, list[int]]:
    """Names the type and the shape of an array, without its data where the format can tell.

    Returns:
      Such as `("float64", [6, 10])`; the type says so where it is no array.
    """
    try:
        with reading(path):
            member = archive[name]
    except InputError:  # what is not images may well be pickled, such as dSprites' metadata
        return "pickled objects, or damaged", []
    return str(getattr(member, "dtype", "a group")), list(getattr(member, "shape", ()))


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
        if content[:2] == _GZIP:
            content = gzip.decompress(content)
    shape, data_at = _idx_header(path, content)
    if len(content) - data_at != math.prod(shape):
        raise InputError(
            f"expected {math.prod(shape)} bytes of data in {path}, as its header {shape} says;"
            f" got {len(content) - data_at}"
        )
    # frombuffer is a view of read-only bytes
    return np.frombuffer(content, np.uint8, offset=data_at).reshape(shape).copy()


def idx_shape(path: pathlib.Path) -> list[int]:
    """Reads the shape in the header of an idx file; see `read_idx`.

    Raises:
      InputError: it is no idx file of unsigned bytes.
    """
    with reading(path), _unpacked(path) as file:
        return _idx_header(path, file.read(_LONGEST_IDX_HEADER))[0]


def iterate_idx(path: pathlib.Path, num_rows: int) -> Iterator[np.ndarray]:
    """Reads an idx file from front to back, never whole; see `read_idx`.

    Yields:
      uint8 `[num_rows, ...]`, the last one shorter.

    Raises:
      InputError: as `read_idx`, once what is amiss is reached.
    """
    with reading(path), _unpacked(path) as file:
        shape, data_at = _idx_header(path, file.read(_LONGEST_IDX_HEADER))
        file.seek(data_at)
        size = math.prod(shape[1:])
        for start in range(0, shape[0], num_rows):
            count = min(num_rows, shape[0] - start)
            content = file.read(count * size)
            if len(content) < count * size:
                raise InputError(
                    f"expected {shape[0] * size} bytes of data in {path}, as its header {shape}"
                    f" says; got {start * size + len(content)}"
                )
            yield np.frombuffer(content, np.uint8).reshape(count, *shape[1:])
        if file.read(1):
            raise InputError(
                f"expected {shape[0] * size} bytes of data in {path}, as its header {shape} says;"
                " got more"
            )


@contextlib.contextmanager
def _unpacked(path: pathlib.Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Opens a file that may be compressed with gzip, by content."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.open(file) as content:
            yield content


def _idx_header(path: pathlib.Path, content: bytes) -> tuple[list[int], int]:
    """Checks how an idx file begins -> its shape, and where its elements begin."""
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
    return shape, data_at
