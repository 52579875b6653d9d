"""The documentation names pages that exist, and every page is reached."""

import importlib
import json
import pathlib
import re
import urllib.parse

import pytest
import yaml
from test_floors import FLOORS

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


def nav_pages(entries):
    for entry in entries:
        value = entry if isinstance(entry, str) else next(iter(entry.values()))
        yield from [value] if isinstance(value, str) else nav_pages(value)


@pytest.fixture(scope="module")
def site():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def prose(path):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def test_the_navigation_is_the_pages(site):
    named = list(nav_pages(site["nav"]))
    assert sorted(named) == [str(page.relative_to(DOCS)) for page in PAGES]


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    local = [link for link in links if not urllib.parse.urlsplit(link).scheme]
    targets = [urllib.parse.urlsplit(link).path for link in local]
    assert [t for t in targets if t and not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_of_the_site_stay_within_it(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    local = [urllib.parse.urlsplit(x).path for x in links if not urllib.parse.urlsplit(x).scheme]
    assert all((page.parent / t).resolve().is_relative_to(DOCS) for t in local if t)


def test_the_site_asks_no_other_host(site):
    assert site["theme"]["font"] is False
    assert site["use_directory_urls"] is False
    assets = [*site.get("extra_css", []), *site.get("extra_javascript", [])]
    assert all((DOCS / asset).is_file() for asset in assets)


REFERENCED = [
    name
    for page in sorted((DOCS / "reference").glob("*.md"))
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("name", REFERENCED)
def test_what_the_reference_names_is_there(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__


def test_the_floors_that_are_described_are_the_floors_that_are_tested():
    rows = re.findall(r"^\| (\d) \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = {module: int(floor) for floor, text in rows for module in re.findall(r"`(\w+)`", text)}
    assert named.pop("experiments") == 9
    assert {module: FLOORS[module] for module in named} == named


def test_the_defaults_that_the_page_has_are_those_of_the_objectives():
    from betavae_jax.objectives import OBJECTIVES

    table = re.compile(r"^\| (`\w+`(?:, `\w+`)*) \|(?:[^|\\]|\\.)*\|([^|]*)\|", re.MULTILINE)
    page = (DOCS / "objectives.md").read_text()
    said = {
        objective: {name: float(value) for name, value in re.findall(r"`(\w+)` (\d+)", defaults)}
        for objectives, defaults in table.findall(page.partition("**Published settings.**")[0])
        for objective in re.findall(r"\w+", objectives)
    }
    assert said == {name: make().Coefficients()._asdict() for name, make in OBJECTIVES.items()}


def test_versions_agree():
    import betavae_jax

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == betavae_jax.__version__
    assert f"## [{betavae_jax.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_notebook_has_no_output():
    cells = json.loads((DOCS / "notebook.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
