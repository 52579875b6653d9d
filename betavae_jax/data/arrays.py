"""The user's own arrays: images or vectors in a file, or in a folder with one."""

import contextlib
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.factors import declare_grid, factor_space, parse_declared, rank_values
from betavae_jax.data.files import (
    Archive,
    describe_member,
    expand_user,
    open_hdf5,
    open_npz,
    read_idx,
    read_member,
    read_npy,
)
from betavae_jax.data.resident import Part, check_factors, check_images, make_splits
from betavae_jax.data.tables import read_csv
from betavae_jax.data.vectors import check_vectors, make_vector_splits
from betavae_jax.types import Splits

_KINDS = "a .npz, .npy, .h5, .csv or idx file (train-images-idx3-ubyte[.gz])"
_IDX_ROLE = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx\d-ubyte(\.gz)?")
_IDX_NAME = re.compile(r".*idx\d-ubyte(\.gz)?")
_ARCHIVES: dict[str, Callable[[pathlib.Path], contextlib.AbstractContextManager[Archive]]] = {
    ".npz": open_npz,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
}
SUFFIXES = (*_ARCHIVES, ".npy", ".csv")


class _Names(NamedTuple):
    """Names of a split's arrays in a `.npz` or `.h5` file; the first that is there counts."""

    images: tuple[str, ...]
    labels: tuple[str, ...]


_TRAIN = _Names(
    ("images", "x", "imgs", "data", "x_train", "images_train", "train_images"),
    ("labels", "y", "factors", "latents_classes", "y_train", "labels_train", "train_labels"),
)
_TEST = _Names(
    ("x_test", "images_test", "test_images", "data_test"),
    ("y_test", "labels_test", "test_labels"),
)


class Read(NamedTuple):
    """A split as it stands in the file."""

    source: str
    images: np.ndarray
    labels: np.ndarray | None


def load_arrays(
    *,
    data_dir: str | os.PathLike[str] | None = None,
    factor_sizes: str = "",
    factor_names: str = "",
    standardize: bool = True,
) -> Splits:
    """Loads images or vectors, and labels where there are any, from files.

    A `.npz`, `.h5` or `.hdf5` file holds the examples under one of `images, x, imgs, data,
    x_train, …` (or images as its only array of such a shape), labels under `labels, y,
    factors, latents_classes, y_train, …` and a test split under `x_test, y_test,
    images_test, …`. A `.npy` file holds examples alone, a `.csv` file a vector a row and
    perhaps a column `label`. A folder may hold one such file, or MNIST's files under
    their own names: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`,
    plain or `.gz`; an unpacked file goes before a packed one.

    Images are `[N, H, W]` or `[N, H, W, C]`, uint8, bool or floats in [0, 1]; bytes
    that never exceed 1 are taken as binary. Vectors are `[N, F]`, any finite numbers.
    Labels are `[N]` or `[N, K]` whole numbers from 0. Floats in a `.h5` file and texts in
    a `.csv` file are values instead: they are numbered in their order. Labels that are
    each combination once, in row-major order, make the set a full grid.

    Args:
      data_dir: the file or the folder.
      factor_sizes: such as `10,10,8`: says that the examples are the full grid of factors
        of these sizes, in row-major order.
      factor_names: such as `floor_hue,wall_hue,scale`; by default `label`, or `factor_0`,
        `factor_1`, … where there are several.
      standardize: brings each feature of vectors to mean 0 and standard deviation 1; the
        test split by the numbers of the training split. Images are left alone.

    Returns:
      The splits; images stay bytes until they are gathered.

    Raises:
      InputError: there is no such file, or not exactly one; it is damaged; its arrays
        are not examples and labels as above, or not the declared grid.
    """
    declared = parse_declared(factor_sizes, factor_names)
    read = _read_path(data_dir)
    parts = [_part(split) for split in read]
    if declared.sizes:
        if len(parts) > 1:
            raise InputError(
                f"expected factor_sizes with examples in one split; got {read[0].source}"
                f" and {read[1].source}"
            )
        [part] = parts
        factors = declare_grid(part.source, part.factors, len(part.images), declared.sizes)
        parts = [part._replace(factors=factors)]
    space = factor_space(
        [part.source for part in parts], [part.factors for part in parts], declared.names
    )
    train, test = parts[0], parts[1] if len(parts) > 1 else None
    if train.images.ndim == 2:
        return make_vector_splits(train, test, space, standardize=standardize)
    return make_splits(train, test, space)


def _read_path(data_dir: str | os.PathLike[str] | None) -> list[Read]:
    """Reads the training split, and the test split where there is one."""
    if not data_dir:
        raise InputError(f"expected data_dir to name {_KINDS}, or a folder with one; got none")
    path = expand_user(data_dir)
    if not path.exists():
        raise InputError(
            f"expected data_dir to name {_KINDS}, or a folder with one; got {path},"
            " which does not exist"
        )
    if not path.is_dir():
        return read_file(path)
    roles = idx_roles(path)
    return _read_idx_splits(roles) if roles else read_file(only_file(path))


