"""Examples from front to back: the same as the loaders give, whatever the chunk."""

import gzip
import logging
import struct

import h5py
import numpy as np
import PIL.Image
import pytest

from betavae_jax.checks import InputError
from betavae_jax.data import load_dataset
from betavae_jax.data.files import idx_shape, iterate_idx, read_idx
from betavae_jax.data.pictures import Look
from betavae_jax.data.streams import are_binary, stream_path, stream_splits

LOOK = Look(8, 3, "crop")
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 8, 9), np.uint8)
LABELS = np.arange(7, dtype=np.uint8) % 3


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("BETAVAE_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def collect(stream, num_rows=3):
    chunks = list(stream.chunks(num_rows))
    assert [len(chunk.x) for chunk in chunks[:-1]] == [num_rows] * (len(chunks) - 1)
    for chunk in chunks:
        assert chunk.x.shape[1:] == stream.shape
    x = np.concatenate([chunk.x for chunk in chunks])
    factors = np.concatenate([chunk.factors for chunk in chunks])
    return x, factors, [name for chunk in chunks for name in chunk.names]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("rows", [1, 3, 7, 8])
@pytest.mark.parametrize("images", [IMAGES, np.stack([IMAGES] * 3, -1)], ids=["grey", "rgb"])
def test_idx_files_in_pieces(tmp_path, suffix, rows, images):
    path = tmp_path / f"images-idx3-ubyte{suffix}"
    write_idx(path, images)
    renamed = tmp_path / ("a.idx" if suffix else "a.gz")  # whether it is packed is in it
    renamed.write_bytes(path.read_bytes())
    for named in (path, renamed):
        assert idx_shape(named) == list(images.shape)
        np.testing.assert_array_equal(np.concatenate(list(iterate_idx(named, rows))), images)
        np.testing.assert_array_equal(read_idx(named), images)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda c: c[:-1], r"expected 504 bytes of data .* \[7, 8, 9\] says; got 503"),
        (lambda c: c + b"\0", "504 bytes of data .*; got more"),
        (lambda c: c[:9], "a header of 16 bytes"),
        (lambda c: b"\1" + c[1:], "the four bytes of idx"),
    ],
)
def test_spoilt_idx_files(tmp_path, spoil, says):
    path = tmp_path / "images-idx3-ubyte"
    write_idx(path, IMAGES)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=says):
        list(iterate_idx(path, 3))


def write_npz(folder):
    np.savez(folder / "a.npz", x=IMAGES, y=LABELS)


def write_test_split(folder):
    np.savez(folder / "a.npz", x=IMAGES, y=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2])


def write_npy(folder):
    np.save(folder / "a.npy", (IMAGES / 255).astype(np.float64))


def write_hdf5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["images"], file["labels"] = IMAGES, LABELS


def write_booleans(folder):
    np.savez(folder / "a.npz", images=IMAGES > 100)


def write_mnist(folder):
    write_idx(folder / "train-images-idx3-ubyte.gz", IMAGES)
    write_idx(folder / "train-labels-idx1-ubyte.gz", LABELS)
    write_idx(folder / "t10k-images-idx3-ubyte.gz", IMAGES[:2])
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", LABELS[:2])


@pytest.mark.parametrize(
    "write", [write_npz, write_test_split, write_npy, write_hdf5, write_booleans, write_mnist]
)
@pytest.mark.parametrize("rows", [3, 7])
def test_arrays_are_those_that_the_loader_gives(tmp_path, write, rows):
    write(tmp_path)
    splits = load_dataset("arrays", data_dir=str(tmp_path))
    for streams in (stream_path(tmp_path, LOOK), stream_splits(splits, "arrays")):
        expected = [s for s in splits if s is not None]
        assert [s.split for s in streams] == (["train", "test"] if splits.test else [""])
        for stream, dataset in zip(streams, expected, strict=True):
            x, factors, names = collect(stream, rows)
            np.testing.assert_array_equal(x, dataset.arrays.images)
            np.testing.assert_array_equal(factors, dataset.arrays.factors)
            assert names == []
            assert stream.num_examples == dataset.num_examples
            assert stream.factor_names == (dataset.space.names if dataset.space else ())
        assert not are_binary(streams)


