"""A network with a likelihood: the model as pure functions of one parameter tree."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from betavae_jax.checks import check_name
from betavae_jax.types import Array, Likelihood, Model, Network, Params, Posterior

# What the networks compute in; parameters, posteriors, densities and sums stay float32.
PRECISIONS: dict[str, Any] = {"float32": jnp.float32, "bf16": jnp.bfloat16}


def make_model(network: Network, likelihood: Likelihood, *, precision: str = "float32") -> Model:
    """Joins an encoder and a decoder with the density of a pixel.

    Args:
      network: The encoder and decoder.
      likelihood: p(x|z), given the decoder's output.
      precision: `float32`, or `bf16`: the networks then compute in bfloat16 from float32
        parameters, and what they return is float32 again.

    Returns:
      A `Model` whose parameters are `{"encoder": ..., "decoder": {"network": ...,
      "likelihood": ...}}`; the last is `()` where the likelihood has none of its own.

    Raises:
      InputError: If the precision is not one of these.
    """
    check_name("precision", precision, PRECISIONS)
    network_encode = _compute_in(PRECISIONS[precision], network.encode)
    network_decode = _compute_in(PRECISIONS[precision], network.decode)

    def init(key: Array) -> Params:
        params = network.init(key)
        decoder = {"network": params["decoder"], "likelihood": likelihood.init()}
        return {"encoder": params["encoder"], "decoder": decoder}

    def encode(params: Params, x: Array) -> Posterior:
        posterior: Posterior = network_encode(params["encoder"], x)
        return posterior

    def decode(params: Params, z: Array) -> Any:
        decoder = params["decoder"]
        return likelihood.natural(decoder["likelihood"], network_decode(decoder["network"], z))

    return Model(init, encode, decode, likelihood.log_likelihood, likelihood.mean)


def _compute_in(dtype: Any, function: Callable[[Params, Array], Any]) -> Callable[..., Any]:
    """Casts what goes into a network to `dtype`, and what comes out to float32."""
    if dtype == jnp.float32:
        return function

    def cast(tree: Any, to: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(to), tree)

    return lambda params, x: cast(function(cast(params, dtype), x.astype(dtype)), jnp.float32)
