"""Networks: what they compute, on which images, with which parameters."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from random_parameters import random_parameters

from betavae_jax.checks import InputError
from betavae_jax.networks import NETWORKS
from betavae_jax.networks.assembly import ACTIVATIONS
from betavae_jax.types import Network

CONVOLUTIONAL = ["conv", "conv_locatello"]
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
X_SHAPES = [
    (16, 16, 1),
    (28, 28, 1),
    (32, 32, 3),
    (33, 33, 3),
    (48, 48, 1),
    (64, 64, 1),
    (97, 97, 1),
    (127, 113, 1),
    (128, 128, 3),
    (8, 8, 2),
    (64, 16, 1),
    (20, 96, 3),
    (256, 9, 1),
]
# By hand, for 64×64×1 and 10 latents: inputs × outputs + outputs, with 16 taps a convolution.
PARAMETERS = {
    "conv": {
        "encoder/conv_0": 16 * 1 * 32 + 32,
        "encoder/conv_1": 16 * 32 * 32 + 32,
        "encoder/conv_2": 16 * 32 * 32 + 32,
        "encoder/conv_3": 16 * 32 * 32 + 32,
        "encoder/dense_0": 512 * 256 + 256,
        "encoder/dense_1": 256 * 256 + 256,
        "encoder/posterior": 256 * 20 + 20,
        "decoder/dense_0": 10 * 256 + 256,
        "decoder/dense_1": 256 * 256 + 256,
        "decoder/feature_map": 256 * 512 + 512,
        "decoder/transposed_0": 16 * 32 * 32 + 32,
        "decoder/transposed_1": 16 * 32 * 32 + 32,
        "decoder/transposed_2": 16 * 32 * 32 + 32,
        "decoder/transposed_3": 16 * 32 * 1 + 1,
    },
    "conv_locatello": {
        "encoder/conv_0": 16 * 1 * 32 + 32,
        "encoder/conv_1": 16 * 32 * 32 + 32,
        "encoder/conv_2": 16 * 32 * 64 + 64,
        "encoder/conv_3": 16 * 64 * 64 + 64,
        "encoder/dense_0": 1024 * 256 + 256,
        "encoder/posterior": 256 * 20 + 20,
        "decoder/dense_0": 10 * 256 + 256,
        "decoder/feature_map": 256 * 1024 + 1024,
        "decoder/transposed_0": 16 * 64 * 64 + 64,
        "decoder/transposed_1": 16 * 64 * 32 + 32,
        "decoder/transposed_2": 16 * 32 * 32 + 32,
        "decoder/transposed_3": 16 * 32 * 1 + 1,
    },
    "mlp": {
        "encoder/dense_0": 4096 * 1200 + 1200,
        "encoder/dense_1": 1200 * 1200 + 1200,
        "encoder/posterior": 1200 * 20 + 20,
        "decoder/dense_0": 10 * 1200 + 1200,
        "decoder/dense_1": 1200 * 1200 + 1200,
        "decoder/dense_2": 1200 * 1200 + 1200,
        "decoder/output": 1200 * 4096 + 4096,
    },
}
TOTALS = {"conv": 502_005, "conv_locatello": 764_245, "mlp": 14_196_516}


def make(name, x_shape, num_latents=10, **settings):
    """Makes a compiled network and parameters whose biases are not zero, so that they count."""
    network = NETWORKS[name](x_shape, num_latents, **settings)
    params = jax.tree.map(jnp.asarray, random_parameters(network.init))
    return Network(network.init, jax.jit(network.encode), jax.jit(network.decode)), params


def images(x_shape, num_images=3):
    x = np.random.default_rng(1).random((num_images, *x_shape))
    return jnp.asarray(x, jnp.float32)


def codes(num_latents=10, num_codes=3):
    return jnp.asarray(np.random.default_rng(2).normal(size=(num_codes, num_latents)), jnp.float32)


def assert_close(actual, expected, tolerance=1e-5):
    scale = float(np.max(np.abs(expected)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("x_shape", X_SHAPES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_on_every_size_of_image(name, x_shape):
    network = NETWORKS[name](x_shape, 6)
    params = jax.eval_shape(network.init, jax.random.key(0))
    posterior = jax.eval_shape(network.encode, params["encoder"], images(x_shape, 5))
    assert posterior.mean.shape == (5, 6)
    assert posterior.log_variance.shape == (5, 6)
    output = jax.eval_shape(network.decode, params["decoder"], codes(6, 5))
    assert output.shape == (5, *x_shape)
    assert {leaf.dtype for leaf in jax.tree.leaves((posterior, output))} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("x_shape", "num_convolutions", "feature_map"),
    [
        ((8, 8, 1), 1, 4 * 4),
        ((16, 16, 1), 2, 4 * 4),
        ((17, 16, 1), 3, 3 * 2),
        ((28, 28, 1), 3, 4 * 4),
        ((48, 48, 1), 4, 3 * 3),
        ((64, 16, 1), 4, 4 * 1),
        ((128, 128, 1), 5, 4 * 4),
        ((256, 256, 1), 6, 4 * 4),
    ],
    ids=str,
)
def test_depth_follows_the_longer_side(x_shape, num_convolutions, feature_map):
    params = jax.eval_shape(NETWORKS["conv"](x_shape, 4).init, jax.random.key(0))
    for part, layer in (("encoder", "conv"), ("decoder", "transposed")):
        found = sorted(n for n in params[part] if n.startswith(layer))
        assert found == [f"{layer}_{i}" for i in range(num_convolutions)]
    assert params["encoder"]["dense_0"]["kernel"].shape == (32 * feature_map, 256)
    assert params["decoder"]["feature_map"]["kernel"].shape == (256, 32 * feature_map)


def test_further_convolutions_of_locatello_have_64_channels():
    params = jax.eval_shape(NETWORKS["conv_locatello"]((128, 128, 3), 4).init, jax.random.key(0))
    encoder = [params["encoder"][f"conv_{i}"]["kernel"].shape[2:] for i in range(5)]
    assert encoder == [(3, 32), (32, 32), (32, 64), (64, 64), (64, 64)]
    decoder = [params["decoder"][f"transposed_{i}"]["kernel"].shape[2:] for i in range(5)]
    assert decoder == [(64, 64), (64, 64), (64, 32), (32, 32), (32, 3)]


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_those_counted_by_hand(name):
    params = jax.eval_shape(NETWORKS[name]((64, 64, 1), 10).init, jax.random.key(0))
    counted = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        part, layer, kind = (entry.key for entry in path)
        assert kind in ("kernel", "bias")
        key = f"{part}/{layer}"
        counted[key] = counted.get(key, 0) + leaf.size
    assert counted == PARAMETERS[name]
    assert sum(counted.values()) == TOTALS[name]


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"].reshape(1, -1)


def convolution(layer, x):
    y = lax.conv_general_dilated(x, layer["kernel"], (2, 2), "SAME", dimension_numbers=DIMENSIONS)
    return y + layer["bias"].reshape(1, 1, 1, -1)


def transposed(layer, x):
    y = lax.conv_transpose(x, layer["kernel"], (2, 2), "SAME", dimension_numbers=DIMENSIONS)
    return y + layer["bias"].reshape(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("name", "settings", "activation"),
    [
        ("conv", {}, jax.nn.relu),
        ("conv_locatello", {}, jax.nn.relu),
        ("conv", {"activation": "tanh"}, jnp.tanh),
    ],
    ids=["conv", "conv_locatello", "tanh"],
)
def test_outputs_are_those_of_the_same_layers_written_with_lax(name, settings, activation):
    network, params = make(name, (32, 16, 3), **settings)
    num_dense = {"conv": 2, "conv_locatello": 1}[name]

    def encode(layers, h):
        for i in range(3):
            h = activation(convolution(layers[f"conv_{i}"], h))
        h = h.reshape(3, -1)
        for i in range(num_dense):
            h = activation(dense(layers[f"dense_{i}"], h))
        return jnp.split(dense(layers["posterior"], h), 2, axis=1)

    def decode(layers, h):
        for i in range(num_dense):
            h = activation(dense(layers[f"dense_{i}"], h))
        h = activation(dense(layers["feature_map"], h)).reshape(3, 4, 2, -1)
        for i in range(2):
            h = activation(transposed(layers[f"transposed_{i}"], h))
        return transposed(layers["transposed_2"], h)

    @jax.jit  # both in one program: compiled at once
    def both_ways(params, x, z):
        ours = *network.encode(params["encoder"], x), network.decode(params["decoder"], z)
        return ours, (*encode(params["encoder"], x), decode(params["decoder"], z))

    jax.tree.map(assert_close, *both_ways(params, images((32, 16, 3)), codes()))


@pytest.mark.parametrize(
    ("x_shape", "num_convolutions", "padded_shape", "top", "left"),
    [((28, 28, 1), 3, (32, 32, 1), 2, 2), ((9, 15, 3), 2, (12, 16, 3), 1, 0)],
    ids=str,
)
def test_padding_is_of_zeros_and_cut_off_again(x_shape, num_convolutions, padded_shape, top, left):
    height, width = x_shape[:2]
    # Equal for all parameters, hence also in gradient: the margin teaches the decoder nothing.
    small = {"channels": ",".join(["4"] * num_convolutions), "widths": "none"}
    network, params = make("conv", x_shape, **small)
    padded, padded_params = make("conv", padded_shape, **small)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, padded_params)
    inner = (slice(None), slice(top, top + height), slice(left, left + width))

    @jax.jit
    def both(params, x, z):
        surrounded = jnp.zeros((3, *padded_shape)).at[inner].set(x)
        one = *network.encode(params["encoder"], x), network.decode(params["decoder"], z)
        output = padded.decode(params["decoder"], z)[inner]
        return one, (*padded.encode(params["encoder"], surrounded), output)

    for a, b in zip(*both(params, images(x_shape), codes()), strict=True):
        assert_close(a, b, 1e-6)


@pytest.mark.parametrize(("name", "x_shape"), [("conv", (12, 15, 3)), ("mlp", (5, 3, 2))], ids=str)
def test_values_and_gradients_are_finite_and_reach_every_parameter(name, x_shape):
    network, params = make(name, x_shape, 4, widths="32")

    def through(params, x):
        posterior = network.encode(params["encoder"], x)
        output = network.decode(params["decoder"], posterior.mean)
        return jnp.sum(output**2) + jnp.sum(posterior.log_variance**2)

    value, gradients = jax.jit(jax.value_and_grad(through))(params, images(x_shape, 2))
    assert np.isfinite(value)
    for gradient in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0)


def test_the_posterior_layer_holds_means_before_log_variances():
    network, params = make("conv", (16, 16, 1), 3)
    layer = params["encoder"]["posterior"]
    layer["kernel"], layer["bias"] = jnp.zeros_like(layer["kernel"]), jnp.arange(6.0)
    posterior = network.encode(params["encoder"], images((16, 16, 1), 1))
    np.testing.assert_array_equal(posterior.mean, [[0, 1, 2]])
    np.testing.assert_array_equal(posterior.log_variance, [[3, 4, 5]])


def test_examples_of_a_batch_do_not_meet():
    network, params = make("conv_locatello", (16, 16, 1), widths="none")
    x, z = images((16, 16, 1)), codes()
    together = network.encode(params["encoder"], x), network.decode(params["decoder"], z)
    for i in range(3):
        alone = (
            network.encode(params["encoder"], x[i : i + 1]),
            network.decode(params["decoder"], z[i : i + 1]),
        )
        jax.tree.map(lambda a, b, i=i: assert_close(a[0], b[i], 1e-6), alone, together)


def test_parameters_depend_on_the_seed_alone():
    network = NETWORKS["conv"]((16, 16, 1), 4)
    init = jax.jit(network.init)
    one, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    for part in ("encoder", "decoder"):
        for name, layer in one[part].items():
            assert np.all(layer["bias"] == 0)
            assert np.mean(layer["kernel"] != other[part][name]["kernel"]) > 0.99
    assert np.any(one["encoder"]["dense_1"]["kernel"] != one["decoder"]["dense_1"]["kernel"])


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_are_drawn_from_lecuns_truncated_normal(name):
    params = jax.jit(NETWORKS[name]((64, 64, 1), 10).init)(jax.random.key(3))
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    standard = [np.sqrt(np.prod(k.shape[:-1])) * np.asarray(k).ravel() for k in kernels]
    cut = 2 / 0.8796256610342398
    for sample in standard:
        assert abs(np.std(sample) - 1) < 4 / np.sqrt(2 * sample.size)
        assert abs(np.mean(sample)) < 4 / np.sqrt(sample.size)
        assert np.max(np.abs(sample)) <= 1.00001 * cut
    # No piece of the draw is used twice.
    assert np.unique(np.concatenate([sample[:50] for sample in standard])).size > 49 * len(kernels)


def test_eager_jit_and_a_population_on_two_devices_agree():
    network = NETWORKS["conv"]((8, 8, 1), 4, channels="8", widths="16")
    x = images((8, 8, 1))
    population = jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(0), 2))
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("runs",))
    placed = jax.device_put(population, NamedSharding(mesh, PartitionSpec("runs")))

    def loss(params, x):
        posterior = network.encode(params["encoder"], x)
        output = network.decode(params["decoder"], posterior.mean)
        return jnp.sum((output - x) ** 2) + jnp.sum(posterior.log_variance**2)

    step = jax.value_and_grad(loss)
    program = jax.jit(jax.vmap(step, in_axes=(0, None)))
    on_both = jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
    compiled = program.lower(placed, on_both).compile()
    forbidden = r"\s(convolution|all-\w+|collective-\w+|reduce-scatter)(-start)?\("
    assert not re.search(forbidden, compiled.as_text())
    together = jax.tree.map(np.asarray, compiled(placed, on_both))
    for run in range(2):
        params = jax.tree.map(lambda leaf, run=run: np.asarray(leaf)[run], population)
        alone = jax.jit(step)(params, x)
        jax.tree.map(lambda a, b, run=run: assert_close(a[run], b), together, alone)
    np.testing.assert_allclose(loss(params, x), alone[0], rtol=1e-6)


@pytest.mark.parametrize(
    "x_shape",
    [(7, 64, 1), (64, 257, 1), (64, 64, 0), (64, 64), (64, 64, 1, 1), (64.0, 64, 1)],
    ids=str,
)
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_other_images_are_refused(name, x_shape):
    with pytest.raises(InputError, match=r"H and W from 8 to 256 and C at least 1; got \["):
        NETWORKS[name](x_shape, 10)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_vectors_are_referred_to_mlp(name):
    with pytest.raises(InputError, match=r"\[H, W, C\] .*\(mlp takes vectors\); got \[784\]"):
        NETWORKS[name]((784,), 10)


@pytest.mark.parametrize("x_shape", [(), (0,), (8, 8), (8, 0, 1), (8.0, 8, 1), (2, 8, 8, 1)])
def test_other_shapes_are_refused_by_mlp(x_shape):
    with pytest.raises(InputError, match=r"\[H, W, C\] or \[F\] with whole numbers of at least 1"):
        NETWORKS["mlp"](x_shape, 10)


# Settings.


def kernels(network, part):
    """The shapes of a part's kernels, in the order of its layers, by their kind."""
    params = jax.eval_shape(network.init, jax.random.key(0))[part]
    return {name: layer["kernel"].shape for name, layer in params.items()}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_channels_widths_and_depth_of_convolutions_are_settings(name):
    network = NETWORKS[name](
        (28, 20, 3), 4, channels=" 8,12", widths="50, 40,30", decoder_widths="9"
    )
    feature_map = 7 * 5 * 12
    assert kernels(network, "encoder") == {
        "conv_0": (4, 4, 3, 8),
        "conv_1": (4, 4, 8, 12),
        "dense_0": (feature_map, 50),
        "dense_1": (50, 40),
        "dense_2": (40, 30),
        "posterior": (30, 8),
    }
    assert kernels(network, "decoder") == {
        "dense_0": (4, 9),
        "feature_map": (9, feature_map),
        "transposed_0": (4, 4, 12, 8),
        "transposed_1": (4, 4, 8, 3),
    }
    output = jax.eval_shape(
        network.decode,
        jax.eval_shape(network.init, jax.random.key(0))["decoder"],
        codes(4),
    )
    assert output.shape == (3, 28, 20, 3)


