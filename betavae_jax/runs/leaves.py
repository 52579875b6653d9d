"""Trees as flat dictionaries of named arrays, and their digests."""

import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np

Tree = TypeVar("Tree")


def flatten_leaves(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by path, such as `encoder.conv_0.kernel`, as NumPy arrays."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in leaves
    }


def unflatten_leaves(template: Tree, leaves: Mapping[str, np.ndarray]) -> Tree:
    """Puts named arrays into the shape of `template`, whose leaves have a shape and a dtype.

    Raises:
      ValueError: If a name, a shape or a dtype differs from the template's.
    """
    expected, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in expected]
    different = sorted(set(names) ^ set(leaves))
    if different:
        raise ValueError(f"expected the leaves of this program; these differ: {different[:3]}")
    for name, (_, leaf) in zip(names, expected, strict=True):
        got = leaves[name]
        if got.shape != leaf.shape or got.dtype != leaf.dtype:
            raise ValueError(
                f"expected {name} to be {leaf.dtype}{list(leaf.shape)}; "
                f"got {got.dtype}{list(got.shape)}"
            )
    tree: Tree = jax.tree_util.tree_unflatten(structure, [leaves[name] for name in names])
    return tree


def sha256_of_leaves(leaves: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 over the leaves sorted by path: path, dtype, shape, little-endian bytes."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        leaf = leaves[name]
        little_endian = np.ascontiguousarray(leaf, dtype=leaf.dtype.newbyteorder("<"))
        digest.update(f"{name}:{leaf.dtype.name}:{list(leaf.shape)}:".encode())
        digest.update(little_endian.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def sha256_of_tree(tree: Any) -> str:
    """The SHA-256 of a tree of arrays; see `sha256_of_leaves`."""
    return sha256_of_leaves(flatten_leaves(tree))
