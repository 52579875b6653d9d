"""What a user hands to a trained model: one example or many, as a model sees them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError, check_shape
from betavae_jax.data.resident import check_images
from betavae_jax.data.vectors import check_vectors, moments
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.types import Scale, Shape

_THESE = "what was given"


def as_array(what: str, values: Any) -> np.ndarray:
    """What a user gives as an array, bfloat16 as float32.

    Args:
      what: What a refusal calls it.
      values: A NumPy or JAX array, or nested lists of numbers.

    Raises:
      InputError: If it is no array, or masks some of its values.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        raise InputError(f"expected {what} to be an array; got lists of unlike shapes") from None
    if array.dtype.kind == "O" or np.ma.is_masked(values):
        got = "masked values" if np.ma.is_masked(values) else f"a {type(values).__name__}"
        raise InputError(f"expected {what} to be an array of numbers; got {got}")
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def plain(value: Any) -> Any:
    """A scalar of NumPy or JAX as a Python number; anything else as it is."""
    is_scalar = isinstance(value, (np.generic, np.ndarray, jax.Array)) and value.ndim == 0
    is_number = is_scalar and jnp.issubdtype(value.dtype, jnp.number)
    return value.item() if is_number else value


class Rows(NamedTuple):
    """Checked examples."""

    values: np.ndarray  # [N, *x_shape], uint8 or float
    single: bool  # whether one was given, not a batch
    divisor: float  # of bytes: 255, or 1 where they are binary

    def prepare(self, batch: np.ndarray, scale: Scale | None) -> np.ndarray:
        """Turns some of the values into what the model sees, float32."""
        if scale is not None:
            return scale.standardize(batch).astype(np.float32)
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
    values = as_array("what is given", examples)
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


def check_codes(codes: Any, num_latents: int) -> tuple[np.ndarray, bool]:
    """Checks one code or a batch: `[D]` or `[N, D]`, numbers that float32 has.

    Returns:
      The codes `[N, D]`, float32, and whether one was given.

    Raises:
      InputError: If they are anything else.
    """
    z = as_array("codes", codes)
    if z.dtype.kind not in "iuf":
        raise InputError(f"expected codes to be numbers; got {z.dtype}")
    single = z.ndim == 1
    z = z[None] if single else z
    check_shape("codes", z.shape, (None, num_latents))
    if not len(z):
        raise InputError("expected at least one code; got none")
    return check_vectors("codes", z).astype(np.float32), single


def shape_of(x: np.ndarray) -> Shape:
    """The shape of an example, (F,) or (H, W, C), of `[N, F]`, `[N, H, W]` or `[N, H, W, C]`."""
    return (*x.shape[1:], 1) if x.ndim == 3 else x.shape[1:]


def scale_of(x: np.ndarray, likelihood: str) -> Scale | None:
    """How examples to train on are to be standardised.

    Args:
      x: `[N, F]`, `[N, H, W]` or `[N, H, W, C]`, finite.
      likelihood: The one they are for, or any other text where they choose it.

    Returns:
      Mean and scale of each feature of vectors; of each channel of images that are outside
      [0, 1] and may be: negative ones if the likelihood is not one of [0, 1], larger ones if
      it was chosen as one of real values. None for other images.
    """
    if x.ndim == 2:
        return Scale(*moments(x))
    known = likelihood in LIKELIHOODS
    is_real = known and not LIKELIHOODS[likelihood]().unit_interval
    may_be_negative = is_real or not known
    if (may_be_negative and x.min() < 0) or (is_real and x.max() > 1 and x.dtype != np.uint8):
        return Scale(*moments(x.reshape(-1, shape_of(x)[-1])))
    return None


def as_seen(x: np.ndarray, scale: Scale | None, binary: bool) -> np.ndarray:
    """Turns examples into what is trained on.

    Args:
      x: As for `scale_of`.
      scale: How to standardise them, or None.
      binary: Whether bytes are 0 and 1, not 0 to 255.

    Returns:
      `[N, F]` or `[N, H, W, C]`: float32, or bytes of which 255 is 1.

    Raises:
      InputError: If images that are not standardised are not uint8, bool or in [0, 1].
    """
    if scale is not None:
        values = x.reshape(len(x), *shape_of(x))
        return scale.standardize(values).astype(np.float32)
    if binary and x.dtype == np.uint8:
        if x.max() > 1:
            raise InputError(f"expected bytes of 0 and 1, as before; got {x.max()}")
        x = x.astype(bool)
    return check_images(_THESE, x)
