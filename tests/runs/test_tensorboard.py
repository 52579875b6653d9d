"""TensorBoard events, read back from their files."""

import collections
import socket
import struct
import time

import numpy as np
import pytest

from betavae_jax.runs.tensorboard import no_events, open_events, write_figures

LINE = {"step": 10, "run": 0, "loss": 3.5, "elbo": -3.0, "kl_per_latent": [0.5, 0.25]}


def read_events(folder):
    """All events of a folder, file by file in the order of their names."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            yield Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4


def scalars_of(folder):
    found = collections.defaultdict(list)
    for event in read_events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found[value.tag].append((event.step, value.simple_value))
    return dict(found)


def test_scalars_go_to_their_run_and_group(tmp_path):
    events = open_events(tmp_path, 2)
    events.scalars([LINE, {**LINE, "run": 1, "loss": 7.0, "test_elbo": -9.0}])
    events.close()
    first = scalars_of(tmp_path / "tensorboard" / "run000")
    assert first == {
        "train/loss": [(10, 3.5)],
        "train/elbo": [(10, -3.0)],
        "kl/z0": [(10, 0.5)],
        "kl/z1": [(10, 0.25)],
    }
    second = scalars_of(tmp_path / "tensorboard" / "run001")
    assert second["train/loss"] == [(10, 7.0)]
    assert second["test/elbo"] == [(10, -9.0)]


def test_what_is_logged_stands_in_the_file_at_once(tmp_path):
    events = open_events(tmp_path, 1)
    events.scalars([LINE])
    assert scalars_of(tmp_path / "tensorboard" / "run000")["train/loss"] == [(10, 3.5)]
    events.close()


def test_a_full_disk_is_told_to_who_logs(tmp_path, monkeypatch):
    """A thread that wrote in its place would end there, and who logs would wait for it for ever."""
    monkeypatch.setattr(time, "time", lambda: 5.0)
    monkeypatch.setattr(socket, "gethostname", lambda: "host")
    folder = tmp_path / "tensorboard" / "run001"
    folder.mkdir(parents=True)
    (folder / "events.out.tfevents.5.host").symlink_to("/dev/full")
    events = open_events(tmp_path, 2)
    message = "No space left on device: '.*/run001/events.out.tfevents.5.host'"
    with pytest.raises(OSError, match=message):
        events.scalars([LINE, {**LINE, "run": 1}])
    with pytest.raises(OSError, match=message):
        events.close()
    assert scalars_of(tmp_path / "tensorboard" / "run000")["train/loss"] == [(10, 3.5)]


def test_numbers_that_are_not_finite_are_left_out(tmp_path):
    events = open_events(tmp_path, 1)
    events.scalars([{**LINE, "loss": float("nan"), "elbo": None}])
    events.close()
    assert set(scalars_of(tmp_path / "tensorboard" / "run000")) == {"kl/z0", "kl/z1"}


@pytest.mark.parametrize("purge_step", [None, 11])
def test_a_resumed_start_purges_what_it_will_write_again(tmp_path, purge_step):
    open_events(tmp_path, 1, purge_step=purge_step).close()
    starts = [
        event.step
        for event in read_events(tmp_path / "tensorboard" / "run000")
        if event.HasField("session_log")
    ]
    assert starts == ([] if purge_step is None else [11])


def test_figures_are_images(tmp_path):
    import PIL.Image

    (tmp_path / "figures").mkdir()
    pixels = np.zeros((4, 6, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "figures" / "run001_samples.png")
    write_figures(tmp_path, [{"run": 0, "step": 5}, {"run": 1, "step": 5}])
    images = [
        (event.step, value.tag, value.image.height, value.image.width)
        for event in read_events(tmp_path / "tensorboard" / "run001")
        for value in event.summary.value
    ]
    assert images == [(5, "samples", 4, 6)]


def test_no_events_write_nothing(tmp_path):
    events = no_events()
    events.scalars([LINE])
    events.close()
    assert list(tmp_path.iterdir()) == []
