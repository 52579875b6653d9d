"""Fully connected networks, for images and vectors alike."""

import math

from flax import linen as nn

from betavae_jax.checks import InputError
from betavae_jax.networks.assembly import (
    Activation,
    apply_dense,
    apply_posterior,
    assemble,
    find_activation,
    parse_widths,
)
from betavae_jax.types import Array, Network, Posterior, Shape


class Encoder(nn.Module):
    """Fully connected layers, then q(z|x).

    Attributes:
      widths: Outputs of each layer.
      num_latents: D.
      activation: After each layer but the last.
    """

    widths: tuple[int, ...]
    num_latents: int
    activation: Activation

    @nn.compact
    def __call__(self, x: Array) -> Posterior:
        """Maps examples `[B, ...]` to q(z|x)."""
        x = apply_dense(x.reshape(x.shape[0], -1), self.widths, self.activation)
        return apply_posterior(x, self.num_latents)


class Decoder(nn.Module):
    """Fully connected layers; no last activation.

    Attributes:
      widths: Outputs of each layer but the last.
      x_shape: The shape of an example.
      activation: After each layer but the last.
    """

    widths: tuple[int, ...]
    x_shape: Shape
    activation: Activation

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps codes `[B, D]` to `[B, *x_shape]`."""
        z = apply_dense(z, self.widths, self.activation)
        z = nn.Dense(math.prod(self.x_shape), name="output")(z)
        return z.reshape(-1, *self.x_shape)


def make_mlp(
    x_shape: Shape,
    num_latents: int,
    *,
    widths: str = "1200,1200",
    decoder_widths: str = "1200,1200,1200",
    activation: str = "relu",
    decoder_activation: str = "tanh",
) -> Network:
    """Makes the fully connected network of Higgins et al. for dSprites.

    An image is flattened on the way in, and the output has its shape again.

    Args:
      x_shape: The shape of an example: H, W, C or F.
      num_latents: D.
      widths: Outputs of the encoder's layers, separated by commas; "none" for none.
      decoder_widths: Those of the decoder; empty for the encoder's in reverse.
      activation: The encoder's, a name in `ACTIVATIONS`.
      decoder_activation: The decoder's.

    Returns:
      The network; `decode` gives the raw output `[B, *x_shape]`.

    Raises:
      InputError: If the shape, the number of latents or a setting is not as above.

    References:
      Higgins et al. 2017, β-VAE: Learning Basic Visual Concepts with a Constrained
      Variational Framework, appendix, table 1.
    """
    in_range = len(x_shape) in (1, 3) and all(isinstance(size, int) for size in x_shape)
    if not in_range or min(x_shape) < 1:
        raise InputError(
            "expected x_shape to be [H, W, C] or [F] with whole numbers of at least 1;"
            f" got {list(x_shape)}"
        )
    encoder_sizes, decoder_sizes = parse_widths(widths, decoder_widths)
    encoder = Encoder(encoder_sizes, num_latents, find_activation("activation", activation))
    decode_with = find_activation("decoder_activation", decoder_activation)
    return assemble(encoder, Decoder(decoder_sizes, x_shape, decode_with), x_shape, num_latents)
