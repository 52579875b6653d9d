"""The study driver, asked by flags and files at once, or asked anew."""

import csv
import functools
import json

import pytest

from betavae_jax.checks import InputError
from betavae_jax.study.grid import make_study
from experiments import sweep
from experiments.planning import plan_study

SMALL = ["--image_size=16", "--blob_grid=8", "--blob_margin=4", "--network=mlp",
         "--network_widths=8", "--network_decoder_widths=8", "--batch_size=8", "--num_latents=2",
         "--runs_per_device=1"]  # fmt: skip
OWN = """
[[sweep]]
objective = "beta_vae"
num_steps = 1000
coefficients = {beta = [1, 4]}
"""


@pytest.fixture
def invoke(invoke_driver):
    return functools.partial(invoke_driver, sweep.main)


def rows_of(workdir):
    return list(csv.DictReader((workdir / "study.csv").read_text().splitlines()))


def test_flags_go_before_the_sweeps_of_a_file(invoke, tmp_path):
    (tmp_path / "own.toml").write_text(OWN)
    workdir = tmp_path / "study"
    flags = [*SMALL, f"--study={tmp_path / 'own.toml'}", "--num_steps=10", "--beta=2",
             "--metrics=none"]  # fmt: skip
    code, _, errors = invoke(f"--workdir={workdir}", *flags)
    assert code == 0, errors
    assert [(row["beta"], row["step"]) for row in rows_of(workdir)] == [("2.0", "10")]


def test_the_effort_changes_until_there_are_scores(invoke, tmp_path):
    workdir = tmp_path / "study"

    def effort():
        study = json.loads((workdir / "study.json").read_text())
        return study["num_train"], study["num_test"]

    flags = [*SMALL, "--objective=vae", "--num_steps=10"]
    code, _, errors = invoke(f"--workdir={workdir}", *flags, "--metrics=none")
    assert (code, effort()) == (0, (10_000, 5_000)), errors
    few = ["--num_train=200", "--num_test=100"]
    code, _, errors = invoke(f"--workdir={workdir}", "--metrics=mig", *few)
    assert (code, effort()) == (0, (200, 100)), errors
    assert f"{200:,} rows to fit to" in (workdir / "report.html").read_text()
    for other in (["--num_train=300"], [*flags, "--metrics=mig,sap"]):  # the defaults are others
        code, _, errors = invoke(f"--workdir={workdir}", *other)
        assert (code, errors.count("\n"), effort()) == (2, 1, (200, 100))
        assert "expected num_train=200, num_test=100, with which scores of" in errors
        assert "; got num_train=" in errors
    code, _, errors = invoke(f"--workdir={workdir}", "--metrics=mig,sap")
    assert (code, effort()) == (0, (200, 100)), errors
    assert all(row["mig"] and row["sap"] for row in rows_of(workdir))


def test_of_two_shards_that_begin_the_effort_of_the_first_stands(tmp_path):
    workdir = tmp_path / "study"
    settings = {"seed": [0, 1], "num_steps": 10, "network": "mlp"}
    asked = {"sweep": [{"objective": "vae"}], "settings": settings, "metrics": ["mig"]}
    first = make_study({**asked, "num_train": 200, "num_test": 100})
    plan_study(workdir, first, runs_per_device=1)  # it has no pack yet
    before = (workdir / "study.json").read_bytes()
    with pytest.raises(InputError, match=r"num_test=100, with .* got num_train=200, num_test=50 "):
        plan_study(workdir, first._replace(num_test=50), runs_per_device=1)
    assert (workdir / "study.json").read_bytes() == before
    assert plan_study(workdir, first, runs_per_device=1)[0] == first


def test_a_study_whose_runs_all_fail_has_a_page(invoke, tmp_path):
    workdir = tmp_path / "study"
    flags = ["--objective=vae", "--num_steps=10", "--learning_rate=1e30", "--metrics=none"]
    code, output, errors = invoke(f"--workdir={workdir}", *SMALL, *flags)
    assert code == 0, errors
    assert f"results: {workdir / 'report.html'}" in output
    assert "0 of 1 runs finished" in (workdir / "report.html").read_text()


# Each: a study file, flags, and what the one line says.
REFUSALS = [
    (None, ["--seed=7", "--num_seeds=2"], "expected either seed or num_seeds; got both"),
    ("num_seeds = 2\n[settings]\nseed = [7]", [], "expected either seed or num_seeds; got both"),
    ("[settings]\nseed = [[1]]", [], "expected seed to be a whole number of at least 0; got [1]"),
    ("[settings]\nheld_out = 3", [], "expected held_out to be a list of texts; got 3"),
    ("[settings]\ntensorboard = 'yes'", [], "expected tensorboard to be true or false; got 'yes'"),
    (None, [f"--num_steps={10**30}"], "expected num_steps to be at most 2147483647"),
    (None, [f"--num_train={10**12}"], "expected num_train to be at most 2147483647"),
]


@pytest.mark.parametrize(("text", "flags", "message"), REFUSALS)
def test_what_is_no_study_is_refused_in_a_line(invoke, tmp_path, monkeypatch, text, flags, message):
    monkeypatch.chdir(tmp_path)
    if text is None:
        flags = ["--objective=vae", *flags]
    else:
        (tmp_path / "own.toml").write_text(f"{text}\n[[sweep]]\nobjective = 'vae'\n")
        flags = ["--study=own.toml", *flags]
    code, _, errors = invoke("--workdir=study", *flags)
    assert (code, errors.count("\n")) == (2, 1)
    assert message in errors
    assert not (tmp_path / "study").exists()
