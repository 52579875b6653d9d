"""The run directory: what may train in it, who holds it, what it leaves behind."""

import contextlib
import copy
import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from betavae_jax.checks import InputError
from betavae_jax.runs import directory
from betavae_jax.runs.directory import (
    CHECKPOINTS,
    CONFIG,
    FIGURES,
    FLAGS,
    LOG,
    REPORT,
    RESULTS,
    check_directory,
    locked,
    prepare_directory,
    read_config,
    read_results,
)
from betavae_jax.runs.machine import FORMAT
from betavae_jax.runs.records import write_json
from betavae_jax.runs.settings import MUTABLE, Settings, from_config, resolve, to_config

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = {
    "format": FORMAT,
    "versions": {"jax": "1.2.3", "flax": "4.5"},
    "device_kind": "a device",
    "vectorized_runs": 1,
    "data_sha256": "abc",
    "x_shape": [32, 32, 1],
}


def make_config(program=PROGRAM, **settings):
    return to_config(resolve(Settings(**settings)), program)


BASE = make_config(coefficients={"beta": (1.0, 4.0)}, seed=(0, 1))


@pytest.fixture
def workdir(tmp_path):
    """A prepared run directory."""
    folder = tmp_path / "run"
    folder.mkdir()
    prepare_directory(folder, BASE, {"seed": [0, 1]}, overwrite=False)
    return folder


