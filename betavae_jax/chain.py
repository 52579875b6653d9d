"""An encoder or a decoder as a chain of layers, read off a trace of the model's own modules.

The architecture so has one definition. Such a chain is dense layers, convolutions and
transposed convolutions, one activation after each but the last, and a margin around the image;
anything else is refused, and what a trace does not show, a comparison with the model does.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from betavae_jax.checks import InputError
from betavae_jax.layers import Convolution, TransposedConvolution
from betavae_jax.networks.assembly import ACTIVATIONS
from betavae_jax.types import Model, Params, Shape

_LAYERS = (nn.Dense, Convolution, TransposedConvolution)


class Layer(NamedTuple):
    """One layer with its weights, as Flax has them."""

    kind: type  # nn.Dense, Convolution or TransposedConvolution
    inputs: Shape  # without the batch
    outputs: Shape
    kernel: np.ndarray  # [I, O] or [4, 4, C, F]
    bias: np.ndarray  # [O] or [F]


class Chain(NamedTuple):
    """The layers of an encoder or a decoder, first to last."""

    layers: list[Layer]
    activation: str  # a name in `ACTIVATIONS`, after each layer but the last
    margins: tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right), pixels


class _Call(NamedTuple):
    module: Any
    inputs: Shape
    outputs: Shape


def encoder_chain(model: Model, params: Params, x_shape: Shape) -> Chain:
    """The encoder of one run; its last layer gives means, then log-variances.

    Args:
      model: The model; its network is made of the modules of `betavae_jax`.
      params: Parameters of one run.
      x_shape: The shape of an example.

    Raises:
      InputError: If the encoder is not such a chain.
    """
    calls = _trace(model.encode, params, x_shape)
    return _chain("encoder", calls, params["encoder"])


def decoder_chain(model: Model, params: Params, num_latents: int) -> Chain:
    """The decoder of one run; its last layer gives what the likelihood reads.

    Args:
      model: The model; its network is made of the modules of `betavae_jax`.
      params: Parameters of one run.
      num_latents: D.

    Raises:
      InputError: If the decoder is not such a chain.
    """
    calls = _trace(model.decode, params, (num_latents,))
    return _chain("decoder", calls, params["decoder"]["network"])


def _trace(function: Callable[..., Any], params: Params, shape: Shape) -> list[_Call]:
    """The calls of modules in the order in which they end, so the outermost last."""
    calls: list[_Call] = []

    def note(
        method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        result = method(*args, **kwargs)
        if context.method_name == "__call__":
            outputs = jax.tree.leaves(result)[0].shape[1:]
            calls.append(_Call(context.module, args[0].shape[1:], outputs))
        return result

    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    with nn.intercept_methods(note):
        # A function of its own: the trace of one that was seen before would be remembered.
        jax.eval_shape(lambda p, a: function(p, a), params, example)
    return calls


def _chain(part: str, calls: list[_Call], params: Params) -> Chain:
    if not calls or calls[-1].module.path or sum(not call.module.path for call in calls) != 1:
        raise _refusal(part, "another function than one Flax module")
    root = calls.pop().module
    layers = [_layer(part, call, params) for call in calls]
    sizes = sum(layer.kernel.size + layer.bias.size for layer in layers)
    if not layers or sizes != sum(leaf.size for leaf in jax.tree.leaves(params)):
        raise _refusal(part, f"parameters outside of them in {type(root).__name__}")
    for layer, following in itertools.pairwise(layers):
        if math.prod(layer.outputs) != math.prod(following.inputs):
            raise _refusal(part, f"layers of {type(root).__name__} that are not a chain")
    margins = getattr(root, "margins", ((0, 0), (0, 0)))
    return Chain(layers, _activation(part, root), margins)


def _layer(part: str, call: _Call, params: Params) -> Layer:
    kind = type(call.module)
    if kind not in _LAYERS:
        raise _refusal(part, f"a layer {kind.__name__}")
    own = params
    for name in call.module.path:
        own = own[name]
    if set(own) != {"kernel", "bias"}:
        raise _refusal(part, f"a layer {kind.__name__} of parameters {', '.join(sorted(own))}")
    return Layer(kind, call.inputs, call.outputs, *map(np.asarray, (own["kernel"], own["bias"])))


def _activation(part: str, module: Any) -> str:
    for name, function in ACTIVATIONS.items():
        if getattr(module, "activation", None) is function:
            return name
    raise _refusal(part, f"another activation of {type(module).__name__}")


def _refusal(part: str, got: str) -> InputError:
    kinds = ", ".join(kind.__name__ for kind in _LAYERS)
    return InputError(
        f"expected the {part} to be a chain of layers {kinds} with activations among"
        f" {', '.join(sorted(ACTIVATIONS))}; got {got}"
    )