def test_the_decoder_mirrors_widths_by_default_and_can_have_none():
    mirrored = kernels(NETWORKS["conv"]((8, 8, 1), 4, widths="50,40"), "decoder")
    assert [mirrored[f"dense_{i}"] for i in range(2)] == [(4, 40), (40, 50)]
    mirrored = kernels(NETWORKS["mlp"]((9,), 4, widths="50,40", decoder_widths=""), "decoder")
    assert mirrored == {"dense_0": (4, 40), "dense_1": (40, 50), "output": (50, 9)}
    linear = NETWORKS["mlp"]((9,), 4, widths="none", decoder_widths="none")
    assert kernels(linear, "encoder") == {"posterior": (9, 8)}
    assert kernels(linear, "decoder") == {"output": (4, 9)}
    without = NETWORKS["conv"]((8, 8, 1), 4, widths="none", channels="3")
    assert kernels(without, "encoder") == {"conv_0": (4, 4, 1, 3), "posterior": (48, 8)}
    assert kernels(without, "decoder") == {"feature_map": (4, 48), "transposed_0": (4, 4, 3, 1)}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize(
    ("x_shape", "admitted"), [((8, 8, 1), 1), ((28, 9, 1), 3), ((64, 64, 1), 4), ((65, 8, 1), 5)]
)
def test_as_many_channels_as_the_image_can_be_halved(name, x_shape, admitted):
    usual = NETWORKS[name](x_shape, 4)
    assert sum(layer.startswith("conv_") for layer in kernels(usual, "encoder")) == admitted
    for depth in range(1, admitted + 1):
        network = NETWORKS[name](x_shape, 4, channels=",".join(["4"] * depth))
        params = jax.eval_shape(network.init, jax.random.key(0))
        output = jax.eval_shape(network.decode, params["decoder"], codes(4))
        assert output.shape == (3, *x_shape)
    message = f"channels for at most {admitted} convolutions.*{x_shape[0]}×{x_shape[1]} pixels; got"
    with pytest.raises(InputError, match=f"{message} {admitted + 1} of them"):
        NETWORKS[name](x_shape, 4, channels=",".join(["4"] * (admitted + 1)))


