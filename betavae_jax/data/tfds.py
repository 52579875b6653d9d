"""Prepared TensorFlow Datasets, read without TensorFlow and without a network."""

import io
import json
import math
import os
import pathlib
import re
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.files import expand_user, reading
from betavae_jax.data.resident import Part, make_splits
from betavae_jax.types import FactorSpace, Splits

_NAME = re.compile(r"(\w+)(?:/(\w[\w.+-]*))?(?::(\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_IN_CONFIG = "*/*/dataset_info.json"  # config/version/, below the folder of a set
_FORMAT = "array_record"  # the tfds format that gives random access without TensorFlow
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # PIL's name by the number of channels
_SILENT_UP_TO = 5000  # examples that are decoded before a progress bar is of use


class _Columns(NamedTuple):
    """The features of a set that are read."""

    image: str
    labels: tuple[str, ...]
    skipped: dict[str, Any]  # decoders that leave every image as its bytes
    mode: str  # PIL's


def load_tfds(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Splits:
    """Loads a tfds set that has been prepared on this machine.

    The images are decoded once, to bytes `[N, H, W, C]`. Every class label becomes a
    factor, named without tfds's prefix `label_`, in alphabetical order; a feature with an
    unknown label (tfds writes -1) is left out. tfds shuffles what it prepares: a split that
    holds each combination of its labels once (dsprites, shapes3d) is put back in row-major
    order of its factors, and is then a full grid.

    Args:
      name: `fashion_mnist`, `fashion_mnist:3.0.1` or `dsprites/config:2.0.0`; the newest
        prepared version where none is named.
      data_dir: tfds's folder of prepared sets; by default its own, `$TFDS_DATA_DIR` or
        `~/tensorflow_datasets`.

    Returns:
      The splits `train`, and `test` where the set has one.

    Raises:
      InputError: no such set is prepared there (the text tells how to prepare it); it is
        in another format than array_record, damaged, or its images are not of one size.
    """
    folder = _find_prepared(name, data_dir)
    info = _read_info(folder)
    formats = [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", [])]
    if _FORMAT not in formats:
        raise InputError(
            f"expected {folder} to be prepared as {_FORMAT}; got {formats[0]}: delete that folder"
            f" and prepare it again: {_prepare_command(name, data_dir)}"
        )
    splits = [split.get("name") for split in info.get("splits", [])]
    if "train" not in splits:
        raise InputError(f"expected a split train in {folder}; got {splits}")
    return _read_splits(folder, has_test="test" in splits)


def _find_prepared(name: str, data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    """Finds `data_dir/name[/config]/version`, the newest version where none is named.

    tfds would look into its catalogue and on the network first, for minutes.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"expected a tfds set as name[/config][:version, 1.2.3]; got {name!r}")
    root = expand_user(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    base = root / match[1] / (match[2] or "")
    infos = base.glob("*/dataset_info.json")
    versions = {p.parent.name: p.parent for p in infos if _VERSION.fullmatch(p.parent.name)}
    if match[3] in versions:
        return versions[match[3]]
    if versions and match[3] is None:
        return versions[max(versions, key=lambda v: [int(part) for part in v.split(".")])]
    configs = [] if match[2] else sorted({p.parents[1].name for p in base.glob(_IN_CONFIG)})
    if versions:
        found = f"only {', '.join(sorted(versions))}"
    elif configs:
        found = f"its configs {', '.join(f'{match[1]}/{c}' for c in configs)}: name one"
    else:
        found = f"there {_prepared_names(root)}"
    raise InputError(
        f"expected the tfds set {name!r} to be prepared in {root}; got {found}; to prepare it, with"
        f" a network and betavae_jax[tf] installed: {_prepare_command(name, data_dir)}"
    )


def _prepared_names(root: pathlib.Path) -> str:
    infos = [*root.glob(_IN_CONFIG), *root.glob(f"*/{_IN_CONFIG}")]
    names = sorted({info.relative_to(root).parts[0] for info in infos})
    return ", ".join(names) or "nothing"


def _prepare_command(name: str, data_dir: str | os.PathLike[str] | None) -> str:
    where = "" if not data_dir else f", data_dir={json.dumps(os.fspath(data_dir))}"
    return "python -c " + shlex.quote(
        "import tensorflow_datasets as tfds;"
        f' tfds.builder("{name}"{where}).download_and_prepare(file_format="{_FORMAT}")'
    )


def _read_info(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / "dataset_info.json"
    with reading(path):
        info: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    return info


def _read_splits(folder: pathlib.Path, has_test: bool) -> Splits:
    """Decodes a prepared set."""
    import tensorflow_datasets as tfds

    with reading(folder):
        builder = tfds.builder_from_directory(folder, file_format=_FORMAT)
        columns = _columns(folder, builder.info.features)
        train = _read_part(folder, builder, "train", columns)
        test = _read_part(folder, builder, "test", columns) if has_test else None
    parts = [train] if test is None else [train, test]
    # tfds writes -1 where a label is not known
    known = [
        k for k in range(len(columns.labels)) if all(p.factors[:, k].min() >= 0 for p in parts)
    ]
    parts = [part._replace(factors=part.factors[:, known]) for part in parts]
    space = _factor_space(parts, [columns.labels[k] for k in known], builder.info.features)
    if space is not None:
        parts = [_in_grid_order(part, space.sizes) for part in parts]
    return make_splits(parts[0], parts[1] if len(parts) > 1 else None, space)


def _factor_space(
    parts: Sequence[Part], labels: Sequence[str], features: Any
) -> FactorSpace | None:
    """Sizes the factors by their classes, or by the largest label where no number is declared."""
    if not labels:
        return None
    largest = np.max([part.factors.max(axis=0) for part in parts], axis=0)
    sizes = [
        features[k].num_classes or int(top) + 1 for k, top in zip(labels, largest, strict=True)
    ]
    names = tuple(label.removeprefix("label_") for label in labels)
    return FactorSpace(names, tuple(sizes), full_grid=False)


def _in_grid_order(part: Part, sizes: tuple[int, ...]) -> Part:
    """Sorts the examples, in place, where they are each combination of factors once."""
    if math.prod(sizes) != len(part.images):
        return part
    rows = np.ravel_multi_index(tuple(part.factors.T), sizes)
    order = np.argsort(rows)
    if not np.array_equal(rows[order], np.arange(len(order))):
        return part
    _permute(part.images, order)
    return part._replace(factors=part.factors[order])


def _permute(images: np.ndarray, order: np.ndarray) -> None:
    """Moves image `order[i]` to `i`, cycle by cycle: a copy would double the memory."""
    moved = np.zeros(len(order), np.bool_)
    for start in range(len(order)):
        if moved[start]:
            continue
        first, i = images[start].copy(), start
        while order[i] != start:
            images[i] = images[order[i]]
            moved[i] = True
            i = int(order[i])
        images[i] = first
        moved[i] = True


def _columns(folder: pathlib.Path, features: Any) -> _Columns:
    """Chooses the image and the labels among the features of a set."""
    import tensorflow_datasets as tfds

    images = {k: f for k, f in features.items() if isinstance(f, tfds.features.Image)}
    if len(images) != 1 and "image" not in images:
        got = ", ".join(sorted(images or features))
        raise InputError(f"expected one image feature, or one named image, in {folder}; got {got}")
    name = "image" if "image" in images else next(iter(images))
    channels = images[name].shape[-1]
    if images[name].np_dtype != np.uint8 or channels not in _MODES:
        raise InputError(
            f"expected {name} of uint8 with 1 to 4 channels in {folder};"
            f" got {np.dtype(images[name].np_dtype)} {list(images[name].shape)}"
        )
    # sorted, since tfds gives the features in another order in every process
    labels = sorted(k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel))
    # tfds would decode with OpenCV where that is installed, and give a palette's indices for
    # colours where it is not; PIL alone gives the same pixels on every machine
    skipped = {k: tfds.decode.SkipDecoding() for k in images}
    return _Columns(name, tuple(labels), skipped, _MODES[channels])


def _read_part(folder: pathlib.Path, builder: Any, split: str, columns: _Columns) -> Part:
    """Decodes one split."""
    import tqdm

    records = builder.as_data_source(split=split, decoders=columns.skipped)
    source = f"{folder} ({split})"
    if not len(records):
        raise InputError(f"expected at least one example in {source}; got none")
    images = np.zeros((0,), np.uint8)
    factors = np.zeros((len(records), len(columns.labels)), np.int32)
    silent = len(records) <= _SILENT_UP_TO
    with tqdm.tqdm(records, desc=f"decoding {split}", unit="image", disable=silent) as bar:
        for i, record in enumerate(bar):
            image = _decode(record[columns.image], columns.mode)
            if i == 0:
                images = np.zeros((len(records), *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise InputError(
                    f"expected images of one size in {source}; got {list(images.shape[1:])} and,"
                    f" at example {i}, {list(image.shape)}"
                )
            images[i] = image
            factors[i] = [record[label] for label in columns.labels]
    return Part(source, images, factors)


def _decode(encoded: bytes, mode: str) -> np.ndarray:
    """Decodes PNG or JPEG bytes to `[H, W, C]` uint8."""
    import PIL.Image

    with PIL.Image.open(io.BytesIO(encoded)) as image:
        pixels = np.asarray(image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels
