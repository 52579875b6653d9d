"""scikit-learn's digits against the table that the package ships."""

import gzip
import importlib.resources
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.data import load_dataset
from betavae_jax.data.digits import load_digits


def test_digits_are_those_of_the_table():
    file = importlib.resources.files("sklearn.datasets.data") / "digits.csv.gz"
    table = np.loadtxt(gzip.decompress(file.read_bytes()).decode().splitlines(), delimiter=",")
    train, test = load_digits()
    assert test is None
    assert train.num_examples == 1797
    assert train.space == (("label",), (10,), False)
    index = jnp.arange(1797)
    x = train.gather(train.arrays, index, jax.random.key(0))
    assert x.shape == (1797, 8, 8, 1)
    assert x.dtype == jnp.float32
    np.testing.assert_array_equal(x.reshape(1797, 64), table[:, :64] / 16)
    assert float(x.min()) == 0
    assert float(x.max()) == 1
    np.testing.assert_array_equal(train.factors(train.arrays, index)[:, 0], table[:, 64])


def test_without_scikit_learn_one_line_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    expected = r"^expected the package sklearn .* digits; got .*'betavae_jax\[sklearn\]'.*"
    with pytest.raises(InputError, match=expected):
        load_dataset("digits")
