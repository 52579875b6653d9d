"""The log and the results: plain JSON, whole or not there."""

import json
import os
import pathlib

import numpy as np
import pytest

from betavae_jax.checks import jsonable
from betavae_jax.runs import records
from betavae_jax.runs.directory import read_config, read_results
from betavae_jax.types import Terms

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NAN, None),
        (INF, None),
        (-INF, None),
        (np.float32(NAN), None),
        (np.asarray(INF), None),
        (np.float32(0.5), 0.5),
        (np.int32(-3), -3),
        (np.bool_(True), True),
        (True, True),
        (None, None),
        ("β", "β"),
        (2**60, 2**60),
        (np.asarray([[1.0, NAN], [2.0, -INF]]), [[1.0, None], [2.0, None]]),
        ({"a": (1, [NAN, {"b": np.arange(2)}])}, {"a": [1, [None, {"b": [0, 1]}]]}),
        ({1: 2.0, "c": ()}, {"1": 2.0, "c": []}),
        (np.zeros((0, 3)), []),
    ],
)
def test_jsonable(value, expected):
    got = jsonable(value)
    assert got == expected
    assert json.loads(json.dumps(got, allow_nan=False)) == expected


def test_write_json(tmp_path):
    path = tmp_path / "results.json"
    records.write_json(path, {"elbo": np.float32(NAN), "kl": np.asarray([0.25])})
    assert json.loads(path.read_text()) == {"elbo": None, "kl": [0.25]}
    records.write_json(path, {"elbo": 1})
    assert json.loads(path.read_text()) == {"elbo": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_write_json_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    records.write_json(path, {"old": True})
    with pytest.raises(TypeError):
        records.write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]

    seen = []

    def killed(source, target):
        seen.append((json.loads(path.read_text()), json.loads(pathlib.Path(source).read_text())))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        records.write_json(path, {"new": 1})
    assert seen == [({"old": True}, {"new": 1})]  # the new file was complete before it took over
    assert json.loads(path.read_text()) == {"old": True}


def test_what_does_not_fit_a_disk_is_named(tmp_path):
    full = pathlib.Path("/dev/full")
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        records.append_log(full, [{"step": 1}])
    path = tmp_path / "results.json"
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/results.json'"),
        records.replacing(path),
    ):
        full.write_text("more")
    with pytest.raises(OSError, match="no number"), records.replacing(path):
        raise OSError("no number")


@pytest.mark.skipif(not pathlib.Path("/proc/self/mem").exists(), reason="nothing refuses a read")
def test_what_a_disk_does_not_give_is_named(tmp_path):
    for name in ("results.json", "config.json", "metrics.jsonl"):
        (tmp_path / name).symlink_to("/proc/self/mem")  # opens, and cannot be read
    for read, name in (
        (lambda: read_results(tmp_path), "results.json"),
        (lambda: read_config(tmp_path), "config.json"),
        (lambda: records.read_log(tmp_path / "metrics.jsonl"), "metrics.jsonl"),
    ):
        with pytest.raises(OSError, match=rf"Input/output error: '.*/{name}'"):
            read()


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """Else a node that is lost just then leaves the name, and no bytes."""
    path = tmp_path / "results.json"
    beside = tmp_path / "results.json.new"
    moments = []

    def synced(descriptor):
        found = beside if os.path.samestat(os.fstat(descriptor), beside.stat()) else None
        moments.append(("synced", found, beside.read_text()))

    def renamed(source, target):
        moments.append(("renamed", pathlib.Path(source), pathlib.Path(target)))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    records.write_json(path, [1])
    assert moments == [("synced", beside, "[\n  1\n]\n"), ("renamed", beside, path)]


def test_write_json_over_what_a_kill_left(tmp_path):
    (tmp_path / "a.json.new").write_text('{"half": ')
    records.write_json(tmp_path / "a.json", [1])
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == [1]


