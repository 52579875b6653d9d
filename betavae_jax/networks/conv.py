"""Convolutional networks, for images of 8 to 256 pixels."""

import jax.numpy as jnp
from flax import linen as nn

from betavae_jax.checks import InputError
from betavae_jax.layers import Convolution, TransposedConvolution, check_form
from betavae_jax.networks.assembly import (
    Activation,
    apply_dense,
    apply_posterior,
    assemble,
    find_activation,
    parse_sizes,
    parse_widths,
)
from betavae_jax.types import Array, Network, Posterior

_SMALLEST, _LARGEST = 8, 256  # pixels

ImageShape = tuple[int, int, int]  # H, W, C
Margins = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right), pixels


class Encoder(nn.Module):
    """Convolutions, then fully connected layers, then q(z|x).

    Attributes:
      margins: Rows and columns of zeros put around the image.
      channels: Output channels of each convolution.
      widths: Outputs of each fully connected layer.
      num_latents: D.
      activation: After each layer but the last.
      convolution: The form of the convolutions.
    """

    margins: Margins
    channels: tuple[int, ...]
    widths: tuple[int, ...]
    num_latents: int
    activation: Activation
    convolution: str

    @nn.compact
    def __call__(self, x: Array) -> Posterior:
        """Maps images `[B, H, W, C]` to q(z|x)."""
        x = jnp.pad(x, ((0, 0), *self.margins, (0, 0)))
        for i, channels in enumerate(self.channels):
            x = self.activation(Convolution(channels, self.convolution, name=f"conv_{i}")(x))
        x = apply_dense(x.reshape(x.shape[0], -1), self.widths, self.activation)
        return apply_posterior(x, self.num_latents)


