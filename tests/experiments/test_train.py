"""The training driver, as a user calls it: refusals, resume, kills."""

import functools
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments import cli, train

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    "--image_size=16",
    "--blob_grid=8",
    "--blob_margin=4",
    "--batch_size=8",
    "--num_latents=3",
    "--network_channels=4,4",
    "--network_widths=16",
    "--checkpoint_every=50",
    "--log_every=20",
]
QUICK = [*SMALL, "--noreport", "--notensorboard"]


@pytest.fixture
def invoke(invoke_driver):
    return functools.partial(invoke_driver, train.main)


def start(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, expected=0):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == expected, errors
    return output, errors


def results_of(workdir):
    return json.loads((workdir / "results.json").read_text())["runs"]


def digests(workdir):
    return [row["params_sha256"] for row in results_of(workdir)]


# Each: flags, and what the one line says.
REFUSALS = [
    (["--beta=-1"], "expected beta to be a number of at least 0; got -1.0"),
    (["--beta=much"], "expected beta to be finite numbers; got 'much'"),
    (["--beta=nan"], "expected beta to be finite numbers"),
    (["--beta="], "expected beta to be a list of distinct values"),
    (["--beta=4,4"], "distinct values; got [4.0, 4.0]"),
    (["--bta=4"], "Unknown command line flag 'bta'"),
    (["beta=4"], "expected flags, --name=value; got 'beta=4'"),
    (["--batch_size=many"], "batch_size"),
    (["--dataset=cats"], "tfds:<name>; got 'cats'"),
    (["--objective=gan"], "vae, vae_gan; got 'gan'"),
    (["--network=resnet"], "conv_locatello, mlp; got 'resnet'"),
    (["--likelihood=poisson"], "laplace; got 'poisson'"),
    (["--likelihood=gaussian", "--likelihood_sigma=0"], "expected sigma to be a number above 0"),
    (["--likelihood_sigma=1"], "likelihood bernoulli, which takes none; got sigma"),
    (["--objective=vae", "--beta=4"], "objective vae, which takes none; got beta"),
    (["--batch_size=0"], "expected batch_size to be a whole number of at least 1; got 0"),
    (["--num_latents=0"], "expected num_latents to be a whole number of at least 1"),
    (["--num_steps=-5"], "expected num_steps to be a whole number of at least 1; got -5"),
    (["--learning_rate=0"], "expected learning_rate to be a number above 0; got 0.0"),
    (["--learning_rate=1e-60"], "above 0; got 1e-60, outside float32's 1.2e-38 to 3.4e+38"),
    (["--learning_rate=1e39"], "above 0; got 1e+39, outside float32's 1.2e-38 to 3.4e+38"),
    (["--beta=1e39"], "of at least 0; got 1e+39, outside float32's 1.2e-38 to 3.4e+38"),
    (["--seed=1.5"], "expected seed to be whole numbers; got '1.5'"),
    (["--seed=-1"], "expected seed to be a whole number of at least 0; got -1"),
    (["--seed=99999999999"], "expected seed to be at most 2147483647"),
    (["--data_dir=x"], "data set blobs, which takes"),
    (["--dataset=arrays"], "data_dir"),
    (["--dataset=arrays", "--data_dir=missing"], "missing"),
    (["--dataset=arrays", "--data_dir=empty"], "empty"),
    (["--dataset=arrays", "--data_dir=corrupt.npz"], "corrupt.npz"),
    (["--dataset=arrays", "--data_dir=t10k-images-idx3-ubyte.gz"], "t10k-images-idx3-ubyte.gz"),
    (["--dataset=arrays", "--data_dir=mismatch.npz"], "5 images, 4 labels"),
    (["--dataset=tfds:mnist", "--data_dir=empty"], "download_and_prepare"),
    (["--schedule=beta"], "expected schedule to be NAME:KIND:...; got 'beta'"),
    (["--schedule=beta:cosine:0:5"], "linear:START:STEPS"),
    (["--schedule=gamma:linear:0:5"], "takes beta; got gamma"),
    (["--test_fraction=1.5"], "expected test_fraction to be below 1"),
    (["--held_out=z:1"], "expected a factor among x, y; got 'z'"),
    (["--correlated=x:y"], "FACTOR:FACTOR:SIGMA"),
    (["--clip_norm=0"], "expected clip_norm to be a number above 0"),
    (["--precision=fp8"], "expected precision to be one of bf16, float32; got 'fp8'"),
    (["--network=mlp", "--network_widths=0"], "expected"),
    (["--network=mlp", "--network_channels=32"], "network mlp, which takes"),
    (["--device_memory_mb=0"], "expected device_memory_mb to be a whole number of at least 1"),
    (["--dataset=arrays", "--data_dir=nan.csv"], "nan.csv"),
    (["--dataset=arrays", "--data_dir=table.csv", "--likelihood=bernoulli"], "real values"),
    (["--dataset=arrays", "--data_dir=table.csv", "--network=conv"], "mlp"),
    (["--dataset=arrays", "--data_dir=grid.npz", "--factor_sizes=2,2"], "5"),
    (["--dataset=folder", "--data_dir=empty"], "empty"),
    (["--dataset=folder", "--data_dir=pictures"], "broken.png"),
    (["--dataset=dsprites", "--data_dir=missing.npz"], "missing.npz"),
    (["--dataset=dsprites_scream", "--picture=missing.png"], "missing.png"),
    (["--workdir=taken"], "it holds mine.txt"),
    (["--workdir=corrupt.npz"], "expected workdir corrupt.npz to be a directory"),
    (["--workdir=/proc/denied"], "expected a workdir that can be written; got /proc/denied"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS, ids=lambda v: str(v)[:60])
def test_bad_input_ends_in_one_line_and_writes_nothing(
    invoke, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    (tmp_path / "corrupt.npz").write_bytes(b"PK\x03\x04 not an archive")
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b broken")
    (tmp_path / "nan.csv").write_text("1,2\n3,nan\n")
    (tmp_path / "table.csv").write_text("1,2\n3,4\n")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    np.savez(tmp_path / "grid.npz", images=np.zeros((5, 16, 16)))
    np.savez(tmp_path / "mismatch.npz", images=np.zeros((5, 16, 16)), labels=np.arange(4))
    before = sorted(p.name for p in tmp_path.rglob("*"))
    code, output, errors = invoke(*arguments)
    assert code == 2
    assert output == ""
    assert errors.count("\n") == 1
    assert message in errors
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_memory_that_does_not_hold_a_run_is_refused_in_a_line(invoke, tmp_path, monkeypatch):
    command = [*QUICK, "--num_steps=10", f"--workdir={tmp_path / 'a'}"]
    with monkeypatch.context() as patch:
        patch.setattr("betavae_jax.memory.available_bytes", lambda: 10_000)
        patch.setattr("betavae_jax.memory._SECONDS_TO_SETTLE", (0.0,))
        code, output, errors = invoke(*command)
        assert (code, output) == (2, "")
        refusal = errors.splitlines()[-1]  # below the progress bar
        assert re.fullmatch(
            r"betavae_jax: expected \S+ GB of memory, .*; got .* GB \(.*\)", refusal
        )
        assert list(tmp_path.iterdir()) == []
    assert invoke(*command, "--batch_size=7")[0] == 0  # as is advised
    with monkeypatch.context() as patch:
        patch.setattr("betavae_jax.memory.available_bytes", lambda: 10_000)
        patch.setattr("betavae_jax.memory._SECONDS_TO_SETTLE", (0.0,))
        code, _, errors = invoke(*command, "--batch_size=7", "--num_steps=20")
    assert (code, results_of(tmp_path / "a")[0]["step"]) == (2, 10)
    assert errors.endswith("; another batch_size or number of runs needs another --workdir\n")


@pytest.mark.parametrize("of_a_study", [True, False])
def test_codes_of_a_pack_that_is_trained_on_go(of_a_study, invoke, tmp_path):
    workdir = tmp_path / "packs" / "000"
    command = [*QUICK, f"--workdir={workdir}"]
    assert invoke(*command, "--num_steps=10")[0] == 0
    (workdir / "codes.npy").write_bytes(b"of step 10")  # or notes of somebody
    if of_a_study:
        (tmp_path / "study.json").write_text("{}")
    assert invoke(*command, "--num_steps=10")[0] == 0
    assert (workdir / "codes.npy").exists()
    assert invoke(*command, "--num_steps=20")[0] == 0
    assert (workdir / "codes.npy").exists() == (not of_a_study)


def test_an_evaluation_that_memory_does_not_hold_is_refused_before_training(
    invoke, tmp_path, monkeypatch
):
    command = [*QUICK, "--num_steps=10", f"--workdir={tmp_path / 'a'}"]
    with monkeypatch.context() as patch:
        patch.setattr("betavae_jax.memory.available_bytes", lambda: 100)
        patch.setattr("betavae_jax.memory._SECONDS_TO_SETTLE", (0.0,))
        patch.setattr("betavae_jax.fit.check_memory", lambda *_: None)
        code, output, errors = invoke(*command)
        assert (code, output) == (2, "")
        assert re.fullmatch(r"betavae_jax: .*, which evaluation takes on .*\n", errors)
        assert list(tmp_path.iterdir()) == []
        patch.setattr("experiments.directory.check_evaluation", lambda *_: None)
        code, output, errors = invoke(*command)  # what it takes beside is known after training
        assert (code, output) == (2, "")
        assert ", which evaluation takes on " in errors.splitlines()[-1]
        assert not (tmp_path / "a" / "results.json").exists()
    assert invoke(*command)[0] == 0  # nothing of training is lost
    assert results_of(tmp_path / "a")[0]["step"] == 10


def test_memory_that_runs_out_ends_in_a_line(invoke, tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory of 1 bytes.\nat: here")

    command = [*QUICK, "--num_steps=10", f"--workdir={tmp_path}"]
    (tmp_path / ".lock").touch()  # as one that was killed leaves
    with monkeypatch.context() as patch:
        patch.setattr("betavae_jax.fit.start_program", exhausted)
        code, _, errors = invoke(*command)
    assert code == 2
    assert errors.splitlines()[-1].startswith("betavae_jax: expected memory to hold what is compu")
    assert "bytes. (a smaller batch_size helps)" in errors
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert invoke(*command, "--batch_size=7")[0] == 0
    monkeypatch.setattr("betavae_jax.fit.start_program", exhausted)
    code, _, errors = invoke(*command, "--batch_size=7", "--num_steps=20")
    assert "(a smaller batch_size with another --workdir helps)" in errors
    assert (tmp_path / "config.json").exists()


def test_memory_that_runs_out_elsewhere_is_told_without_advice(invoke, tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory of 1 bytes.")

    monkeypatch.setattr("experiments.directory.evaluate", exhausted)
    code, _, errors = invoke(*QUICK, "--num_steps=10", f"--workdir={tmp_path / 'a'}")
    assert code == 2
    assert errors.endswith("Out of memory of 1 bytes.\n")
    assert list((tmp_path / "a" / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """400 steps without a pause: the directory that all others must equal."""
    folder = tmp_path_factory.mktemp("straight")
    output, _ = finish(start(*SMALL, "--num_steps=400", "--workdir=a", cwd=folder))
    assert "report: a/report.html" in output
    return folder / "a"


def test_a_run_directory_holds_what_it_promises(straight):
    config = json.loads((straight / "config.json").read_text())
    assert config["settings"]["coefficients"] == {"beta": [4.0]}
    assert config["settings"]["data"]["blob_grid"] == 8
    assert config["program"]["vectorized_runs"] == 1
    assert config["program"]["versions"]["jax"]
    (row,) = results_of(straight)
    assert row["step"] == 400
    assert row["failed_at"] is None
    assert row["num_evaluated"] == 64
    assert row["elbo"] == pytest.approx(-(row["distortion"] + row["rate"]))
    assert row["rate"] == pytest.approx(sum(row["kl_per_latent"]))
    assert row["active_latents"] == sum(kl > 0.01 for kl in row["kl_per_latent"])
    assert row["beta_norm"] == pytest.approx(4.0 * 3 / 256)
    assert set(row["metrics"]["axis_alignment"]["abs_pearson_r"]) == {"x", "y"}
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(20, 401, 20))
    page = (straight / "report.html").read_text()
    assert page.count("<figure>") == 12
    assert "http:" not in page
    assert len(list((straight / "figures").glob("*.png"))) == 12


def test_the_same_command_again_does_nothing(invoke, straight):
    def look():
        kept = [straight / name for name in ("results.json", "report.html", "metrics.jsonl")]
        return [path.read_bytes() for path in kept], [path.stat().st_mtime_ns for path in kept[:2]]

    before = look()
    code, output, _ = invoke(*SMALL, "--num_steps=400", f"--workdir={straight}")
    assert code == 0
    assert "finished already, at step 400" in output
    assert look() == before


def test_the_flagfile_repeats_the_run(invoke, straight, tmp_path):
    flagfile = f"--flagfile={straight / 'flags.txt'}"
    code, _, errors = invoke(flagfile, f"--workdir={tmp_path / 'b'}")
    assert code == 0, errors
    assert digests(tmp_path / "b") == digests(straight)


@pytest.mark.parametrize("spelling", ["--flagfile={}", "-flagfile={}", "--flagfile {}"])
def test_a_directory_that_was_copied_goes_on_where_it_is(invoke, half, tmp_path, spelling):
    workdir = pathlib.Path(shutil.copytree(half, tmp_path / "a"))
    flags = workdir / "flags.txt"
    flags.write_text(flags.read_text().replace("--workdir=a\n", f"--workdir={tmp_path / 'old'}\n"))
    code, output, errors = invoke(*spelling.format(flags).split(" "))
    assert code == 0, errors
    assert output.startswith("finished already, at step 200")
    assert f"--workdir={workdir}\n" in flags.read_text()  # from now on
    assert not (tmp_path / "old").exists()


def test_flags_that_stand_beside_no_run_say_its_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("flags.txt").write_text("--workdir=there\n")
    assert cli._with_workdirs(["driver", "--flagfile=flags.txt"]) == [
        "driver",
        "--flagfile=flags.txt",
    ]
    pathlib.Path("config.json").touch()
    here = ["driver", "--flagfile=flags.txt", "--workdir=."]
    assert cli._with_workdirs(["driver", "--flagfile=flags.txt"]) == here
    assert cli._with_workdirs(["driver", "--flagfile=config.json"])[2:] == []


def test_another_configuration_is_refused(invoke, straight):
    arguments = [*SMALL, "--num_steps=400", f"--workdir={straight}"]
    code, _, errors = invoke(*arguments, "--beta=5", "--seed=3")
    assert code == 2
    assert "coefficients was {'beta': [4.0]}, is {'beta': [5.0]}" in errors
    assert "seed was [0], is [3]" in errors
    assert errors.count("\n") == 1
    kept = (straight / "flags.txt").read_text()
    code, _, errors = invoke(*SMALL, "--num_steps=200", f"--workdir={straight}")
    assert (code, errors.count("\n")) == (2, 1)
    assert (straight / "flags.txt").read_text() == kept
    assert "expected num_steps of at least 400" in errors
    assert results_of(straight)[0]["step"] == 400


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The first 200 of the 400 steps."""
    folder = tmp_path_factory.mktemp("half")
    arguments = [*SMALL, "--noreport", "--num_steps=200", "--workdir=a"]
    output, _ = finish(start(*arguments, cwd=folder))
    assert "results: a/results.json (no report: experiments.report draws one)" in output
    assert not (folder / "a" / "report.html").exists()
    return folder / "a"


def test_half_then_whole_equals_straight(half, straight, tmp_path):
    shutil.copytree(half, tmp_path / "a")
    arguments = [*SMALL, "--noreport", "--num_steps=400", "--workdir=a"]
    finish(start(*arguments, cwd=tmp_path))
    assert digests(tmp_path / "a") == digests(straight)
    log = (tmp_path / "a" / "metrics.jsonl").read_text()
    assert log == (straight / "metrics.jsonl").read_text()


def test_a_page_of_fewer_steps_does_not_stay(invoke, half, tmp_path):
    workdir = tmp_path / "a"
    shutil.copytree(half, workdir)
    (workdir / "report.html").write_text("of 200 steps")
    code, output, _ = invoke(*QUICK, "--num_steps=220", f"--workdir={workdir}")
    assert (code, "no report" in output) == (0, True)
    assert not (workdir / "report.html").exists()


def test_results_that_cannot_be_read_are_written_anew(invoke, half, tmp_path):
    """A node that is lost may leave a file of no bytes."""
    workdir = tmp_path / "a"
    shutil.copytree(half, workdir)
    (workdir / "results.json").write_bytes(b"")
    code, _, errors = invoke(*QUICK, "--num_steps=200", f"--workdir={workdir}")
    assert code == 0, errors
    assert results_of(workdir) == results_of(half)


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.0005)


def test_killed_at_random_and_inside_a_save_equals_straight(straight, tmp_path):
    workdir = tmp_path / "a"
    arguments = [*QUICK, "--checkpoint_every=25", "--num_steps=400", "--workdir=a"]
    saves = workdir / "checkpoints"
    chance = random.Random(7)
    for attempt in range(5):
        process = start(*arguments, cwd=tmp_path)
        if attempt == 2:
            done = {p.name for p in saves.glob("*[0-9]")}
            new = {str(s) for s in range(25, 401, 25)} - done
            unfinished = (f"{step}.orbax-checkpoint-tmp*" for step in sorted(new))
            patterns = list(unfinished)
            wait_for(lambda p=patterns: any(any(saves.glob(x)) for x in p), process)
        else:
            # Some time after the first steps, so that it falls anywhere in the loop.
            seen = len((workdir / "metrics.jsonl").read_text()) if attempt else 0
            log = workdir / "metrics.jsonl"
            wait_for(lambda log=log, seen=seen: log.exists() and log.stat().st_size > seen, process)
            time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.communicate()
        assert not (workdir / "results.json").exists()
    finish(start(*arguments, cwd=tmp_path))
    assert digests(workdir) == digests(straight)
    assert not list(saves.glob("*tmp*"))
    assert (workdir / "metrics.jsonl").read_text() == (straight / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["term", "int"]
)
def test_a_signal_saves_and_says_how_to_go_on(invoke, straight, tmp_path, number, code):
    workdir = tmp_path / "a"
    arguments = [*QUICK, "--tensorboard", "--checkpoint_every=1000", "--num_steps=400",
                 f"--workdir={workdir}"]  # fmt: skip
    process = start(*arguments, cwd=tmp_path)
    log = workdir / "metrics.jsonl"
    wait_for(lambda: log.exists() and log.stat().st_size, process)
    process.send_signal(number)
    output, _ = finish(process, expected=code)
    assert "run again to resume" in output
    code, _, errors = invoke(*arguments)
    assert code == 0, errors
    assert digests(workdir) == digests(straight)


def test_overwrite_starts_anew(invoke, straight, tmp_path):
    workdir = tmp_path / "a"
    shutil.copytree(straight, workdir)
    code, _, _ = invoke(*SMALL, "--num_steps=60", "--beta=7", f"--workdir={workdir}", "--overwrite")
    assert code == 0
    (row,) = results_of(workdir)
    assert (row["step"], row["coefficients"]) == (60, {"beta": 7.0})
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["50", "60"]


def test_a_second_process_is_refused(invoke, tmp_path):
    arguments = [*QUICK, "--num_steps=100000000", f"--workdir={tmp_path / 'a'}"]
    process = start(*arguments, cwd=tmp_path)
    wait_for((tmp_path / "a" / "config.json").exists, process)
    code, _, errors = invoke(*arguments)
    process.kill()
    process.communicate()
    assert code == 2
    assert f"process {process.pid} is using it" in errors


def test_a_damaged_checkpoint_falls_back_and_ends_the_same(half, straight, tmp_path):
    workdir = pathlib.Path(shutil.copytree(half, tmp_path / "a"))
    largest = max((workdir / "checkpoints" / "200").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    _, errors = finish(start(*QUICK, "--num_steps=400", "--workdir=a", cwd=tmp_path))
    assert "checkpoint of step 200 is damaged" in errors
    assert digests(workdir) == digests(straight)


def test_a_full_disk_keeps_what_was_whole(invoke, half, straight, tmp_path):
    """A limit on the size of a file stands in for a full disk: both end in an OSError.

    One file at least of every checkpoint is longer, however its arrays were put together.
    """
    workdir = shutil.copytree(half, tmp_path / "a")
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000)); "
        "from experiments import cli, train; cli.run(train.main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *QUICK, "--num_steps=400", "--workdir=a"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    # The storage layer may add lines of its own, before ours or after it.
    (last,) = [x for x in done.stderr.splitlines() if x.startswith("betavae_jax:")]
    assert "could not write the checkpoint of step 250" in last
    assert "the checkpoint of step 200 is whole" in last
    code, _, errors = invoke(*QUICK, "--num_steps=400", f"--workdir={workdir}")
    assert code == 0, errors
    assert digests(workdir) == digests(straight)


def test_a_population_reports_every_run(invoke, tmp_path):
    arguments = [*SMALL, "--num_steps=40", "--beta=1,4", "--seed=0,1", "--learning_rate=1e-3,1e30"]
    code, output, _ = invoke(*arguments, f"--workdir={tmp_path / 'a'}")
    assert code == 0
    rows = results_of(tmp_path / "a")
    expected = itertools.product([1.0, 4.0], [1e-3, 1e30], [0, 1])
    assert [(r["coefficients"]["beta"], r["learning_rate"], r["seed"]) for r in rows] == list(
        expected
    )
    assert [r["failed_at"] for r in rows] == [None, None, 1, 1, None, None, 1, 1]
    assert output.count("stopped at step 1") == 4
    text = (tmp_path / "a" / "results.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text


DENSE = [flag for flag in SMALL if "channels" not in flag]
DENSE += ["--network=mlp", "--network_decoder_widths=16"]


@pytest.mark.parametrize("network", [SMALL, DENSE])  # codes of the second become infinite
def test_every_run_failing_is_trouble(invoke, tmp_path, network):
    arguments = [*network, "--num_steps=40", "--learning_rate=1e30", f"--workdir={tmp_path / 'a'}"]
    for _ in range(2):  # and again, from the checkpoint
        code, output, _ = invoke(*arguments)
        assert code == 1
        assert "every run has stopped" in output
    assert (tmp_path / "a" / "report.html").exists()


def test_the_real_tfds_set_trains(invoke, reference_data, tmp_path):
    code, _, _ = invoke(
        "--dataset=tfds:fashion_mnist",
        f"--data_dir={reference_data / 'tfds'}",
        "--beta=1,4",
        "--num_steps=5",
        "--batch_size=16",
        "--network=mlp",
        "--network_widths=16",
        "--network_decoder_widths=16",
        f"--workdir={tmp_path / 'a'}",
    )
    assert code == 0
    rows = results_of(tmp_path / "a")
    assert [row["num_evaluated"] for row in rows] == [1000, 1000]
    assert rows[0]["metrics"] == {}


def test_help_lists_the_flags():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for flag in ("--beta", "--blob_sigma", "--workdir", "--[no]overwrite", "--likelihood_sigma"):
        assert flag in done.stdout
    words = " ".join(done.stdout.split())  # absl breaks lines
    assert "Of an objective. Default" in words
    assert "Of a network. Default" in words