def listing(folder):
    """Every path below, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def changed(**settings):
    config = copy.deepcopy(BASE)
    config["settings"].update(settings)
    return config


# Who may train here.


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_an_empty_and_a_known_directory_are_welcome(overwrite, tmp_path, workdir):
    empty = tmp_path / "empty"
    empty.mkdir()
    begun = tmp_path / "begun"  # killed between the lock and the configuration
    begun.mkdir()
    (begun / ".lock").write_text("1234")
    (begun / FLAGS).write_text("--seed=0\n")
    before = listing(tmp_path)
    for folder in (tmp_path / "new", tmp_path / "deep" / "new", empty, begun, workdir):
        check_directory(folder, BASE, overwrite=overwrite)
    assert listing(tmp_path) == before  # nothing was written, nor made


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="to be a directory; it is a file"):
            check_directory(path, BASE, overwrite=overwrite)
    with pytest.raises(InputError, match="expected a workdir"), locked(path):
        pass
    with pytest.raises(InputError, match="expected a workdir"), locked(path / "below"):
        pass
    assert path.read_text() == "mine"


# The second is ü in a locale of ASCII.
@pytest.mark.parametrize("name", ["\udcff", "\udcc3\udcbc"])
def test_a_name_that_is_no_utf8_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"a workdir named in UTF-8, .*; got '.*udc.*'"):
        check_directory(tmp_path / name, BASE)


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_files_are_refused(overwrite, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"to be empty or a run directory; it holds thesis\.tex"):
        check_directory(tmp_path, BASE, overwrite=overwrite)


def test_notes_beside_a_run_are_welcome(workdir):
    (workdir / "notes.txt").write_text("")
    check_directory(workdir, BASE)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("seed", r"\[0, 1\]", [0, 2]),
        ("batch_size", "64", 32),
        ("num_latents", "10", 11),
        ("objective", "'beta_vae'", "vae"),
        ("likelihood", "'auto'", "gaussian"),
        ("learning_rate", r"\[0.001\]", [1e-4]),
        ("coefficients", r"\{'beta': \[1.0, 4.0\]\}", {"beta": [1.0]}),
        ("data", ".*", {"image_size": 16}),
        ("a_setting_to_come", "None", 3),
    ],
)
def test_another_setting_is_refused_and_named(name, old, new, workdir):
    with pytest.raises(InputError, match=f"{name} was {old}, is ") as error:
        check_directory(workdir, changed(**{name: new}))
    assert str(error.value).endswith("(choose another --workdir)")  # of a driver without the flag
    with pytest.raises(InputError, match=r"\(choose another --workdir, or --overwrite\)$"):
        check_directory(workdir, changed(**{name: new}), overwrite=False)
    with pytest.raises(InputError):
        check_directory(workdir, changed(**{name: new}), allow_inexact_resume=True)
    check_directory(workdir, changed(**{name: new}), overwrite=True)


def test_all_settings_that_differ_are_named(workdir):
    with pytest.raises(InputError, match=r"batch_size was 64, is 32.*num_latents was 10, is 5"):
        check_directory(workdir, changed(batch_size=32, num_latents=5))


def test_mutable_settings_may_change(workdir):
    check_directory(workdir, changed(**dict.fromkeys(MUTABLE, 77)))


def test_tuples_and_lists_are_the_same(workdir):
    check_directory(workdir, changed(seed=(0, 1), coefficients={"beta": (1, 4)}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("versions", {"jax": "1.2.4", "flax": "4.5"}),
        ("device_kind", "another"),
        ("vectorized_runs", 4),
        ("data_sha256", "abd"),
        ("x_shape", [32, 32, 3]),
        ("a_fact_to_come", 1),
    ],
)
def test_another_program_is_refused_unless_allowed(name, value, workdir):
    config = {**BASE, "program": {**PROGRAM, name: value}}
    with pytest.raises(InputError, match=f"{name} was .*, is .*--allow_inexact_resume"):
        check_directory(workdir, config)
    check_directory(workdir, config, allow_inexact_resume=True)
    check_directory(workdir, config, overwrite=True)


def test_another_setting_goes_before_another_program(workdir):
    config = {**changed(batch_size=1), "program": {**PROGRAM, "device_kind": "another"}}
    with pytest.raises(InputError, match="batch_size"):
        check_directory(workdir, config)


# What is in config.json.


def test_the_configuration_comes_back(workdir):
    config = read_config(workdir)
    assert config == json.loads(json.dumps(BASE))
    assert from_config(config) == resolve(Settings(coefficients={"beta": [1.0, 4.0]}, seed=[0, 1]))


def test_a_missing_configuration(tmp_path):
    with pytest.raises(InputError, match=r"expected a run directory; .*config\.json is missing"):
        read_config(tmp_path)
    with pytest.raises(InputError, match="is missing"):
        read_config(tmp_path / "nowhere")


def test_a_study_is_no_run_directory_and_one_in_it_is_named(workdir):
    study = workdir.parent / "study"
    for name in ("packs/001", "packs/000"):
        shutil.copytree(workdir, study / name)
    with pytest.raises(InputError, match="expected a run directory; "):
        read_config(study)
    (study / "study.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"directory, such as \S+/packs/000 of this study; .* is mis"
    ):
        read_config(study)


def test_a_newer_format_is_refused(workdir):
    config = {**BASE, "program": {**PROGRAM, "format": FORMAT + 1}}
    (workdir / CONFIG).write_text(json.dumps(config))
    for check in (lambda: read_config(workdir), lambda: check_directory(workdir, BASE)):
        with pytest.raises(InputError, match=f"of format {FORMAT} or older; got {FORMAT + 1}"):
            check()
    check_directory(workdir, BASE, overwrite=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b"{}",
        b'{"settings": {}}',
        b'{"settings": {}, "program": {}}',
        b'{"settings": {}, "program": 3}',
        b'{"settings": {}, "program": {"format": "1"}}',
        b'{"settings": {}, "program": {"format": null}}',
        b'{"program": {"format": 1}}',
        b'{"settings": null, "program": {"format": 1}}',
        b'{"settings": [], "program": {"format": 1}}',
    ],
)
def test_a_damaged_configuration_is_refused_in_one_line(content, workdir):
    (workdir / CONFIG).write_bytes(content)
    with pytest.raises(InputError, match=r"expected .*config\.json") as error:
        check_directory(workdir, BASE)
    assert "\n" not in str(error.value)
    check_directory(workdir, BASE, overwrite=True)


# What is in results.json.


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"\x00" * 100, b"\xff\xfe", b"null", b"3", b"[]", b"{}", b'{"runs": null}',
     b'{"runs": {"0": 1}}', b'{"runs": [3]}', b'{"runs": [{}'],
)  # fmt: skip
def test_results_of_which_nothing_can_be_read_are_none(content, tmp_path):
    if content is not None:
        (tmp_path / RESULTS).write_bytes(content)
    assert read_results(tmp_path) is None


def test_results_come_back(tmp_path):
    results = {"runs": [{"run": 0, "elbo": None}, {"run": 1, "elbo": -3.5}]}
    write_json(tmp_path / RESULTS, results)
    assert read_results(tmp_path) == results


# The lock.


def test_the_lock_makes_the_directory_and_keeps_what_is_begun(tmp_path):
    folder = tmp_path / "deep" / "run"
    with locked(folder):
        assert (folder / ".lock").read_text() == str(os.getpid())
        prepare_directory(folder, BASE, {}, overwrite=False)
    assert (folder / CONFIG).exists()
    with locked(folder):
        check_directory(folder, BASE)


def test_a_new_directory_in_which_nothing_was_begun_is_not_left(tmp_path):
    with locked(tmp_path / "run"):
        pass
    with pytest.raises(KeyError), locked(tmp_path / "run"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_full_for_a_lock_is_named_and_no_directory_is_left(tmp_path, monkeypatch):
    write = os.write

    def full(descriptor, content):
        if content == str(os.getpid()).encode():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    workdir = tmp_path / "new"
    monkeypatch.setattr(os, "write", full)
    with (
        pytest.raises(InputError, match=r"can be written; got .*/new \(No space left on device\)"),
        locked(workdir),
    ):
        pytest.fail("it was given")
    assert not workdir.exists()


def test_a_directory_that_was_there_stays(tmp_path):
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        pass
    assert (tmp_path / "run").is_dir()


def test_the_holder_is_alone_in_its_own_process(tmp_path):
    refused = pytest.raises(InputError, match=f"process {os.getpid()} is using it")
    with locked(tmp_path / "run"):
        with refused, locked(tmp_path / "run"):
            pass
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())
        assert (tmp_path / "run").is_dir()  # the one refused did not take it away


HOLD = """
import pathlib, sys
from betavae_jax.runs.directory import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_until_the_holder_is_gone(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        message = f"to be free; process {holder.pid} is using it"
        with pytest.raises(InputError, match=message), locked(folder):
            pass
        assert (folder / ".lock").exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with locked(folder):  # the kernel gave the lock back
            assert (folder / ".lock").read_text() == str(os.getpid())


def test_who_waits_is_told_for_whom(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(directory, "_SECONDS_SILENT", 0.2)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        threading.Timer(1.0, holder.stdin.close).start()
        with locked(tmp_path, wait=True):
            assert (tmp_path / ".lock").read_text() == str(os.getpid())
    told = f"waiting for process {holder.pid}, which is using {tmp_path}"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_who_waits_a_moment_is_told_nothing(tmp_path, caplog):
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(tmp_path))
        threading.Timer(0.3, stack.pop_all().close).start()
        with locked(tmp_path, wait=True):
            assert (tmp_path / ".lock").read_text() == str(os.getpid())
    assert caplog.records == []


def test_who_waits_for_a_directory_that_is_forgotten_makes_another(tmp_path):
    """Else the lock is of a file that is gone, and a third process holds another."""
    folder = tmp_path / "run"
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(folder))  # makes the directory, and begins nothing there
        threading.Timer(0.3, stack.pop_all().close).start()
        with locked(folder, wait=True):
            assert (folder / ".lock").read_text() == str(os.getpid())
            refused = pytest.raises(InputError, match="to be free")
            with refused, locked(folder):
                pass
    assert list(tmp_path.iterdir()) == []  # the second has made it, and began nothing