class Decoder(nn.Module):
    """Fully connected layers, then transposed convolutions; no last activation.

    Attributes:
      widths: Outputs of each fully connected layer.
      feature_map: Height, width and channels of what the first transposed convolution reads.
      channels: Output channels of each transposed convolution.
      margins: Rows and columns cut off the image.
      activation: After each layer but the last.
      convolution: The form of the convolutions.
    """

    widths: tuple[int, ...]
    feature_map: ImageShape
    channels: tuple[int, ...]
    margins: Margins
    activation: Activation
    convolution: str

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps codes `[B, D]` to `[B, H, W, C]`."""
        z = apply_dense(z, self.widths, self.activation)
        height, width, channels = self.feature_map
        z = self.activation(nn.Dense(height * width * channels, name="feature_map")(z))
        y = z.reshape(-1, height, width, channels)
        last = len(self.channels) - 1
        for i, channels in enumerate(self.channels):
            y = TransposedConvolution(channels, self.convolution, name=f"transposed_{i}")(y)
            y = self.activation(y) if i < last else y
        (top, bottom), (left, right) = self.margins
        return y[:, top : y.shape[1] - bottom, left : y.shape[2] - right]


def make_conv(
    x_shape: ImageShape,
    num_latents: int,
    *,
    channels: str = "",
    widths: str = "256,256",
    decoder_widths: str = "",
    activation: str = "relu",
    convolution: str = "auto",
) -> Network:
    """Makes the network of Burgess et al.: 32 channels throughout, two layers of 256.

    The decoder is the encoder's mirror image. Their images are 64 pixels wide; see
    `_make_network` for others.

    Args:
      x_shape: H, W, C: 8 to 256 pixels, one or more channels.
      num_latents: D.
      channels: Output channels of the convolutions, separated by commas. Each halves
        the image; empty for 32 as often as leaves 3 or 4 pixels of its longer side.
      widths: Outputs of the fully connected layers, separated by commas; "none" for none.
      decoder_widths: Those of the decoder; empty for the encoder's in reverse.
      activation: A name in `ACTIVATIONS`.
      convolution: The form of the convolutions: `auto`, the fastest on the device, or a name
        in `layers.FORMS`.

    Returns:
      The network; `decode` gives the raw output `[B, H, W, C]`.

    Raises:
      InputError: If the shape, the number of latents or a setting is not as above, or the
        image cannot be halved once for each of the channels.

    References:
      Burgess et al. 2018, Understanding disentangling in β-VAE, appendix A.1.
    """
    usual = (32,) * _num_halvings(x_shape)
    return _make_network(
        x_shape, num_latents, usual, channels, widths, decoder_widths, activation, convolution
    )


def make_conv_locatello(
    x_shape: ImageShape,
    num_latents: int,
    *,
    channels: str = "",
    widths: str = "256",
    decoder_widths: str = "",
    activation: str = "relu",
    convolution: str = "auto",
) -> Network:
    """Makes the network of Locatello et al.: 32, 32, 64, 64 channels, one layer of 256.

    Kernels are 4×4 throughout; the third and fourth of the paper's encoder are 2×2.
    Their images are 64 pixels wide; see `_make_network` for others. A network with
    more convolutions than four has 64 channels in the further ones.

    Args:
      x_shape: H, W, C: 8 to 256 pixels, one or more channels.
      num_latents: D.
      channels: Output channels of the convolutions, separated by commas; empty for those
        above, as many as leave 3 or 4 pixels of the image's longer side.
      widths: Outputs of the fully connected layers, separated by commas; "none" for none.
      decoder_widths: Those of the decoder; empty for the encoder's in reverse.
      activation: A name in `ACTIVATIONS`.
      convolution: The form of the convolutions: `auto`, the fastest on the device, or a name
        in `layers.FORMS`.

    Returns:
      The network; `decode` gives the raw output `[B, H, W, C]`.

    Raises:
      InputError: As `make_conv`.

    References:
      Locatello et al. 2019, Challenging Common Assumptions in the Unsupervised
      Learning of Disentangled Representations, appendix, table 1.
    """
    usual = tuple(32 if i < 2 else 64 for i in range(_num_halvings(x_shape)))
    return _make_network(
        x_shape, num_latents, usual, channels, widths, decoder_widths, activation, convolution
    )


def _num_halvings(x_shape: ImageShape) -> int:
    """Returns n, the number of stride-2 layers: ceil(log2 of the longer side) - 2.

    They leave 3 or 4 pixels of the longer side.
    """
    if len(x_shape) == 1:
        raise InputError(
            "expected x_shape to be [H, W, C] for a convolutional network (mlp takes vectors);"
            f" got {list(x_shape)}"
        )
    in_range = len(x_shape) == 3 and all(isinstance(size, int) for size in x_shape)
    in_range = in_range and all(_SMALLEST <= size <= _LARGEST for size in x_shape[:2])
    if not in_range or x_shape[2] < 1:
        raise InputError(
            f"expected x_shape to be [H, W, C] with H and W from {_SMALLEST} to {_LARGEST} "
            f"and C at least 1; got {list(x_shape)}"
        )
    return (max(x_shape[:2]) - 1).bit_length() - 2


def _parse_channels(text: str, usual: tuple[int, ...], x_shape: ImageShape) -> tuple[int, ...]:
    """Parses the channels of the convolutions: at most as many as are usual for the image."""
    if text == "":
        return usual
    channels = parse_sizes("channels", text)
    if len(channels) > len(usual):
        raise InputError(
            f"expected channels for at most {len(usual)} convolutions, as each halves an image"
            f" of {x_shape[0]}×{x_shape[1]} pixels; got {len(channels)} of them, {text!r}"
        )
    return channels


def _margins(x_shape: ImageShape, num_halvings: int) -> Margins:
    """Returns the zeros that centre an image in one whose sides are multiples of 2ⁿ."""
    missing = [-size % 2**num_halvings for size in x_shape[:2]]
    top, left = (size // 2 for size in missing)
    return (top, missing[0] - top), (left, missing[1] - left)


def _make_network(
    x_shape: ImageShape,
    num_latents: int,
    usual: tuple[int, ...],
    channels: str,
    widths: str,
    decoder_widths: str,
    activation: str,
    convolution: str,
) -> Network:
    """Makes an encoder of n convolutions, by default `usual`, and the mirrored decoder.

    Images whose sides are not multiples of 2ⁿ are padded with zeros inside the encoder
    and the decoder's output is cropped alike, so the likelihood sees real pixels only.
    """
    outputs = _parse_channels(channels, usual, x_shape)
    of_encoder, of_decoder = parse_widths(widths, decoder_widths)
    activate = find_activation("activation", activation)
    check_form(convolution)
    margins = _margins(x_shape, len(outputs))
    padded = [size + sum(margin) for size, margin in zip(x_shape[:2], margins, strict=True)]
    height, width = (size >> len(outputs) for size in padded)
    encoder = Encoder(margins, outputs, of_encoder, num_latents, activate, convolution)
    decoder = Decoder(
        of_decoder,
        feature_map=(height, width, outputs[-1]),
        channels=(*outputs[-2::-1], x_shape[2]),
        margins=margins,
        activation=activate,
        convolution=convolution,
    )
    return assemble(encoder, decoder, x_shape, num_latents)
