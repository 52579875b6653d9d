"""ONNX graphs of encoders and decoders, node by node.

Images are `[B, H, W, C]` outside and `[B, C, H, W]` between convolutions, as ONNX has them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from betavae_jax.chain import Chain, Layer
from betavae_jax.checks import check_name
from betavae_jax.layers import Convolution, TransposedConvolution
from betavae_jax.types import Shape

OPSET = 20  # the first with Gelu
_IR_VERSION = 9  # of the same release of ONNX
_NEAR_ZERO = 1.0  # a logit, as in `likelihoods`

_CHANNELS_FIRST, _CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


class Builder(NamedTuple):
    """Nodes and constants of a graph that grows; methods name what they add."""

    nodes: list[Any]
    constants: dict[str, np.ndarray]

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output, and returns the output's name."""
        from onnx import helper

        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Adds an array, and returns its name."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name


def _plain(operator: str, **attributes: Any) -> Callable[[Builder, str], str]:
    return lambda graph, x: graph.add(operator, x, **attributes)


def _silu(graph: Builder, x: str) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _identity(graph: Builder, x: str) -> str:
    del graph
    return x


def _tilted_mean(graph: Builder, logits: str) -> str:
    """The mean of the continuous Bernoulli: a series near zero, the closed form elsewhere.

    ONNX has no expm1, but where the closed form serves, exp(−|η|) − 1 cancels nothing.
    """
    one = graph.constant(1.0)
    s = graph.add("Mul", logits, logits)
    series = graph.constant(-1 / 1209600)
    for coefficient in (1 / 30240, -1 / 720, 1 / 12):
        series = graph.add("Add", graph.constant(coefficient), graph.add("Mul", s, series))
    near = graph.add("Add", graph.constant(0.5), graph.add("Mul", logits, series))
    size = graph.add("Max", graph.add("Abs", logits), graph.constant(_NEAR_ZERO))
    decay = graph.add("Exp", graph.add("Neg", size))
    below = graph.add(
        "Add", graph.add("Reciprocal", size),
        graph.add("Div", decay, graph.add("Sub", decay, one)),
    )  # fmt: skip
    far = graph.add(
        "Where", graph.add("Less", logits, graph.constant(0.0)), below,
        graph.add("Sub", one, below),
    )  # fmt: skip
    is_near = graph.add("Less", graph.add("Abs", logits), graph.constant(_NEAR_ZERO))
    return graph.add("Where", is_near, near, far)


ACTIVATION_NODES: dict[str, Callable[[Builder, str], str]] = {
    "elu": _plain("Elu", alpha=1.0),
    "gelu": _plain("Gelu", approximate="tanh"),
    "leaky_relu": _plain("LeakyRelu", alpha=0.01),
    "relu": _plain("Relu"),
    "sigmoid": _plain("Sigmoid"),
    "silu": _silu,
    "softplus": _plain("Softplus"),
    "tanh": _plain("Tanh"),
}

# The mean of p(x|z) of each likelihood, from the decoder's output.
MEAN_NODES: dict[str, Callable[[Builder, str], str]] = {
    "bernoulli": _plain("Sigmoid"),
    "continuous_bernoulli": _tilted_mean,
    "gaussian": _identity,
    "gaussian_learned": _identity,
    "gaussian_optimal": _identity,
    "laplace": _identity,
}


def encoder_model(chain: Chain, x_shape: Shape, num_latents: int) -> Any:
    """The ONNX model x `[B, *x_shape]` -> mean `[B, D]`, log_variance `[B, D]`."""
    graph = Builder([], {})
    y = _add_layers(graph, chain, "x", x_shape)
    halves = {"mean": (0, num_latents), "log_variance": (num_latents, 2 * num_latents)}
    outputs = {
        name: graph.add("Slice", y, *(graph.constant([end], np.int64) for end in (*ends, 1)))
        for name, ends in halves.items()
    }
    shapes = dict.fromkeys(halves, (num_latents,))
    return _model("encoder", graph, {"x": x_shape}, outputs, shapes)


