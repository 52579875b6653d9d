"""Checkpoints: exact, kept few, and never half there."""

import contextlib
import errno
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from betavae_jax.runs.checkpoints import CheckpointError, open_checkpoints, read_latest
from betavae_jax.runs.leaves import flatten_leaves

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOGGER = "betavae_jax.runs.checkpoints"

# TensorStore's threads complain to a closed event loop when a read fails half way.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def make_tree(seed):
    rng = np.random.default_rng(seed)
    return {
        "params": {
            "encoder": {"kernel": rng.normal(size=(2, 30, 7)).astype(np.float32)},
            "decoder": {"network": rng.normal(size=(2, 5)).astype(np.float32), "likelihood": ()},
        },
        "critic": (),
        "step": np.asarray([seed, seed], np.int32),
    }


def assert_same(got, expected):
    """Equal structure, dtypes, shapes and bits."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    got, expected = flatten_leaves(got), flatten_leaves(expected)
    for name, leaf in expected.items():
        assert got[name].dtype == leaf.dtype, name
        assert got[name].shape == leaf.shape, name
        assert got[name].tobytes() == leaf.tobytes(), name


@contextlib.contextmanager
def opened(directory, keep=2):
    checkpoints = open_checkpoints(directory, keep=keep)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory):
    """Checkpoints of steps 1 and 2, not to be changed."""
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    with opened(directory) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, make_tree(step))
    return directory


@pytest.fixture
def saved(two_saved, tmp_path):
    return pathlib.Path(shutil.copytree(two_saved, tmp_path / "checkpoints"))


def restore(directory, caplog):
    """What is restored, and the warnings given."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, LOGGER), opened(directory) as checkpoints:
        restored = checkpoints.restore(make_tree(0))
    return restored, [r.getMessage() for r in caplog.records if r.name == LOGGER]


# Save and restore.


def test_nothing_saved_nothing_restored(tmp_path):
    with opened(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore(make_tree(0)) is None


def test_what_is_restored_is_what_was_saved(tmp_path):
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32), "none": ()}
    tree = {
        "optimizer": optax.adam(1e-3).init(params),
        "empty": ((), {"deeper": ()}),
        "special": np.asarray([np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32),
        "payload": np.asarray([0x7FC00001, 0xFFC12345], np.uint32).view(np.float32),  # two NaNs
        "scalar": np.asarray(-7, np.int32),
        "mask": np.asarray([True, False]),
        "bytes": np.arange(256, dtype=np.uint8),
        "long": np.asarray([2**62, -(2**63)], np.int64),
        "double": np.asarray([0.1, 1e300]),
        "half": np.asarray([1.5, -2.0], np.float16),
        "brain": np.asarray([1.5, -2.0], ml_dtypes.bfloat16),
        "fortran": np.asfortranarray(rng.normal(size=(4, 5, 6))),
    }
    with opened(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, tree)
        step, again = checkpoints.restore(tree)
        assert step == 3
        assert_same(again, tree)
    with opened(tmp_path / "checkpoints") as checkpoints:
        template = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype), tree)
        step, again = checkpoints.restore(template)
    assert step == 3
    assert_same(again, tree)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(again))


def test_the_last_few_are_kept(tmp_path):
    with opened(tmp_path / "checkpoints", keep=3) as checkpoints:
        for step in (9, 10, 11, 100, 1000):
            checkpoints.save(step, make_tree(step))
            got, tree = checkpoints.restore(make_tree(0))
            assert got == step
            assert_same(tree, make_tree(step))
    assert set(names(tmp_path / "checkpoints")) == {"11", "100", "1000"}


def test_a_step_is_saved_once(saved):
    with opened(saved) as checkpoints:
        with pytest.raises(CheckpointError, match=r"of step 2 .*the checkpoint of step 2 is whole"):
            checkpoints.save(2, make_tree(5))
        step, tree = checkpoints.restore(make_tree(0))
    assert step == 2
    assert_same(tree, make_tree(2))


# Damage.


