"""What a user hands to a trained model: one example or many, as a model sees them."""

from typing import Any, NamedTuple

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.resident import check_images
from betavae_jax.data.vectors import check_vectors
from betavae_jax.types import Shape

_THESE = "what was given"


class Scale(NamedTuple):
    """How examples were standardised; `x * scale + mean` has their own units again."""

    mean: np.ndarray  # [F] of vectors, [C] of images
    scale: np.ndarray  # likewise


class Rows(NamedTuple):
    """Checked examples."""

    values: np.ndarray  # [N, *x_shape], uint8 or float
    single: bool  # whether one was given, not a batch
    divisor: float  # of bytes: 255, or 1 where they are binary

    def prepare(self, batch: np.ndarray, scale: Scale | None) -> np.ndarray:
        """Turns some of the values into what the model sees, float32."""
        if scale is not None:
            return ((batch - scale.mean) / scale.scale).astype(np.float32)
        x = batch.astype(np.float32, copy=False)
        return x / np.float32(self.divisor) if batch.dtype == np.uint8 else x


def check_examples(examples: Any, x_shape: Shape, scale: Scale | None = None) -> Rows:
    """Checks one example or a batch.

    Args:
      examples: Images `[H, W, C]` or `[N, H, W, C]`, or without the `C` where it is 1: uint8
        (binary where none is above 1, as data sets have it), bool, or floats in [0, 1].
        Vectors `[F]` or `[N, F]`: finite numbers. NumPy or JAX arrays.
      x_shape: The shape that the model takes.
      scale: How the model's examples were standardised; images may then be any finite numbers.

    Returns:
      The examples.

    Raises:
      InputError: If the shape, the type or the range is another, or there is no example.
    """
    values = np.asarray(examples)
    shapes = [x_shape, x_shape[:2]] if len(x_shape) == 3 and x_shape[2] == 1 else [x_shape]
    single = values.shape in shapes
    if not single and values.shape[1:] not in shapes:
        forms = " or ".join(str(list(shape)) for shape in shapes)
        raise InputError(
            f"expected an example of shape {forms}, or a batch of them with N in front;"
            f" got {list(values.shape)}"
        )
    values = values.reshape(-1 if values.size else 0, *x_shape)
    if not len(values):
        raise InputError("expected at least one example; got none")
    if len(x_shape) == 1 or scale is not None:
        flat = check_vectors(_THESE, values.reshape(len(values), -1))
        return Rows(flat.reshape(values.shape), single, 1.0)
    values = check_images(_THESE, values)
    binary = values.dtype == np.uint8 and values.max() <= 1
    return Rows(values, single, 1.0 if binary else 255.0)
