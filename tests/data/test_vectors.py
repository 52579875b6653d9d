"""Vectors: standardisation against NumPy and SciPy, every file format, and what is refused."""

import re

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import betavae_jax.data.vectors as vectors_module
from betavae_jax.checks import InputError
from betavae_jax.data.arrays import load_arrays
from betavae_jax.data.sampling import sample_splits
from betavae_jax.data.vectors import moments, take_vectors

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
DATA = RNG.normal([3, -1e6, 0, 1e-3], [2, 1e4, 1e9, 1e-9], (50, 4))
LABELS = RNG.integers(0, 3, 50)
LABELS[0] = 2


def with_value(row, column, value):
    array = DATA.copy()
    array[row, column] = value
    return array


def load(path, array, **settings):
    np.save(path / "set.npy", array)
    return load_arrays(data_dir=path / "set.npy", **settings)


def refuse(path, *expected):
    with pytest.raises(InputError) as caught:
        load_arrays(data_dir=path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("expected ")
    for text in (path.name, *expected):
        assert re.search(text, message), (text, message)


def test_features_are_standardised_as_by_scipy(tmp_path):
    dataset = load(tmp_path, DATA).train
    arrays = dataset.arrays
    assert all(type(leaf) is np.ndarray for leaf in arrays)
    assert arrays.vectors.dtype == np.float32
    np.testing.assert_allclose(arrays.vectors, scipy.stats.zscore(DATA), atol=1e-6)
    np.testing.assert_allclose(dataset.scale.mean, DATA.mean(0), rtol=1e-6)
    np.testing.assert_allclose(dataset.scale.scale, DATA.std(0), rtol=1e-6)
    assert dataset.num_examples == 50
    assert dataset.space is None


def test_the_values_can_be_had_back(tmp_path):
    train = load(tmp_path, DATA[:, :1]).train
    values = train.arrays.vectors * train.scale.scale + train.scale.mean
    np.testing.assert_allclose(values, DATA[:, :1], rtol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_change_nothing(tmp_path, monkeypatch, block):
    whole = load(tmp_path, DATA).train.arrays
    monkeypatch.setattr(vectors_module, "_BLOCK", block)
    for one, other in zip(whole, load(tmp_path, DATA).train.arrays, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, -3, 0])
def test_constant_features_are_zero(tmp_path, value):
    array = np.full((7, 2), value, np.float64)
    array[:, 1] = np.arange(7)
    train = load(tmp_path, array).train
    assert not train.arrays.vectors[:, 0].any()
    assert train.scale.scale[0] == 1
    assert train.scale.mean[0] == value
    np.testing.assert_allclose(train.arrays.vectors[:, 1], (np.arange(7) - 3) / 2, atol=1e-6)


def test_one_example_is_constant(tmp_path):
    assert not load(tmp_path, DATA[:1]).train.arrays.vectors.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float16, np.float32])
def test_numbers_of_every_type(tmp_path, dtype):
    array = (np.arange(12)[:, None] % [2, 3, 4]).astype(dtype)
    arrays = load(tmp_path, array).train.arrays
    expected = scipy.stats.zscore(array.astype(np.float64))
    np.testing.assert_allclose(arrays.vectors, expected, atol=1e-6)
    raw = load(tmp_path, array, standardize=False).train
    np.testing.assert_array_equal(raw.arrays.vectors, array.astype(np.float32))
    assert raw.scale is None


def test_a_tiny_and_a_huge_range_stay_finite(tmp_path):
    array = np.array([[1e-30, 3e38, 1e-300], [2e-30, -3e38, 2e-300]])
    train = load(tmp_path, array).train
    np.testing.assert_allclose(train.arrays.vectors, [[-1, 1, 0], [1, -1, 0]], atol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in (*train.arrays, *train.scale))


@pytest.mark.parametrize("name", ["x", "data", "images", "x_train"])
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_the_test_split_is_scaled_by_the_training_split(tmp_path, name, suffix):
    path = tmp_path / f"set{suffix}"
    named = {name: DATA, "y": LABELS, "x_test": DATA[:5] + 1, "y_test": LABELS[:5]}
    if suffix == ".npz":
        np.savez(path, **named)
    else:
        with h5py.File(path, "w") as file:
            file.update(named)
    train, test = load_arrays(data_dir=path, factor_names="kind")
    expected = (DATA[:5] + 1 - DATA.mean(0)) / DATA.std(0)
    np.testing.assert_allclose(test.arrays.vectors, expected, rtol=1e-4, atol=1e-6)
    assert test.scale is train.scale
    np.testing.assert_array_equal(test.arrays.factors[:, 0], LABELS[:5])
    assert train.space == test.space == (("kind",), (3,), False)


