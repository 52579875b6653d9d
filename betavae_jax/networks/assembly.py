"""What every network is assembled with: settings, activations and initial values."""

from collections.abc import Callable
from typing import TypeAlias, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from betavae_jax.checks import InputError, check_at_least, check_name, check_shape
from betavae_jax.initial_values import draw_parameters
from betavae_jax.types import Array, Network, Params, Posterior, Shape

_LARGEST_LAYER = 65_536  # outputs
_MOST_DIGITS = 9  # int() refuses thousands with an error of its own
_NO_LAYERS = "none"

Activation: TypeAlias = Callable[[Array], Array]

ACTIVATIONS: dict[str, Activation] = {
    "elu": nn.elu,
    "gelu": nn.gelu,
    "leaky_relu": nn.leaky_relu,  # slope 0.01 below zero
    "relu": nn.relu,
    "sigmoid": nn.sigmoid,
    "silu": nn.silu,
    "softplus": nn.softplus,
    "tanh": nn.tanh,
}


def find_activation(what: str, name: str) -> Activation:
    """Looks an activation up by its name; raises InputError where there is none."""
    check_name(what, name, ACTIVATIONS)
    return ACTIVATIONS[name]


def parse_sizes(what: str, text: str) -> tuple[int, ...]:
    """Parses a list of layers such as "256,256".

    Args:
      what: The setting's name, for the error.
      text: Whole numbers from 1 to 65,536, separated by commas.

    Returns:
      The sizes, at least one.

    Raises:
      InputError: If the text is anything else.
    """
    members = [member.strip() for member in text.split(",")] if isinstance(text, str) else [""]
    # Not int() alone, which takes signs, underscores and the digits of other scripts.
    plain = all(m.isascii() and m.isdecimal() and len(m) <= _MOST_DIGITS for m in members)
    sizes = tuple(int(member) for member in members) if plain else ()
    if not sizes or not all(1 <= size <= _LARGEST_LAYER for size in sizes):
        raise InputError(
            f"expected {what} to be whole numbers from 1 to {_LARGEST_LAYER} separated by commas;"
            f" got {text!r}"
        )
    return sizes


def parse_widths(widths: str, decoder_widths: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Parses the widths of an encoder's and a decoder's fully connected layers.

    Args:
      widths: The encoder's, as in "256,256"; "none" for no such layers.
      decoder_widths: The decoder's; empty for the encoder's in reverse.

    Returns:
      Both.

    Raises:
      InputError: If a text is anything else.
    """
    encoder = () if widths == _NO_LAYERS else parse_sizes("widths", widths)
    if decoder_widths == "":
        return encoder, encoder[::-1]
    none = decoder_widths == _NO_LAYERS
    return encoder, () if none else parse_sizes("decoder_widths", decoder_widths)


def apply_dense(x: Array, widths: tuple[int, ...], activation: Activation) -> Array:
    """Applies fully connected layers `dense_0, dense_1, …` of the module that calls this."""
    for i, width in enumerate(widths):
        x = activation(nn.Dense(width, name=f"dense_{i}")(x))
    return x


def apply_posterior(x: Array, num_latents: int) -> Posterior:
    """Applies the layer `posterior`, of means before log-variances, of the module that calls."""
    x = nn.Dense(2 * num_latents, name="posterior")(x)
    return Posterior(x[:, :num_latents], x[:, num_latents:])


def assemble(encoder: nn.Module, decoder: nn.Module, x_shape: Shape, num_latents: int) -> Network:
    """Joins two modules to a network that checks the shapes of what it is given.

    Args:
      encoder: Maps `[B, *x_shape]` to q(z|x).
      decoder: Maps codes `[B, D]` to `[B, *x_shape]`.
      x_shape: The shape of an example.
      num_latents: D.

    Returns:
      The network.

    Raises:
      InputError: If the number of latents is not a whole number of at least 1.
    """
    check_at_least("num_latents", num_latents, 1, integer=True)

    def init(key: Array) -> Params:
        x, z = (jax.ShapeDtypeStruct((1, *s), jnp.float32) for s in (x_shape, (num_latents,)))
        shapes = {
            "encoder": jax.eval_shape(encoder.init, key, x)["params"],
            "decoder": jax.eval_shape(decoder.init, key, z)["params"],
        }
        return draw_parameters(key, shapes)

    def encode(params: Params, x: Array) -> Posterior:
        check_shape("x", x.shape, (None, *x_shape))
        return cast(Posterior, encoder.apply({"params": params}, x))

    def decode(params: Params, z: Array) -> Array:
        check_shape("z", z.shape, (None, num_latents))
        return cast(Array, decoder.apply({"params": params}, z))

    return Network(init, encode, decode)
