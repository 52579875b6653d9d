"""Flags that name files: the home folder, and files that cannot be written."""

import pathlib
import subprocess
import sys

import pytest

from experiments import encode, evaluate, export, report, sweep, train
from experiments.path_flags import _PathParser

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("driver", "arguments", "named"),
    [
        (report, ["--workdir=~/a"], "a/config.json"),
        (evaluate, ["--workdir=~/a"], "a/config.json"),
        (evaluate, ["--codes=~/a.npz"], "a.npz"),
        (evaluate, ["--codes=a.npz", "--output=~/no/s.json"], "no/s.json"),
        (export, ["--workdir=~/a", "--format=onnx", "--output=b"], "a/config.json"),
        (encode, ["--workdir=a", "--output=~/no/b.npz"], "no/b.npz"),
        (sweep, ["--study=~/a.toml"], "a.toml"),
        (train, ["--workdir=~/file"], "file"),
    ],
)
def test_the_home_folder_is_meant(invoke_driver, tmp_path, monkeypatch, driver, arguments, named):
    (tmp_path / "here").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, errors = invoke_driver(driver.main, *arguments)
    assert (code, errors.count("\n")) == (2, 1)
    assert f"{tmp_path}/{named}" in errors
    assert list((tmp_path / "here").iterdir()) == []


def test_the_home_of_nobody_is_a_name():
    assert _PathParser().parse("~no such user/a") == "~no such user/a"


def fail(here, driver, *arguments, path=ROOT):
    """Has a driver refuse its flags: what it says, all in one line, having written nothing."""
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{driver}", *arguments],
        cwd=here,
        env={"PYTHONPATH": str(path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert list(here.iterdir()) == []
    return done.stderr


@pytest.mark.parametrize(
    ("driver", "arguments"),
    [
        ("benchmark", ["--suite=cpu", "--output=no/a.json"]),
        ("benchmark_metrics", ["--json=no/a.json"]),
        ("compare_elbo", ["--data_dir=.", "--output=no/a.json"]),
        ("compare_precision", ["--output=no/a.json"]),
        ("verify_objectives", ["--output=no/a"]),
    ],
)
def test_nothing_is_computed_for_a_file_that_cannot_be_written(tmp_path, driver, arguments):
    assert "in a folder that exists; got no/a.json" in fail(tmp_path / "here", driver, *arguments)


@pytest.mark.parametrize(
    ("driver", "argument"), [("benchmark", "--peer=torch"), ("compare_elbo", "--data_dir=.")]
)
def test_nothing_is_computed_without_pytorch(tmp_path, driver, argument):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    said = fail(tmp_path / "here", driver, argument, path=f"{tmp_path}:{ROOT}")
    assert "betavae_jax[torch]" in said
