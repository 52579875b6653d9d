"""What the pages have alike: head, look, and tables whose headings sort."""

import html
import math
import pathlib
import string
from collections.abc import Iterable
from typing import Any

_FOLDER = pathlib.Path(__file__).parent

Cell = tuple[Any, str]  # the number that it is sorted by, or None; and its HTML


def read_part(name: str) -> str:
    """The text of a file that stands beside this one, such as `table.js`."""
    return (_FOLDER / name).read_text("utf-8")


def frame_page(title: str, body: str) -> str:
    """A page of one file that needs no network.

    Args:
      title: Plain text, over the page too.
      body: HTML, what stands under the title.
    """
    return string.Template(read_part("frame.html")).substitute(
        title=html.escape(title), style=read_part("style.css"), body=body.rstrip("\n")
    )


def sortable_table(heads: Iterable[str], rows: Iterable[tuple[str, Iterable[Cell]]]) -> str:
    """A table whose headings sort.

    Args:
      heads: Plain text, one a column.
      rows: The words that each is found by, plain text, and its cells.
    """
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(head)}</button></th>' for head in heads
    )
    body = "".join(
        f'<tr data-words="{html.escape(words)}">{"".join(map(_cell, cells))}</tr>'
        for words, cells in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(cell: Cell) -> str:
    value, text = cell
    known = value is not None and math.isfinite(value)
    return f'<td data-value="{value if known else ""}">{text}</td>'
