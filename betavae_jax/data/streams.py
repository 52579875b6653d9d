"""Examples from front to back, some at a time: sets that need not fit into memory.

Folders of pictures, idx files and `.npy` files are read as they are needed; what a `.npz`,
`.h5` or `.csv` file or a data set of `DATASETS` holds is in memory whole.
"""

import concurrent.futures
import itertools
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.arrays import SUFFIXES, Read, idx_roles, is_idx, only_file, read_file
from betavae_jax.data.factors import factor_space
from betavae_jax.data.files import idx_shape, iterate_idx, read_idx
from betavae_jax.data.folder import list_images
from betavae_jax.data.pictures import Look, decode_some
from betavae_jax.data.resident import ImageArrays, check_factors, check_images
from betavae_jax.data.vectors import VectorArrays, check_vectors
from betavae_jax.types import Array, Dataset, Shape, Splits

_LOGGER = logging.getLogger(__name__)

_AHEAD = 2  # chunks that are decoded before they are asked for
_ROWS_AT_ONCE = 256  # where bytes are looked at for whether they are binary

Item = TypeVar("Item")
Result = TypeVar("Result")


class Chunk(NamedTuple):
    """Some examples."""

    x: np.ndarray | Array  # [B, ...]: uint8 or float32 in [0, 1], or vectors in their own units
    factors: np.ndarray  # [B, K] int32
    names: list[str]  # of the files of pictures; empty for others


class Stream(NamedTuple):
    """One split of a set."""

    source: str
    shape: Shape  # of an example
    num_examples: int  # at most: pictures that cannot be read may be left out
    chunks: Callable[[int], Iterator[Chunk]]  # number of rows -> the examples in their order
    factor_names: tuple[str, ...] = ()
    split: str = ""  # train or test, where the set has both
    has_names: bool = False


def stream_path(path: pathlib.Path, look: Look | None, *, skip_bad: bool = False) -> list[Stream]:
    """Opens a file of arrays, a folder with one or with MNIST's files, or a folder of pictures.

    Args:
      path: As for the data sets `arrays` and `folder`.
      look: How pictures become pixels; None refuses them.
      skip_bad: Whether pictures that cannot be read are left out, with a warning each.

    Returns:
      The training split, and the test split where there is one.

    Raises:
      InputError: It is none of these, or does not begin as it should.
    """
    if not path.is_dir():
        return _stream_file(path)
    roles = idx_roles(path)
    if roles:
        splits = ["train", "test"] if "test-images" in roles else ["train"]
        return _named([_stream_idx(roles[f"{s}-images"], roles.get(f"{s}-labels")) for s in splits])
    if any(is_idx(p) or p.suffix.lower() in SUFFIXES for p in path.iterdir() if p.is_file()):
        return _stream_file(only_file(path))
    if look is None:
        raise InputError(
            "expected a file of arrays, as the examples wanted are not square and grey or in"
            f" colours; got {path}, a folder of pictures"
        )
    return [_stream_pictures(path, look, skip_bad)]


def stream_splits(splits: Splits, source: str) -> list[Stream]:
    """The splits of a loaded data set; factors have the names that the set gives them."""
    datasets = [splits.train] if splits.test is None else [splits.train, splits.test]
    return _named([_stream_dataset(dataset, source) for dataset in datasets])


def are_binary(streams: Iterable[Stream]) -> bool:
    """Says whether examples are bytes that never exceed 1, which stand for 0 and 255.

    Mostly the first chunk decides; of truly binary ones all are read.
    """
    for stream in streams:
        for chunk in stream.chunks(_ROWS_AT_ONCE):
            if chunk.x.dtype != np.uint8 or chunk.x.max() > 1:
                return False
    return True


def _named(streams: list[Stream]) -> list[Stream]:
    if len(streams) == 1:
        return streams
    return [s._replace(split=name) for s, name in zip(streams, ("train", "test"), strict=True)]


def _stream_file(path: pathlib.Path) -> list[Stream]:
    if is_idx(path):
        return [_stream_idx(path, None)]
    read = read_file(path)
    factors = [_factors_of(r.source, r.labels, len(r.images)) for r in read]
    space = factor_space([r.source for r in read], factors, ())
    names = () if space is None else space.names
    return _named([_stream_array(r, f, names) for r, f in zip(read, factors, strict=True)])


def _factors_of(source: str, labels: np.ndarray | None, num_examples: int) -> np.ndarray:
    if labels is None:
        return np.zeros((num_examples, 0), np.int32)
    return check_factors(source, labels, num_examples)


