"""The study driver, as a user calls it: refusals, kills, shards, devices."""

import csv
import functools
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

from betavae_jax.checks import InputError
from betavae_jax.runs.directory import locked
from betavae_jax.study.grid import make_study
from betavae_jax.study.plan import describe_plan, read_study
from experiments import packs, planning, shares, sweep

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    "--image_size=16",
    "--blob_grid=8",
    "--blob_margin=4",
    "--network=mlp",  # compiled in a moment
    "--network_widths=8",
    "--network_decoder_widths=8",
    "--batch_size=8",
    "--num_latents=2",
    "--checkpoint_every=10",
    "--log_every=10",
    "--num_steps=40",
]
# Three settings of two seeds, one run on each of two devices: three packs of two runs.
SIX = [*SMALL, "--objective=beta_vae,vae", "--beta=2,4", "--seed=0,1", "--metrics=none",
       "--runs_per_device=1"]  # fmt: skip
# Three objectives, two values each, four seeds: six packs of four runs.
MANY = [*SMALL, "--objective=beta_vae,dip_vae_i,factor_vae", "--beta=1,4", "--gamma=10",
        "--seed=0,1,2,3", "--metrics=none", "--runs_per_device=2", "--num_steps=60",
        "--network=conv", "--network_channels=4,4", "--network_widths=16",
        "--network_decoder_widths="]  # fmt: skip

ENVIRONMENT = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "2"}


@pytest.fixture
def invoke(invoke_driver):
    return functools.partial(invoke_driver, sweep.main)


def start(workdir, *arguments, program=("-m", "experiments.sweep"), grouped=False, **environment):
    return subprocess.Popen(
        [sys.executable, *program, f"--workdir={workdir}", *arguments],
        process_group=0 if grouped else None,  # of its own
        cwd=workdir.parent,
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, expected=0):
    output, errors = process.communicate(timeout=600)
    assert process.returncode == expected, errors
    return output, errors