def test_a_directory_that_goes_while_its_lock_is_opened_is_made_again(tmp_path, monkeypatch):
    """As if another process forgot it between our two steps."""
    gone = []
    mkdir = pathlib.Path.mkdir

    def made_and_gone(self, *args, **kwargs):
        mkdir(self, *args, **kwargs)
        if not gone:
            self.rmdir()
            gone.append(self)

    monkeypatch.setattr(pathlib.Path, "mkdir", made_and_gone)
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").exists()
    assert gone == [tmp_path / "run"]


# What is prepared.


def test_prepare(workdir):
    flags = {"beta": [1, 4.5], "seed": (0, 1), "dataset": "blobs", "sigma": 0.1, "deep": True}
    prepare_directory(workdir, BASE, flags, overwrite=False)
    assert (workdir / FLAGS).read_text() == (
        "--beta=1,4.5\n--seed=0,1\n--dataset=blobs\n--sigma=0.1\n--deep=True\n"
    )
    assert read_config(workdir) == json.loads(json.dumps(BASE))
    assert sorted(p.name for p in workdir.iterdir()) == [CONFIG, FLAGS]


def test_flags_are_utf8_in_any_locale(tmp_path):
    program = (
        "import pathlib, sys; from betavae_jax.runs.directory import prepare_directory;"
        "workdir, flag = sys.argv[1:];"
        "prepare_directory(pathlib.Path(workdir), {}, {'workdir': flag}, overwrite=False)"
    )
    ascii_only = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", program, str(tmp_path), "w/ünï"]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **ascii_only})
    assert (tmp_path / FLAGS).read_text("utf-8") == "--workdir=w/ünï\n"


