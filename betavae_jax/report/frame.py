"""What the pages have alike: head, look, and tables whose headings sort."""

import html
import pathlib
import string
from collections.abc import Iterable

_FOLDER = pathlib.Path(__file__).parent


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


def sortable_table(heads: Iterable[str], rows: str) -> str:
    """A table whose headings sort, by what cells say in `data-value`.

    Args:
      heads: Plain text, one a column.
      rows: HTML, the rows of the body.
    """
    cells = "".join(
        f'<th scope="col"><button type="button">{html.escape(head)}</button></th>' for head in heads
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"
