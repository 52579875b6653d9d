"""The white dot's table and figure, and its driver from end to end."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from betavae_jax.checks import InputError
from betavae_jax.evaluation import evaluate
from betavae_jax.fit import program_of
from betavae_jax.plots.dots import DotPanel, draw_dots, draw_posterior_widths
from betavae_jax.population import place_runs, replicate
from experiments.dots import measure, measure_radius, table_of, widths_table_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROW = {"setting": "β = 4", "r2": 1.0, "jumps": 0, "width": 0.1, "elbo": -170.0}


def rows_of(active, align):
    return [
        {**ROW, "active": a, "align_x": r, "align_y": 0.95}
        for a, r in zip(active, align, strict=True)
    ]


def test_the_table_counts_and_bounds():
    text = table_of(rows_of([2, 2, 3, 2], [0.99, 0.89, 0.99, 0.91]))
    (line,) = [line for line in text.splitlines() if line.startswith("| β = 4")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == ["4", "2 of 4"]  # not the turned one, nor the one of three latents
    half = scipy.stats.t.ppf(0.975, 3) * np.std([2, 2, 3, 2], ddof=1) / 2
    assert cells[3] == f"2.25 ± {half:.2f}"
    header = text.splitlines()[0]
    assert header.count("|") == line.count("|")


def test_the_widths_table():
    kl, deviation = np.full((2, 3), 1.5), np.tile([0.1, 0.2, 0.6], (2, 1))
    lines = widths_table_of({"kl": kl, "deviation": deviation}).splitlines()
    assert lines[-1] == "| radius | 1.50 ± 0.00 | 0.60 ± 0.00 |"


def test_the_driver_hands_on_what_it_may_do(tmp_path):
    script = """
from experiments import whitedot

def see(*_, allow_inexact_resume, **__):
    print(allow_inexact_resume)
    raise SystemExit(0)

whitedot.train_directory = see
whitedot.cli.run(whitedot.main)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "--allow_inexact_resume", f"--workdir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["True"], done.stderr


@pytest.fixture(scope="module")
def measured(make_experiment):
    experiment = make_experiment(coefficients={"beta": [1.0, 4.0]}, seed=[0, 1])
    program = program_of(experiment)
    arrays = replicate(experiment.splits.train.arrays, program.devices)
    carry = program.init(place_runs(experiment.runs, program.devices), arrays)
    return measure(experiment, program, carry, evaluate(experiment, program, carry)["runs"])


def test_every_run_is_measured(measured):
    assert [(r["setting"], r["seed"]) for r in measured.rows] == [
        ("β = 1", 0),
        ("β = 1", 1),
        ("β = 4", 0),
        ("β = 4", 1),
    ]
    assert measured.mean.shape == measured.variance.shape == (4, 64, 3)
    for row in measured.rows:
        assert len(set(row["latents"])) == 2
        assert 0 <= min(row["align_x"], row["align_y"]) <= 1
        assert 0 <= row["r2"] <= 1
    widths = measure_radius(measured)
    run = measured.rows[3]
    np.testing.assert_allclose(
        widths["deviation"][3],
        np.sqrt(measured.variance[3])[:, run["latents"]].mean(axis=0),
        rtol=1e-6,
    )
    np.testing.assert_allclose(widths["kl"][3], np.asarray(run["kl_per_latent"])[run["latents"]])


def test_the_figures_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    panel = DotPanel(
        "β = 1, seed 0",
        rng.random((5, 8, 8, 1)),
        rng.random((5, 8, 8, 1)),
        rng.random((3, 5, 8, 8, 1)),
        rng.normal(size=(3, 4, 4)),
        np.asarray([0.1, 2.0, np.nan]),
    )
    draw_dots([panel, panel], tmp_path / "dots.png")
    draw_posterior_widths("xyr", rng.random((2, 3)), rng.random((2, 3)), tmp_path / "widths.png")
    import PIL.Image

    for name in ("dots.png", "widths.png"):
        with PIL.Image.open(tmp_path / name) as image:
            assert np.asarray(image.convert("L")).std() > 5
    with pytest.raises(InputError, match="maps"):
        draw_dots([panel._replace(maps=panel.maps[:2])], tmp_path / "no.png")


@pytest.mark.slow  # three programs, each compiled, trained, evaluated and reported
def test_the_driver_from_end_to_end(tmp_path):
    command = [sys.executable, "-m", "experiments.whitedot", "--num_seeds=2", "--num_steps=10"]
    for _ in range(2):  # and again, without a step
        done = subprocess.run(
            [*command, "--workdir=w"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "w" / "whitedot.json").read_text())
    assert [row["setting"] for row in rows] == [
        "β = 1", "β = 1", "β = 4", "β = 4", *["γ = 1e+03, C = 6.93"] * 2,
    ]  # fmt: skip
    for name in ("whitedot.png", "widths.png", "whitedot.md", "radius/results.json"):
        assert (tmp_path / "w" / name).stat().st_size > 0
