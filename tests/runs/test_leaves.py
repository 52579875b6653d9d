"""Named leaves and their digests."""

import hashlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from betavae_jax.runs.leaves import (
    flatten_leaves,
    sha256_of_leaves,
    sha256_of_tree,
    unflatten_leaves,
)
from betavae_jax.types import Posterior

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def tree():
    return {
        "encoder": {"conv_0": {"kernel": A, "bias": jnp.ones(3)}},
        "critic": (),
        "moments": [Posterior(np.int32(4), np.zeros(2, bool)), None],
    }


def test_leaves_are_named_by_their_path():
    leaves = flatten_leaves(tree())
    assert set(leaves) == {
        "encoder.conv_0.kernel",
        "encoder.conv_0.bias",
        "moments.0.mean",
        "moments.0.log_variance",
    }
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves.values())
    np.testing.assert_array_equal(leaves["encoder.conv_0.kernel"], A)
    assert leaves["moments.0.mean"].dtype == np.int32
    assert leaves["moments.0.mean"].shape == ()


def test_unflatten_is_the_inverse():
    state = optax.adam(1e-3).init({"w": jnp.ones((2, 3)), "b": ()})
    for original in (tree(), state, np.ones(2), ()):
        again = unflatten_leaves(original, flatten_leaves(original))
        assert jax.tree.structure(again) == jax.tree.structure(original)
        jax.tree.map(np.testing.assert_array_equal, again, original)


def test_unflatten_takes_shapes_for_a_template():
    template = jax.eval_shape(lambda: {"w": jnp.ones((2, 3)), "n": jnp.zeros((), jnp.int32)})
    again = unflatten_leaves(template, {"n": np.asarray(5, np.int32), "w": A})
    assert again["n"] == 5
    np.testing.assert_array_equal(again["w"], A)


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ({"w": A}, r"these differ: \['n'\]"),
        ({"w": A, "n": np.int32(1), "more": A}, r"these differ: \['more'\]"),
        ({"v": A, "n": np.int32(1)}, r"these differ: \['v', 'w'\]"),
        ({"w": A.T, "n": np.int32(1)}, r"w to be float32\[2, 3\]; got float32\[3, 2\]"),
        ({"w": A.reshape(6), "n": np.int32(1)}, r"got float32\[6\]"),
        ({"w": A.astype(np.float64), "n": np.int32(1)}, r"got float64\[2, 3\]"),
        ({"w": A, "n": np.asarray([1], np.int32)}, r"n to be int32\[\]; got int32\[1\]"),
        ({}, "these differ"),
    ],
)
def test_unflatten_refuses(leaves, message):
    with pytest.raises(ValueError, match=message):
        unflatten_leaves({"w": np.zeros((2, 3), np.float32), "n": np.int32(0)}, leaves)


def test_the_digest_is_its_definition():
    """Path, dtype, shape, little-endian bytes, over the leaves sorted by path."""
    leaves = {"b": np.asarray([[1, 2]], np.int32), "a.c": np.asarray(1.5, np.float32)}
    text = b"a.c:float32:[]:" + b"\x00\x00\xc0\x3f"
    text += b"b:int32:[1, 2]:" + b"\x01\x00\x00\x00\x02\x00\x00\x00"
    assert sha256_of_leaves(leaves) == hashlib.sha256(text).hexdigest()
    assert sha256_of_leaves({}) == hashlib.sha256().hexdigest()


def test_the_order_does_not_matter():
    leaves = {"a": A, "b": A + 1, "a.b": A - 1}
    assert sha256_of_leaves(leaves) == sha256_of_leaves(dict(reversed(leaves.items())))
    assert sha256_of_tree({"x": 1, "y": A}) == sha256_of_tree({"y": A, "x": 1})


def test_the_digest_tells_leaves_apart():
    different = [
        {"a": A},
        {"b": A},
        {"a": A, "b": A},
        {"a": A.T},
        {"a": A.reshape(3, 2)},
        {"a": A.reshape(1, 2, 3)},
        {"a": A.reshape(6)},
        {"a": A.astype(np.float64)},
        {"a": A.view(np.int32)},
        {"a": A.view(np.uint32)},
        {"a": -A},  # differs in the sign of zero as well
        {"a": A[::-1]},
        {"a": np.nextafter(A, np.float32(np.inf))},
        {"a": np.zeros((0, 3), np.float32)},
        {"a": np.zeros((3, 0), np.float32)},
        {"a": np.float32(1)},
        {"a": np.ones(1, np.float32)},
        {"a": np.zeros((2, 2), np.float16)},
        {"a": np.zeros((2, 2), ml_dtypes.bfloat16)},
        {"a": np.asarray([0.0], np.float32)},
        {"a": np.asarray([-0.0], np.float32)},
    ]
    assert len({sha256_of_leaves(leaves) for leaves in different}) == len(different)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int32", "int64", "uint8", "bool", "complex64"]
)
def test_memory_layout_does_not_matter(dtype):
    leaf = np.arange(12).reshape(3, 4).astype(dtype)
    expected = sha256_of_leaves({"a": leaf})
    big_endian = leaf.astype(leaf.dtype.newbyteorder(">"))
    strided = np.repeat(leaf, 2, axis=1)[:, ::2]
    read_only = leaf.copy()
    read_only.flags.writeable = False
    for other in (big_endian, np.asfortranarray(leaf), strided, read_only, big_endian.T.copy().T):
        assert sha256_of_leaves({"a": other}) == expected


def test_a_big_endian_scalar():
    assert sha256_of_leaves({"a": np.asarray(1.5, ">f4")}) == sha256_of_tree({"a": np.float32(1.5)})


def test_host_and_device_have_one_digest():
    assert sha256_of_tree({"a": jnp.asarray(A), "b": ()}) == sha256_of_tree({"a": A})
    half = jnp.ones(3, jnp.bfloat16)
    assert sha256_of_tree(half) == sha256_of_tree(np.asarray(half))


def test_the_digest_leaves_its_argument_alone():
    leaf = np.asarray([1.0, 2.0], ">f4")
    sha256_of_leaves({"a": leaf})
    assert leaf.dtype == np.dtype(">f4")
    np.testing.assert_array_equal(leaf, [1.0, 2.0])
