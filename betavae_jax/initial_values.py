"""The parameters that every network starts from."""

import itertools
import math

import jax
import jax.numpy as jnp

from betavae_jax.types import Array, Params

_TRUNCATED_DEVIATION = 0.8796256610342398  # of a standard normal cut off at ±2


def draw_parameters(key: Array, shapes: Params) -> Params:
    """Draws kernels from LeCun's truncated normal, as Flax does; biases are zero.

    One draw serves all kernels: XLA takes about a second to compile each use of the
    generator, and twenty for a population's network with one a layer.

    Args:
      key: A random key.
      shapes: The parameters' shapes and types; a leaf of one axis is a bias.

    Returns:
      The parameters, a tree like `shapes`.
    """
    leaves, tree = jax.tree.flatten(shapes)
    sizes = [leaf.size if leaf.ndim > 1 else 0 for leaf in leaves]
    draws = jax.random.truncated_normal(key, -2.0, 2.0, (sum(sizes),))
    pieces = jnp.split(draws, list(itertools.accumulate(sizes))[:-1])
    parameters = [
        piece.reshape(leaf.shape) / (_TRUNCATED_DEVIATION * math.sqrt(math.prod(leaf.shape[:-1])))
        if leaf.ndim > 1
        else jnp.zeros(leaf.shape)
        for piece, leaf in zip(pieces, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, parameters)