def decoder_model(chain: Chain, x_shape: Shape, num_latents: int, likelihood: str) -> Any:
    """The ONNX model z `[B, D]` -> x `[B, *x_shape]`, the mean of p(x|z).

    Raises:
      InputError: If the likelihood's mean has no nodes here.
    """
    check_name("the likelihood of an ONNX export", likelihood, MEAN_NODES)
    graph = Builder([], {})
    y = _add_layers(graph, chain, "z", (num_latents,))
    y = MEAN_NODES[likelihood](graph, y)
    if chain.layers[-1].kind is TransposedConvolution:
        y = graph.add("Transpose", y, perm=_CHANNELS_LAST)
    else:
        y = graph.add("Reshape", y, graph.constant([-1, *x_shape], np.int64))
    return _model("decoder", graph, {"z": (num_latents,)}, {"x": y}, {"x": x_shape})


def _add_layers(graph: Builder, chain: Chain, x: str, shape: Shape) -> str:
    """Adds the layers; the last one's output is not activated. Images come channels first."""
    activate = ACTIVATION_NODES[chain.activation]
    is_image = False  # whether x is [B, C, H, W]
    for number, layer in enumerate(chain.layers):
        is_last = number == len(chain.layers) - 1
        wants_image = layer.kind is not nn.Dense
        if wants_image and not is_image:
            if number:
                x = graph.add("Reshape", x, graph.constant([-1, *layer.inputs], np.int64))
            x = graph.add("Transpose", x, perm=_CHANNELS_FIRST)
        elif not wants_image and (is_image or (number == 0 and len(shape) > 1)):
            if is_image:
                x = graph.add("Transpose", x, perm=_CHANNELS_LAST)
            size = math.prod(layer.inputs)
            x = graph.add("Reshape", x, graph.constant([-1, size], np.int64))
        is_image = wants_image
        x = _add_layer(graph, layer, x, chain, is_first=number == 0, is_last=is_last)
        x = x if is_last else activate(graph, x)
    return x


def _add_layer(
    graph: Builder, layer: Layer, x: str, chain: Chain, *, is_first: bool, is_last: bool
) -> str:
    bias = graph.constant(layer.bias)
    if layer.kind is nn.Dense:
        return graph.add("Gemm", x, graph.constant(layer.kernel), bias)
    if layer.kind is Convolution:
        kernel = layer.kernel.transpose(3, 2, 0, 1)
        pads = _pads(chain if is_first else None)
        return graph.add("Conv", x, graph.constant(kernel), bias, strides=[2, 2], pads=pads)
    # Flax correlates the dilated image; ONNX spreads each pixel, so the kernel is mirrored.
    kernel = layer.kernel[::-1, ::-1].transpose(2, 3, 0, 1)
    pads = _pads(chain if is_last else None)
    return graph.add("ConvTranspose", x, graph.constant(kernel), bias, strides=[2, 2], pads=pads)


def _pads(chain: Chain | None) -> list[int]:
    """Zeros around an image, or rows cut off one: one, and where they belong the margins."""
    if chain is None:
        return [1, 1, 1, 1]
    (top, bottom), (left, right) = chain.margins
    return [1 + top, 1 + left, 1 + bottom, 1 + right]


def _model(
    name: str,
    graph: Builder,
    inputs: Mapping[str, Shape],
    outputs: dict[str, str],
    shapes: Mapping[str, Shape],
) -> Any:
    import onnx
    from onnx import helper, numpy_helper

    nodes = [*graph.nodes]
    nodes += [helper.make_node("Identity", [y], [out], out) for out, y in outputs.items()]

    def described(infos: Mapping[str, Shape]) -> Sequence[Any]:
        return [
            helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", *shape])
            for n, shape in infos.items()
        ]

    arrays = [
        numpy_helper.from_array(np.ascontiguousarray(array), n)
        for n, array in graph.constants.items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, name, described(inputs), described(shapes), arrays),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="betavae_jax",
    )
    onnx.checker.check_model(model, full_check=True)
    return model
