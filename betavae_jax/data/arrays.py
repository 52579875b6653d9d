"""The user's own images: a `.npz`, `.npy` or idx file, or a folder with one of them."""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.files import Archive, open_npz, read_idx, read_member, read_npy
from betavae_jax.data.resident import Part, check_factors, check_images, make_splits
from betavae_jax.types import FactorSpace, Splits

_KINDS = "a .npz, .npy or idx file (train-images-idx3-ubyte[.gz])"
_IDX_ROLE = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx\d-ubyte(\.gz)?")
_IDX_NAME = re.compile(r".*idx\d-ubyte(\.gz)?")


class _Names(NamedTuple):
    """Names of a split's arrays in a `.npz` file; the first that is there counts."""

    images: tuple[str, ...]
    labels: tuple[str, ...]


_TRAIN = _Names(
    ("images", "x", "imgs", "x_train", "images_train", "train_images"),
    ("labels", "y", "factors", "latents_classes", "y_train", "labels_train", "train_labels"),
)
_TEST = _Names(
    ("x_test", "images_test", "test_images"),
    ("y_test", "labels_test", "test_labels"),
)


def load_arrays(*, data_dir: str | os.PathLike[str] | None = None) -> Splits:
    """Loads images, and labels where there are any, from files.

    A `.npz` file holds images under one of `images, x, imgs, x_train, …` (or as its
    only array of such a shape), labels under `labels, y, factors, latents_classes,
    y_train, …` and a test split under `x_test, y_test, images_test, …`. A `.npy`
    file holds images alone. A folder may hold one such file, or MNIST's files under
    their own names: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`,
    plain or `.gz`; an unpacked file goes before a packed one.

    Images are `[N, H, W]` or `[N, H, W, C]`, uint8, bool or floats in [0, 1]; bytes
    that never exceed 1 are taken as binary. Labels are `[N]` or `[N, K]` whole numbers
    from 0: one column is the factor `label`, several are `factor_0`, `factor_1`, ….

    Args:
      data_dir: the file or the folder.

    Returns:
      The splits; images stay bytes until they are gathered.

    Raises:
      InputError: there is no such file, or not exactly one; it is damaged; its arrays
        are not images and labels as above.
    """
    if not data_dir:
        raise InputError(f"expected data_dir to name {_KINDS}, or a folder with one; got none")
    path = pathlib.Path(data_dir).expanduser()
    if not path.exists():
        raise InputError(
            f"expected data_dir to name {_KINDS}, or a folder with one; got {path},"
            " which does not exist"
        )
    if path.is_dir():
        roles = _idx_roles(path)
        train, test = _read_idx_splits(roles) if roles else _read_file(_only_file(path))
    else:
        train, test = _read_file(path)
    return make_splits(train, test, _label_space([train] if test is None else [train, test]))


def _only_file(folder: pathlib.Path) -> pathlib.Path:
    """Returns the one file of a folder that can be read."""
    files = sorted(p for p in folder.iterdir() if p.is_file())
    found = [p for p in files if p.suffix.lower() in (".npz", ".npy") or _is_idx(p)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"expected one file of images in {folder}; got {_listed(found)}: name one of them"
        )
    raise InputError(
        f"expected {_KINDS} in {folder}; got {_listed(sorted(folder.iterdir())) or 'nothing'}"
    )


def _is_idx(path: pathlib.Path) -> bool:
    return _IDX_NAME.fullmatch(path.name) is not None


def _listed(paths: Sequence[pathlib.Path]) -> str:
    shown = ", ".join(p.name for p in paths[:8])
    return shown + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")


def _read_file(path: pathlib.Path) -> tuple[Part, Part | None]:
    """Reads the splits of one file."""
    if path.suffix.lower() == ".npz":
        return _read_npz_splits(path)
    if path.suffix.lower() == ".npy":
        return _part(path, "", read_npy(path), None), None
    if _is_idx(path):
        return _part(path, "", read_idx(path), None), None
    raise InputError(f"expected data_dir to name {_KINDS}; got {path}")


def _part(path: pathlib.Path, where: str, images: np.ndarray, labels: np.ndarray | None) -> Part:
    source = f"{path}{where}"
    images = check_images(source, images)
    if labels is None:
        factors = np.zeros((len(images), 0), np.int32)
    else:
        factors = check_factors(source, labels, len(images))
    return Part(source, images, factors)


