"""Reads the code that the documentation shows."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shown_files():
    """Returns the files that a page shows in full, by name."""

    def read(page: str) -> dict[str, str]:
        text = (ROOT / page).read_text()
        return dict(re.findall(r"^<!-- file: (\S+) -->\n```python\n(.*?)^```$", text, re.S | re.M))

    return read


@pytest.fixture(scope="session")
def shown_python():
    """Returns the Python blocks of a page in their order, but for whole files."""

    def read(page: str) -> list[str]:
        text = (ROOT / page).read_text()
        text = re.sub(r"^<!-- file: .*?^```$", "", text, flags=re.S | re.M)
        return re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M)

    return read
