"""Exports read back: every network, likelihood and activation; refusals; nothing half-written."""

import dataclasses
import json
import os
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest
from flax import linen as nn
from random_parameters import random_parameters

import betavae_jax.export as export_module
from betavae_jax.chain import decoder_chain, encoder_chain
from betavae_jax.checks import InputError
from betavae_jax.export import (
    FORMATS,
    RoundTripError,
    export_run,
    load_exported,
)
from betavae_jax.export.functions import Functions, functions_of, largest_difference
from betavae_jax.export.graph import ACTIVATION_NODES, MEAN_NODES
from betavae_jax.layers import Convolution
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS
from betavae_jax.networks.assembly import ACTIVATIONS, assemble
from betavae_jax.representation import Representation
from betavae_jax.restore import model_of
from betavae_jax.runs.leaves import flatten_leaves
from betavae_jax.runs.settings import Settings, resolve
from betavae_jax.types import Posterior, Scale

NUM_LATENTS = 3
SMALL = {"widths": "8", "decoder_widths": "12,8"}


def subject_of(network="mlp", x_shape=(8, 8, 1), likelihood="bernoulli", scale=None, **settings):
    """A run with random parameters, biases too."""
    settings = {"network_settings": SMALL, "num_latents": NUM_LATENTS, **settings}
    resolved = resolve(Settings(network=network, likelihood=likelihood, **settings), x_shape)
    return Representation(
        config={"settings": resolved._asdict(), "program": {"versions": {"jax": "0"}}},
        results={"elbo": -3.0},
        step=6,
        image_shape=x_shape,
        num_latents=resolved.num_latents,
        params=random_parameters(model_of(resolved, x_shape).init),
        scale=scale,
    )


def round_trip(subject, folder, name):
    difference = export_run(subject, [name], folder)[name]
    assert difference <= FORMATS[name].tolerance
    return FORMATS[name].load(folder)