def test_no_flipped_bit_goes_unnoticed(two_saved, tmp_path, caplog):
    """Each file of the latest checkpoint, at three places: exact, or the one before it serves."""
    files = [p.relative_to(two_saved) for p in sorted(two_saved.glob("2/**/*")) if p.is_file()]
    fallbacks = set()
    for number, name in enumerate(files):
        size = (two_saved / name).stat().st_size
        for place in sorted({0, size // 2, size - 1}):
            directory = tmp_path / f"{number}-{place}"
            shutil.copytree(two_saved, directory)
            content = bytearray((directory / name).read_bytes())
            content[place] ^= 0x10
            (directory / name).write_bytes(content)
            (step, tree), warnings = restore(directory, caplog)
            assert_same(tree, make_tree(step))
            if step == 2:
                assert warnings == [], name
                continue
            fallbacks.add(name)
            assert step == 1
            assert len(warnings) == 1, name
            assert warnings[0].startswith("checkpoint of step 2 is damaged (")
            assert "\n" not in warnings[0]
            shutil.rmtree(directory)
    kinds = {name.name if "state/d" not in str(name) else "state/d" for name in fallbacks}
    assert {"metadata", "_METADATA", "manifest.ocdbt", "state/d"} <= kinds
    assert any("ocdbt.process_0/d" in str(name) for name in fallbacks)  # where the arrays are


def test_no_flipped_bit_of_the_arrays_goes_unnoticed(two_saved, tmp_path, caplog):
    name = max((p for p in two_saved.glob("2/**/*") if p.is_file()), key=lambda p: p.stat().st_size)
    name = name.relative_to(two_saved)
    size = (two_saved / name).stat().st_size
    found = 0
    for place in range(7, size, size // 24):
        directory = tmp_path / str(place)
        shutil.copytree(two_saved, directory)
        content = bytearray((directory / name).read_bytes())
        content[place] ^= 1 << place % 8
        (directory / name).write_bytes(content)
        (step, tree), warnings = restore(directory, caplog)
        assert_same(tree, make_tree(step))
        assert len(warnings) == (step == 1)
        found += step == 1
    assert found >= 20  # the rest are bytes that no array is read from


@pytest.mark.parametrize("how", ["truncated", "emptied", "deleted"])
def test_files_cut_or_lost(how, two_saved, tmp_path, caplog):
    files = [p.relative_to(two_saved) for p in sorted(two_saved.glob("2/**/*")) if p.is_file()]
    fallbacks = 0
    for number, name in enumerate(files):
        directory = tmp_path / str(number)
        shutil.copytree(two_saved, directory)
        content = (directory / name).read_bytes()
        if how == "deleted":
            (directory / name).unlink()
        else:
            kept = len(content) // 2 if how == "truncated" else 0
            (directory / name).write_bytes(content[:kept])
        (step, tree), warnings = restore(directory, caplog)
        assert_same(tree, make_tree(step))
        assert len(warnings) == (step == 1), name
        fallbacks += step == 1
    assert fallbacks >= 4


@pytest.mark.parametrize("lost", ["state", "meta", "state/ocdbt.process_0", "."])
def test_folders_lost(lost, saved, caplog):
    shutil.rmtree(saved / "2" / lost)
    if lost == ".":
        (saved / "2").mkdir()
    (step, tree), warnings = restore(saved, caplog)
    assert step == 1
    assert_same(tree, make_tree(1))
    assert len(warnings) == 1


def damage(directory, step):
    (directory / str(step) / "meta" / "metadata").write_text("{")


def test_training_goes_on_after_damage(saved, caplog):
    """The damaged checkpoint is set aside, and its step can be saved anew."""
    damage(saved, 2)
    with opened(saved) as checkpoints:
        assert checkpoints.restore(make_tree(0))[0] == 1
        checkpoints.save(2, make_tree(22))
        step, tree = checkpoints.restore(make_tree(0))
        assert step == 2
        assert_same(tree, make_tree(22))
    (step, tree), warnings = restore(saved, caplog)
    assert step == 2
    assert_same(tree, make_tree(22))
    assert warnings == []
    damage(saved, 2)  # once more: what was set aside the first time makes room
    assert restore(saved, caplog)[0][0] == 1


def test_a_checkpoint_under_another_step_is_not_taken_for_it(saved, caplog):
    """Its arrays are whole, but they are of step 2: five steps would be taken for done."""
    (saved / "2").rename(saved / "5")
    (step, tree), warnings = restore(saved, caplog)
    assert step == 1
    assert_same(tree, make_tree(1))
    assert len(warnings) == 1


@pytest.mark.parametrize("again", [False, True])
def test_all_damaged(again, saved, caplog):
    """Never from the start anew, not even when the same command is given again."""
    damage(saved, 1)
    damage(saved, 2)
    with pytest.raises(CheckpointError, match=r"none of the checkpoints in .* can be read"):
        restore(saved, caplog)
    if again:
        with pytest.raises(CheckpointError):
            restore(saved, caplog)


@pytest.mark.parametrize("depth", ["file", "folder"])
def test_a_disk_that_gives_nothing_is_no_damage(depth, saved, caplog):
    """A link to itself stands for it: once it is gone, the latest checkpoint serves."""
    path = max((p for p in saved.glob("2/**/*") if p.is_file()), key=lambda p: p.stat().st_size)
    path = path if depth == "file" else path.parent
    content = path.rename(saved.parent / "away")
    path.symlink_to(path)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"could not read .*/2 \(.*it is left as it is"):
            restore(saved, caplog)
        with pytest.raises(CheckpointError, match="could not read"):
            read_latest(saved)
    assert names(saved) == ["1", "2"]
    path.unlink()
    content.rename(path)
    (step, tree), warnings = restore(saved, caplog)
    assert (step, warnings) == (2, [])
    assert_same(tree, make_tree(2))


def test_what_a_disk_refuses_once_is_read_again(saved, caplog, monkeypatch):
    import orbax.checkpoint as ocp

    refused = []

    def restore_once(self, *args, **kwargs):
        if not refused:
            refused.append(args)
            raise OSError(errno.EIO, "Input/output error")
        return ocp_restore(self, *args, **kwargs)

    ocp_restore = ocp.CheckpointManager.restore
    monkeypatch.setattr(ocp.CheckpointManager, "restore", restore_once)
    (step, tree), warnings = restore(saved, caplog)
    assert (step, warnings, len(refused)) == (2, [], 1)
    assert_same(tree, make_tree(2))


def test_too_little_memory_is_no_damage(saved, caplog, monkeypatch):
    import orbax.checkpoint as ocp

    def too_large(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(ocp.CheckpointManager, "restore", too_large)
    with pytest.raises(CheckpointError, match=r"could not read .*/2 \(MemoryError\)"):
        restore(saved, caplog)
    assert names(saved) == ["1", "2"]


def test_whole_checkpoints_of_another_program_are_left_alone(saved):
    """A template of other shapes is an error of the caller; nothing is damaged."""
    template = {**make_tree(0), "step": np.zeros((3,), np.int32)}
    with opened(saved) as checkpoints, pytest.raises((CheckpointError, ValueError)):
        checkpoints.restore(template)
    assert names(saved) == ["1", "2"]
    with opened(saved) as checkpoints:
        step, tree = checkpoints.restore(make_tree(0))
    assert step == 2
    assert_same(tree, make_tree(2))


def test_other_files_in_the_folder(saved, caplog):
    (saved / "notes.txt").write_text("")
    (saved / "old").mkdir()
    (step, _), warnings = restore(saved, caplog)
    assert step == 2
    assert warnings == []
    assert {"notes.txt", "old"} <= set(names(saved))


# A save that ends half way.


@pytest.mark.parametrize("name", ["3.orbax-checkpoint-tmp", "3.orbax-checkpoint-tmp-1700000000"])
def test_what_a_killed_save_left_is_removed(name, saved, caplog):
    shutil.copytree(saved / "2", saved / name)
    (step, tree), warnings = restore(saved, caplog)
    assert step == 2
    assert_same(tree, make_tree(2))
    assert warnings == []
    assert names(saved) == ["1", "2"]


def test_what_a_save_prints_without_failing_is_passed_on(saved, monkeypatch, capsys):
    import orbax.checkpoint as ocp

    def wordy(self, step, *args, **kwargs):
        sys.stderr.write("slow\n")

    monkeypatch.setattr(ocp.CheckpointManager, "save", wordy)
    with opened(saved) as checkpoints:
        checkpoints.save(3, make_tree(3))
    assert capsys.readouterr().err == "slow\n"


def test_a_checkpoint_is_on_the_disk_once_it_is_saved(tmp_path, monkeypatch):
    """Of two that were not, a lost node may leave neither, and they are all that is kept."""
    synced, fsync = {}, os.fsync

    def noted(descriptor):
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size

    monkeypatch.setattr(os, "fsync", noted)
    directory = tmp_path / "checkpoints"
    with opened(directory) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, make_tree(step))
            files = [path for path in (directory / str(step)).rglob("*") if path.is_file()]
            assert len(files) > 5
            for path in files:
                assert synced.get(path.stat().st_ino) == path.stat().st_size, path


def test_a_failing_save_names_the_last_whole_step(saved, monkeypatch):
    import orbax.checkpoint as ocp

    def full(self, step, *args, **kwargs):
        (saved / f"{step}.orbax-checkpoint-tmp").mkdir()
        raise OSError(28, "No space left on device\nand a page of context")

    with opened(saved) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(ocp.CheckpointManager, "save", full)
            with pytest.raises(CheckpointError, match="No space left") as error:
                checkpoints.save(3, make_tree(3))
        assert "could not write the checkpoint of step 3" in str(error.value)
        assert "the checkpoint of step 2 is whole" in str(error.value)
        assert "\n" not in str(error.value)
        assert isinstance(error.value.__cause__, OSError)
        assert names(saved) == ["1", "2"]
        step, tree = checkpoints.restore(make_tree(0))
        assert step == 2
        assert_same(tree, make_tree(2))
        checkpoints.save(3, make_tree(3))
        assert checkpoints.restore(make_tree(0))[0] == 3


FULL_DISK = """
import json, pathlib, resource, sys
import numpy as np
from betavae_jax.runs.checkpoints import CheckpointError, open_checkpoints, read_latest

def tree(seed):
    return {"w": np.random.default_rng(seed).normal(size=(2, 50_000)).astype(np.float32)}

def restore(checkpoints):
    restored = checkpoints.restore(tree(0))
    if restored is None:
        return None
    assert np.array_equal(restored[1]["w"], tree(restored[0])["w"])
    return restored[0]

found = []
kept = resource.getrlimit(resource.RLIMIT_FSIZE)
for before in ([], [1]):
    for limit in (0, 300, 50_000):  # bytes that a file may have
        directory = pathlib.Path(sys.argv[1]) / f"{len(before)}-{limit}"
        checkpoints = open_checkpoints(directory, keep=2)
        for step in before:
            checkpoints.save(step, tree(step))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, kept[1]))
        try:
            checkpoints.save(2, tree(2))
            message = "saved"
        except CheckpointError as error:
            message = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        steps = [restore(checkpoints)]
        checkpoints.close()
        checkpoints = open_checkpoints(directory, keep=2)
        steps.append(restore(checkpoints))
        checkpoints.save(3, tree(3))
        steps.append(restore(checkpoints))
        found.append([message, steps])
print(json.dumps(found))
"""


def test_a_full_disk(tmp_path):
    """The limit on a file's size stands for it: writing fails inside the storage layers."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [steps for _, steps in found] == [[None, None, 3]] * 3 + [[1, 1, 3]] * 3
    for number, (message, _) in enumerate(found):
        assert message.startswith("could not write the checkpoint of step 2 (")
        assert "\n" not in message
        last = "there is none before it" if number < 3 else "the checkpoint of step 1 is whole"
        assert message.endswith(f"; {last}")


SAVE_FOR_EVER = """
import itertools, pathlib, sys
import numpy as np
from betavae_jax.runs.checkpoints import open_checkpoints

checkpoints = open_checkpoints(pathlib.Path(sys.argv[1]), keep=2)
for step in itertools.count(1):
    checkpoints.save(step, {"w": np.random.default_rng(step).normal(size=(2, 500_000))})
    print(step, flush=True)
"""


def test_a_process_killed_inside_a_save(tmp_path):
    """After SIGKILL while a temporary folder is there, the last save that returned restores."""
    directory = tmp_path / "checkpoints"
    command = [sys.executable, "-c", SAVE_FOR_EVER, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as saver:
        for _ in range(2):
            last = int(saver.stdout.readline())
        while not any(directory.glob("*.orbax-checkpoint-tmp*")) and saver.poll() is None:
            pass
        saver.kill()
        saver.wait()
        last = max([last, *map(int, saver.stdout.read().split())])
    with opened(directory) as checkpoints:
        step, tree = checkpoints.restore({"w": np.zeros((2, 500_000))})
        # A save may have been whole before it could be printed.
        assert step in (last, last + 1)
        expected = np.random.default_rng(step).normal(size=(2, 500_000))
        np.testing.assert_array_equal(tree["w"], expected)
        assert all(name.isdigit() for name in names(directory))
        checkpoints.save(step + 1, tree)
        assert checkpoints.restore(tree)[0] == step + 1
