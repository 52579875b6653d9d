"""Encoders and decoders as functions of NumPy arrays, to compare."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.coding import make_coding
from betavae_jax.export.description import settings_of
from betavae_jax.representation import Representation
from betavae_jax.types import Array, Posterior, Shape

_BATCH_SIZES = (1, 33)  # of the rows that a round trip compares


class Functions(NamedTuple):
    """An encoder and a decoder, for any batch size; x is as the model sees it."""

    encode: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    # ^ x [B, ...] -> mean [B, D], log_variance [B, D]
    decode: Callable[[np.ndarray], np.ndarray]  # z [B, D] -> the mean of p(x|z), [B, ...]


def functions_of(representation: Representation) -> Functions:
    """The model's own functions, compiled."""
    coding = make_coding(settings_of(representation), representation.image_shape)
    params = representation.params
    return on_host(
        functools.partial(coding.encode, params), functools.partial(coding.decode, params)
    )


def on_host(
    encode: Callable[[Any], Posterior | tuple[Array, Array]], decode: Callable[[Any], Array]
) -> Functions:
    """Functions whose results are fetched."""

    def fetch(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, log_variance = encode(x)
        return np.asarray(mean), np.asarray(log_variance)

    return Functions(fetch, lambda z: np.asarray(decode(z)))


def largest_difference(
    expected: Functions, got: Functions, x_shape: Shape, num_latents: int
) -> float:
    """Compares functions on random rows, in batches of different sizes.

    Returns:
      The largest |a − b| / max(1, |a|) over means, log-variances and decoded values: absolute
      for small ones, relative for large ones, which single precision holds no better. NaN
      counts as infinite.
    """
    rng = np.random.default_rng(0)
    largest = 0.0
    for size in _BATCH_SIZES:
        x = _random_examples(rng, (size, *x_shape))
        z = rng.standard_normal((size, num_latents), np.float32)
        wanted = (*expected.encode(x), expected.decode(z))
        for a, b in zip(wanted, (*got.encode(x), got.decode(z)), strict=True):
            if a.shape != b.shape:
                raise InputError(f"expected an output {list(a.shape)}; got {list(b.shape)}")
            difference = float(np.max(np.abs(a - b) / np.maximum(1, np.abs(a))))
            largest = max(largest, difference) if difference >= 0 else float("inf")
    return largest


def _random_examples(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Images of pixels in [0, 1], or standard normal vectors."""
    draw = rng.random if len(shape) == 4 else rng.standard_normal
    return draw(shape, np.float32)