def test_given_settings_equal_to_the_defaults_change_nothing():
    for name, channels, widths in (
        ("conv", "32,32,32", "256,256"),
        ("conv_locatello", "32,32,64", "256"),
    ):
        usual = NETWORKS[name]((20, 32, 1), 4)
        given = NETWORKS[name](
            (20, 32, 1), 4, channels=channels, widths=widths, decoder_widths=widths
        )
        for part in ("encoder", "decoder"):
            assert kernels(usual, part) == kernels(given, part)


@pytest.mark.parametrize(
    "text",
    [
        *("256,", ",", " ", "0", "-3", "+3", "256;256", "2.5", "1e3", "1_000", "65537", "٣"),
        *("9" * 5000, 256, (256, 256), None),
    ],
    ids=lambda text: repr(text)[:12],
)
@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("conv", "channels"),
        ("conv", "widths"),
        ("conv_locatello", "decoder_widths"),
        ("mlp", "widths"),
    ],
)
def test_other_lists_are_refused(name, setting, text):
    message = f"expected {setting} to be whole numbers from 1 to 65536 separated by commas; got"
    with pytest.raises(InputError, match=message):
        NETWORKS[name]((64, 64, 1), 4, **{setting: text})


def test_an_empty_list_of_widths_is_refused():
    for name in NETWORKS:
        with pytest.raises(InputError, match=r"expected widths to be whole numbers .*; got ''"):
            NETWORKS[name]((64, 64, 1), 4, widths="")


