"""A decoder in a form that a web page can run: a list of layers and their weights.

The layers are read off a trace of the model's own decoder, so the architecture has one
definition. What the page understands is a chain of dense layers and transposed convolutions,
one activation after each but the last, and a crop; anything else is refused.
"""

import base64
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from betavae_jax.layers import TransposedConvolution
from betavae_jax.networks.assembly import ACTIVATIONS
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


class _Call(NamedTuple):
    module: Any
    arguments: Shape
    result: Shape


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
    root, *calls = _trace(model, params, num_latents)
    activation = _activation_of(root.module)
    network, size = params["decoder"]["network"], num_latents
    layers, weights = [], []
    for call in calls:
        layer, pieces = _layer(call, network)
        if math.prod(call.arguments[1:]) != size:
            raise NotForThePageError("its layers are not a chain")
        size = math.prod(call.result[1:])
        layers.append({**layer, "activation": activation})
        weights += pieces
    if not layers or sum(piece.size for piece in weights) != _num_parameters(network):
        raise NotForThePageError("it has parameters outside of such layers")
    layers[-1]["activation"] = "identity"
    (top, bottom), (left, right) = getattr(root.module, "margins", ((0, 0), (0, 0)))
    if len(x_shape) == 3:
        height, width, channels = x_shape
        size -= (height + top + bottom) * (width + left + right) * channels
    else:
        size -= math.prod(x_shape)
    if size:
        raise NotForThePageError("its output is not an example's shape")
    kind = choose_format(params)
    data = b"".join(_pack(piece, kind) for piece in weights)
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


def _trace(model: Model, params: Params, num_latents: int) -> list[_Call]:
    """The calls of the decoder's modules in their order, the decoder itself first."""
    calls: list[_Call] = []
    root: list[_Call] = []

    def note(
        function: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        result = function(*args, **kwargs)
        if context.method_name == "__call__":
            call = _Call(context.module, args[0].shape, result.shape)
            (calls if context.module.path else root).append(call)
        return result

    z = jax.ShapeDtypeStruct((1, num_latents), jnp.float32)
    with nn.intercept_methods(note):
        # A function of its own: the trace of one that was seen before would be remembered.
        jax.eval_shape(lambda p, code: model.decode(p, code), params, z)
    if len(root) != 1:
        raise NotForThePageError("it is not one Flax module")
    return [*root, *calls]


def _activation_of(module: Any) -> str:
    for name, function in ACTIVATIONS.items():
        if getattr(module, "activation", None) is function:
            return name
    raise NotForThePageError("its activation is not known")


def _layer(call: _Call, network: Params) -> tuple[dict[str, Any], list[np.ndarray]]:
    """One layer's description, and its kernel and bias."""
    module = call.module
    if not isinstance(module, (nn.Dense, TransposedConvolution)):
        raise NotForThePageError(f"it has a layer of another kind, {type(module).__name__}")
    own = network
    for name in module.path:
        own = own[name]
    kernel, bias = np.asarray(own["kernel"]), np.asarray(own["bias"])
    if isinstance(module, nn.Dense):
        sizes = {"inputs": kernel.shape[0], "outputs": kernel.shape[1]}
        return {"kind": "dense", **sizes}, [kernel, bias]
    _, height, width, channels = call.arguments
    sizes = {"height": height, "width": width, "channels": channels}
    layer = {"kind": "transposed", **sizes, "features": call.result[-1]}
    return layer, [kernel.transpose(2, 0, 1, 3), bias]


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
