"""Encoders and decoders.

Each entry of `NETWORKS` makes a `Network` for images `[H, W, C]` and `D` latents.
The modules hold no state: a network is its parameters, and examples of a batch do
not meet in it.
"""

import itertools
import math
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from betavae_jax.checks import InputError, check_at_least, check_shape
from betavae_jax.layers import Convolution, TransposedConvolution
from betavae_jax.types import Array, Network, Params, Posterior

_SMALLEST, _LARGEST = 8, 256  # pixels
_TRUNCATED_DEVIATION = 0.8796256610342398  # of a standard normal cut off at ±2

ImageShape = tuple[int, int, int]  # H, W, C
Margins = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right), pixels


class Encoder(nn.Module):
    """Convolutions, then fully connected layers, then q(z|x).

    Attributes:
      margins: Rows and columns of zeros put around the image.
      channels: Output channels of each convolution.
      widths: Outputs of each fully connected layer.
      num_latents: D.
    """

    margins: Margins
    channels: tuple[int, ...]
    widths: tuple[int, ...]
    num_latents: int

    @nn.compact
    def __call__(self, x: Array) -> Posterior:
        """Maps images `[B, H, W, C]` to q(z|x)."""
        x = jnp.pad(x, ((0, 0), *self.margins, (0, 0)))
        for i, channels in enumerate(self.channels):
            x = nn.relu(Convolution(channels, name=f"conv_{i}")(x))
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths):
            x = nn.relu(nn.Dense(width, name=f"dense_{i}")(x))
        x = nn.Dense(2 * self.num_latents, name="posterior")(x)
        return Posterior(x[:, : self.num_latents], x[:, self.num_latents :])


class Decoder(nn.Module):
    """Fully connected layers, then transposed convolutions; no last activation.

    Attributes:
      widths: Outputs of each fully connected layer.
      feature_map: Height, width and channels of what the first transposed convolution reads.
      channels: Output channels of each transposed convolution.
      margins: Rows and columns cut off the image.
    """

    widths: tuple[int, ...]
    feature_map: ImageShape
    channels: tuple[int, ...]
    margins: Margins

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps codes `[B, D]` to `[B, H, W, C]`."""
        for i, width in enumerate(self.widths):
            z = nn.relu(nn.Dense(width, name=f"dense_{i}")(z))
        height, width, channels = self.feature_map
        z = nn.relu(nn.Dense(height * width * channels, name="feature_map")(z))
        y = z.reshape(-1, height, width, channels)
        last = len(self.channels) - 1
        for i, channels in enumerate(self.channels):
            y = TransposedConvolution(channels, name=f"transposed_{i}")(y)
            y = nn.relu(y) if i < last else y
        (top, bottom), (left, right) = self.margins
        return y[:, top : y.shape[1] - bottom, left : y.shape[2] - right]


def make_conv(x_shape: ImageShape, num_latents: int) -> Network:
    """Makes the network of Burgess et al.: 32 channels throughout, two layers of 256.

    The decoder is the encoder's mirror image. Their images are 64 pixels wide; see
    `_make_network` for others.

    Args:
      x_shape: H, W, C: 8 to 256 pixels, one or more channels.
      num_latents: D.

    Returns:
      The network; `decode` gives the raw output `[B, H, W, C]`.

    Raises:
      InputError: If the shape or the number of latents is out of range.

    References:
      Burgess et al. 2018, Understanding disentangling in β-VAE, appendix A.1.
    """
    channels = (32,) * _num_halvings(x_shape)
    return _make_network(x_shape, num_latents, channels, (256, 256), (256, 256))


def make_conv_locatello(x_shape: ImageShape, num_latents: int) -> Network:
    """Makes the network of Locatello et al.: 32, 32, 64, 64 channels, one layer of 256.

    Kernels are 4×4 throughout; the third and fourth of the paper's encoder are 2×2.
    Their images are 64 pixels wide; see `_make_network` for others. A network with
    more convolutions than four has 64 channels in the further ones.

    Args:
      x_shape: H, W, C: 8 to 256 pixels, one or more channels.
      num_latents: D.

    Returns:
      The network; `decode` gives the raw output `[B, H, W, C]`.

    Raises:
      InputError: If the shape or the number of latents is out of range.

    References:
      Locatello et al. 2019, Challenging Common Assumptions in the Unsupervised
      Learning of Disentangled Representations, appendix, table 1.
    """
    channels = tuple(32 if i < 2 else 64 for i in range(_num_halvings(x_shape)))
    return _make_network(x_shape, num_latents, channels, (256,), (256,))


NETWORKS: dict[str, Callable[..., Network]] = {
    "conv": make_conv,
    "conv_locatello": make_conv_locatello,
}


def _num_halvings(x_shape: ImageShape) -> int:
    """Returns n, the number of stride-2 layers: ceil(log2 of the longer side) - 2.

    They leave 3 or 4 pixels of the longer side.
    """
    in_range = len(x_shape) == 3 and all(isinstance(size, int) for size in x_shape)
    in_range = in_range and all(_SMALLEST <= size <= _LARGEST for size in x_shape[:2])
    if not in_range or x_shape[2] < 1:
        raise InputError(
            f"expected x_shape to be [H, W, C] with H and W from {_SMALLEST} to {_LARGEST} "
            f"and C at least 1; got {list(x_shape)}"
        )
    return (max(x_shape[:2]) - 1).bit_length() - 2


def _margins(x_shape: ImageShape, num_halvings: int) -> Margins:
    """Returns the zeros that centre an image in one whose sides are multiples of 2ⁿ."""
    missing = [-size % 2**num_halvings for size in x_shape[:2]]
    top, left = (size // 2 for size in missing)
    return (top, missing[0] - top), (left, missing[1] - left)


def _make_network(
    x_shape: ImageShape,
    num_latents: int,
    channels: tuple[int, ...],
    encoder_widths: tuple[int, ...],
    decoder_widths: tuple[int, ...],
) -> Network:
    """Makes an encoder of n convolutions, n = len(channels), and the mirrored decoder.

    Images whose sides are not multiples of 2ⁿ are padded with zeros inside the encoder
    and the decoder's output is cropped alike, so the likelihood sees real pixels only.
    """
    check_at_least("num_latents", num_latents, 1, integer=True)
    margins = _margins(x_shape, len(channels))
    padded = [size + sum(margin) for size, margin in zip(x_shape[:2], margins, strict=True)]
    height, width = (size >> len(channels) for size in padded)
    encoder = Encoder(margins, channels, encoder_widths, num_latents)
    decoder = Decoder(
        decoder_widths,
        feature_map=(height, width, channels[-1]),
        channels=(*channels[-2::-1], x_shape[2]),
        margins=margins,
    )

    def init(key: Array) -> Params:
        x, z = (jax.ShapeDtypeStruct((1, *s), jnp.float32) for s in (x_shape, (num_latents,)))
        shapes = {
            "encoder": jax.eval_shape(encoder.init, key, x)["params"],
            "decoder": jax.eval_shape(decoder.init, key, z)["params"],
        }
        return _draw_parameters(key, shapes)

    def encode(params: Params, x: Array) -> Posterior:
        check_shape("x", x.shape, (None, *x_shape))
        return cast(Posterior, encoder.apply({"params": params}, x))

    def decode(params: Params, z: Array) -> Array:
        check_shape("z", z.shape, (None, num_latents))
        return cast(Array, decoder.apply({"params": params}, z))

    return Network(init, encode, decode)


def _draw_parameters(key: Array, shapes: Params) -> Params:
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
