"""The driver that exports: a population, what it prints, refusals."""

import functools
import json
import shutil

import numpy as np
import pytest

import betavae_jax as bv
from betavae_jax.evaluation import evaluate
from betavae_jax.export import FORMATS, export_run, load_exported
from betavae_jax.fit import program_of
from betavae_jax.fit_directory import fit_directory
from betavae_jax.runs.directory import locked, prepare_directory
from betavae_jax.runs.machine import describe_program
from betavae_jax.runs.records import write_json
from betavae_jax.runs.settings import to_config
from experiments import export

NETWORK = {"network": "mlp", "network_settings": {"widths": "8", "decoder_widths": "8"}}


@pytest.fixture
def invoke(invoke_driver):
    return functools.partial(invoke_driver, export.main)


@pytest.fixture(scope="module")
def trained(make_experiment, tmp_path_factory):
    """Two runs on blobs, finished."""
    experiment = make_experiment(
        seed=[0, 1], num_steps=4, checkpoint_every=2, log_every=2, tensorboard=False, **NETWORK
    )
    workdir = tmp_path_factory.mktemp("trained") / "a"
    program = program_of(experiment)
    with locked(workdir):
        config = to_config(experiment.settings, describe_program(experiment, 1))
        prepare_directory(workdir, config, {}, overwrite=False)
        fitted = fit_directory(experiment, program, workdir, show_progress=False)
        write_json(workdir / "results.json", evaluate(experiment, program, fitted.carry))
    return workdir


def test_every_format_of_the_second_run(invoke, trained, tmp_path):
    output = tmp_path / "exported"
    code, text, _ = invoke(
        f"--workdir={trained}", "--run=1", f"--format={','.join(FORMATS)}", f"--output={output}"
    )
    assert code == 0
    lines = text.splitlines()
    assert [line.split(":")[0] for line in lines] == [*FORMATS, "exported"]
    assert "largest difference" in lines[0]
    assert lines[2].endswith("of at most 1e-04")
    loaded, own = load_exported(output), bv.load(trained, 1)
    assert loaded.config["export"]["run"] == 1
    assert loaded.results == own.results
    assert loaded.step == own.step == 4
    images = np.random.default_rng(0).random((3, 16, 16)).astype(np.float32)
    np.testing.assert_array_equal(loaded.encode(images).mean, own.encode(images).mean)
    assert not np.array_equal(loaded.encode(images).mean, bv.load(trained, 0).encode(images).mean)
    mean, _ = FORMATS["onnx"].load(output).encode(images[..., None])
    np.testing.assert_allclose(mean, own.encode(images).mean, rtol=0, atol=1e-5)


def spoil_config(workdir):
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    config["settings"]["num_steps"] = 9
    path.write_text(json.dumps(config))


def fail_first(workdir):
    path = workdir / "results.json"
    results = json.loads(path.read_text())
    results["runs"][0]["failed_at"] = 3
    path.write_text(json.dumps(results))


REFUSALS = [
    (None, [], "got no workdir, format, output"),
    (None, ["--workdir=a", "--format=onnx"], "got no output"),
    (None, ["--workdir=a", "--format=pickle", "--output=out"], "got 'pickle'"),
    (None, ["--workdir=a", "--format=onnx", "--output=a"], "a new or empty folder; got a"),
    (None, ["--workdir=none", "--format=onnx", "--output=out"], "expected a run directory"),
    (None, ["--workdir=a", "--run=2", "--format=onnx", "--output=out"], "0 to 1; got 2"),
    (spoil_config, ["--workdir=a", "--format=onnx", "--output=out"],
     "expected a finished run; got one that has done 4 of 9 steps"),
    (lambda w: (w / "results.json").unlink(), ["--workdir=a", "--format=onnx", "--output=out"],
     "got one without results"),
    (fail_first, ["--workdir=a", "--format=onnx", "--output=out"], "stopped at step 3"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "arguments", "says"), REFUSALS)
def test_refusals_are_one_line(invoke, trained, tmp_path, monkeypatch, spoil, arguments, says):
    monkeypatch.chdir(tmp_path)
    workdir = shutil.copytree(trained, tmp_path / "a")
    if spoil:
        spoil(workdir)
    code, output, errors = invoke(*arguments)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert says in errors
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_disagreement_ends_in_one_line_and_exit_code_1(invoke, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "onnx", FORMATS["onnx"]._replace(tolerance=-1.0))
    output = tmp_path / "out"
    code, text, errors = invoke(f"--workdir={trained}", "--format=onnx", f"--output={output}")
    assert (code, text, errors.count("\n")) == (1, "", 1)
    assert "onnx read back differs from the model" in errors
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_no_run_directory(trained, tmp_path):
    export_run(bv.load(trained), ["safetensors"], tmp_path / "out")
    with pytest.raises(bv.InputError, match=r"expected .*out to hold a checkpoint"):
        bv.load(tmp_path / "out")
