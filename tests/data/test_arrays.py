"""The user's own files: round trips through every format, and one line for each that is damaged."""

import gzip
import re
import struct
import sys

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import betavae_jax.data.files as files_module
from betavae_jax.checks import InputError
from betavae_jax.data.arrays import load_arrays

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 5, 4), np.uint8)
BYTES[2, 3] = [0, 255, 254, 1]  # both ends of the range
LABELS = np.array([0, 2, 1, 1, 0, 3], np.uint8)
IDX_NAMES = {
    "train-images": "train-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "test-images": "t10k-images-idx3-ubyte",
    "test-labels": "t10k-labels-idx1-ubyte",
}


def gather_all(dataset):
    index = jnp.arange(dataset.num_examples, dtype=jnp.int32)
    return (
        np.asarray(dataset.gather(dataset.arrays, index, KEY)),
        np.asarray(dataset.factors(dataset.arrays, index)),
    )


def idx_bytes(array):
    """Writes the idx format from its definition, independently of the reader."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx_folder(folder, suffix="", spelling="-"):
    for role, name in IDX_NAMES.items():
        array = LABELS if role.endswith("labels") else BYTES
        array = array[:2] if role.startswith("test") else array
        content = idx_bytes(array)
        path = folder / (name.replace("-idx", f"{spelling}idx") + suffix)
        path.write_bytes(gzip.compress(content) if suffix else content)
    return folder


def write_hdf5(path, **named):
    with h5py.File(path, "w") as file:
        file.update(named)
    return path


def refuse(path, *expected, **settings):
    """Expects one line that names the file and says each of `expected`."""
    with pytest.raises(InputError) as caught:
        load_arrays(data_dir=path, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("expected ")
    for text in (path.name, *expected):
        assert re.search(text, message), (text, message)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (BYTES, BYTES[..., None] / 255),
        (BYTES[..., None], BYTES[..., None] / 255),
        (BYTES // 128, (BYTES // 128)[..., None]),
        (BYTES > 100, (BYTES > 100)[..., None]),
        (BYTES / 255, BYTES[..., None] / 255),
        ((BYTES / 255).astype(np.float16), (BYTES / 255).astype(np.float16)[..., None]),
        (np.stack([BYTES] * 3, -1), np.stack([BYTES] * 3, -1) / 255),
        (np.asfortranarray(BYTES), BYTES[..., None] / 255),
    ],
    ids=["bytes", "channel", "binary bytes", "bool", "float64", "float16", "rgb", "fortran"],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_images_come_back_in_the_unit_range(tmp_path, images, expected, suffix):
    path = tmp_path / f"set{suffix}"
    np.save(path, images) if suffix == ".npy" else np.savez_compressed(path, images=images)
    splits = load_arrays(data_dir=str(path))
    x, factors = gather_all(splits.train)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, expected.astype(np.float64), atol=1e-7)
    assert splits.train.num_examples == 6
    assert splits.train.space is None
    assert factors.shape == (6, 0)
    assert splits.test is None


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "set.npy", BYTES)
    for data_dir in ("~", "~/set.npy"):
        assert load_arrays(data_dir=data_dir).train.num_examples == 6


def test_bytes_stay_bytes_until_they_are_gathered(tmp_path):
    np.save(tmp_path / "set.npy", BYTES)
    arrays = load_arrays(data_dir=tmp_path).train.arrays
    assert all(type(leaf) is np.ndarray for leaf in arrays)
    assert arrays.images.dtype == np.uint8
    np.testing.assert_array_equal(arrays.images[..., 0], BYTES)


def test_black_and_white_reach_both_ends(tmp_path):
    np.save(tmp_path / "set.npy", np.array([[[0, 255]]], np.uint8))
    x, _ = gather_all(load_arrays(data_dir=tmp_path).train)
    assert x.ravel().tolist() == [0.0, 1.0]


def test_binary_bytes_are_judged_over_both_splits(tmp_path):
    dark = np.minimum(BYTES, 1)
    np.savez(tmp_path / "set.npz", x_train=dark, x_test=BYTES)
    x, _ = gather_all(load_arrays(data_dir=tmp_path).train)
    assert x.max() == pytest.approx(1 / 255)


@pytest.mark.parametrize(
    ("images", "labels", "test_images", "test_labels"),
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("images", "labels", "images_test", "labels_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x", "y", "x_test", "y_test"),
        ("imgs", "latents_classes", "x_test", "y_test"),
        ("only_one", "factors", "x_test", "y_test"),
    ],
)
def test_names_of_arrays_in_npz(tmp_path, images, labels, test_images, test_labels):
    named = {images: BYTES, labels: LABELS, test_images: BYTES[:2], test_labels: [4, 0]}
    np.savez(tmp_path / "set.npz", **named)
    splits = load_arrays(data_dir=tmp_path / "set.npz")
    assert splits.train.space == (("label",), (5,), False)
    assert splits.test.space == splits.train.space
    np.testing.assert_array_equal(gather_all(splits.train)[1][:, 0], LABELS)
    x, factors = gather_all(splits.test)
    np.testing.assert_allclose(x[..., 0], BYTES[:2] / 255, atol=1e-7)
    np.testing.assert_array_equal(factors, [[4], [0]])


def test_several_labels_are_several_factors(tmp_path):
    labels = np.array([[0, 7, 1]] * 5 + [[2, 0, 0]], np.float64)
    np.savez(tmp_path / "set.npz", images=BYTES, factors=labels)
    dataset = load_arrays(data_dir=tmp_path).train
    assert dataset.space == (("factor_0", "factor_1", "factor_2"), (3, 8, 2), False)
    factors = gather_all(dataset)[1]
    assert factors.dtype == np.int32
    np.testing.assert_array_equal(factors, labels)


def test_a_split_without_labels_has_no_factor_space(tmp_path):
    np.savez(tmp_path / "set.npz", images=BYTES, labels=LABELS, x_test=BYTES[:2])
    splits = load_arrays(data_dir=tmp_path)
    assert splits.train.space == (("label",), (4,), False)
    assert splits.test.space is None
    assert gather_all(splits.test)[1].shape == (2, 0)


@pytest.mark.parametrize(
    "images",
    [BYTES, BYTES > 100, (BYTES / 255).astype(np.float32), np.stack([BYTES] * 3, -1)],
    ids=["bytes", "bool", "float32", "rgb"],
)
def test_the_only_images_of_an_archive_need_no_known_name(tmp_path, images):
    regions, codes = BYTES.astype(np.int64), np.zeros((6, 10))
    np.savez(tmp_path / "set.npz", regions=regions, pictures=images, codes=codes)
    x, _ = gather_all(load_arrays(data_dir=tmp_path).train)
    np.testing.assert_allclose(x.reshape(images.shape), images / images.max(), atol=1e-7)


def test_pickled_metadata_beside_named_images_is_left_alone(tmp_path):
    metadata = np.array({"author": "someone"}, dtype=object)
    np.savez(tmp_path / "set.npz", imgs=BYTES // 128, metadata=metadata)
    assert load_arrays(data_dir=tmp_path).train.num_examples == 6


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("spelling", ["-", "."])
def test_a_folder_of_idx_files(tmp_path, suffix, spelling):
    splits = load_arrays(data_dir=write_idx_folder(tmp_path, suffix, spelling))
    assert splits.train.space == (("label",), (4,), False)
    for dataset, n in [(splits.train, 6), (splits.test, 2)]:
        x, factors = gather_all(dataset)
        np.testing.assert_allclose(x[..., 0], BYTES[:n] / 255, atol=1e-7)
        np.testing.assert_array_equal(factors[:, 0], LABELS[:n])


def test_unpacked_idx_files_go_before_packed_ones(tmp_path):
    write_idx_folder(tmp_path)
    for name in IDX_NAMES.values():
        (tmp_path / f"{name}.gz").write_bytes(b"\x1f\x8b not read")
    assert load_arrays(data_dir=tmp_path).train.num_examples == 6


def test_idx_files_in_folders_of_their_names_are_looked_past(tmp_path):
    for name in IDX_NAMES.values():  # as an archive of MNIST has them, packed ones too
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.gz").write_bytes(b"\x1f\x8b not read")
    splits = load_arrays(data_dir=write_idx_folder(tmp_path, spelling="."))
    np.testing.assert_array_equal(splits.train.arrays.images[..., 0], BYTES)
    assert splits.test.num_examples == 2


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "test-images-idx3-ubyte"])
def test_test_images_need_no_labels(tmp_path, name):
    write_idx_folder(tmp_path)
    (tmp_path / IDX_NAMES["test-labels"]).unlink()
    (tmp_path / IDX_NAMES["test-images"]).rename(tmp_path / name)
    splits = load_arrays(data_dir=tmp_path)
    assert splits.train.space == (("label",), (4,), False)
    assert splits.test.space is None
    np.testing.assert_array_equal(splits.test.arrays.images[..., 0], BYTES[:2])


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "emnist-images-idx3-ubyte"])
def test_a_single_idx_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(idx_bytes(BYTES)) if name.endswith("gz") else idx_bytes(BYTES))
    for data_dir in (path, tmp_path):
        splits = load_arrays(data_dir=data_dir)
        np.testing.assert_allclose(gather_all(splits.train)[0][..., 0], BYTES / 255, atol=1e-7)
        assert splits.train.space is None


def test_binary_bytes_of_an_idx_file_reach_both_ends(tmp_path):
    (tmp_path / "a-images-idx3-ubyte").write_bytes(idx_bytes(BYTES // 128))
    images = load_arrays(data_dir=tmp_path).train.arrays.images
    np.testing.assert_array_equal(images[..., 0], BYTES // 128 * 255)


def test_large_files_of_one_array_are_mapped(tmp_path, monkeypatch):
    path = tmp_path / "set.npy"
    np.save(path, BYTES)
    content = path.read_bytes()
    monkeypatch.setattr(files_module, "_MAPPED_FROM", 1)
    dataset = load_arrays(data_dir=path).train
    images = dataset.arrays.images
    assert type(images) is np.ndarray
    base = images
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    np.testing.assert_array_equal(images[..., 0], BYTES)
    rows = np.array([5, 1])
    np.testing.assert_array_equal(dataset.take(dataset.arrays, rows).images[..., 0], BYTES[rows])
    np.save(path, BYTES // 128)
    content = path.read_bytes()
    assert load_arrays(data_dir=path).train.arrays.images.max() == 255
    assert path.read_bytes() == content  # stretching binary bytes stays in memory
    path.write_bytes(content[:-1])
    refuse(path, "whole and readable")


def test_some_rows_can_be_taken(tmp_path):
    np.savez(tmp_path / "set.npz", images=BYTES, labels=LABELS)
    dataset = load_arrays(data_dir=tmp_path).train
    part = dataset.take(dataset.arrays, np.array([3, 0, 3]))
    np.testing.assert_array_equal(part.images[..., 0], BYTES[[3, 0, 3]])
    np.testing.assert_array_equal(part.factors[:, 0], LABELS[[3, 0, 3]])


# --- HDF5 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["set.h5", "set.hdf5", "SET.H5"])
def test_hdf5_is_read_like_npz(tmp_path, name):
    named = {"images": BYTES, "labels": LABELS, "x_test": BYTES[:2], "y_test": LABELS[:2]}
    write_hdf5(tmp_path / name, **named, other=np.zeros(3))
    train, test = load_arrays(data_dir=tmp_path)
    np.testing.assert_array_equal(train.arrays.images[..., 0], BYTES)
    assert train.space == (("label",), (4,), False)
    np.testing.assert_array_equal(train.arrays.factors[:, 0], LABELS)
    np.testing.assert_array_equal(test.arrays.images[..., 0], BYTES[:2])
    assert all(type(leaf) is np.ndarray for leaf in train.arrays)


def test_the_only_images_of_hdf5_are_found_without_reading_the_rest(tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["pictures"] = BYTES
        file["codes"] = np.zeros((6, 10))
        file.create_group("notes")
    dataset = load_arrays(data_dir=tmp_path).train
    np.testing.assert_array_equal(dataset.arrays.images[..., 0], BYTES)
    write_hdf5(tmp_path / "set.h5", codes=np.zeros((6, 10)), **{"notes/text": 3})
    refuse(tmp_path / "set.h5", r"got codes \(float64 \[6, 10\]\), notes \(a group\)$")


def test_values_in_hdf5_become_indices_over_both_splits(tmp_path):
    values = np.array([-30, 0, 30, 0, -30, 15.5])
    path = write_hdf5(tmp_path / "set.h5", x=BYTES, y=values, x_test=BYTES[:2], y_test=[7.0, 30])
    train, test = load_arrays(data_dir=path, factor_names="angle")
    np.testing.assert_array_equal(train.arrays.factors[:, 0], [0, 1, 4, 1, 0, 3])
    np.testing.assert_array_equal(test.arrays.factors[:, 0], [2, 4])
    assert train.space == test.space == (("angle",), (5,), False)


def test_labels_that_are_whole_numbers_in_one_split_are_so_in_both(tmp_path):
    labels = np.array([0.0, 4, 4, 0, 0, 4])
    path = write_hdf5(tmp_path / "set.h5", x=BYTES, y=labels, x_test=BYTES[:2], y_test=[2, 4])
    train, test = load_arrays(data_dir=path)
    np.testing.assert_array_equal(train.arrays.factors[:, 0], labels)
    np.testing.assert_array_equal(test.arrays.factors[:, 0], [2, 4])
    assert train.space == (("label",), (5,), False)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"images": BYTES, "labels": np.full(6, np.nan)}, "finite labels .*got NaN"),
        ({"images": BYTES, "labels": LABELS[:5] / 2}, "6 images, 5 labels"),
        ({"images": BYTES, "labels": np.zeros((6, 1, 1))}, r"got \[6, 1, 1\]"),
        ({"images": BYTES, "labels": 1.5}, r"got \[\]"),
        ({"images": BYTES, "labels": np.arange(6) - 1}, "counted from 0"),
        ({"images": BYTES * 1.0}, "rescale"),
        ({"images/b": BYTES, "images/a": 1}, "images in .* to be an array; got a group of a, b$"),
        ({"images": BYTES, "labels/a": LABELS}, "labels in .* to be an array; got a group of a$"),
        ({f"images/{i}": 0 for i in range(10)}, "got a group of 0, 1, .*, 7 and 2 more$"),
        ({"images": h5py.Empty("f4")}, "images in .* to be an array; got no data$"),
        ({}, "got no such arrays"),
    ],
)
def test_what_hdf5_does_not_hold_is_refused(tmp_path, named, expected):
    refuse(write_hdf5(tmp_path / "set.h5", **named), expected)


def test_damaged_hdf5_is_refused(tmp_path):
    path = write_hdf5(tmp_path / "set.h5", images=BYTES, labels=LABELS)
    whole = path.read_bytes()
    for content in (b"", b"hello, world\n", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        refuse(path, "whole and readable; got OSError")


def test_without_h5py_one_line_names_the_extra(tmp_path, monkeypatch):
    path = write_hdf5(tmp_path / "set.h5", images=BYTES)
    monkeypatch.setitem(sys.modules, "h5py", None)
    refuse(path, r"^expected the package h5py to read .*'betavae_jax\[hdf5\]'")


# --- declared and recognised grids ---------------------------------------------------------


def test_a_declared_grid(tmp_path):
    np.save(tmp_path / "set.npy", BYTES)
    settings = {"factor_sizes": "3, 2", "factor_names": "colour,size"}
    dataset = load_arrays(data_dir=tmp_path, **settings).train
    assert dataset.space == (("colour", "size"), (3, 2), True)
    np.testing.assert_array_equal(
        gather_all(dataset)[1], [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]
    )
    assert load_arrays(data_dir=tmp_path, factor_sizes="6").train.space == (("label",), (6,), True)


def test_labels_that_are_a_grid_are_recognised_in_each_split(tmp_path):
    labels = np.array(list(np.ndindex(2, 3)))
    named = {"images": BYTES, "labels": labels, "x_test": BYTES, "y_test": labels[::-1]}
    np.savez(tmp_path / "set.npz", **named)
    train, test = load_arrays(data_dir=tmp_path, factor_names="a,b")
    assert train.space == (("a", "b"), (2, 3), True)
    assert test.space == (("a", "b"), (2, 3), False)


def test_declarations_that_contradict_the_file_are_refused(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, images=BYTES, labels=LABELS)
    refuse(path, r"number of examples in .*, 6; got 3 x 3 = 9$", factor_sizes="3,3")
    refuse(path, "labels in .* row-major order; got 1 labels", factor_sizes="3,2")
    refuse(path, "as many factor_names .* factors, 1; got 2: a, b$", factor_names="a,b")
    np.savez(path, images=BYTES, x_test=BYTES)
    refuse(path, r"examples in one split; got .*\(images\) and .*\(x_test\)", factor_sizes="6")
    np.savez(path, images=BYTES)
    refuse(path, "factors, 0; got 1: a$", factor_names="a")


def test_gather_is_the_same_traced_mapped_and_scanned(tmp_path):
    np.savez(tmp_path / "set.npz", images=BYTES, labels=LABELS)
    dataset = load_arrays(data_dir=tmp_path).train
    index = jnp.array([[0, 5, 1], [3, 3, 2]], jnp.int32)
    eager = jnp.stack([dataset.gather(dataset.arrays, row, KEY) for row in index])
    arrays = jax.device_put(dataset.arrays)

    @jax.jit
    def scanned(arrays, index):
        def step(carry, row):
            return carry, (dataset.gather(arrays, row, KEY), dataset.factors(arrays, row))

        return jax.lax.scan(step, 0, index)[1]

    mapped = jax.vmap(dataset.gather, in_axes=(None, 0, None))(arrays, index, KEY)
    np.testing.assert_array_equal(mapped, eager)
    np.testing.assert_array_equal(jax.jit(dataset.gather)(arrays, index[1], KEY), eager[1])
    x, factors = scanned(arrays, index)
    np.testing.assert_array_equal(x, eager)
    np.testing.assert_array_equal(factors[..., 0], LABELS[np.asarray(index)])


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("data_dir", [None, ""])
def test_no_path_is_refused(data_dir):
    with pytest.raises(InputError, match=r"^expected data_dir to name a \.npz.*; got none$"):
        load_arrays(data_dir=data_dir)


def test_missing_paths_and_empty_folders_are_refused(tmp_path):
    refuse(tmp_path / "nowhere", "expected data_dir to name a .npz", "which does not exist$")
    refuse(tmp_path, "got nothing")
    (tmp_path / "notes.txt").write_text("no images\n")
    (tmp_path / "raw").mkdir()
    refuse(tmp_path, "got notes.txt, raw")
    refuse(tmp_path / "notes.txt", r"a \.npz, \.npy, \.h5, \.csv or idx file")
    (tmp_path / "a-idx3-ubyte.part").write_bytes(idx_bytes(BYTES))
    refuse(tmp_path / "a-idx3-ubyte.part", r"or idx file .*; got .*\.part$")
    (tmp_path / "a-idx3-ubyte.part").unlink()
    for i in range(7):
        (tmp_path / f"{i}.txt").write_text("")
    refuse(tmp_path, "got 0.txt, .*, 6.txt, notes.txt and 1 more$")
    (tmp_path / "raw").rmdir()
    refuse(tmp_path, "got 0.txt, .*, 6.txt, notes.txt$")


def test_several_candidates_must_be_named(tmp_path):
    np.save(tmp_path / "a.npy", BYTES)
    np.savez(tmp_path / "b.npz", images=BYTES)
    refuse(tmp_path, "got a.npy, b.npz: name one of them")
    assert load_arrays(data_dir=tmp_path / "b.npz").train.num_examples == 6
    (tmp_path / "a.npy").unlink()
    (tmp_path / "c.npy").mkdir()  # a folder is none
    assert load_arrays(data_dir=tmp_path).train.num_examples == 6
    write_idx_folder(tmp_path)
    refuse(tmp_path, "b.npz", "t10k-images-idx3-ubyte", "name one of them")


def test_idx_files_without_training_images_must_be_named(tmp_path):
    write_idx_folder(tmp_path)
    (tmp_path / IDX_NAMES["train-images"]).unlink()
    refuse(tmp_path, "got t10k-images-idx3-ubyte", "name one of them")


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (BYTES / 127.5 - 1, r"floats in \[0, 1\].*got -1 to 1 \(rescale: \(images - low\)"),
        (BYTES.astype(np.float32), r"floats in \[0, 1\].*got 0 to 255 \(rescale: images / 255\)"),
        (np.clip(BYTES, 0, 1) * 1.0001, r"got 0 to 1.0001 \(rescale: np.clip\(images, 0, 1\)\)"),
        (np.where(BYTES > 250, np.nan, 0.5), r"got NaN or infinity"),
        (np.where(BYTES > 250, np.inf, 0.5), r"got NaN or infinity"),
        (BYTES.astype(np.int64), "uint8.*bool.*got int64"),
        (BYTES.astype(np.complex64), "got complex64"),
        (BYTES.astype(str), "got <U"),
        (BYTES[0, 0], r"\[N, H, W\] or \[N, H, W, C\], or vectors \[N, F\].*got \[4\]"),
        (BYTES[None, None], r"got \[1, 1, 6, 5, 4\]"),
        (np.zeros((2, 3, 8, 9), np.uint8), r"channels last.*\[2, 3, 8, 9\] \(move.*moveaxis"),
        (np.zeros((2, 8, 8, 9), np.uint8), r"1 to 4 channels.*got \[2, 8, 8, 9\]$"),
        (BYTES[:0], r"at least one image.*got \[0, 5, 4\]"),
        (np.array([{}]), "got pickled objects"),
    ],
)
def test_arrays_that_are_not_images_are_refused(tmp_path, images, expected):
    np.save(tmp_path / "set.npy", images)
    refuse(tmp_path / "set.npy", expected)
    np.savez(tmp_path / "set.npz", images=images)
    refuse(tmp_path / "set.npz", expected)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (LABELS[:5], "labels that do not match: 6 images, 5 labels"),
        (LABELS.astype(int) - 1, r"counted from 0.*got -1 to 2"),
        (LABELS + 0.5, "whole numbers.*got fractions"),
        (np.full(6, np.nan), "whole numbers.*got fractions"),
        (LABELS.astype(str), "whole numbers.*got <U"),
        (LABELS.astype(np.int64) + 2**31, "counted from 0"),
        (np.zeros((6, 0), int), r"labels \[N\] or \[N, K\].*got \[6, 0\]"),
        (np.zeros((6, 1, 1), int), r"got \[6, 1, 1\]"),
        (np.int64(3), r"got \[\]"),
        (np.array([{}] * 6), "got pickled objects"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, labels, expected):
    np.savez(tmp_path / "set.npz", images=BYTES, labels=labels)
    refuse(tmp_path / "set.npz", expected)


def test_splits_that_differ_are_refused(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x_train=BYTES, x_test=BYTES[:, 1:])
    refuse(path, r"training images' shape \[5, 4, 1\]; got \[4, 4, 1\]")
    np.savez(path, x_train=BYTES, y_train=LABELS, x_test=BYTES, y_test=np.zeros((6, 2), int))
    refuse(path, r"as many labels an image.*\(x_train, y_train\), 1; got 2")


def test_an_archive_without_images_lists_what_it_holds(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, codes=np.zeros((6, 10)), notes=np.array([{}]))
    refuse(path, r"under one of images, x, imgs.*got codes \(float64 \[6, 10\]\), notes \(pickled")
    np.savez(path, left=BYTES, right=BYTES)
    refuse(path, r"got left \(uint8 \[6, 5, 4\]\), right \(uint8")
    np.savez(path)
    refuse(path, "got no such arrays")


@pytest.mark.parametrize("name", ["set.npz", "set.npy"])
def test_damaged_numpy_files_are_refused(tmp_path, name):
    path = tmp_path / name
    np.save(path, BYTES) if name == "set.npy" else np.savez_compressed(path, images=BYTES)
    whole = path.read_bytes()
    for content in (b"", b"hello, world\n"):
        path.write_bytes(content)
        refuse(path, f"NumPy file that begins .*; got {re.escape(repr(content[:2]))[:-1]}")
    for content in (whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        refuse(path, "whole and readable")


def test_no_damage_escapes_the_one_line(tmp_path):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, images=BYTES, labels=LABELS)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    messages = []
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            load_arrays(data_dir=path)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all("set.npz" in message and "\n" not in message for message in messages)


def edit(content, at, value):
    return content[:at] + value + content[at + len(value) :]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "begin with the four bytes of idx; got b''"),
        (b"PNG or so, no idx", "begin with the four bytes of idx; got b'PNG '"),
        (bytes([0, 0, 8, 0, 7]), "begin with the four bytes of idx; got "),
        (edit(idx_bytes(BYTES), 2, b"\x0d"), r"unsigned bytes \(idx type 0x08\).*got 0x0d"),
        (idx_bytes(BYTES)[:10], "a header of 16 bytes.*got a file of 10"),
        (idx_bytes(BYTES)[:-7], r"120 bytes of data.*header \[6, 5, 4\] says; got 113"),
        (idx_bytes(BYTES) + b"x", "120 bytes of data.*got 121"),
        (edit(idx_bytes(BYTES), 4, b"\xff" * 12), "79228162458924105385300197375 bytes"),
        (idx_bytes(LABELS), r"images \[N, H, W\].*got \[6\]"),
        (gzip.compress(idx_bytes(BYTES))[:-20], "whole and readable; got EOFError"),
        (edit(gzip.compress(idx_bytes(BYTES)), 30, b"\0\0\0"), "whole and readable; got "),
        (b"\x1f\x8b", "whole and readable; got "),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, content, expected):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    refuse(path, expected)


def test_what_a_reader_says_of_a_damaged_file_is_cut_short(tmp_path):
    with pytest.raises(InputError) as caught, files_module.reading(tmp_path / "a"):
        raise OSError("x" * 1_000)
    assert str(caught.value).endswith("got OSError: " + "x" * 291)


def test_idx_labels_that_do_not_match_are_refused(tmp_path):
    write_idx_folder(tmp_path)
    (tmp_path / IDX_NAMES["train-labels"]).write_bytes(idx_bytes(LABELS[:4]))
    with pytest.raises(InputError, match="do not match: 6 images, 4 labels") as caught:
        load_arrays(data_dir=tmp_path)
    assert "train-labels-idx1-ubyte" in str(caught.value)
    assert "\n" not in str(caught.value)
