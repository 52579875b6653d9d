"""A folder of images: decoded once, by several threads, and kept in the cache."""

import concurrent.futures
import functools
import hashlib
import importlib.metadata
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.cache import cached_arrays
from betavae_jax.data.files import expand_user, reading
from betavae_jax.data.pictures import SUFFIXES, Look, check_look, decode_some
from betavae_jax.data.resident import Part, make_splits
from betavae_jax.types import FactorSpace, Splits

_LOGGER = logging.getLogger(__name__)

_DECODER = 2  # changes whenever the same file gives other pixels; the cache asks
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
_CHUNK = 64  # images that a thread decodes before it reports
_SILENT_UP_TO = 5000  # images that are decoded before a progress bar is of use


class _Tree(NamedTuple):
    """The files of a folder, relative to it, with `/` between."""

    images: list[str]  # sorted, folder by folder
    num_others: int
    num_hidden: int


class Listing(NamedTuple):
    """The images of a folder, before any is decoded."""

    root: pathlib.Path
    images: list[str]  # relative to the root, with `/` between; sorted
    classes: list[str]  # names of the sub-folders that are labels; none for one folder
    labels: np.ndarray  # [N, 1] int32, or [N, 0]


def load_folder(
    *,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int = 64,
    channels: int = 3,
    image_fit: str = "crop",
    skip_bad: bool = False,
) -> Splits:
    """Loads the PNG, JPEG and WebP images of a folder and of those below it.

    Sub-folders are labels, numbered in their sorted order; the factor is `label`. Images
    that all lie in one folder have none; where there is but one sub-folder, it takes the
    folder's place. Hidden files and files of other kinds are left alone. An image
    is turned as its EXIF data says, laid on black where it is transparent, and resized.
    The pixels are kept in the cache, for as long as no file changes.

    Args:
      data_dir: the folder.
      image_size: height and width in pixels that every image gets, 8 to 256.
      channels: 3 for colours, 1 for grey.
      image_fit: `crop` keeps the largest square in the middle, `pad` the whole image
        between black borders.
      skip_bad: leaves images out that cannot be read, with a warning that counts them.

    Returns:
      The images to learn from, `[image_size, image_size, channels]` bytes; no test split.

    Raises:
      InputError: there is no such folder, or no image in it; one cannot be read; images lie
        beside sub-folders of images; the sub-folders are splits; a setting is out of range.
    """
    look = check_look(image_size, channels, image_fit)
    root, images, classes, labels = list_images(data_dir)
    with reading(root):
        fingerprint = _fingerprint(root, images)
    key = look._asdict() | {
        "decoder": _DECODER,
        "pillow": importlib.metadata.version("pillow"),
        "skip_bad": skip_bad,
        "files": fingerprint,
    }
    make = functools.partial(_decode_all, root, images, look, skip_bad)
    arrays = cached_arrays("folder", key, make)
    kept = arrays["kept"]
    if not kept.all():
        first = root / images[int(np.argmin(kept))]
        _LOGGER.warning(
            "%d of the %d images in %s cannot be read and are left out, the first is %s",
            np.sum(~kept), len(kept), root, first,
        )  # fmt: skip
    space = FactorSpace(("label",), (len(classes),), full_grid=False) if classes else None
    factors = labels[kept] if classes else np.zeros((int(kept.sum()), 0), np.int32)
    return make_splits(Part(str(root), arrays["images"], factors), None, space)


def list_images(data_dir: str | os.PathLike[str] | None) -> Listing:
    """Lists the images of a folder and of those below it, and their labels; see `load_folder`.

    Raises:
      InputError: There is no such folder, or no image in it; images lie beside sub-folders of
        images; the sub-folders are splits.
    """
    root = _find_folder(data_dir)
    with reading(root):
        tree = _scan(root)
    return Listing(root, tree.images, *_labels(root, tree))


