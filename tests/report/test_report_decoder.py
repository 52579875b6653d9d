"""The description of a decoder: layers, weights, and what is refused."""

import base64

import jax
import numpy as np
import pytest
from flax import linen as nn
from random_parameters import random_parameters

from betavae_jax.likelihoods import bernoulli, gaussian_learned
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS
from betavae_jax.networks.assembly import assemble
from betavae_jax.report.decoder import (
    NotForThePageError,
    decoder_for_page,
    describe_decoder,
    round_decoder,
)
from betavae_jax.types import Posterior


def describe(network, x_shape, likelihood="bernoulli", scale=1.0, **settings):
    model = make_model(NETWORKS[network](x_shape, 3, **settings), bernoulli())
    params = jax.tree.map(lambda p: scale * p, random_parameters(model.init))
    return describe_decoder(model, params, x_shape, 3, likelihood), params


def test_the_layers_of_a_convolutional_decoder():
    decoder, params = describe("conv", (13, 30, 3), channels="8,16", widths="20")
    dense = {"kind": "dense", "activation": "relu"}
    transposed = {"kind": "transposed", "activation": "relu", "height": 4, "width": 8}
    assert decoder.layers == [
        {**dense, "inputs": 3, "outputs": 20},
        {**dense, "inputs": 20, "outputs": 4 * 8 * 16},
        {**transposed, "channels": 16, "features": 8},
        {**transposed, "height": 8, "width": 16, "channels": 8, "features": 3,
         "activation": "identity"},
    ]  # fmt: skip
    assert decoder.crop == [1, 1]  # of 16 × 32, from the top and from the left
    assert decoder.shape == [13, 30, 3]
    weights = np.frombuffer(decoder.weights, "<f2")
    assert len(weights) == sum(p.size for p in jax.tree.leaves(params["decoder"]))
    kernel = np.asarray(params["decoder"]["network"]["transposed_1"]["kernel"])  # [4, 4, 8, 3]
    at = len(weights) - 3 - kernel.size
    first = weights[at : at + 3]  # of the first channel, the kernel's first row and column
    np.testing.assert_allclose(first, kernel[0, 0, 0], rtol=1e-3)
    second = weights[at + 3 : at + 6]
    np.testing.assert_allclose(second, kernel[0, 1, 0], rtol=1e-3)


def test_the_layers_of_a_fully_connected_decoder():
    decoder, _ = describe("mlp", (7,), "gaussian", decoder_widths="5", decoder_activation="gelu")
    assert decoder.layers == [
        {"kind": "dense", "activation": "gelu", "inputs": 3, "outputs": 5},
        {"kind": "dense", "activation": "identity", "inputs": 5, "outputs": 7},
    ]
    assert decoder.mean == "identity"


def test_the_second_description_is_like_the_first():
    """The model's trace is remembered by JAX; the description must not depend on that."""
    model = make_model(NETWORKS["mlp"]((7,), 3, decoder_widths="5"), gaussian_learned())
    params = random_parameters(model.init)
    pair = [describe_decoder(model, params, (7,), 3, "gaussian_learned") for _ in range(2)]
    assert pair[0] == pair[1]


def test_what_the_page_reads():
    decoder, _ = describe("mlp", (7,), decoder_widths="5")
    mean = np.linspace(0, 1, 7)
    described = decoder_for_page(decoder, np.zeros(3), mean, 1e-2)
    assert base64.b64decode(described["weights"]) == decoder.weights
    np.testing.assert_allclose(described["check"]["values"], mean, atol=1e-5)
    assert described["check"]["at"] == list(range(7))


def test_a_large_decoder_is_refused():
    with pytest.raises(NotForThePageError, match="7,806,496 weights, more than the page holds"):
        describe("mlp", (64, 64, 1))


def test_a_decoder_of_medium_size_has_eight_bits():
    decoder, params = describe("mlp", (40,))
    assert decoder.format == "int8"
    network = params["decoder"]["network"]
    sizes = [leaf.size for leaf in jax.tree.leaves(network) if leaf.ndim > 1]
    biases = [leaf.size for leaf in jax.tree.leaves(network) if leaf.ndim == 1]
    assert len(decoder.weights) == sum(sizes) + 4 * sum(biases)  # a scale and a bias, two bytes
    rounded = round_decoder(params)
    for leaf, near in zip(
        jax.tree.leaves(network), jax.tree.leaves(rounded["decoder"]["network"]), strict=True
    ):
        leaf = np.asarray(leaf)
        step = np.abs(leaf).max(axis=tuple(range(leaf.ndim - 1)), keepdims=True) / 127
        assert np.all(np.abs(near - leaf) <= 0.51 * step + 1e-3 * np.abs(leaf))
    assert rounded["encoder"] is params["encoder"]


def test_a_small_decoder_is_rounded_to_float16():
    decoder, params = describe("mlp", (7,), decoder_widths="5")
    assert decoder.format == "float16"
    leaves = jax.tree.leaves(round_decoder(params)["decoder"]["network"])
    values = np.concatenate([np.ravel(leaf) for leaf in leaves])
    weights = np.frombuffer(decoder.weights, "<f2").astype(np.float32)
    np.testing.assert_array_equal(np.sort(values), np.sort(weights))


def test_weights_beyond_float16_are_refused():
    with pytest.raises(NotForThePageError, match="float16 cannot hold"):
        describe("mlp", (7,), scale=1e6, decoder_widths="5")


class Odd(nn.Module):
    """A decoder of another kind than the page understands."""

    kind: str

    @nn.compact
    def __call__(self, z):
        if self.kind == "norm":
            return nn.Dense(4)(nn.LayerNorm()(z))
        if self.kind == "sum":
            return nn.Dense(4, name="a")(z) + nn.Dense(4, name="b")(z)
        if self.kind == "scale":
            return nn.Dense(4)(z) * self.param("scale", nn.initializers.ones_init(), (1, 4))
        return nn.Dense(4)(nn.Dense(3)(z))


class Known(Odd):
    activation: object = nn.relu


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Posterior(nn.Dense(3)(x), nn.Dense(3)(x))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Known("norm"), "got a layer LayerNorm"),
        (Known("sum"), "that are not a chain"),
        (Known("scale"), "parameters outside of them in Known"),
        (Odd("dense"), "another activation of Odd"),
    ],
)
def test_other_decoders_are_refused(module, why):
    model = make_model(assemble(Encoder(), module, (4,), 3), bernoulli())
    params = random_parameters(model.init)
    with pytest.raises(NotForThePageError, match=why):
        describe_decoder(model, params, (4,), 3, "bernoulli")
