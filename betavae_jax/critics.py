"""Critics: networks that tell one kind of codes, or of images, from another."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from betavae_jax.checks import InputError, check_at_least
from betavae_jax.initial_values import draw_parameters
from betavae_jax.layers import Convolution
from betavae_jax.types import Array, Params, Shape

_SLOPE = 0.2  # of the leaky ReLU below zero
_CHANNEL_RATIOS = (1, 4, 8)  # of the convolutions, to the first; the last ratio repeats
_WIDTH_RATIO = 8
_VECTOR_LAYERS = 3


class Critic(NamedTuple):
    """A critic as pure functions of its parameters."""

    init: Callable[[Array], Params]  # key -> parameters
    apply: Callable[[Params, Array], Any]  # (parameters, input [B, ...]) -> what it judges


class Judgement(NamedTuple):
    """What a critic of examples says of them."""

    logit: Array  # [B], of being real
    features: Array  # [B, F], of the chosen layer


class _CodeModule(nn.Module):
    """Fully connected layers of one width, then two logits."""

    width: int
    depth: int

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps codes `[B, D]` to logits `[B, 2]`."""
        for i in range(self.depth):
            z = nn.leaky_relu(nn.Dense(self.width, name=f"dense_{i}")(z), _SLOPE)
        return nn.Dense(2, name="logits")(z)


class _ExampleModule(nn.Module):
    """Convolutions, fully connected layers, one logit.

    Attributes:
      channels: Output channels of each convolution; none for vectors.
      widths: Outputs of each fully connected layer.
      layer: The number of the layer whose outputs are the features, from 1.
    """

    channels: tuple[int, ...]
    widths: tuple[int, ...]
    layer: int

    @nn.compact
    def __call__(self, x: Array) -> Judgement:
        """Maps examples `[B, ...]` to logits and features."""
        layers: list[Array] = []
        if self.channels:
            # Zeros around the image, so that it can be halved as often as there are convolutions.
            missing = [-size % 2 ** len(self.channels) for size in x.shape[1:3]]
            margins = [(size // 2, size - size // 2) for size in missing]
            x = jnp.pad(x, ((0, 0), *margins, (0, 0)))
        for i, channels in enumerate(self.channels):
            x = nn.leaky_relu(Convolution(channels, name=f"conv_{i}")(x), _SLOPE)
            layers.append(x)
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths):
            x = nn.leaky_relu(nn.Dense(width, name=f"dense_{i}")(x), _SLOPE)
            layers.append(x)
        logit = nn.Dense(1, name="logit")(x)[:, 0]
        features = layers[self.layer - 1]
        return Judgement(logit, features.reshape(features.shape[0], -1))


def make_code_critic(num_latents: int, *, width: int, depth: int) -> Critic:
    """Makes the critic of codes: `depth` layers, leaky ReLU of slope 0.2, two logits.

    Args:
      num_latents: D.
      width: Outputs of each layer.
      depth: How many layers there are before the logits.

    Returns:
      The critic; `apply` maps codes `[B, D]` to logits `[B, 2]`.

    Raises:
      InputError: If a number is not a whole one from 1.

    References:
      Kim & Mnih 2018, appendix A, table 3: six layers of 1,000.
    """
    check_at_least("critic_width", width, 1, integer=True)
    check_at_least("critic_depth", depth, 1, integer=True)
    return _as_critic(_CodeModule(width, depth), (num_latents,))


def make_example_critic(x_shape: Shape, *, channels: int, layer: int) -> Critic:
    """Makes the critic of examples: each convolution halves the image, then one layer and a logit.

    An image is halved until 3 or 4 pixels of its longer side are left, by convolutions of 1, 4,
    8, 8, … times `channels`; a fully connected layer of 8 times `channels` follows. Vectors
    meet three fully connected layers of that width. Activations are leaky ReLUs of slope 0.2.

    Args:
      x_shape: H, W, C or F.
      channels: Of the first convolution.
      layer: Whose outputs are the features, counted from 1; 0 for the last but one, which is
        the last convolution of an image.

    Returns:
      The critic; `apply` maps examples `[B, ...]` to a `Judgement`.

    Raises:
      InputError: If there is no such layer, or a number is not a whole one.

    References:
      Larsen et al. 2016, table 1. Departures: no batch normalisation, since a critic's parameters
      are its whole state; with it went the ReLU, whose units die without it. Kernels are 4×4.
    """
    check_at_least("critic_channels", channels, 1, integer=True)
    width = _WIDTH_RATIO * channels
    if len(x_shape) == 3:
        num_halvings = max((max(x_shape[:2]) - 1).bit_length() - 2, 1)
        last = len(_CHANNEL_RATIOS) - 1
        convolutions = tuple(_CHANNEL_RATIOS[min(i, last)] * channels for i in range(num_halvings))
        widths: tuple[int, ...] = (width,)
    else:
        convolutions, widths = (), (width,) * _VECTOR_LAYERS
    num_layers = len(convolutions) + len(widths)
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer <= num_layers:
        raise InputError(
            f"expected layer to be one of the critic's, 1 to {num_layers}, or 0 for"
            f" {num_layers - 1}; got {layer!r}"
        )
    return _as_critic(_ExampleModule(convolutions, widths, layer or num_layers - 1), x_shape)


def _as_critic(module: nn.Module, x_shape: Shape) -> Critic:
    def init(key: Array) -> Params:
        x = jax.ShapeDtypeStruct((1, *x_shape), jnp.float32)
        return draw_parameters(key, jax.eval_shape(module.init, key, x)["params"])

    def apply(params: Params, x: Array) -> Any:
        return cast(Any, module.apply({"params": params}, x))

    return Critic(init, apply)