def fill(folder):
    for name in (LOG, RESULTS, REPORT, "notes.txt", ".lock"):
        (folder / name).write_text("old")
    for name in (CHECKPOINTS, FIGURES, "mine"):
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "deep" / "file").write_text("old")


def test_flags_are_whole_or_as_they_were(workdir, tmp_path, monkeypatch):
    """They repeat the run, so neither a full disk nor a kill may empty them; nor may a copy whose
    files are links change those of the original."""
    prepare_directory(workdir, BASE, {"beta": [4.0]}, overwrite=False)
    (tmp_path / "linked.txt").hardlink_to(workdir / FLAGS)

    def full(path, text, **kwargs):
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*flags.txt'"):
            prepare_directory(workdir, BASE, {"beta": [5.0]}, overwrite=False)
    assert (workdir / FLAGS).read_text() == "--beta=4.0\n"
    prepare_directory(workdir, BASE, {"beta": [5.0]}, overwrite=False)
    assert (workdir / FLAGS).read_text() == "--beta=5.0\n"
    assert (tmp_path / "linked.txt").read_text() == "--beta=4.0\n"


def test_prepare_leaves_an_earlier_run(workdir):
    fill(workdir)
    before = listing(workdir)
    prepare_directory(workdir, BASE, {"seed": [0, 1]}, overwrite=False)
    assert listing(workdir) == before


def test_overwriting_removes_what_is_ours_alone(workdir):
    fill(workdir)
    prepare_directory(workdir, changed(batch_size=3), {"a": 1}, overwrite=True)
    assert sorted(p.name for p in workdir.iterdir()) == sorted(
        [CONFIG, FLAGS, "notes.txt", "mine", ".lock"]
    )
    assert (workdir / "notes.txt").read_text() == "old"
    assert (workdir / "mine" / "deep" / "file").read_text() == "old"
    assert read_config(workdir)["settings"]["batch_size"] == 3
    assert (workdir / FLAGS).read_text() == "--a=1\n"


def test_overwriting_an_empty_directory(tmp_path):
    prepare_directory(tmp_path, BASE, {}, overwrite=True)
    check_directory(tmp_path, BASE)


def test_overwriting_where_checkpoints_lie_on_another_disk(workdir, tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "1").write_text("")
    (workdir / CHECKPOINTS).symlink_to(tmp_path / "scratch")
    prepare_directory(workdir, BASE, {}, overwrite=True)
    assert not (workdir / CHECKPOINTS / "1").exists()


class Killed(BaseException):
    """Ends a call at a moment of the test's choice."""


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("moment", range(14))
def test_a_kill_at_any_moment_leaves_a_directory_to_go_on_in(
    moment, overwrite, tmp_path, monkeypatch
):
    """Each change of a file is a moment; the same command is welcome after a kill there."""
    folder = tmp_path / "run"
    folder.mkdir()
    if overwrite:
        prepare_directory(folder, BASE, {}, overwrite=False)
        fill_ours(folder)
        (folder / "notes.txt").write_text("mine")
    left = [moment]

    def counted(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", counted(pathlib.Path.write_text))
        patch.setattr(pathlib.Path, "unlink", counted(pathlib.Path.unlink))
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(directory.shutil, "rmtree", counted(directory.shutil.rmtree))
        with contextlib.suppress(Killed):
            prepare_directory(folder, BASE, {"a": 1}, overwrite=overwrite)
    check_directory(folder, BASE, overwrite=overwrite)
    prepare_directory(folder, BASE, {"a": 1}, overwrite=overwrite)
    assert read_config(folder) == json.loads(json.dumps(BASE))


def fill_ours(folder):
    for name in (LOG, RESULTS, REPORT, ".lock"):
        (folder / name).write_text("old")
    for name in (CHECKPOINTS, FIGURES):
        (folder / name).mkdir()
