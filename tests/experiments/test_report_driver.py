"""The driver that writes a page again: refusals, unfinished runs, one run of several."""

import functools
import json
import shutil

import pytest

from betavae_jax.checks import InputError
from betavae_jax.fit import program_of
from betavae_jax.fit_directory import fit_directory
from betavae_jax.report import write_report
from betavae_jax.restore import load_population
from betavae_jax.runs.directory import locked, prepare_directory
from betavae_jax.runs.leaves import sha256_of_tree
from betavae_jax.runs.machine import describe_program
from betavae_jax.runs.settings import to_config
from experiments import report
from experiments.directory import standing_results


@pytest.fixture
def invoke(invoke_driver):
    return functools.partial(invoke_driver, report.main)


@pytest.fixture(scope="module")
def trained(make_experiment, tmp_path_factory):
    """Six steps of two runs, the second with a rate that breaks it; no results yet."""
    workdir = tmp_path_factory.mktemp("trained") / "a"
    experiment = make_experiment(
        learning_rate=[1e-3, 1e30], num_steps=6, checkpoint_every=3, log_every=2, tensorboard=False
    )
    with locked(workdir):
        config = to_config(experiment.settings, describe_program(experiment, 1))
        prepare_directory(workdir, config, {}, overwrite=False)
        fitted = fit_directory(experiment, program_of(experiment), workdir, show_progress=False)
    return workdir, fitted


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "a")


def test_an_unfinished_run_is_reported_from_its_checkpoint(invoke, workdir):
    config = json.loads((workdir / "config.json").read_text())
    config["settings"]["num_steps"] = 1_000
    (workdir / "config.json").write_text(json.dumps(config))
    before = {p.name: p.stat().st_mtime_ns for p in workdir.iterdir() if p.is_file()}
    code, output, errors = invoke(f"--workdir={workdir}")
    assert (code, errors) == (0, "")
    assert output == f"no results of step 6: evaluating\nreport: {workdir / 'report.html'}\n"
    text = (workdir / "report.html").read_text("utf-8")
    assert "Unfinished: 6 of 1,000 steps are done." in text
    assert "run 1 at step" in text
    after = {p.name: p.stat().st_mtime_ns for p in workdir.iterdir() if p.is_file()}
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed <= {"report.html", ".lock"}


def test_results_of_the_checkpoint_are_used(invoke, workdir, trained):
    from betavae_jax.checks import jsonable
    from betavae_jax.evaluation import evaluate

    population = load_population(workdir)
    results = jsonable(evaluate(*population[:3]))
    results["runs"][0]["elbo"] = -123456.0
    (workdir / "results.json").write_text(json.dumps(results))
    code, output, _ = invoke(f"--workdir={workdir}", "--run=0")
    page = workdir / "figures" / "run000.html"
    assert (code, output) == (0, f"report: {page}\n")
    assert "-123456.00" in page.read_text("utf-8")
    results["runs"][0]["params_sha256"] = "of another step"
    (workdir / "results.json").write_text(json.dumps(results))
    code, output, _ = invoke(f"--workdir={workdir}", "--run=0")
    assert output.startswith("no results of step 6: evaluating\n")
    assert "-123456.00" not in page.read_text("utf-8")


def test_figures_are_on_the_disk_before_the_page(invoke, workdir, synced_when_named):
    seen = synced_when_named("run000.html", lambda: (workdir / "figures").glob("*.png"))
    assert invoke(f"--workdir={workdir}", "--run=0")[0] == 0
    assert seen
    assert all(seen)


def test_a_disk_too_full_for_figures_is_named(workdir):
    (workdir / "figures").mkdir()
    (workdir / "figures" / "run000_samples.png").symlink_to("/dev/full")
    population = load_population(workdir)
    results = standing_results(workdir, population)
    with pytest.raises(OSError, match=r"No space left on device: '.*/figures'"):
        write_report(workdir, population.experiment, population.carry, results, run=0)
    assert not (workdir / "figures" / "run000.html").exists()


def test_a_population_comes_back_whole(trained):
    workdir, fitted = trained
    population = load_population(workdir)
    assert population.step == 6
    assert sha256_of_tree(population.carry) == sha256_of_tree(fitted.carry)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(workdir):
    for path in (workdir / "checkpoints" / "6").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    assert load_population(workdir).step == 3


def test_a_busy_directory_is_left_alone(invoke, workdir):
    with locked(workdir):
        code, output, errors = invoke(f"--workdir={workdir}")
    assert (code, output) == (2, "")
    assert "to be free" in errors


def test_other_data_than_that_of_training_is_told(workdir, caplog):
    load_population(workdir)
    assert "other data" not in caplog.text
    config = json.loads((workdir / "config.json").read_text())
    config["program"]["data_sha256"] = "0" * 64  # of a file that was written anew since
    (workdir / "config.json").write_text(json.dumps(config))
    load_population(workdir)
    assert f"{workdir} was trained on other data than is read now" in caplog.text


def ruin(workdir, how):
    config = json.loads((workdir / "config.json").read_text())
    if how == "no checkpoints":
        shutil.rmtree(workdir / "checkpoints")
    elif how == "empty checkpoints":
        shutil.rmtree(workdir / "checkpoints")
        (workdir / "checkpoints").mkdir()
    elif how == "foreign settings":
        config["settings"]["magic"] = 1
    elif how == "no configuration":
        (workdir / "config.json").unlink()
        return
    (workdir / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no checkpoints", "to hold a checkpoint; it has none yet"),
        ("empty checkpoints", "to hold a checkpoint; it has none yet"),
        ("foreign settings", "expected the settings of this version"),
        ("no configuration", "expected a run directory"),
    ],
)
def test_what_cannot_be_loaded(invoke, workdir, how, message):
    ruin(workdir, how)
    with pytest.raises(InputError, match=message):
        load_population(workdir)
    code, output, errors = invoke(f"--workdir={workdir}")
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1
    assert message in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --workdir=DIRECTORY, a run directory; got none"),
        (["--workdir=missing"], "expected a run directory; missing/config.json is missing"),
        (["--workdir=.", "--run=one"], "run"),
        (["runs/a"], "expected flags, --name=value; got 'runs/a'"),
    ],
)
def test_refusals(invoke, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, output, errors = invoke(*arguments)
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1
    assert message in errors
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_there(invoke, workdir):
    code, _, errors = invoke(f"--workdir={workdir}", "--run=2")
    assert code == 2
    assert "expected run to be from 0 to 1; got 2" in errors