def _stream_array(read: Read, factors: np.ndarray, names: tuple[str, ...]) -> Stream:
    """Rows of an array, which may be mapped from a file."""
    check = check_vectors if read.images.ndim == 2 else check_images
    first = check(read.source, read.images[:1])  # the shape, the type, whether there is any

    def chunks(num_rows: int) -> Iterator[Chunk]:
        for start in range(0, len(read.images), num_rows):
            rows = slice(start, start + num_rows)
            source = f"{read.source} (from example {start})" if start else read.source
            yield Chunk(check(source, np.array(read.images[rows])), factors[rows], [])

    shape = first.shape[1:]
    names = names if factors.shape[1] else ()
    return Stream(read.source, shape, len(read.images), chunks, names)


def _stream_idx(images: pathlib.Path, labels: pathlib.Path | None) -> Stream:
    shape = idx_shape(images)
    source = str(images) if labels is None else f"{images} and {labels.name}"
    # A picture of zeros stands for all, where there are any: the shape is checked, not read.
    first = check_images(source, np.zeros([min(1, shape[0]), *shape[1:]], np.uint8))
    factors = _factors_of(source, None if labels is None else read_idx(labels), shape[0])

    def chunks(num_rows: int) -> Iterator[Chunk]:
        start = 0
        for rows in iterate_idx(images, num_rows):
            x = check_images(source, rows)
            yield Chunk(x, factors[start : start + len(x)], [])
            start += len(x)

    names = ("label",) if factors.shape[1] else ()
    return Stream(source, first.shape[1:], shape[0], chunks, names)


def _stream_pictures(path: pathlib.Path, look: Look, skip_bad: bool) -> Stream:
    root, images, classes, labels = list_images(path)

    def decode(rows: range) -> tuple[Chunk, list[str]]:
        pixels = np.zeros((len(rows), look.image_size, look.image_size, look.channels), np.uint8)
        names = [images[row] for row in rows]
        refusals = decode_some([root / name for name in names], look, pixels, range(len(rows)))
        kept = np.setdiff1d(np.arange(len(rows)), list(refusals))
        chunk = Chunk(pixels[kept], labels[rows][kept], [names[k] for k in kept])
        return chunk, list(refusals.values())

    def chunks(num_rows: int) -> Iterator[Chunk]:
        parts = [
            range(start, min(start + num_rows, len(images)))
            for start in range(0, len(images), num_rows)
        ]
        for chunk, refusals in _map_ahead(decode, parts):
            if refusals and not skip_bad:
                raise InputError(f"{refusals[0]} (skip_bad leaves such images out)")
            for refusal in refusals:
                _LOGGER.warning("left out: %s", refusal)
            if len(chunk.x):
                yield chunk

    shape = (look.image_size, look.image_size, look.channels)
    names = ("label",) if classes else ()
    return Stream(str(root), shape, len(images), chunks, names, has_names=True)


def _map_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Maps in threads, as many items ahead as there are processors, and a few more."""
    count = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        waiting = iter(items)
        futures = [pool.submit(function, i) for i in itertools.islice(waiting, count + _AHEAD)]
        try:
            while futures:
                yield futures.pop(0).result()
                futures += [pool.submit(function, i) for i in itertools.islice(waiting, 1)]
        finally:
            pool.shutdown(cancel_futures=True)


def _stream_dataset(dataset: Dataset, source: str) -> Stream:
    arrays = dataset.arrays
    if isinstance(arrays, ImageArrays):
        examples, gather = arrays.images, None
    elif isinstance(arrays, VectorArrays):
        examples, gather = arrays.vectors, None
    else:
        index = jax.ShapeDtypeStruct((1,), jnp.int32)
        examples = jax.eval_shape(dataset.gather, arrays, index, jax.random.key(0))
        gather = jax.jit(dataset.gather)
    factors_of = jax.jit(dataset.factors)

    def chunks(num_rows: int) -> Iterator[Chunk]:
        placed = arrays if gather is None else jax.device_put(arrays)
        for start in range(0, dataset.num_examples, num_rows):
            rows = np.arange(start, min(start + num_rows, dataset.num_examples), dtype=np.int32)
            if gather is None:
                x, factors = examples[rows], arrays.factors[rows]
            else:
                x = gather(placed, rows, jax.random.key(0))
                factors = np.asarray(factors_of(placed, rows))
            if dataset.scale is not None:
                x = dataset.scale.restore(np.asarray(x))
            yield Chunk(x, factors, [])

    names = () if dataset.space is None else dataset.space.names
    shape = tuple(examples.shape[1:])
    return Stream(source, shape, dataset.num_examples, chunks, names)