def digests(workdir):
    with (workdir / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {(row["sweep"], row["beta"], row["seed"]): row["params_sha256"] for row in rows}


def steps_done(workdir):
    """The checkpoints that stand, of all packs."""
    return sorted(p for p in workdir.glob("packs/*/checkpoints/*") if p.name.isdecimal())


def wait_for(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def kill_and_go_on(workdir, arguments, kills, seed, longest=1.0):
    """Kills a study at random moments after it has moved, and then lets it end.

    Returns how often it was killed: it may have ended before.
    """
    rng = random.Random(seed)
    killed = 0
    while killed < kills:
        process = start(workdir, *arguments)
        before = steps_done(workdir)
        wait_for(lambda before=before: steps_done(workdir) != before, process)
        time.sleep(rng.uniform(0.0, longest))
        if process.poll() is not None:
            finish(process)
            break
        process.kill()
        process.communicate()
        killed += 1
    finish(start(workdir, *arguments))
    return killed


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight") / "study"
    finish(start(workdir, *SIX))
    return workdir


def test_a_study_holds_what_it_promises(invoke, straight):
    names = {"study.json", "plan.json", "packs", "study.csv", "study.parquet", "figures",
             "report.html", ".lock"}  # fmt: skip
    assert {p.name for p in straight.iterdir()} == names
    plan = json.loads((straight / "plan.json").read_text())
    assert [p["last"] - p["first"] for p in plan["packs"]] == [2, 2, 2]
    assert len(digests(straight)) == len(set(digests(straight).values())) == 6
    code, output, _ = invoke(f"--workdir={straight}")  # the directory knows the rest
    assert code == 0
    assert "6 runs of beta_vae, vae in 3 packs" in output
    assert f"results: {straight / 'report.html'}" in output


def test_the_flagfile_of_a_pack_repeats_it(straight, tmp_path):
    folder = straight / "packs" / "001"
    assert "--rows=2:4\n" in (folder / "flags.txt").read_text()
    train = ("-m", "experiments.train", f"--flagfile={folder / 'flags.txt'}")
    finish(start(tmp_path / "again", "--noreport", program=train))
    repeated, own = (json.loads((f / "results.json").read_text())["runs"]
                     for f in (tmp_path / "again", folder))  # fmt: skip
    assert [row["params_sha256"] for row in repeated] == [row["params_sha256"] for row in own]
    assert [row["seed"] for row in repeated] == [0, 1]


def test_killed_and_as_two_shards_equals_straight(straight, tmp_path):
    assert kill_and_go_on(tmp_path / "killed", SIX, kills=1, seed=0, longest=0.2) == 1
    assert digests(tmp_path / "killed") == digests(straight)
    both = [start(tmp_path / "shared", *SIX, f"--shard={k}/2") for k in range(2)]
    outputs = [finish(process)[0] for process in both]
    assert any("results: " in output for output in outputs)
    assert digests(tmp_path / "shared") == digests(straight)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 75), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_saves_and_says_how_to_go_on(straight, tmp_path, number, code):
    workdir = tmp_path / "study"
    shutil.copytree(straight, workdir)
    for name in ("packs", "study.csv", "report.html"):
        path = workdir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    process = start(workdir, *SIX)
    wait_for(lambda: steps_done(workdir), process)
    process.send_signal(number)
    output, _ = finish(process, code)
    assert "run again to resume" in output
    assert not (workdir / "study.csv").exists()


# The garbage collections of an hour, in seconds: an exception that comes out of one is dropped.
COLLECTING = (
    "-c",
    "import gc, time; from experiments import cli, sweep; gc.set_threshold(50, 5, 1000); "
    "gc.callbacks.append(lambda *_: time.sleep(0.001)); cli.run(sweep.main)",
)


def has_processes(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("number", "code", "seconds"),
    [
        (signal.SIGTERM, 75, 0.1),
        (signal.SIGINT, 130, 0.4),
        pytest.param(signal.SIGTERM, 75, 0.8, marks=pytest.mark.slow),
    ],
)
def test_a_signal_while_planning_ends_it(invoke, straight, tmp_path, number, code, seconds):
    workdir = tmp_path / "study"
    process = start(workdir, *SIX, "--runs_per_device=auto", program=COLLECTING)
    wait_for((workdir / ".lock").exists, process)
    time.sleep(seconds)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "betavae_jax: stopped; run again to resume\n" in errors
    assert not (workdir / "packs").exists()
    code, _, errors = invoke(f"--workdir={workdir}", *SIX)
    assert code == 0, errors
    assert digests(workdir) == digests(straight)


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_signal_while_scoring_ends_it(straight, tmp_path, seconds):
    workdir = tmp_path / "study"
    shutil.copytree(straight, workdir)
    first = workdir / "packs" / "000" / "results.json"
    before = first.stat().st_mtime_ns
    process = start(workdir, "--metrics=dci", program=COLLECTING, grouped=True)
    wait_for(lambda: first.stat().st_mtime_ns != before, process)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 75
    assert "betavae_jax: stopped; run again to resume\n" in errors
    end = time.monotonic() + 20
    while has_processes(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not has_processes(process.pid)  # nor those that fit classifiers
    assert [row["run"] for row in json.loads(first.read_text())["runs"]] == [0, 1]


def test_one_pack_left_then_the_study_is_composed(invoke, straight, tmp_path, monkeypatch):
    workdir = tmp_path / "study"
    shutil.copytree(straight, workdir)
    shutil.rmtree(workdir / "packs" / "002")
    (workdir / "study.csv").unlink()
    code, output, _ = invoke(f"--workdir={workdir}", "--shard=1/2")
    assert (code, "2 of 3 packs are finished; others still work" in output) == (0, True)
    with locked(workdir / "packs" / "002"):  # as if another process trained it
        code, output, _ = invoke(f"--workdir={workdir}")
        assert (code, "others still work" in output) == (0, True)
        assert packs.run_pack(workdir, 2).status == "busy"
        waits = functools.partial(shares.train_packs, waits=(0.01, 0.02))
        monkeypatch.setattr(sweep, "train_shard", waits)
        code, output, errors = invoke(f"--workdir={workdir}", "--shard=0/2")  # packs 0 and 2
        assert (code, errors.count("pack 2 is in use by another process, tried again")) == (75, 2)
        assert "2 of 3 packs are finished; pack 2 is in use by another process" in output
    code, output, _ = invoke(f"--workdir={workdir}", "--shard=0/2")
    assert code == 0
    assert "results: " in output
    assert digests(workdir) == digests(straight)


def test_results_that_cannot_be_read_are_written_anew(invoke, straight, tmp_path):
    """A node that is lost may leave a file of no bytes."""
    workdir = tmp_path / "study"
    shutil.copytree(straight, workdir)
    damaged = workdir / "packs" / "001" / "results.json"
    expected = json.loads(damaged.read_text())["runs"]
    for more in ([], ["--metrics=mig"]):
        damaged.write_bytes(b"")
        code, output, errors = invoke(f"--workdir={workdir}", *more)
        assert code == 0, errors
        assert "results: " in output
        rows = json.loads(damaged.read_text())["runs"]
        assert [row["params_sha256"] for row in rows] == [row["params_sha256"] for row in expected]


def test_metrics_may_be_added_later(invoke, straight, tmp_path):
    workdir = tmp_path / "study"
    shutil.copytree(straight, workdir)
    few = ["--num_train=200", "--num_test=100"]
    code, _, errors = invoke(f"--workdir={workdir}", *SIX, "--metrics=mig,udr", *few)
    assert code == 0, errors
    rows = list(csv.DictReader((workdir / "study.csv").read_text().splitlines()))
    assert all(row["mig"] and row["udr"] for row in rows)
    assert digests(workdir) == digests(straight)


def test_seeds_in_several_packs_are_ranked_as_in_one(invoke, tmp_path):
    arguments = [*SMALL, "--objective=beta_vae", "--beta=4", "--seed=0,1,2", "--num_steps=10",
                 "--metrics=mig,udr", "--num_train=200", "--num_test=100"]  # fmt: skip
    tables = []
    for runs in (1, 2):  # on each of two devices
        workdir = tmp_path / str(runs)
        code, _, errors = invoke(f"--workdir={workdir}", *arguments, f"--runs_per_device={runs}")
        assert code == 0, errors
        rows = list(csv.DictReader((workdir / "study.csv").read_text().splitlines()))
        tables.append([[row[name] for name in ("params_sha256", "udr", "mig")]
                       for row in rows])  # fmt: skip
        assert len({row["pack"] for row in rows}) == 2 // runs
    assert tables[0] == tables[1]
    assert all(udr for _, udr, _ in tables[0])
    assert (tmp_path / "1" / "packs" / "000" / "codes.npy").exists()
    assert not (tmp_path / "2" / "packs" / "000" / "codes.npy").exists()


def test_seeds_in_several_packs_are_ranked_on_a_set_of_few_examples(invoke, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "few.npy", rng.integers(0, 256, (120, 16, 16), dtype=np.uint8))
    workdir = tmp_path / "study"
    arguments = ["--dataset=arrays", f"--data_dir={tmp_path / 'few.npy'}", "--network=mlp",
                 "--num_latents=2", "--seed=0,1,2,3", "--num_steps=5", "--batch_size=8",
                 "--metrics=udr", "--runs_per_device=1"]  # fmt: skip
    code, output, errors = invoke(f"--workdir={workdir}", *arguments)
    assert code == 0, errors
    assert "results: " in output  # 10,000 rows are asked for by default, which nothing here has
    rows = list(csv.DictReader((workdir / "study.csv").read_text().splitlines()))
    assert len({row["pack"] for row in rows}) == 2
    assert all(row["udr"] for row in rows)


# Trains a study on eight devices, and says how many it used and what its program is.
EIGHT = """
import pathlib, sys
import numpy as np
from betavae_jax.fit import feed_of
from betavae_jax.population import place_runs, replicate, take_rows
from experiments import built, cli, sweep
from betavae_jax.study.plan import load_study

workdir = pathlib.Path(sys.argv[1].partition("=")[2])
try:
    cli.run(sweep.main)
except SystemExit as end:
    assert end.code == 0
study, plan = load_study(workdir)
settings, rows = study.sweeps[0], plan.packs[0].num_runs
experiment, program = built.experiment_of(settings), built.program_for(settings, rows)
settings = place_runs(take_rows(experiment.runs, 0, rows), program.devices)
arrays = feed_of(experiment, program).arrays(0)
carry = program.init(settings, arrays)
count = replicate(np.int32(1), program.devices)
print(plan.num_devices, len(program.devices))
print(program.advance.lower(carry, settings, arrays, count).compile().as_text())
"""


def test_eight_devices_give_the_same_runs_without_collectives(straight, tmp_path):
    workdir = tmp_path / "study"
    arguments = [*SIX, "--objective=beta_vae"]
    forced = "--xla_force_host_platform_device_count=8"
    environment = {"XLA_FLAGS": forced, "JAX_NUM_CPU_DEVICES": "8"}
    output, _ = finish(start(workdir, *arguments, program=["-c", EIGHT], **environment))
    devices, text = re.search(r"^(8 4)\n(HloModule .*)", output, re.DOTALL | re.MULTILINE).groups()
    assert devices == "8 4"  # of eight, as many as there are runs
    assert "num_partitions=4" in text
    assert not re.search(r"\s(all-\w+|collective-\w+|reduce-scatter)(-start)?\(", text)
    expected = {key: value for key, value in digests(straight).items() if key[0] == "beta_vae"}
    assert digests(workdir) == expected


def test_a_run_that_fails_is_recorded_and_the_study_goes_on(invoke, tmp_path):
    workdir = tmp_path / "study"
    arguments = [*SMALL, "--objective=beta_vae,vae", "--beta=1,1e38", "--learning_rate=0.01",
                 "--num_steps=20", "--metrics=none", "--runs_per_device=2"]  # fmt: skip
    code, _, errors = invoke(f"--workdir={workdir}", *arguments)
    assert code == 0, errors
    rows = list(csv.DictReader((workdir / "study.csv").read_text().splitlines()))
    assert [row["failed_at"] != "" for row in rows] == [False, True, False]
    assert rows[1]["cause"].endswith("not finite")
    assert rows[2]["step"] == "20"


# Each: flags, and what the one line says.
REFUSALS = [
    (["--shard=2/2"], "expected shard to be I/N with I from 0 to N - 1; got '2/2'"),
    (["--shard=x"], "expected shard to be I/N"),
    (["--shard=0/0"], "expected shard to be I/N"),
    (["--runs_per_device=0"], "expected runs_per_device to be auto or a number from 1; got '0'"),
    (["--runs_per_device=many"], "got 'many'"),
    (["--objective=gan"], "got 'gan'"),
    (["--objective="], "expected objective to be one of"),
    (["--objective=vae,vae"], "two sweeps of vae with the same"),
    (["--objective=vae", "--beta=4"], "coefficients of a study of vae, which takes none; got beta"),
    (["--objective=beta_vae", "--beta=4", "--gamma=1"], "got gamma"),
    (["--objective=beta_vae", "--beta=4,4"], "distinct values"),
    (["--objective=beta_vae", "--beta="], "list of distinct values"),
    (["--objective=vae", "--seed=99999999999"], "expected seed to be at most 2147483647"),
    (["--objective=vae", "--num_seeds=0"], "num_seeds"),
    (["--objective=vae", "--rows=0:1"], "got rows"),
    (["--objective=vae", "--metrics=magic"], "got 'magic'"),
    (["--study=missing.toml"], "missing.toml is missing"),
    (["--study=bad.toml"], "to be TOML"),
    (["--study=key.toml"], "got colour"),
    (["--study=key.toml", "--objective=vae"], "expected either --study or --objective; got both"),
    (["--objective=vae", "--dataset=arrays", "--data_dir=missing"], "missing"),
    ([], "expected --study, --objective or a --workdir that holds a study"),
    (["--objective=vae", "--preset=paper"], "objective of preset paper"),
    (["--bta=4"], "Unknown command line flag 'bta'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS, ids=lambda v: " ".join(v)[:40])
def test_bad_input_ends_in_one_line_and_writes_nothing(
    invoke, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("sweep = [")
    (tmp_path / "key.toml").write_text("colour = 3")
    before = sorted(tmp_path.rglob("*"))
    code, _, errors = invoke("--workdir=study", *arguments)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_memory_that_holds_no_run_is_named(invoke, tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    monkeypatch.setattr("betavae_jax.study.measure._images_per_second", exhausted)
    code, _, errors = invoke(f"--workdir={tmp_path / 'study'}", *SMALL, "--objective=vae")
    assert code == 2
    assert "expected the memory of a device to hold one run of vae; it does not" in errors
    assert list(tmp_path.iterdir()) == []


def test_a_count_that_memory_does_not_hold_is_refused_before_the_plan(
    invoke, tmp_path, monkeypatch
):
    def exhausted(experiment, *_):
        assert len(experiment.runs.seed) == 4  # the runs of the largest pack, on two devices
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    monkeypatch.setattr("experiments.planning._TAKING_TURNS", ())  # as on an accelerator
    monkeypatch.setattr("betavae_jax.study.measure._images_per_second", exhausted)
    arguments = ["--objective=vae", "--seed=0,1,2", "--runs_per_device=64"]
    code, _, errors = invoke(f"--workdir={tmp_path / 'study'}", *SMALL, *arguments)
    assert code == 2
    assert "expected the memory of a device to hold 2 runs of vae; it does not" in errors
    assert list(tmp_path.iterdir()) == []


def test_a_cpu_refuses_a_given_count_before_the_plan_and_takes_what_is_advised(
    invoke, tmp_path, monkeypatch
):
    workdir = tmp_path / "study"
    command = [f"--workdir={workdir}", *SMALL, "--objective=vae,beta_tcvae", "--seed=0,1",
               "--num_steps=5", "--metrics=none", "--runs_per_device=1"]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("betavae_jax.memory.available_bytes", lambda: 10_000)
        patch.setattr("betavae_jax.memory._SECONDS_TO_SETTLE", (0.0,))
        code, _, errors = invoke(*command)
        assert code == 2
        assert re.fullmatch(r"betavae_jax: expected .* GB \(a smaller batch_size .*\)\n", errors)
        assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr("betavae_jax.memory._SECONDS_TO_SETTLE", (0.0,))
        answers = iter([1e9, 1e9])  # for the plan; then other processes take it all
        patch.setattr("betavae_jax.memory.available_bytes", lambda: next(answers, 10_000))
        code, _, errors = invoke(*command, "--batch_size=7")
    assert code == 2
    assert errors.endswith("; another batch_size or number of runs needs another --workdir\n")
    assert not list(workdir.glob("packs/*"))  # what the pack had written is gone
    assert invoke(*command, "--batch_size=7")[0] == 0
    assert (workdir / "study.csv").exists()


def test_what_is_measured_stands_in_the_plan(tmp_path, monkeypatch):
    monkeypatch.setattr("betavae_jax.study.measure._SECONDS_TIMED", 0.01)
    shape = {"batch_size": 8, "num_latents": 2, "network": "mlp", "seed": [0, 1, 2],
             "network_settings": {"widths": "8", "decoder_widths": "8"}}  # fmt: skip
    study = make_study({"sweep": [{"objective": "vae"}], "settings": shape, "metrics": ["none"]})
    _, plan = planning.plan_study(tmp_path / "study", study)
    assert plan.runs_per_device == 2  # three seeds on two devices
    assert plan.measured[0]["images_per_second"] > 0
    line = describe_plan(tmp_path, study, plan)
    assert "3 runs of vae in 1 pack; images/s by runs a device 2: " in line


def test_another_study_that_was_planned_meanwhile_is_refused(tmp_path, monkeypatch):
    workdir = tmp_path / "study"
    shape = {"batch_size": 8, "num_latents": 2, "network": "mlp"}
    first, second = (
        make_study({"sweep": [{"objective": "vae"}], "settings": {**shape, "num_steps": steps},
                    "metrics": ["none"]}) for steps in (10, 20)
    )  # fmt: skip

    def locked_late(*args, **kwargs):
        monkeypatch.undo()
        planning.plan_study(workdir, first, runs_per_device=1)
        return locked(*args, **kwargs)

    monkeypatch.setattr(planning, "locked", locked_late)
    with pytest.raises(InputError, match="num_steps of vae was 10, is 20"):
        planning.plan_study(workdir, second, runs_per_device=1)
    assert read_study(workdir) == first


def test_another_study_plan_or_machine_is_refused(invoke, straight, tmp_path):
    workdir = tmp_path / "study"
    shutil.copytree(straight, workdir)

    def refused(*arguments):
        code, _, errors = invoke(f"--workdir={workdir}", *arguments)
        assert code == 2
        assert errors.count("\n") == 1
        return errors

    assert "num_steps of beta_vae was 40, is 41" in refused(*SIX, "--num_steps=41")
    assert "expected runs_per_device to be 1" in refused("--runs_per_device=2")
    plan = json.loads((workdir / "plan.json").read_text())
    plan["machine"]["versions"]["jax"] = "0.1"
    (workdir / "plan.json").write_text(json.dumps(plan))
    assert "versions was" in refused()
    code, _, errors = invoke(f"--workdir={workdir}", "--allow_inexact_resume")
    assert code == 0, errors
    plan["packs"].pop()
    (workdir / "plan.json").write_text(json.dumps(plan))
    assert "it holds 4 runs of 6" in refused()


def test_places_that_cannot_serve_are_refused(invoke, straight, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")

    def refused(workdir):
        code, _, errors = invoke(f"--workdir={workdir}", *SIX)
        assert code == 2
        assert errors.count("\n") == 1
        return errors

    assert "to be a directory; it is a file" in refused(tmp_path / "file")
    assert "to be empty or a study; it holds thesis.tex" in refused(tmp_path / "other")
    assert "expected a workdir that can be written" in refused("/proc/study")

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    assert "on a file system with locks; got Operation not supported" in refused(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_study_of_24_runs_killed_five_times_equals_straight(tmp_path):
    finish(start(tmp_path / "straight", *MANY))
    assert kill_and_go_on(tmp_path / "killed", MANY, kills=5, seed=1) == 5
    both = [start(tmp_path / "shared", *MANY, f"--shard={k}/2") for k in range(2)]
    for process in both:
        finish(process)
    expected = digests(tmp_path / "straight")
    assert len(set(expected.values())) == 24
    assert digests(tmp_path / "killed") == expected
    assert digests(tmp_path / "shared") == expected
