"""Parameters that are drawn without compiling a model's own draw of them."""

import jax
import numpy as np


def random_parameters(init):
    """Draws the parameters that `init` has, biases too, so that they count: NumPy float32."""
    generator = np.random.default_rng(0)

    def draw(leaf):
        deviation = np.prod(leaf.shape[:-1]) ** -0.5
        return np.asarray(deviation * generator.normal(size=leaf.shape), np.float32)

    return jax.tree.map(draw, jax.eval_shape(init, jax.random.key(0)))
