"""The cache on disk: what it returns after damage, kills, full disks and races."""

import errno
import io
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.data import cache
from betavae_jax.data.cache import cache_folder, cached_arrays

KEY = {"version": 1, "size": 64}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BETAVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Counts how often the arrays are made."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return arrays()


def arrays():
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (50, 64), np.uint8),
        "positions": rng.normal(size=(3, 2)),
        "none": np.zeros((4, 0), np.int32),
        "single": np.float32(3.5).reshape(()),
    }


def assert_same(found):
    expected = arrays()
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def files(folder):
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


def run(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"BETAVAE_CACHE": "/some/where", "XDG_CACHE_HOME": "/x"}, "/some/where"),
        ({"BETAVAE_CACHE": "~/there"}, "/home/me/there"),
        ({"BETAVAE_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/betavae_jax"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/betavae_jax"),
        ({}, "/home/me/.cache/betavae_jax"),
    ],
)
def test_the_folder_follows_the_environment(monkeypatch, variables, expected):
    for name in ("BETAVAE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == pathlib.Path(expected)


def test_a_user_without_a_home_is_told(monkeypatch):
    def no_home(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("BETAVAE_CACHE")
    monkeypatch.setattr(pathlib.Path, "expanduser", no_home)
    with pytest.raises(InputError, match=r"home folder, or BETAVAE_CACHE to name one; got none$"):
        cache_folder()


def test_arrays_are_made_once(folder, caplog):
    make = Maker()
    assert_same(cached_arrays("set", KEY, make))
    found = cached_arrays("set", dict(reversed(KEY.items())), make)
    assert_same(found)
    found["images"][0] = 0  # free to be written to
    assert_same(cached_arrays("set", KEY, make))
    assert make.calls == 1
    assert len(files(folder)) == 1
    assert not caplog.records


def test_another_name_or_key_is_another_file(folder):
    make = Maker()
    cached_arrays("set", KEY, make)
    cached_arrays("set", {**KEY, "version": 2}, make)
    cached_arrays("other", KEY, make)
    assert make.calls == 3
    assert len(files(folder)) == 3


def test_the_file_is_an_ordinary_npz(folder):
    cached_arrays("set", KEY, Maker())
    (path,) = folder.glob("set-*.npz")
    with np.load(path, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["images"], arrays()["images"])
        assert json.loads(archive["header.json"])["key"] == KEY
    assert path.stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o022))


def flipped(content):
    middle = content.index(arrays()["images"].tobytes()) + 1000
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def rewritten(change):
    """Makes a damage that every checksum of the archive misses."""

    def damage(content):
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            members = {name: archive[name] for name in archive.files}
        header = json.loads(members.pop("header.json"))
        change(header, members)
        file = io.BytesIO()
        np.savez(file, **members)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("header.json", json.dumps(header))
        return file.getvalue()

    return damage


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "flipped": flipped,
    "foreign": lambda content: b"not ours",
    "no header": lambda content: content.replace(b"header.json", b"header.jsox"),
    "other format": rewritten(lambda header, members: header.update(format=0)),
    "other key": rewritten(lambda header, members: header.update(key={"version": 0})),
    "other dtype": rewritten(
        lambda header, members: members.update(positions=members["positions"].view(np.int64))
    ),
    "other bytes": rewritten(lambda header, members: members["images"].sort()),
    "lacking": rewritten(lambda header, members: members.pop("none")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_anew_with_a_warning(folder, caplog, damage):
    make = Maker()
    cached_arrays("set", KEY, make)
    (path,) = folder.glob("*.npz")
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    assert_same(cached_arrays("set", KEY, make))
    assert make.calls == 2
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text
    assert len(caplog.text.splitlines()) == 1
    assert_same(cached_arrays("set", KEY, make))
    assert make.calls == 2


def test_what_cannot_be_made_leaves_nothing(folder):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_arrays("set", KEY, interrupted)
    assert files(folder) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_interrupted_write_leaves_nothing(folder, monkeypatch, failure):
    def fail(number):
        raise failure

    monkeypatch.setattr(cache.os, "fsync", fail)
    make = Maker()
    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else InputError):
        cached_arrays("set", KEY, make)
    assert files(folder) == []
    monkeypatch.undo()
    monkeypatch.setenv("BETAVAE_CACHE", str(folder))
    assert_same(cached_arrays("set", KEY, make))


def test_a_full_disk_ends_in_one_line(folder):
    # a limit on the size of files fails inside write(2), as a full disk does
    code = """
import resource, sys
import numpy as np
from betavae_jax.checks import InputError
from betavae_jax.data.cache import cached_arrays
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    cached_arrays("set", {}, lambda: {"images": np.zeros((1000, 4096), np.uint8)})
except InputError as error:
    sys.exit(str(error))
"""
    process = run(code)
    _, message = process.communicate()
    assert process.returncode == 1
    assert len(message.splitlines()) == 1, message
    assert str(folder) in message
    assert "File too large" in message
    assert "BETAVAE_CACHE" in message
    assert files(folder) == []


def test_a_chosen_folder_that_is_none_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BETAVAE_CACHE", str(tmp_path / "file"))
    make = Maker()
    with pytest.raises(InputError, match=r"write to the cache folder .*file; got") as caught:
        cached_arrays("set", KEY, make)
    assert "\n" not in str(caught.value)
    assert make.calls == 0


def test_a_default_folder_that_is_none_is_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.delenv("BETAVAE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    make = Maker()
    assert_same(cached_arrays("set", KEY, make))
    assert_same(cached_arrays("set", KEY, make))
    assert make.calls == 2
    assert [r.levelno for r in caplog.records] == [logging.WARNING] * 2
    assert "going on without a cache" in caplog.text


def test_a_whole_file_is_read_where_nothing_can_be_written(monkeypatch):
    cached_arrays("set", KEY, Maker())

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    make = Maker()
    assert_same(cached_arrays("set", KEY, make))
    assert make.calls == 0
    with pytest.raises(InputError, match="got Permission denied"):
        cached_arrays("other", KEY, make)


SLOW_MAKER = """
import pathlib, sys, time
import numpy as np
from betavae_jax.data import cache
def make():
    print("making", flush=True)
    time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
    return {"images": np.full(10, 7)}
"""


def test_of_two_processes_one_makes_the_arrays(folder):
    code = SLOW_MAKER + 'assert cache.cached_arrays("set", {}, make)["images"].sum() == 70'
    processes = [run(code) for _ in range(2)]
    made = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(made) == ["", "making\n"]
    assert len(files(folder)) == 1


def test_a_process_killed_inside_a_write_leaves_no_file_behind(folder):
    code = SLOW_MAKER + (
        'cache.os.fsync = lambda number: print("writing", flush=True) or time.sleep(60)\n'
        'cache.cached_arrays("set", {"a": 1}, lambda: {"images": np.zeros(99)})'
    )
    process = run(code)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [name for name in files(folder) if name.endswith(".npz")] == []
    began = time.monotonic()
    found = cached_arrays("set", {"a": 1}, lambda: {"images": np.ones(5)})
    assert time.monotonic() - began < 5  # the lock ended with its holder
    np.testing.assert_array_equal(found["images"], np.ones(5))
    assert len(files(folder)) == 1
