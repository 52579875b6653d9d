"""Tables of numbers in `.csv` files, whose refusals name the field."""

import contextlib
import csv
import pathlib
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.files import reading
from betavae_jax.data.vectors import check_vectors

_LABEL = "label"  # the column that is no feature
_MISSING = ("", "na", "n/a", "none", "null", "-", "?")  # how tables write that there is no value
_OTHER_SEPARATOR = re.compile(r"[;\t|]|\d\s+[-+.\d]")


def read_csv(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a table of numbers with commas between, and its column `label`.

    The first row is a header if nothing in it is a number, or one of its fields is `label`.
    Refusals count the rows that are neither the header nor blank, and all columns, from 0.

    Returns:
      `[N, F]` float64, and the labels `[N]`: float64 where all of them are numbers, else
      text; None without such a column.

    Raises:
      InputError: a field is no number within float32, a label is missing, the rows differ in
        length, or there are none.
    """
    texts: dict[str, int] = {}  # each label and its number, in order of appearance
    with _opened(path) as file:
        header = _read_header(file)
        if header.count(_LABEL) > 1:
            raise InputError(f"expected one column named {_LABEL} in {path}; got several")
        column = header.index(_LABEL) if _LABEL in header else None
        converters: dict[int | str, Callable[[str], Any]] = {}
        if column is not None:
            converters[column] = lambda text: texts.setdefault(text.strip(), len(texts))
        try:
            table = _load(file, converters)
        except ValueError as error:
            _refuse(path, column, error)
    if table.size == 0:
        raise InputError(f"expected at least one row of numbers in {path}; got none")
    if header and len(header) != table.shape[1]:
        raise InputError(
            f"expected as many fields in the rows of {path} as in its header, {len(header)};"
            f" got {table.shape[1]}"
        )
    check_vectors(str(path), table)  # here, where the columns are those of the file
    if column is None:
        return table, None
    numbers = table[:, column].astype(np.int64)
    if "" in texts:
        row = np.argmax(numbers == texts[""])
        raise InputError(
            f"expected a {_LABEL} in every row of {path}; got none in row {row}, column {column},"
            " counted from 0"
        )
    names = np.array(list(texts))
    labels = names.astype(np.float64) if all(map(_is_number, texts)) else names
    return np.delete(table, column, axis=1), labels[numbers]


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[TextIO]:
    with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
        yield file


def _load(file: TextIO, converters: dict[int | str, Callable[[str], Any]]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a table without rows, which the caller refuses
        return np.loadtxt(
            file, delimiter=",", comments=None, quotechar='"', converters=converters, ndmin=2
        )


def _refuse(path: pathlib.Path, label: int | None, error: ValueError) -> NoReturn:
    """Finds the field that NumPy cannot read: it counts rows from 0 and columns from 1."""
    with _opened(path) as file:
        _read_header(file)
        rows = (row for row in csv.reader(file) if row)
        num_fields = 0
        for i, fields in enumerate(rows):
            num_fields = num_fields or len(fields)
            for j, field in enumerate(fields):
                # 1_000 is a number of Python's alone
                if j != label and ("_" in field or not _is_number(field)):
                    raise InputError(
                        f"expected a number in every field of {path}; got {_described(field)}"
                        f" in row {i}, column {j}, counted from 0"
                    )
            if len(fields) != num_fields:
                raise InputError(
                    f"expected as many fields in every row of {path} as in the first,"
                    f" {num_fields}; got {len(fields)} in row {i}, counted from 0"
                )
    raise error


def _described(field: str) -> str:
    if field.strip().lower() in _MISSING:
        return f"a missing value, {field!r},"
    hint = " (commas separate fields)" if _OTHER_SEPARATOR.search(field) else ""
    return f"{field[:80]!r}{hint}"


def _read_header(file: TextIO) -> list[str]:
    """Reads the first row, in small letters, or nothing where it is no header."""
    first = next((row for row in csv.reader(file) if row), [])
    header = [field.strip().lower() for field in first]
    if _LABEL in header or not any(map(_is_number, header)):
        return header
    file.seek(0)
    return []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