def test_onnx_knows_every_activation_and_likelihood():
    assert set(ACTIVATION_NODES) == set(ACTIVATIONS)
    assert set(MEAN_NODES) == set(LIKELIHOODS)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood(tmp_path, likelihood):
    subject = subject_of(likelihood=likelihood)
    differences = export_run(subject, list(FORMATS), tmp_path / "out")
    assert list(differences) == ["stablehlo", "safetensors", "onnx"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json", "decoder.onnx", "decoder.stablehlo", "encoder.onnx", "encoder.stablehlo",
        "parameters.safetensors",
    ]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("network", "x_shape", "settings"),
    [(network, (9, 13, 2), SMALL) for network in NETWORKS]
    + [
        ("conv", (8, 8, 1), {"widths": "none"}),
        ("mlp", (5,), SMALL),
        ("mlp", (5,), {"widths": "none", "decoder_widths": "none"}),
        ("mlp", (3, 4, 2), {"widths": "none", "decoder_widths": "none"}),
    ],
)
def test_every_network(tmp_path, network, x_shape, settings):
    likelihood = "gaussian" if len(x_shape) == 1 else "bernoulli"
    subject = subject_of(network, x_shape, likelihood, network_settings=settings)
    export_run(subject, list(FORMATS), tmp_path / "out")
    own = functions_of(subject)
    x = np.random.default_rng(1).random((33, *x_shape)).astype(np.float32)
    for kind in FORMATS.values():
        functions = kind.load(tmp_path / "out")
        mean, log_variance = functions.encode(x)
        np.testing.assert_allclose((mean, log_variance), own.encode(x), rtol=0, atol=1e-5)
        np.testing.assert_allclose(functions.decode(mean), own.decode(mean), rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_in_onnx(tmp_path, activation):
    settings = {**SMALL, "activation": activation, "decoder_activation": activation}
    subject = subject_of("mlp", (4,), "gaussian", network_settings=settings)
    round_trip(subject, tmp_path / "out", "onnx")


def test_the_mean_of_the_continuous_bernoulli_at_any_logit(tmp_path):
    """One weight each, so the decoder's output is the code: logits from -100 to 100."""
    subject = subject_of(
        "mlp", (1,), "continuous_bernoulli", num_latents=1,
        network_settings={"widths": "none", "decoder_widths": "none"},
    )  # fmt: skip
    network = {"output": {"kernel": np.ones((1, 1), np.float32), "bias": np.zeros(1, np.float32)}}
    params = {**subject.params, "decoder": {"network": network, "likelihood": ()}}
    subject = dataclasses.replace(subject, params=params)
    functions = round_trip(subject, tmp_path / "out", "onnx")
    logits = np.concatenate([np.linspace(-100, 100, 401), np.linspace(-2, 2, 401)])
    expected = LIKELIHOODS["continuous_bernoulli"]().mean(logits.astype(np.float32))
    got = functions.decode(logits[:, None].astype(np.float32))[:, 0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_onnx_files_are_ordinary_layers_with_named_inputs(tmp_path):
    import onnx

    export_run(subject_of("conv", (16, 16, 1)), ["onnx"], tmp_path / "out")
    encoder = onnx.load(tmp_path / "out" / "encoder.onnx").graph
    decoder = onnx.load(tmp_path / "out" / "decoder.onnx").graph
    assert [node.op_type for node in encoder.node] == [
        "Transpose", "Conv", "Relu", "Conv", "Relu", "Transpose", "Reshape", "Gemm", "Relu", "Gemm",
        "Slice", "Slice", "Identity", "Identity",
    ]  # fmt: skip
    assert [node.op_type for node in decoder.node].count("ConvTranspose") == 2

    def dims(info):
        return [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]

    assert {i.name: dims(i) for i in encoder.input} == {"x": ["batch", 16, 16, 1]}
    assert {o.name: dims(o) for o in encoder.output} == {
        "mean": ["batch", NUM_LATENTS], "log_variance": ["batch", NUM_LATENTS],
    }  # fmt: skip
    assert {i.name: dims(i) for i in decoder.input} == {"z": ["batch", NUM_LATENTS]}
    assert {o.name: dims(o) for o in decoder.output} == {"x": ["batch", 16, 16, 1]}


def test_stablehlo_is_for_both_platforms_and_holds_its_weights(exported):
    content = (exported / "encoder.stablehlo").read_bytes()
    exported = jax.export.deserialize(bytearray(content))
    assert exported.platforms == ("cpu", "cuda")
    assert [str(aval) for aval in exported.in_avals] == ["float32[batch,8,8,1]"]


def test_a_network_for_batches_of_one_size_is_refused(tmp_path, monkeypatch):
    def counting(x_shape, num_latents):
        mlp = NETWORKS["mlp"](x_shape, num_latents, **SMALL)
        return mlp._replace(encode=lambda params, x: mlp.encode(params, x.reshape(len(x), 8, 8, 1)))

    monkeypatch.setitem(NETWORKS, "counting", counting)
    subject = subject_of("counting", network_settings={})
    with pytest.raises(InputError, match=r"batches of any size.*x\.shape\[0\], not len\(x\)"):
        export_run(subject, ["stablehlo"], tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def test_an_exported_run_is_loaded_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    subject = subject_of("conv", likelihood="gaussian_learned")
    export_run(subject, ["safetensors"], tmp_path / "out", run=1)
    loaded = load_exported("~/out")
    assert loaded.config["program"] == {"versions": {"jax": "0"}, "x_shape": [8, 8, 1]}
    assert loaded.config["settings"] == json.loads(json.dumps(subject.config["settings"]))
    assert (loaded.image_shape, loaded.num_latents) == ((8, 8, 1), NUM_LATENTS)
    assert (loaded.step, loaded.results) == (6, {"elbo": -3.0})
    expected, got = flatten_leaves(subject.params), flatten_leaves(loaded.params)
    assert list(got) == list(expected)
    for name, leaf in expected.items():
        np.testing.assert_array_equal(got[name], leaf)
    export = loaded.config["export"]
    assert (export["run"], export["step"], export["results"]) == (1, 6, {"elbo": -3.0})
    assert export["input"]["range"] == [0.0, 1.0]
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(loaded.encode(images).mean, subject.encode(images).mean)
    np.testing.assert_array_equal(loaded.elbo(images), subject.elbo(images))


def test_what_vectors_were_standardised_by_is_told(tmp_path):
    scale = Scale(np.array([1.0, 2.0], np.float32), np.array([0.5, 4.0], np.float32))
    subject = subject_of("mlp", (2,), "gaussian", scale=scale)
    export_run(subject, ["safetensors"], tmp_path / "out")
    loaded = load_exported(tmp_path / "out")
    x = np.array([[3.0, -2.0]])
    np.testing.assert_array_equal(loaded.encode(x).mean, subject.encode(x).mean)
    takes = loaded.config["export"]["input"]
    assert takes["standardize"] == {"mean": [1.0, 2.0], "scale": [0.5, 4.0]}
    assert "range" not in takes


def test_a_run_in_bfloat16(tmp_path):
    subject = subject_of(precision="bf16")
    export_run(subject, ["stablehlo", "safetensors"], tmp_path / "both")
    with pytest.raises(InputError, match=r"a run of precision float32 for ONNX.*got bf16"):
        export_run(subject, ["onnx"], tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["both"]


class Odd(nn.Module):
    """An encoder that ends in a layer of the kind asked for."""

    layer: nn.Module
    activation: object = nn.relu

    @nn.compact
    def __call__(self, x):
        y = self.layer(x.reshape(x.shape[0], -1))
        y = nn.Dense(2 * NUM_LATENTS)(y)
        return Posterior(y[:, :NUM_LATENTS], y[:, NUM_LATENTS:])


class Plain(nn.Module):
    @nn.compact
    def __call__(self, z):
        return nn.Dense(64)(z).reshape(-1, 8, 8, 1)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Odd(nn.LayerNorm()), "got a layer LayerNorm"),
        (Odd(nn.Dense(4, use_bias=False)), "got a layer Dense of parameters kernel"),
        (Odd(nn.Dense(4), nn.log_sigmoid),
         "got another activation of Odd"),
    ],
)  # fmt: skip
def test_what_onnx_cannot_represent_is_named(module, says):
    network = assemble(module, Plain(), (8, 8, 1), NUM_LATENTS)
    model = make_model(network, LIKELIHOODS["bernoulli"]())
    params = random_parameters(model.init)
    with pytest.raises(InputError, match="expected the encoder to be a chain of layers") as refusal:
        encoder_chain(model, params, (8, 8, 1))
    assert says in str(refusal.value)


def test_the_chain_of_a_convolutional_network():
    subject = subject_of("conv", (20, 17, 1))
    encoder = encoder_chain(subject.model, subject.params, (20, 17, 1))
    decoder = decoder_chain(subject.model, subject.params, NUM_LATENTS)
    assert [layer.outputs for layer in encoder.layers][-1] == (2 * NUM_LATENTS,)
    assert encoder.layers[0].kind is Convolution
    assert encoder.margins == decoder.margins == ((2, 2), (3, 4))
    assert (encoder.activation, decoder.activation) == ("relu", "relu")


def test_a_difference_that_is_too_large_leaves_nothing(tmp_path, monkeypatch):
    subject = subject_of()

    def load_another(folder):
        doubled = jax.tree.map(lambda leaf: 2 * leaf, subject.params)
        return functions_of(dataclasses.replace(subject, params=doubled))

    broken = FORMATS["safetensors"]._replace(load=load_another)
    monkeypatch.setitem(export_module.FORMATS, "safetensors", broken)
    with pytest.raises(RoundTripError, match=r"safetensors read back differs .* more than 1e-05"):
        export_run(subject, ["onnx", "safetensors"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_differences_are_of_every_batch_and_relative_above_one():
    def of(change):
        def encode(x):
            return np.full((len(x), 2), 0.5), np.full((len(x), 2), -4.0)

        return Functions(encode, lambda z: change(np.full((len(z), 1), -100.0)))

    own = of(lambda x: x)
    assert largest_difference(own, own, (1,), 2) == 0
    for change in (lambda x: x + 1, lambda x: x - (len(x) == 1), lambda x: x + (len(x) > 1)):
        assert largest_difference(own, of(change), (1,), 2) == 0.01
    with pytest.raises(InputError, match=r"an output \[1, 1\]; got \[1, 1, 1\]"):
        largest_difference(own, of(lambda x: x[..., None]), (1,), 2)


def test_an_export_is_on_the_disk_and_for_all_to_read_when_it_takes_its_name(tmp_path, monkeypatch):
    synced, named, replace = {}, [], os.replace

    def noted(descriptor):
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size

    def renamed(source, target):
        if pathlib.Path(target).name == "out":
            found = {path.name: path.stat() for path in pathlib.Path(source).iterdir()}
            named.extend(n for n, s in found.items() if synced.get(s.st_ino) == s.st_size)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    export_run(subject_of(), ["safetensors", "onnx"], tmp_path / "new" / "out")
    assert sorted(named) == [
        "config.json", "decoder.onnx", "encoder.onnx", "parameters.safetensors",
    ]  # fmt: skip
    assert (tmp_path / "new" / "out").stat().st_mode & 0o777 == 0o755


def test_parameters_that_are_not_finite_are_no_agreement(tmp_path):
    subject = subject_of()
    spoilt = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), subject.params)
    with pytest.raises(RoundTripError, match="by inf"):
        export_run(dataclasses.replace(subject, params=spoilt), ["onnx"], tmp_path / "out")


@pytest.mark.parametrize(
    ("formats", "says"),
    [
        (["pickle"], "expected format to be one of onnx, safetensors, stablehlo; got 'pickle'"),
        (["onnx", "onnx"], "expected format to be a list of distinct values"),
        ([], "expected format to be a list of distinct values; got []"),
    ],
)
def test_formats_are_checked(tmp_path, formats, says):
    with pytest.raises(InputError) as refusal:
        export_run(subject_of(), formats, tmp_path / "out")
    assert says in str(refusal.value)


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file"):
        export_run(subject_of(), ["onnx"], tmp_path / "file")
    with pytest.raises(InputError, match="expected output to be a new or empty folder"):
        export_run(subject_of(), ["onnx"], tmp_path)
    (tmp_path / "empty").mkdir()
    export_run(subject_of(), ["safetensors"], tmp_path / "empty")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    for module, name in [("flatbuffers", "stablehlo"), ("onnx", "onnx"),
                         ("safetensors.numpy", "safetensors")]:  # fmt: skip
        monkeypatch.setitem(sys.modules, module, None)
        package = module.partition(".")[0]
        says = rf"the package {package} to write .*pip install 'betavae_jax\[export\]'"
        with pytest.raises(InputError, match=says):
            export_run(subject_of(), [name], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "out"
    export_run(subject_of(), list(FORMATS), folder)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "out")


def spoil(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in changes.items():
        kind, _, entry = name.partition("__")
        config[kind][entry] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "to describe an export"),
        (lambda f: (f / "config.json").write_text("{}"), "to describe an export"),
        (lambda f: (f / "parameters.safetensors").unlink(), "parameters.safetensors is missing"),
        (lambda f: (f / "parameters.safetensors").write_bytes(b"12345678"), "whole and readable"),
        (lambda f: spoil(f, export__format=2), "of format 1 or older; got 2"),
        (lambda f: spoil(f, program__x_shape=[]), "to describe an export"),
        (lambda f: spoil(f, export__params_sha256="0" * 64), "of digest 000000000000; got"),
        (lambda f: spoil(f, settings__new=1), "expected the settings of this version"),
        (lambda f: spoil(f, settings__num_latents=4), "expected the parameters of"),
    ],
)
def test_a_spoilt_export_is_refused(folder, damage, says):
    damage(folder)
    with pytest.raises(InputError) as refusal:
        load_exported(folder)
    assert says in str(refusal.value)


@pytest.mark.parametrize("name", ["stablehlo", "onnx"])
def test_damaged_programs_are_refused(folder, name):
    for path in folder.glob(f"*.{name}"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="to be whole and readable"):
        FORMATS[name].load(folder)