@pytest.mark.parametrize("chosen", [{"test_fraction": 0.2}, {"held_out": ["label:1"]}])
def test_what_is_kept_for_evaluation_is_not_standardised_by(tmp_path, chosen):
    values = np.column_stack([DATA, LABELS == 1])  # the last is constant without that label
    np.savez(tmp_path / "set.npz", x=values, y=LABELS)
    whole = load_arrays(data_dir=tmp_path)
    train, test = sample_splits(whole, **chosen)
    assert whole.train.scale is not train.scale is test.scale
    raw = values[train.arrays.rows]
    expected = raw.std(0)
    expected[expected == 0] = 1
    np.testing.assert_allclose(train.scale.mean, raw.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(train.scale.scale, expected, rtol=1e-5)
    for part in (train, test):
        seen = part.gather(part.arrays, jnp.arange(part.num_examples), KEY)
        scaled = (values[part.arrays.rows] - raw.mean(0)) / expected
        np.testing.assert_allclose(seen, scaled, rtol=1e-4, atol=1e-5)


def test_values_that_are_not_standardised_stay_so(tmp_path):
    whole = load(tmp_path, DATA, standardize=False)
    train, test = sample_splits(whole, test_fraction=0.2)
    assert train.scale is test.scale is None
    assert train.arrays.base is whole.train.arrays


def test_a_declared_grid_of_vectors(tmp_path):
    dataset = load(tmp_path, DATA, factor_sizes="5,10", factor_names="a,b").train
    assert dataset.space == (("a", "b"), (5, 10), True)
    np.testing.assert_array_equal(dataset.arrays.factors[[0, 11, 49]], [[0, 0], [1, 1], [4, 9]])


def test_gather_is_the_same_eager_traced_and_mapped(tmp_path):
    np.savez(tmp_path / "set.npz", x=DATA, y=LABELS)
    dataset = load_arrays(data_dir=tmp_path).train
    arrays = jax.device_put(dataset.arrays)
    index = jnp.array([[0, 49, 1], [3, 3, 2]], jnp.int32)
    eager = jnp.stack([dataset.gather(arrays, row, KEY) for row in index])
    assert eager.dtype == jnp.float32
    assert eager.shape == (2, 3, 4)
    np.testing.assert_array_equal(eager, dataset.arrays.vectors[np.asarray(index)])
    np.testing.assert_array_equal(jax.jit(dataset.gather)(arrays, index[1], KEY), eager[1])
    mapped = jax.vmap(dataset.gather, in_axes=(None, 0, None))(arrays, index, KEY)
    np.testing.assert_array_equal(mapped, eager)
    factors = dataset.factors(arrays, index[0])
    assert factors.dtype == jnp.int32
    np.testing.assert_array_equal(factors[:, 0], LABELS[[0, 49, 1]])


def test_some_rows_are_taken(tmp_path):
    dataset = load(tmp_path, DATA).train
    rows = np.array([4, 0, 4])
    part = take_vectors(dataset.arrays, rows)
    assert dataset.take is take_vectors
    np.testing.assert_array_equal(part.vectors, dataset.arrays.vectors[rows])
    assert part.factors.shape == (3, 0)


# --- tables --------------------------------------------------------------------------------


def write(folder, text, encoding="utf-8"):
    path = folder / "set.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("1,2\n3,4\n5,7\n", None),
        ("a,b\n1,2\n3,4\n5,7\n", None),
        ("a,b\r\n1,2\r\n3,4\r\n5,7", None),
        ('"a, b",c\n1,"2"\n3,4\n5,7\n', None),
        ("\na,b\n1,2\n\n3,4\n5,7\n\n", None),
        ("Label,a,b\n0,1,2\n2,3,4\n1,5,7\n", [0, 2, 1]),
        ("a,label,b\n1,dog,2\n3,bird,4\n5,dog,7\n", [1, 0, 1]),
        ("a,label,b\n1,9,2\n3,dog,4\n5,10,7\n", [1, 2, 0]),
        ("0,1,label\n1,2,0\n3,4,1.0\n5,7,3\n", [0, 1, 3]),
        ('a,b, label\n1,2,"x,y"\n3,4,#5\n5,7, x,y\n'.replace(" x,y", "z"), [1, 0, 2]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables(tmp_path, text, labels, encoding):
    train, test = load_arrays(data_dir=write(tmp_path, text, encoding), standardize=False)
    np.testing.assert_array_equal(train.arrays.vectors, [[1, 2], [3, 4], [5, 7]])
    assert test is None
    if labels is None:
        assert train.space is None
    else:
        np.testing.assert_array_equal(train.arrays.factors[:, 0], labels)
        assert train.space.names == ("label",)
        assert train.space.sizes == (max(labels) + 1,)


def test_labels_of_a_table_are_numbers_whatever_the_case_of_its_suffix(tmp_path):
    path = tmp_path / "SET.CSV"
    path.write_text("a,label\n1,0\n2,3\n3,0\n")
    np.testing.assert_array_equal(load_arrays(data_dir=path).train.arrays.factors, [[0], [3], [0]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "at least one row of numbers"),
        ("a,b\n", "at least one row of numbers"),
        ("1,2\n3\n", "as many fields in every row .*, 2; got 1 in row 1, counted from 0"),
        ("a,b\n1,2,3\n", "in its header, 2; got 3"),
        ("1,x\n2,3\n", "a number in every field .*; got 'x' in row 0, column 1, counted from 0"),
        ("a,b\n1,2\n1,\n", "got a missing value, '', in row 1, column 1, counted from 0"),
        ("a,b\n1,2\n\n1, N/A\n", "got a missing value, ' N/A', in row 1, column 1, counted from 0"),
        ("a,b\n1,2\n1,nan\n", "got nan in row 1, column 1, counted from 0"),
        ("label,a,b\nx,1,2\ny,3,nan\n", "got nan in row 1, column 2, counted from 0"),
        ("label,a,b\nx,1,2\n\ny,3,NA\n", "got a missing value, 'NA', in row 1, column 2,"),
        ("label,a,b\nx,1,2\ny,3,1e39\n", r"within float32.*got 1e\+39 in row 1, column 2"),
        ("a,b\n1,2\n1_000,3\n", "got '1_000' in row 1, column 0"),
        ("1;2\n3;4\n", r"got '3;4' \(commas separate fields\) in row 0, column 0"),
        ("1,5;2,5\n1,6;3,5\n", r"got '5;2' \(commas separate fields\) in row 0, column 1"),
        ("a\tb\n1\tx\n", r"\(commas separate fields\) in row 0"),
        ("1 2\n3 4\n", r"got '3 4' \(commas separate fields\) in row 0"),
        ("a,b\n1,New York\n", "got 'New York' in row 0, column 1"),
        ("a,label,label\n1,2,3\n", "one column named label"),
        ("label\n1\n", r"one feature .*got \[1, 0\]"),
        ("a,label\n1,0.5\n", "whole numbers.*got fractions"),
        ("a,label\n1,-1\n", "counted from 0"),
        ("a,label\n1,x\n2,\n3,y\n", "a label in every row .*; got none in row 1, column 1"),
        ("label,a\n0,1\n1,2\n ,3\n", "a label in every row .*; got none in row 2, column 0"),
        ("label,a\nx,1\nx,2\n,3\n", "a label in every row .*; got none in row 2, column 0"),
        (f"a,b\n1,{'x' * 99}\n", f"got '{'x' * 80}' in row 0, column 1"),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path, text, expected):
    refuse(write(tmp_path, text), expected)


def test_a_table_of_bytes_is_refused(tmp_path):
    path = tmp_path / "set.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    refuse(path, "whole and readable; got UnicodeDecodeError")


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.where(DATA[3, 2] == DATA, np.nan, DATA), "got nan in row 3, column 2, counted from 0"),
        (np.where(DATA[49, 0] == DATA, -np.inf, DATA), "got -inf in row 49, column 0"),
        (np.array([[0, 1e39]]), "finite numbers, within float32.*got 1e\\+39 in row 0, column 1"),
        (DATA.astype(np.complex64), "vectors of numbers.*got complex64"),
        (DATA.astype(str), "vectors of numbers.*got <U"),
        (DATA[:0], r"at least one vector .*got \[0, 4\]"),
        (DATA[:, :0], r"one feature .*got \[50, 0\]"),
    ],
)
def test_arrays_that_are_no_vectors_are_refused(tmp_path, array, expected):
    np.save(tmp_path / "set.npy", array)
    refuse(tmp_path / "set.npy", expected)


def test_splits_that_differ_are_refused(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x=DATA, x_test=DATA[:, 1:])
    refuse(path, r"training vectors' shape \[4\]; got \[3\]")
    images = np.zeros((3, 4, 1), np.uint8)
    np.savez(path, x=DATA, x_test=images)
    refuse(path, r"training vectors' shape \[4\]; got \[4, 1, 1\]")
    np.savez(path, x=images, x_test=DATA)
    refuse(path, r"training images' shape \[4, 1, 1\]; got \[4\]")
    np.savez(path, x=DATA, x_test=DATA, y=LABELS, y_test=np.zeros((50, 2), int))
    refuse(path, "as many labels")
    near = np.array([[1.0], [1.0 + 1e-12]]) - 1
    np.savez(path, x=near, x_test=near + 1e30)
    refuse(path, "standard deviations of the training part .*x_test")


def test_moments_are_numpys():
    mean, scale = moments(DATA)
    np.testing.assert_allclose(mean, DATA.mean(0), rtol=1e-12)
    np.testing.assert_allclose(scale, DATA.std(0), rtol=1e-9)