def terms(**changes):
    values = {
        "loss": np.asarray([5.0, 7.0], np.float32),
        "distortion": np.asarray([3.0, 4.0], np.float32),
        "rate": np.asarray([0.5, NAN], np.float32),
        "kl_per_latent": np.asarray([[0.5, 0.0], [NAN, 0.1]], np.float32),
        "extras": {"grad_norm": np.asarray([1.5, INF], np.float32)},
    }
    return Terms(**{**values, **changes})


def test_log_lines():
    first, second = records.log_lines(50, terms())
    assert first == {
        "step": 50,
        "run": 0,
        "loss": 5.0,
        "elbo": -3.5,
        "distortion": 3.0,
        "rate": 0.5,
        "kl_per_latent": [0.5, 0.0],
        "grad_norm": 1.5,
    }
    assert second["run"] == 1
    assert np.isnan(second["elbo"])


def test_the_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert records.read_log(path) == []
    for step in (50, 100):
        records.append_log(path, records.log_lines(step, terms()))
    log = records.read_log(path)
    assert [(line["step"], line["run"]) for line in log] == [(50, 0), (50, 1), (100, 0), (100, 1)]
    assert log[1]["elbo"] is None
    assert log[1]["kl_per_latent"][0] is None
    assert log[1]["grad_norm"] is None
    assert len(path.read_text().splitlines()) == 4


def write_log(path, steps, tail=""):
    records.append_log(path, [{"step": step, "run": 0} for step in steps])
    with path.open("a") as file:
        file.write(tail)


def steps_of(path):
    return [line["step"] for line in records.read_log(path)]


@pytest.mark.parametrize(
    ("step", "kept"), [(0, []), (49, []), (50, [50]), (120, [50, 100]), (150, [50, 100, 150])]
)
def test_the_log_is_cut_after_a_step(step, kept, tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [50, 100, 150])
    records.cut_log(path, step)
    assert steps_of(path) == kept
    records.cut_log(path, step)
    assert steps_of(path) == kept
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "tail",
    ['{"step": 150, "ru', "{", '{"step": 150, "run": 0, "loss": 1.2', "\x00\x00\x00", '"', "\n{"],
)
def test_a_line_cut_short_ends_the_log(tail, tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [50, 100], tail)
    assert steps_of(path) == [50, 100]
    records.cut_log(path, 1000)
    assert steps_of(path) == [50, 100]
    write_log(path, [150])  # the next line does not join the rest of the one cut short
    assert steps_of(path) == [50, 100, 150]


def test_a_line_cut_inside_a_character(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [50])
    with path.open("ab") as file:
        file.write('{"name": "β'.encode()[:-1])
    assert steps_of(path) == [50]


def test_a_last_line_without_its_newline_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [50], '{"step": 100, "run": 0}')
    records.cut_log(path, 100)
    write_log(path, [150])
    assert steps_of(path) == [50, 100, 150]


def test_cutting_no_log_makes_an_empty_one(tmp_path):
    records.cut_log(tmp_path / "metrics.jsonl", 10)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_cutting_keeps_every_digit(tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = {"step": 1, "loss": float(np.float32(0.1)), "elbo": None, "kl": [1e-45, 3.4e38]}
    records.append_log(path, [line])
    before = path.read_bytes()
    records.cut_log(path, 1)
    assert path.read_bytes() == before
    assert records.read_log(path) == [line]


def test_a_kill_while_cutting_leaves_the_log(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [50, 100])
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            records.cut_log(path, 50)
    assert steps_of(path) == [50, 100]
    records.cut_log(path, 50)  # what the kill left beside it is not taken in
    assert steps_of(path) == [50]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        ([0.0, 0.01, 0.0100001, 3.0], 2),  # more than 0.01 nats
        ([0.0], 0),
        ([5.0, 5.0], 2),
        ([NAN, 5.0], None),
        ([INF, 5.0], None),
    ],
)
def test_count_active(kl, expected):
    assert records.count_active(np.asarray(kl)) == expected
