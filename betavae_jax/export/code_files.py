"""Files of codes, written a batch at a time: `.npz`, `.csv` and `.parquet`.

A file takes its name once it is whole; what is killed or refused leaves none.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.runs.records import sync

_GROUP = 1 << 16  # rows of a Parquet row group
_CHUNK = 1 << 16  # names that are made an array at a time


class Columns(NamedTuple):
    """What each example of a file has beside its code."""

    num_latents: int
    factor_names: tuple[str, ...] = ()
    has_names: bool = False  # of files
    has_splits: bool = False  # train or test


class Codes(NamedTuple):
    """Some encoded examples."""

    mean: np.ndarray  # [B, D] float32
    log_variance: np.ndarray  # [B, D] float32
    factors: np.ndarray  # [B, K] int32
    names: list[str]  # B, or empty
    split: str = ""  # of all of them


Write: TypeAlias = Callable[[Codes], None]


def check_code_file(path: pathlib.Path) -> None:
    """Raises InputError unless codes can be written to a file of this name.

    An older file of the name is replaced.
    """
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"expected output to be a {', '.join(WRITERS)} file; got {path}")
    if path.is_dir():
        raise InputError(f"expected output to be a file; {path} is a folder")
    if not path.absolute().parent.is_dir():
        raise InputError(f"expected output in a folder that exists; got {path}")


@contextlib.contextmanager
def open_codes(path: pathlib.Path, columns: Columns) -> Iterator[Write]:
    """Opens a file of codes for writing; its suffix chooses the kind.

    A `.npz` file holds `mean`, `log_variance`, `factors` with `factor_names`, where there are
    any, `files` and `split`; and with factors `codes`, the means, so that
    `python -m experiments.evaluate --codes=` reads it. The others have a column for each number:
    `mean_0`, …, `log_variance_0`, …, and `file`, `split` and the factors by their names.

    Args:
      path: The file.
      columns: What each example has.

    Yields:
      A function that appends codes.

    Raises:
      InputError: If the name is of no such kind.
    """
    check_code_file(path)
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.new-", dir=path.absolute().parent
    ) as folder:
        beside = pathlib.Path(folder, path.name)
        with WRITERS[path.suffix.lower()](beside, columns) as write:
            yield write
        sync(beside)
        os.replace(beside, path)


@contextlib.contextmanager
def _open_npz(path: pathlib.Path, columns: Columns) -> Iterator[Write]:
    """Collects each array in a file of its own; an archive takes one member after another."""
    d, k = columns.num_latents, len(columns.factor_names)
    kinds = {"mean": (np.float32, d), "log_variance": (np.float32, d), "factors": (np.int32, k)}
    kinds = {name: kind for name, kind in kinds.items() if kind[1]}
    names: list[str] = []
    splits: list[tuple[str, int]] = []
    rows = 0
    with contextlib.ExitStack() as stack:
        parts = {name: stack.enter_context(path.with_name(name).open("w+b")) for name in kinds}

        def write(codes: Codes) -> None:
            nonlocal rows
            for name, (dtype, _) in kinds.items():
                parts[name].write(np.ascontiguousarray(getattr(codes, name), dtype).data)
            names.extend(codes.names)
            splits.append((codes.split, len(codes.mean)))
            rows += len(codes.mean)

        yield write
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            members = {name: name for name in kinds} | ({"codes": "mean"} if k else {})
            for member, name in members.items():
                dtype, width = kinds[name]
                parts[name].seek(0)
                with _member(archive, member, np.dtype(dtype), (rows, width)) as file:
                    shutil.copyfileobj(parts[name], file, 1 << 20)
            if k:
                _write_texts(archive, "factor_names", list(columns.factor_names))
            if columns.has_names:
                _write_texts(archive, "files", names)
            if columns.has_splits:
                _write_texts(archive, "split", [s for s, count in splits for _ in range(count)])


@contextlib.contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Iterator[Any]:
    """Opens an array of an archive after its header."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape,
    }  # fmt: skip
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def _write_texts(archive: zipfile.ZipFile, name: str, texts: list[str]) -> None:
    dtype = np.dtype(f"<U{max((len(text) for text in texts), default=1)}")
    with _member(archive, name, dtype, (len(texts),)) as file:
        for start in range(0, len(texts), _CHUNK):
            file.write(np.array(texts[start : start + _CHUNK], dtype).tobytes())


@contextlib.contextmanager
def _open_csv(path: pathlib.Path, columns: Columns) -> Iterator[Write]:
    from pyarrow import csv

    schema = _schema(columns)
    with csv.CSVWriter(path, schema) as writer:
        yield lambda codes: writer.write_table(_table(codes, columns, schema))


@contextlib.contextmanager
def _open_parquet(path: pathlib.Path, columns: Columns) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    waiting: list[Any] = []
    schema = _schema(columns)
    with parquet.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pyarrow.concat_tables(waiting))
                waiting.clear()

        def write(codes: Codes) -> None:
            waiting.append(_table(codes, columns, schema))
            if sum(len(table) for table in waiting) >= _GROUP:
                flush()

        yield write
        flush()


def _schema(columns: Columns) -> Any:
    """The columns of a table: the file, the split, the factors, the code."""
    import pyarrow

    texts = {"file": columns.has_names, "split": columns.has_splits}
    fields = [(name, pyarrow.string()) for name, is_there in texts.items() if is_there]
    taken = {name for name, _ in fields}
    latents = [f"{kind}_{i}" for kind in ("mean", "log_variance")
               for i in range(columns.num_latents)]  # fmt: skip
    for name in columns.factor_names:
        # A factor may be called as a column of ours is.
        name = f"factor_{name}" if name in taken or name in latents else name
        fields.append((name, pyarrow.int32()))
    return pyarrow.schema(fields + [(name, pyarrow.float32()) for name in latents])


def _table(codes: Codes, columns: Columns, schema: Any) -> Any:
    import pyarrow

    texts = [[_unicode(name) for name in codes.names]] if columns.has_names else []
    texts += [[codes.split] * len(codes.mean)] if columns.has_splits else []
    arrays = [pyarrow.array(text, pyarrow.string()) for text in texts]
    for values in (codes.factors, codes.mean, codes.log_variance):
        arrays += [pyarrow.array(np.ascontiguousarray(column)) for column in values.T]
    return pyarrow.Table.from_arrays(arrays, schema=schema)


def _unicode(name: str) -> str:
    """A name of a file as Unicode: the bytes in it that are no UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


WRITERS: dict[str, Callable[[pathlib.Path, Columns], contextlib.AbstractContextManager[Write]]] = {
    ".npz": _open_npz,
    ".csv": _open_csv,
    ".parquet": _open_parquet,
}
