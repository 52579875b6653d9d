"""A network with a likelihood: the model as pure functions of one parameter tree."""

from typing import Any

from betavae_jax.types import Array, Likelihood, Model, Network, Params, Posterior


def make_model(network: Network, likelihood: Likelihood) -> Model:
    """Joins an encoder and a decoder with the density of a pixel.

    Args:
      network: The encoder and decoder.
      likelihood: p(x|z), given the decoder's output.

    Returns:
      A `Model` whose parameters are `{"encoder": ..., "decoder": {"network": ...,
      "likelihood": ...}}`; the last is `()` where the likelihood has none of its own.
    """

    def init(key: Array) -> Params:
        params = network.init(key)
        decoder = {"network": params["decoder"], "likelihood": likelihood.init()}
        return {"encoder": params["encoder"], "decoder": decoder}

    def encode(params: Params, x: Array) -> Posterior:
        return network.encode(params["encoder"], x)

    def decode(params: Params, z: Array) -> Any:
        decoder = params["decoder"]
        return likelihood.natural(decoder["likelihood"], network.decode(decoder["network"], z))

    return Model(init, encode, decode, likelihood.log_likelihood, likelihood.mean)
