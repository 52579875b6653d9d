"""A process's share of a study, where other processes hold packs of it."""

import pathlib
import signal
import subprocess
import sys
import time
import types

import pytest

from betavae_jax.runs.directory import CONFIG, RESULTS
from betavae_jax.runs.records import write_json
from betavae_jax.study.grid import make_study
from betavae_jax.study.plan import Plan, cut, pack_directory, write_plan, write_study
from experiments import shares
from experiments.packs import PackEnd

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDY = make_study(
    {"sweep": [{"objective": "vae"}], "settings": {"seed": [0, 1, 2]}, "metrics": ["none"]}
)
PLAN = Plan(cut(STUDY, 1), 1, 1, (), {})


@pytest.fixture
def workdir(tmp_path):
    """A study of three packs, not begun."""
    write_study(tmp_path, STUDY)
    write_plan(tmp_path, PLAN)
    return tmp_path


@pytest.fixture
def others(monkeypatch):
    """How often each pack is found in use; gives the packs tried and the seconds slept."""
    tried, slept, busy = [], [], {}

    def run_pack(workdir, number, on_chunk, **_):
        del workdir, on_chunk
        tried.append(number)
        busy[number] = busy.get(number, 0) - 1
        return PackEnd("finished" if busy[number] < 0 else "busy", 0, 0)

    monkeypatch.setattr(shares, "run_pack", run_pack)
    monkeypatch.setattr(shares, "time", types.SimpleNamespace(sleep=slept.append))
    return busy, tried, slept


def test_a_pack_in_use_is_waited_for_by_its_shard_for_two_minutes(workdir, others, capsys):
    busy, tried, slept = others
    busy[1] = 99
    assert shares.train_shard(workdir, STUDY, PLAN.packs).status == "busy"
    assert tried == [0, 1, 2] + 7 * [1]  # the others are not kept waiting
    assert slept == [1, 2, 4, 8, 16, 32, 64]
    assert 120 <= sum(slept) < 130
    said = capsys.readouterr().err
    assert "pack 1 is in use by another process, tried again in 64 s" in said


def test_a_pack_that_is_let_go_is_trained(workdir, others):
    busy, tried, slept = others
    busy |= {0: 1, 2: 3}
    assert shares.train_shard(workdir, STUDY, PLAN.packs) == ("finished", 0, 0)
    assert tried == [0, 1, 2, 0, 2, 2, 2]
    assert slept == [1, 2, 4]


def test_without_shards_a_pack_in_use_is_tried_once_more_and_left_to_others(workdir, others):
    busy, tried, slept = others
    busy[0] = 99
    assert shares.train_packs(workdir, STUDY, PLAN.packs).status == "busy"
    assert (tried, slept) == ([0, 1, 2, 0], [])


# Waits for packs that are in use for longer than the test.
WAITING = """
import pathlib, sys
from betavae_jax.study.plan import load_study
from experiments import cli, shares
from experiments.packs import PackEnd

shares.run_pack = lambda *_, **__: PackEnd("busy", 0, 0)
workdir = pathlib.Path(sys.argv.pop())

def main():
    study, plan = load_study(workdir)
    shares.train_packs(workdir, study, plan.packs, waits=(600.0,))
    return 0

cli.run(main)
"""


def test_sigterm_ends_the_wait_at_once(workdir):
    errors = workdir / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, str(workdir)], cwd=ROOT, stderr=file
        )
    while "tried again in 600 s" not in errors.read_text():
        assert process.poll() is None, errors.read_text()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 75
    assert "stopped; run again to resume" in errors.read_text()


def test_a_shard_with_a_pack_in_use_is_to_be_started_again(workdir, capsys):
    assert shares.say_unfinished(workdir, STUDY, PLAN, PLAN.packs[0::2]) == 75
    assert shares.say_unfinished(workdir, STUDY, PLAN, PLAN.packs[1:2]) == 75
    assert shares.say_unfinished(workdir, STUDY, PLAN, ()) == 0
    folder = pack_directory(workdir, 1)
    folder.mkdir(parents=True)
    write_json(folder / CONFIG, {})
    row = {"failed_at": None, "step": STUDY.sweeps[0].num_steps, "metrics": {}}
    write_json(folder / RESULTS, {"runs": [row]})
    assert shares.say_unfinished(workdir, STUDY, PLAN, PLAN.packs[1:2]) == 0  # meanwhile it is done
    assert capsys.readouterr().out.splitlines() == [
        "0 of 3 packs are finished; packs 0, 2 are in use by another process, run again to go on",
        "0 of 3 packs are finished; pack 1 is in use by another process, run again to go on",
        "0 of 3 packs are finished; others still work",
        "1 of 3 packs are finished; others still work",
    ]


def test_many_packs_in_use_are_counted_off():
    assert (
        shares.say_in_use(range(8)) == "packs 0, 1, 2, 3, 4, 5, 6, 7 are in use by another process"
    )
    assert shares.say_in_use(range(9)) == (
        "packs 0, 1, 2, 3, 4, 5, 6, 7, … are in use by another process"
    )
