"""What `make` hands to the drivers."""

import pathlib
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def dry(*arguments, **environment):
    """The last command that `make` would run, and what it says besides."""
    done = subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    return done.returncode, shlex.split(lines[-1])[2:] if lines else [], done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train"], ["experiments.train"]),
        (["train", "BETA=1,4", "STEPS=5"], ["experiments.train", "--beta=1,4", "--num_steps=5"]),
        (["train", "DATA_DIR=my cat's"], ["experiments.train", "--data_dir=my cat's"]),
        (["train", "ARGS=--a=1 --b"], ["experiments.train", "--a=1", "--b"]),
        (["sweep", "STUDY=a b"], ["experiments.sweep", "--study=a b"]),
        (["report", "WORKDIR=a b", "ARGS=--run=1"],
         ["experiments.report", "--workdir=a b", "--run=1"]),
        (["train", "report", "BETA=3"], ["experiments.report"]),  # the first takes it
    ],
)  # fmt: skip
def test_variables_become_flags(arguments, expected):
    code, command, errors = dry(*arguments)
    assert (code, command, errors) == (0, expected, "")


@pytest.mark.parametrize("target", ["train", "evaluate"])
def test_variables_of_the_environment_are_ignored_with_a_word(target):
    code, command, errors = dry(target, WORKDIR="/app", DATA_DIR="/data")
    assert (code, command) == (0, [f"experiments.{target}"])
    assert "ignoring WORKDIR of the environment: make TARGET WORKDIR=... gives it" in errors
    code, command, _ = dry(target, "WORKDIR=mine", WORKDIR="/app")
    assert (code, command) == (0, [f"experiments.{target}", "--workdir=mine"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["whitedot", "BETA=4", "STEPS=3"], "make whitedot with WORKDIR ARGS alone; got BETA"),
        (["report", "BETA=3"], "make report with WORKDIR ARGS alone; got BETA"),
        (["train", "STUDY=a.toml"], "STEPS WORKDIR ARGS alone; got STUDY"),
        (["benchmark", "WORKDIR=a"], "make benchmark with ARGS alone; got WORKDIR"),
    ],
)
def test_a_variable_that_a_target_does_not_take_is_refused(arguments, message):
    code, _, errors = dry(*arguments)
    assert code == 2
    assert message in errors