def test_vectors_come_in_their_own_units(tmp_path):
    rows = "a,b,label\n1,10,cat\n2,20,dog\n3,60,cat\n"
    (tmp_path / "a.csv").write_text(rows)
    [stream] = stream_path(tmp_path / "a.csv", LOOK)
    x, factors, _ = collect(stream, 2)
    np.testing.assert_array_equal(x, [[1, 10], [2, 20], [3, 60]])
    np.testing.assert_array_equal(factors, [[0], [1], [0]])
    assert stream.factor_names == ("label",)
    splits = load_dataset("arrays", data_dir=str(tmp_path / "a.csv"))
    [stream] = stream_splits(splits, "arrays")
    np.testing.assert_allclose(collect(stream, 2)[0], x, rtol=1e-6)
    raw = load_dataset("arrays", data_dir=str(tmp_path / "a.csv"), standardize=False)
    [stream] = stream_splits(raw, "arrays")
    np.testing.assert_array_equal(collect(stream, 2)[0], x)


def test_drawn_sets_are_gathered_in_their_order():
    splits = load_dataset("blobs", image_size=8, blob_grid=3, blob_margin=2.0, blob_sigma=1.0)
    [stream] = stream_splits(splits, "blobs")
    x, factors, _ = collect(stream, 4)
    index = np.arange(9)
    np.testing.assert_array_equal(factors, splits.train.factors(splits.train.arrays, index))
    np.testing.assert_allclose(
        x, splits.train.gather(splits.train.arrays, index, None), rtol=0, atol=1e-6
    )
    assert stream.factor_names == splits.train.space.names


@pytest.mark.parametrize("rows", [2, 5, 100])
def test_pictures_are_those_that_the_loader_gives(tmp_path, rows):
    for i in range(9):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(RNG.integers(0, 256, (12, 10, 3), np.uint8)).save(path)
    [stream] = stream_path(tmp_path, LOOK)
    dataset = load_dataset("folder", data_dir=str(tmp_path), image_size=8).train
    x, factors, names = collect(stream, rows)
    np.testing.assert_array_equal(x, dataset.arrays.images)
    np.testing.assert_array_equal(factors, dataset.arrays.factors)
    assert names == ["a/0.png", "a/2.png", "a/4.png", "a/6.png", "a/8.png",
                     "b/1.png", "b/3.png", "b/5.png", "b/7.png"]  # fmt: skip
    assert (stream.has_names, stream.factor_names) == (True, ("label",))


def test_pictures_that_cannot_be_read(tmp_path, caplog):
    for i in range(5):
        PIL.Image.fromarray(IMAGES[i, :, :8]).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"none")
    [stream] = stream_path(tmp_path, LOOK)
    with pytest.raises(InputError, match=r"3\.png to be whole and readable.*skip_bad"):
        list(stream.chunks(2))
    [stream] = stream_path(tmp_path, LOOK, skip_bad=True)
    with caplog.at_level(logging.WARNING):
        chunks = list(stream.chunks(1))
    assert [chunk.names for chunk in chunks] == [["0.png"], ["1.png"], ["2.png"], ["4.png"]]
    assert "left out: expected" in caplog.text


def test_binary_bytes_are_told_from_dark_ones(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES % 2)
    np.save(tmp_path / "b.npy", np.where(np.arange(7)[:, None, None] < 6, IMAGES % 2, 3 * IMAGES))
    assert are_binary(stream_path(tmp_path / "a.npy", LOOK))
    assert not are_binary(stream_path(tmp_path / "b.npy", LOOK))


REFUSALS = [
    (lambda f: np.save(f / "a.npy", np.zeros((0, 8, 8))), "at least one image"),
    (lambda f: np.save(f / "a.npy", np.zeros((2, 8, 8), np.int64)), "uint8 .*got int64"),
    (lambda f: np.save(f / "a.npy", 255.0 * (np.arange(4 * 64) > 200).reshape(4, 8, 8)),
     r"expected floats in \[0, 1\] in .*a\.npy \(from example 3\); got 0 to 255"),
    (lambda f: np.save(f / "a.npy", np.array([[1.0], [2], [3], [np.nan]])),
     r"\(from example 3\);.*got nan in row 0, column 0"),
    (lambda f: np.savez(f / "a.npz", x=IMAGES, y=LABELS[:3]), "7 images, 3 labels"),
    (lambda f: write_idx(f / "a-idx3-ubyte", IMAGES[:0]), "at least one image"),
    (lambda f: write_idx(f / "a-idx1-ubyte", LABELS), r"expected images \[N, H, W\]"),
    (lambda f: [write_npy(f), write_npz(f)], "expected one file of examples"),
    (lambda f: (f / "a.txt").write_text(""), "expected at least one image"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "says"), REFUSALS)
def test_refusals(tmp_path, write, says):
    write(tmp_path)
    with pytest.raises(InputError, match=says):
        [list(stream.chunks(3)) for stream in stream_path(tmp_path, LOOK)]


def test_pictures_are_refused_where_none_can_serve(tmp_path):
    with pytest.raises(InputError, match="expected a file of arrays"):
        stream_path(tmp_path, None)
