"""What every driver does before its own work, and at a signal."""

import os
import signal
import subprocess
import sys
import time
import types

import pytest

from experiments import cli

ROOT = str(cli.__file__).removesuffix("experiments/cli.py")
DRIVER = """
import jax
from experiments import cli

def main():
    print(jax.device_count())
    return 0

cli.run(main)
"""


def environment(**given):
    return {**{k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}, **given}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, len(os.sched_getaffinity(0))),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
        ({"JAX_NUM_CPU_DEVICES": "1"}, 1),
    ],
)
def test_a_core_is_a_device_unless_told_otherwise(given, expected):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        env=environment(**given),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


def test_what_the_locale_has_not_is_printed_all_the_same():
    done = subprocess.run(
        [sys.executable, "-c", DRIVER.replace("jax.device_count()", "'β'")],
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "?\n"), done.stderr


def test_a_core_of_another_task_is_no_device():
    mine = os.sched_getaffinity(0)
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{min(mine)}}})\n{DRIVER}"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "--xla_gpu_deterministic_ops=true"),
        ("--a", "--a --xla_gpu_deterministic_ops=true"),
        (  # a later flag may have taken it back
            "--xla_gpu_deterministic_ops=true --xla_gpu_deterministic_ops=false",
            "--xla_gpu_deterministic_ops=true --xla_gpu_deterministic_ops=false"
            " --xla_gpu_deterministic_ops=true",
        ),
    ],
)
def test_the_same_bits_are_asked_for_once(monkeypatch, given, expected):
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(cli, "DETERMINISTIC", types.SimpleNamespace(value=True))
    for _ in range(2):
        cli.exclude_nondeterministic_operations()
        assert os.environ["XLA_FLAGS"] == expected
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(cli, "DETERMINISTIC", types.SimpleNamespace(value=False))
    cli.exclude_nondeterministic_operations()
    assert os.environ["XLA_FLAGS"] == given


# Results are written, then printed: at once, or as the process ends.
PRINTING = """
import pathlib, sys
from experiments import cli

def main():
    pathlib.Path("results").write_text("whole")
    print("a line")
    print("another", file=sys.stderr)
    return 0

cli.run(main)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("streams", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&- <&-", 0),
        ("| exec true", 141),  # as of any program whose reader has gone
        (">/dev/full", 1),
    ],
)
def test_who_cannot_print_has_its_results_all_the_same(tmp_path, streams, code, unbuffered):
    done = subprocess.run(
        ["bash", "-c", f'(sleep 0.3; exec "$0" -c "$1") {streams}; exit ${{PIPESTATUS[0]}}',
         sys.executable, PRINTING],
        cwd=tmp_path,
        env=environment(PYTHONPATH=ROOT, PYTHONUNBUFFERED=unbuffered),
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["results"]
    assert (tmp_path / "results").read_text() == "whole"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


# Busy with something, in a folder that is to be cleaned up; arguments: with what, seconds for it.
BUSY = """
import gc, sys, tempfile, threading, time, weakref
from experiments import cli

class Some:
    pass

class Slow:
    def __del__(self):
        rest()

def rest(*_):  # while the signal arrives
    print("up", flush=True)
    time.sleep(0.5)

def collecting():
    gc.callbacks.append(rest)
    gc.collect()
    gc.callbacks.remove(rest)

def destroying():
    Slow()

def telling():
    some = Some()
    weak = weakref.ref(some, rest)
    del some

def joining():
    threading.Thread(target=time.sleep, args=(60,)).start()
    rest()

def main():
    with tempfile.TemporaryDirectory(dir="."):
        globals()[what]()
        time.sleep(60)
    return 0

cli._SECONDS_TO_CLEAN = float(sys.argv.pop())
what = sys.argv.pop()
cli.run(main)
"""


@pytest.fixture
def busy(tmp_path):
    """Starts a driver that is busy with something until it is told to stop."""
    started = []

    def call(what, seconds_to_clean):
        command = [sys.executable, "-c", BUSY, what, str(seconds_to_clean)]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(PYTHONPATH=ROOT),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "up\n"
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


CODES = [(signal.SIGTERM, 75), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "code"), CODES, ids=["term", "int"])
@pytest.mark.parametrize(
    ("what", "seconds", "is_clean"),
    [
        ("collecting", 30, True),
        ("destroying", 30, True),
        ("telling", 0.5, False),  # an exception of this one is lost
        ("joining", 0.5, True),  # but the process does not end of itself
    ],
    ids=str,
)
def test_a_signal_ends_a_driver_whatever_it_does(
    what, seconds, is_clean, number, code, busy, tmp_path
):
    process = busy(what, seconds)
    time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert "betavae_jax: stopped; run again to resume\n" in errors
    assert is_clean == (not list(tmp_path.iterdir()))


def test_a_second_signal_ends_it_at_once(busy):
    process = busy("joining", 30)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 75  # as the first one said