@pytest.mark.parametrize(
    ("name", "setting"),
    [("conv", "activation"), ("mlp", "activation"), ("mlp", "decoder_activation")],
)
def test_other_activations_are_refused(name, setting):
    with pytest.raises(InputError, match=f"expected {setting} to be one of elu, .*; got 'relu6'"):
        NETWORKS[name]((64, 64, 1), 4, **{setting: "relu6"})


def test_activations_are_those_of_their_names():
    x = np.linspace(-4, 4, 33)
    logistic = 1 / (1 + np.exp(-x))
    expected = {
        "elu": np.where(x > 0, x, np.exp(x) - 1),
        "gelu": 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "relu": np.maximum(x, 0),
        "sigmoid": logistic,
        "silu": x * logistic,
        "softplus": np.log1p(np.exp(x)),
        "tanh": np.tanh(x),
    }
    assert set(expected) == set(ACTIVATIONS)
    for name, activation in ACTIVATIONS.items():
        got = activation(jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(got, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("x_shape", [(7,), (5, 3, 2)], ids=str)
def test_mlp_is_its_formula(x_shape):
    """Enough of it in NumPy: ReLU up, tanh down, the last layers linear."""
    network, params = make("mlp", x_shape, 4, widths="6,5", decoder_widths="5,6,7")
    layers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def dense(layer, h):
        return h @ layer["kernel"] + layer["bias"][None]

    x, z = images(x_shape), codes(4)
    h = np.asarray(x, np.float64).reshape(3, -1)
    for i in range(2):
        h = np.maximum(dense(layers["encoder"][f"dense_{i}"], h), 0)
    h = dense(layers["encoder"]["posterior"], h)
    posterior = network.encode(params["encoder"], x)
    assert_close(np.concatenate(posterior, axis=1), h)

    h = np.asarray(z, np.float64)
    for i in range(3):
        h = np.tanh(dense(layers["decoder"][f"dense_{i}"], h))
    h = dense(layers["decoder"]["output"], h).reshape(3, *x_shape)
    assert_close(network.decode(params["decoder"], z), h)


def test_eager_jit_and_vmap_agree_on_mlp():
    network = NETWORKS["mlp"]((5, 3, 2), 4, widths="8", decoder_widths="8,6")
    population = jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(0), 3))
    x = images((5, 3, 2))

    def through(params, x):
        posterior = network.encode(params["encoder"], x)
        return *posterior, network.decode(params["decoder"], posterior.mean)

    together = jax.jit(jax.vmap(through, in_axes=(0, None)))(population, x)
    for run in range(3):
        params = jax.tree.map(lambda leaf, run=run: leaf[run], population)
        for got in (jax.jit(through)(params, x), [leaf[run] for leaf in together]):
            for a, b in zip(got, through(params, x), strict=True):
                assert_close(a, b, 1e-6)


@pytest.mark.parametrize("num_latents", [0, -1, 2.5, True, None])
def test_other_numbers_of_latents_are_refused(num_latents):
    with pytest.raises(InputError, match="num_latents to be a whole number of at least 1; got"):
        NETWORKS["conv"]((64, 64, 1), num_latents)


def test_arrays_of_another_shape_are_refused():
    network, params = make("conv", (28, 28, 1), 4)
    with pytest.raises(InputError, match=r"x of shape \[any, 28, 28, 1\]; got \[3, 32, 32, 1\]"):
        network.encode(params["encoder"], images((32, 32, 1)))
    with pytest.raises(InputError, match=r"z of shape \[any, 4\]; got \[3, 5\]"):
        network.decode(params["decoder"], codes(5))
