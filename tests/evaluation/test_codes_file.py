"""Codes from a file: what is taken, what is split, what is refused."""

import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.evaluation import load_codes

RNG = np.random.default_rng(0)
CODES, FACTORS = RNG.normal(size=(30, 4)).astype(np.float32), RNG.integers(3, size=(30, 2))
FOUR = {
    "codes_train": CODES[:20],
    "factors_train": FACTORS[:20],
    "codes_test": CODES[20:],
    "factors_test": FACTORS[20:],
}


def save(folder, **arrays):
    path = folder / "codes.npz"
    np.savez(path, **arrays)
    return path


def test_four_arrays_are_taken_as_they_are(tmp_path):
    loaded = load_codes(save(tmp_path, **FOUR, codes=CODES))  # a further array does no harm
    for array, expected in zip(loaded, FOUR.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert loaded[1].dtype == np.int64


def test_codes_and_factors_are_split_together(tmp_path):
    ordered = np.arange(30.0)[:, None].repeat(2, axis=1)
    path = save(tmp_path, codes=ordered, factors=np.arange(30))
    train, f_train, test, f_test = load_codes(path)
    assert (train.shape, f_train.shape, test.shape, f_test.shape) == (
        (20, 2), (20, 1), (10, 2), (10, 1),
    )  # fmt: skip
    np.testing.assert_array_equal(train[:, 0], f_train[:, 0])
    np.testing.assert_array_equal(test[:, 0], f_test[:, 0])
    assert sorted(np.concatenate([f_train, f_test])[:, 0]) == list(range(30))
    np.testing.assert_array_equal(load_codes(path)[0], train)
    assert np.any(load_codes(path, seed=1)[0] != train)


@pytest.mark.parametrize("kind", [float, np.float32, np.uint8, bool])
def test_whole_numbers_of_any_kind_are_labels(tmp_path, kind):
    path = save(tmp_path, codes=CODES, factors=(FACTORS > 1).astype(kind))
    labels = load_codes(path)[1]
    assert labels.dtype == np.int64
    assert set(np.unique(labels)) == {0, 1}


def test_factors_may_be_missing_where_nobody_reads_them(tmp_path):
    path = save(tmp_path, codes=CODES)
    assert [a.shape for a in load_codes(path, factors=False)] == [(20, 4), (20, 0), (10, 4),
                                                                  (10, 0)]  # fmt: skip
    with pytest.raises(InputError, match="factors is missing, it holds codes"):
        load_codes(path)
    half = {name: array for name, array in FOUR.items() if name != "factors_test"}
    with pytest.raises(InputError, match="factors_test is missing"):  # a slip of the pen, surely
        load_codes(save(tmp_path, **half), factors=False)


NAN = np.where(np.arange(30)[:, None] == 7, np.nan, CODES)
REFUSALS = [
    ({"codes": NAN, "factors": FACTORS}, "NaN or infinity in 1 of 30 rows"),
    ({"codes": CODES, "factors": FACTORS + 0.5}, "expected factors to be whole numbers"),
    ({"codes": CODES, "factors": np.where(FACTORS, 1.0, np.nan)}, "whole numbers"),
    ({"codes": CODES, "factors": np.where(FACTORS, 1.0, np.inf)}, "whole numbers"),
    ({"codes": CODES, "factors": FACTORS[:20]}, "expected factors [30, K]; got shape [20, 2]"),
    ({"codes": CODES, "factors": np.full(30, "red")}, "expected factors to be numbers; got <U3"),
    ({"codes": CODES.astype(complex), "factors": FACTORS}, "codes to be numbers; got complex128"),
    ({"codes": CODES[0], "factors": FACTORS}, "expected codes [N, D]; got shape [4]"),
    ({k: v for k, v in FOUR.items() if k != "codes_test"}, "codes_test is missing"),
    ({"z": CODES}, "codes_train, factors_train, codes_test, factors_test are missing, it holds z"),
    ({}, "it holds none"),
    ({"codes": np.asarray([{}], object), "factors": FACTORS}, "readable; got pickled objects"),
]


@pytest.mark.parametrize(("arrays", "says"), REFUSALS)
def test_refusals(tmp_path, arrays, says):
    with pytest.raises(InputError) as refusal:
        load_codes(save(tmp_path, **arrays))
    assert says in str(refusal.value)


def test_what_is_no_archive_is_refused(tmp_path):
    whole = save(tmp_path, codes=CODES, factors=FACTORS).read_bytes()
    np.save(tmp_path / "one.npy", CODES)
    for content in (b"", b"codes", whole[:200], whole[:-30], whole.replace(b"\x93NUMPY", b"NUMPY!"),
                    (tmp_path / "one.npy").read_bytes()):  # fmt: skip
        path = tmp_path / "damaged.npz"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged\.npz to be (whole|a NumPy file)"):
            load_codes(path)
    with pytest.raises(InputError, match=r"absent\.npz is missing"):
        load_codes(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="to be whole and readable"):
        load_codes(tmp_path)
