"""The notebook runs from its first cell to its last, and what the pages show runs on its model."""

import contextlib
import io
import json
import os
import pathlib
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def code_cells():
    cells = json.loads((ROOT / "docs/notebook.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The names that the notebook has defined, where it ran, and what it printed."""
    folder, names, printed = tmp_path_factory.mktemp("notebook"), {}, io.StringIO()
    before = pathlib.Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(printed):
            for number, cell in enumerate(code_cells()):
                exec(compile(cell, f"cell {number}", "exec"), names)
    finally:
        os.chdir(before)
        plt.close("all")
    return names, folder, printed.getvalue()


def test_the_notebook_trains_loads_and_scores(notebook):
    names, folder, printed = notebook
    assert (folder / "runs/notebook/results.json").is_file()
    assert names["codes"].shape == (1024, 3)
    assert printed.count("MIG") == 2


def test_the_dot_goes_where_the_factor_says(notebook):
    names, _, _ = notebook
    # Positions 0 to 31 are centres from pixel 4 to 12; the background's haze is left out.
    light = [np.maximum(dot[..., 0] - 0.2, 0).sum(axis=0) for dot in names["moved"]]
    columns = [np.average(np.arange(16), weights=weights) for weights in light]
    np.testing.assert_allclose(columns, 3.5 + 8 * np.array([4, 12, 20, 28]) / 31, atol=1.0)


def test_what_the_page_on_use_shows_runs(notebook, monkeypatch, shown_python):
    names, folder, _ = notebook
    monkeypatch.chdir(folder)
    load, use, _ = shown_python("docs/how-to/use.md")
    scope = {"images": names["images"][:3]}
    exec(load.replace("runs/NAME", "runs/notebook"), scope)
    exec(use, scope)
    calls = [line.partition("#")[0] for line in use.splitlines()]
    shapes = {
        match[1]: np.shape(eval(call, scope))
        for call in calls
        if (match := re.match(r"model\.(decode|traverse|edit|elbo|sample)\(", call))
    }
    assert shapes == {
        "decode": (3, 16, 16, 1),
        "sample": (16, 16, 16, 1),
        "traverse": (2, 11, 16, 16, 1),
        "edit": (16, 16, 1),
        "elbo": (3,),
    }


def test_what_it_shows_of_scikit_learn_runs(notebook, shown_python):
    names, _, _ = notebook
    scope = {"images": names["images"][:80]}
    code = shown_python("docs/how-to/use.md")[2].replace("2_000", "3")
    exec(f"import betavae_jax as bv\n{code}", scope)
    assert scope["codes"].shape == (80, 10)


@pytest.mark.parametrize("page", ["docs/how-to/own-images.md", "docs/how-to/score.md"])
def test_what_other_pages_show_runs(page, tmp_path, monkeypatch, shown_python):
    monkeypatch.chdir(tmp_path)
    scope = {}
    for block in shown_python(page):
        exec(block, scope)
