"""A decoder in a form that a web page can run: a list of layers and their weights.

What the page understands is a chain of dense layers and transposed convolutions, one activation
after each but the last, and a crop; anything else is refused.
"""

import base64
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from betavae_jax.chain import Layer, decoder_chain
from betavae_jax.checks import InputError
from betavae_jax.layers import TransposedConvolution
from betavae_jax.types import Model, Params, Shape

# How a likelihood's mean follows from the decoder's output; for the others it is the output.
_MEANS = {"bernoulli": "sigmoid", "continuous_bernoulli": "tilted"}
# Weights are float16 where those fit into the page, else int8 with a scale for each feature.
_MOST_FLOAT16 = 1_350_000  # 2.7 MB, and a third more as text
_MOST_INT8 = 3_200_000
_CHECKED = 256  # values of one decoded example that the page compares with its own


class NotForThePageError(Exception):
    """This decoder cannot run in a page; the text says why."""


class Decoder(NamedTuple):
    """What the page's JavaScript reads."""

    layers: list[dict[str, Any]]  # kind, sizes of input and output, activation
    crop: list[int]  # top, left
    shape: list[int]  # of an example, H, W, C or F
    mean: str  # what follows the last layer
    format: str  # of the kernels, float16 or int8
    weights: bytes  # little-endian: each layer's kernel, scales first if int8, then its bias


def describe_decoder(
    model: Model, params: Params, x_shape: Shape, num_latents: int, likelihood: str
) -> Decoder:
    """Describes the decoder of one run.

    Args:
      model: The model; its network is made of the modules of `betavae_jax`.
      params: Parameters of one run.
      x_shape: The shape of an example.
      num_latents: D.
      likelihood: The likelihood's name.

    Returns:
      Layers with rounded weights. A transposed convolution's kernel is `[C, 4, 4, F]`.

    Raises:
      NotForThePageError: If the decoder is not such a chain, or float16 cannot hold a weight.
    """
    try:
        chain = decoder_chain(model, params, num_latents)
    except InputError as refusal:
        raise NotForThePageError(f"it is of another kind ({refusal})") from None
    described = [_describe_layer(layer) for layer in chain.layers]
    layers = [{**layer, "activation": chain.activation} for layer, _ in described]
    layers[-1]["activation"] = "identity"
    (top, bottom), (left, right) = chain.margins
    size = math.prod(x_shape)
    if len(x_shape) == 3:
        height, width, channels = x_shape
        size = (height + top + bottom) * (width + left + right) * channels
    ends = math.prod(chain.layers[0].inputs), math.prod(chain.layers[-1].outputs)
    if ends != (num_latents, size):
        raise NotForThePageError("it does not lead from a code to an example's shape")
    kind = choose_format(params)
    data = b"".join(_pack(piece, kind) for _, pieces in described for piece in pieces)
    mean = _MEANS.get(likelihood, "identity")
    return Decoder(layers, [top, left], list(x_shape), mean, kind, data)


def choose_format(params: Params) -> str:
    """The format, float16 or int8, in which the decoder of one run fits into the page.

    Raises:
      NotForThePageError: If it fits in neither.
    """
    count = _num_parameters(params["decoder"]["network"])
    if count > _MOST_INT8:
        raise NotForThePageError(f"its decoder has {count:,} weights, more than the page holds")
    return "float16" if count <= _MOST_FLOAT16 else "int8"


def round_decoder(params: Params) -> Params:
    """The parameters of one run with the decoder's as the page has them."""
    kind = choose_format(params)

    def rounded(leaf: np.ndarray) -> np.ndarray:
        if kind == "float16" or leaf.ndim < 2:
            return _half(leaf).astype(np.float32)
        scale, whole = _int8(leaf)
        return whole * scale.astype(np.float32)

    network = jax.tree.map(lambda leaf: rounded(np.asarray(leaf)), params["decoder"]["network"])
    return {**params, "decoder": {**params["decoder"], "network": network}}


def _describe_layer(layer: Layer) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What the page reads of a layer but its activation, and its kernel and bias."""
    if layer.kind is nn.Dense:
        inputs, outputs = layer.kernel.shape
        return {"kind": "dense", "inputs": inputs, "outputs": outputs}, [layer.kernel, layer.bias]
    if layer.kind is not TransposedConvolution:
        raise NotForThePageError(f"it has a layer of another kind, {layer.kind.__name__}")
    height, width, channels = layer.inputs
    sizes = {"height": height, "width": width, "channels": channels}
    described = {"kind": "transposed", **sizes, "features": layer.outputs[-1]}
    return described, [layer.kernel.transpose(2, 0, 1, 3), layer.bias]


def _num_parameters(tree: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _half(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if not np.all(np.isfinite(half)):
        raise NotForThePageError("float16 cannot hold a weight of it")
    return half


def _int8(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A scale for each feature, which the last axis counts, and whole numbers up to 127."""
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
    scale = _half(np.maximum(largest / 127, 1e-7))
    whole = np.round(kernel / scale.astype(np.float32))
    return scale, np.clip(whole, -127, 127).astype(np.int8)


def _pack(piece: np.ndarray, kind: str) -> bytes:
    if kind == "float16" or piece.ndim < 2:
        return _half(piece).tobytes()
    return b"".join(part.tobytes() for part in _int8(piece))


def decoder_for_page(
    decoder: Decoder, z: np.ndarray, mean: np.ndarray, tolerance: float
) -> dict[str, Any]:
    """What the page embeds of a decoder: plain JSON values.

    Args:
      decoder: The decoder.
      z: A code `[D]`.
      mean: What the model makes of it, an example's shape; the page compares its own with it.
      tolerance: How far they may differ, in units of x.
    """
    flat = np.ravel(mean)
    at = np.unique(np.linspace(0, len(flat) - 1, min(_CHECKED, len(flat))).astype(int))
    values = [round(float(value), 5) for value in flat[at]]
    check = {"z": z.tolist(), "at": at.tolist(), "values": values, "tolerance": tolerance}
    return {
        **decoder._asdict(),
        "weights": base64.b64encode(decoder.weights).decode(),
        "check": check,
    }