def _read_npz_splits(path: pathlib.Path) -> tuple[Part, Part | None]:
    """Reads the arrays of a `.npz` file that have a meaning here, and only those."""
    with open_npz(path) as archive:
        train = _read_npz_part(path, archive, _TRAIN, _only_images(path, archive))
        has_test = any(name in archive for name in _TEST.images)
        test = _read_npz_part(path, archive, _TEST, "") if has_test else None
    return train, test


def _read_npz_part(path: pathlib.Path, archive: Archive, names: _Names, default: str) -> Part:
    images = next((name for name in names.images if name in archive), default)
    labels = next((name for name in names.labels if name in archive), None)
    where = f" ({images})" if labels is None else f" ({images}, {labels})"
    return _part(
        path,
        where,
        read_member(path, archive, images),
        None if labels is None else read_member(path, archive, labels),
    )


def _only_images(path: pathlib.Path, archive: Archive) -> str:
    """Names the array of training images: a known name, or the only array that fits."""
    known = [name for name in _TRAIN.images if name in archive]
    if known:
        return known[0]
    kinds = {name: _describe(path, archive, name) for name in archive if name not in _TEST.images}
    fitting = [name for name, (fits, _) in kinds.items() if fits]
    if len(fitting) == 1:
        return fitting[0]
    got = ", ".join(f"{name} {text}" for name, (_, text) in kinds.items()) or "no such arrays"
    raise InputError(
        f"expected images [N, H, W] or [N, H, W, C] in {path} under one of"
        f" {', '.join(_TRAIN.images)}; got {got}"
    )


def _describe(path: pathlib.Path, archive: Archive, name: str) -> tuple[bool, str]:
    """Says whether an array could be images, and what it is."""
    try:
        array = read_member(path, archive, name)
    except InputError:  # what is not images may well be pickled, such as dSprites' metadata
        return False, "(pickled objects, or damaged)"
    is_type = array.dtype.kind in "bf" or array.dtype == np.uint8
    fits = array.ndim in (3, 4) and is_type
    return fits, f"({array.dtype} {list(array.shape)})"


def _idx_roles(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Finds MNIST's files by name: `train-images`, `train-labels`, `test-images`, ….

    Returns an empty dict where the folder holds other kinds of images as well, or no
    training images, so that one file must be named.
    """
    roles: dict[str, pathlib.Path] = {}
    # plain files first: torchvision leaves the packed ones beside them
    for path in sorted(folder.iterdir(), key=lambda p: (p.suffix == ".gz", p.name)):
        match = _IDX_ROLE.fullmatch(path.name)
        if match and path.is_file():
            split = "train" if match[1] == "train" else "test"
            roles.setdefault(f"{split}-{match[2]}", path)
        elif path.suffix.lower() in (".npz", ".npy"):
            return {}
    return roles if "train-images" in roles else {}


def _read_idx_splits(roles: Mapping[str, pathlib.Path]) -> tuple[Part, Part | None]:
    train = _read_idx_part(roles, "train")
    return train, _read_idx_part(roles, "test") if "test-images" in roles else None


def _read_idx_part(roles: Mapping[str, pathlib.Path], split: str) -> Part:
    images, labels = roles[f"{split}-images"], roles.get(f"{split}-labels")
    where = "" if labels is None else f" and {labels.name}"
    return _part(images, where, read_idx(images), None if labels is None else read_idx(labels))


def _label_space(parts: Sequence[Part]) -> FactorSpace | None:
    """Sizes the factors by the largest label over all splits."""
    labelled = [part for part in parts if part.factors.shape[1]]
    counts = [part.factors.shape[1] for part in labelled]
    if not labelled:
        return None
    if len(set(counts)) > 1:
        raise InputError(
            f"expected as many labels an image in {labelled[1].source} as in"
            f" {labelled[0].source}, {counts[0]}; got {counts[1]}"
        )
    sizes = np.max([part.factors.max(axis=0) for part in labelled], axis=0) + 1
    names = ("label",) if counts[0] == 1 else tuple(f"factor_{k}" for k in range(counts[0]))
    return FactorSpace(names, tuple(int(size) for size in sizes), full_grid=False)
