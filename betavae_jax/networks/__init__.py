"""Encoders and decoders.

Each entry of `NETWORKS` makes a `Network` for examples of one shape and `D` latents;
a maker's keyword-only parameters are its settings. The modules hold no state: a
network is its parameters, and examples of a batch do not meet in it.
"""

from collections.abc import Callable

from betavae_jax.networks.conv import make_conv, make_conv_locatello
from betavae_jax.networks.mlp import make_mlp
from betavae_jax.types import Network

NETWORKS: dict[str, Callable[..., Network]] = {
    "conv": make_conv,
    "conv_locatello": make_conv_locatello,
    "mlp": make_mlp,
}