def _find_folder(data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    got = "none"
    if data_dir:
        root = expand_user(data_dir)
        if root.is_dir():
            return root
        got = f"{root}, which {'is a file' if root.exists() else 'does not exist'}"
    raise InputError(f"expected data_dir to name a folder of images; got {got}")


def _scan(root: pathlib.Path) -> _Tree:
    """Finds the images in a folder and below, links followed."""
    images: list[str] = []
    num_others = num_hidden = 0
    seen = set()
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above, or to one met already
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and s != "__MACOSX")
        for name in names:
            if name.startswith("."):
                num_hidden += 1
            elif name.lower().endswith(SUFFIXES):
                images.append(pathlib.Path(folder, name).relative_to(root).as_posix())
            else:
                num_others += 1
    return _Tree(sorted(images, key=lambda image: image.split("/")), num_others, num_hidden)


def _raise(error: OSError) -> None:
    raise error


def _fingerprint(root: pathlib.Path, images: Sequence[str]) -> str:
    """The SHA-256 over paths, sizes and times of change."""
    digest = hashlib.sha256()
    for image in images:
        try:
            stat = (root / image).stat()
        except FileNotFoundError:  # a link to nowhere: an image that cannot be read
            digest.update(os.fsencode(f"{image}\0nowhere\n"))
        else:
            digest.update(os.fsencode(f"{image}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
    return digest.hexdigest()


def _labels(root: pathlib.Path, tree: _Tree) -> tuple[list[str], np.ndarray]:
    """Names the classes, and numbers `[N, 1]` each image's; no classes for one folder."""
    if not tree.images:
        others = f"{tree.num_others} other files and {tree.num_hidden} hidden ones"
        raise InputError(
            f"expected at least one image ({', '.join(SUFFIXES)}) in {root};"
            f" got {others if tree.num_others or tree.num_hidden else 'nothing'}"
        )
    folders = [image.split("/")[:-1] for image in tree.images]
    shared = _num_shared(folders)
    if any(len(folder) == shared for folder in folders):
        if all(len(folder) == shared for folder in folders):
            return [], np.zeros((len(folders), 0), np.int32)
        direct = sum(len(folder) == shared for folder in folders)
        where = root.joinpath(*folders[0][:shared])
        raise InputError(
            f"expected images either in {where} or in sub-folders that are labels;"
            f" got {direct} in it and {len(folders) - direct} in sub-folders"
        )
    names = [folder[shared] for folder in folders]
    classes = sorted(set(names))
    if {name.lower() for name in classes} <= _SPLITS:
        raise InputError(
            f"expected sub-folders that are labels in {root.joinpath(*folders[0][:shared])};"
            f" got {', '.join(classes)}: name one of them as data_dir"
        )
    numbers = {name: k for k, name in enumerate(classes)}
    return classes, np.array([[numbers[name]] for name in names], np.int32)


def _num_shared(folders: Sequence[list[str]]) -> int:
    """Counts the leading parts that all the paths share."""
    # the first and the last in order differ wherever any two do
    pairs = list(zip(min(folders), max(folders), strict=False))
    return next((i for i, (first, last) in enumerate(pairs) if first != last), len(pairs))


def _decode_all(
    root: pathlib.Path, images: Sequence[str], look: Look, skip_bad: bool
) -> dict[str, np.ndarray]:
    """Decodes every image -> `images [N, H, W, C]` uint8 and `kept`, which of the files."""
    import tqdm

    paths = [root / image for image in images]
    pixels = np.zeros((len(paths), look.image_size, look.image_size, look.channels), np.uint8)
    kept = np.ones(len(paths), np.bool_)
    chunks = [range(i, min(i + _CHUNK, len(paths))) for i in range(0, len(paths), _CHUNK)]
    decode = functools.partial(decode_some, paths, look, pixels)
    # threads suffice: PIL lets go of the interpreter while it decodes and resizes
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm.tqdm(
            total=len(paths), desc="decoding", unit="image", disable=len(paths) <= _SILENT_UP_TO
        ) as bar,
    ):
        for chunk, refusals in zip(chunks, pool.map(decode, chunks), strict=True):
            if refusals and not skip_bad:
                pool.shutdown(cancel_futures=True)
                raise InputError(f"{refusals[min(refusals)]} (skip_bad leaves such images out)")
            kept[list(refusals)] = False
            bar.update(len(chunk))
    if not kept.any():
        raise InputError(
            f"expected an image that can be read in {root}; got {len(kept)} that cannot"
        )
    return {"images": pixels if kept.all() else pixels[kept], "kept": kept}