def _part(split: Read) -> Part:
    check = check_vectors if split.images.ndim == 2 else check_images
    images = check(split.source, split.images)
    if split.labels is None:
        factors = np.zeros((len(images), 0), np.int32)
    else:
        factors = check_factors(split.source, split.labels, len(images))
    return Part(split.source, images, factors)


def only_file(folder: pathlib.Path) -> pathlib.Path:
    """Returns the one file of a folder that can be read."""
    files = sorted(p for p in folder.iterdir() if p.is_file())
    found = [p for p in files if p.suffix.lower() in SUFFIXES or is_idx(p)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"expected one file of examples in {folder}; got {_listed(found)}: name one of them"
        )
    raise InputError(
        f"expected {_KINDS} in {folder}; got {_listed(sorted(folder.iterdir())) or 'nothing'}"
    )


def is_idx(path: pathlib.Path) -> bool:
    """Says whether a file has the name of an idx file."""
    return _IDX_NAME.fullmatch(path.name) is not None


def _listed(paths: Sequence[pathlib.Path]) -> str:
    shown = ", ".join(p.name for p in paths[:8])
    return shown + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")


def read_file(path: pathlib.Path) -> list[Read]:
    """Reads the splits of one file."""
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        return _read_archive(path)
    if suffix == ".npy":
        return [Read(str(path), read_npy(path), None)]
    if suffix == ".csv":
        return _numbered(path, [Read(str(path), *read_csv(path))])
    if is_idx(path):
        return [Read(str(path), read_idx(path), None)]
    raise InputError(f"expected data_dir to name {_KINDS}; got {path}")


def _read_archive(path: pathlib.Path) -> list[Read]:
    """Reads the arrays of a file that have a meaning here, and only those."""
    suffix = path.suffix.lower()
    with _ARCHIVES[suffix](path) as archive:
        splits = [_read_split(path, archive, _TRAIN, _only_images(path, archive))]
        if any(name in archive for name in _TEST.images):
            splits.append(_read_split(path, archive, _TEST, ""))
    return splits if suffix == ".npz" else _numbered(path, splits)


def _numbered(path: pathlib.Path, splits: list[Read]) -> list[Read]:
    """Numbers labels that are values: floats in `.h5` (3dshapes), texts in `.csv`."""
    labels = [split.labels for split in splits if split.labels is not None]
    kinds = "fU" if path.suffix.lower() != ".csv" else "U"
    if not labels or any(a.dtype.kind not in kinds or a.ndim not in (1, 2) for a in labels):
        return splits
    ranks = iter(rank_values(str(path), labels))
    return [s if s.labels is None else s._replace(labels=next(ranks)) for s in splits]


def _read_split(path: pathlib.Path, archive: Archive, names: _Names, default: str) -> Read:
    images = next((name for name in names.images if name in archive), default)
    labels = next((name for name in names.labels if name in archive), None)
    where = f" ({images})" if labels is None else f" ({images}, {labels})"
    return Read(
        f"{path}{where}",
        read_member(path, archive, images),
        None if labels is None else read_member(path, archive, labels),
    )


def _only_images(path: pathlib.Path, archive: Archive) -> str:
    """Names the array of training images: a known name, or the only array that fits."""
    known = [name for name in _TRAIN.images if name in archive]
    if known:
        return known[0]
    names = [name for name in archive if name not in _TEST.images]
    kinds = {name: describe_member(path, archive, name) for name in names}
    fitting = [
        name
        for name, (dtype, shape) in kinds.items()
        if len(shape) in (3, 4) and (dtype in ("bool", "uint8") or dtype.startswith("float"))
    ]
    if len(fitting) == 1:
        return fitting[0]
    texts = [f"{n} ({t} {s})" if s else f"{n} ({t})" for n, (t, s) in kinds.items()]
    raise InputError(
        f"expected images [N, H, W] or [N, H, W, C], or vectors [N, F], in {path} under one of"
        f" {', '.join(_TRAIN.images)}; got {', '.join(texts) or 'no such arrays'}"
    )


def idx_roles(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Finds MNIST's files by name: `train-images`, `train-labels`, `test-images`, ….

    Returns an empty dict where the folder holds other kinds of files as well, or no
    training images, so that one file must be named.
    """
    roles: dict[str, pathlib.Path] = {}
    # plain files first: torchvision leaves the packed ones beside them
    for path in sorted(folder.iterdir(), key=lambda p: (p.suffix == ".gz", p.name)):
        match = _IDX_ROLE.fullmatch(path.name)
        if match and path.is_file():
            split = "train" if match[1] == "train" else "test"
            roles.setdefault(f"{split}-{match[2]}", path)
        elif path.suffix.lower() in SUFFIXES:
            return {}
    return roles if "train-images" in roles else {}


def _read_idx_splits(roles: Mapping[str, pathlib.Path]) -> list[Read]:
    splits = ["train", "test"] if "test-images" in roles else ["train"]
    return [_read_idx_split(roles, split) for split in splits]


def _read_idx_split(roles: Mapping[str, pathlib.Path], split: str) -> Read:
    images, labels = roles[f"{split}-images"], roles.get(f"{split}-labels")
    where = "" if labels is None else f" and {labels.name}"
    read = None if labels is None else read_idx(labels)
    return Read(f"{images}{where}", read_idx(images), read)
