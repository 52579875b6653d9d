"""What the page of exports shows, run as it stands on a small export."""

import importlib.util

import jax
import numpy as np
import pytest
from random_parameters import random_parameters

from betavae_jax.export import FORMATS, export_run
from betavae_jax.representation import Representation
from betavae_jax.restore import model_of
from betavae_jax.runs.settings import Settings, resolve

PAGE = "docs/export.md"


@pytest.fixture(scope="module")
def model():
    settings = Settings(network="mlp", network_settings={"widths": "6", "decoder_widths": "6"})
    settings = resolve(settings._replace(likelihood="bernoulli", num_latents=2), (8, 8, 1))
    return Representation(
        config={"settings": settings._asdict()},
        results=None,
        step=0,
        image_shape=(8, 8, 1),
        num_latents=2,
        params=random_parameters(model_of(settings, (8, 8, 1)).init),
    )


@pytest.fixture
def shown(model, shown_python, tmp_path, monkeypatch):
    """Runs the one block that names a module, beside an export; what it leaves."""
    export_run(model, list(FORMATS), tmp_path / "exported")
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((4, 8, 8, 1)).astype(np.float32)

    def run(module):
        [block] = [block for block in shown_python(PAGE) if module in block]
        names = {"x": x}
        exec(block, names)
        return names

    return run


@pytest.mark.parametrize("module", ["jax.export", "onnxruntime"])
def test_encoders_of_other_programs(shown, model, module):
    names = shown(module)
    expected = model.encode(names["x"])
    np.testing.assert_allclose(names["mean"], expected.mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(names["log_variance"], expected.log_variance, rtol=0, atol=1e-5)


def test_the_parameters_here(shown, model):
    names = shown("load_exported")
    expected = model.encode(names["x"]).mean
    np.testing.assert_array_equal(names["model"].encode(names["x"]).mean, expected)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_the_parameters_in_pytorch(shown, model):
    names = shown("torch.nn")
    torch, flat = names["torch"], names["x"].reshape(4, -1)
    dense = jax.device_get(model.params["encoder"]["dense_0"])
    got = names["linear"](torch.from_numpy(flat)).detach().numpy()
    np.testing.assert_allclose(got, flat @ dense["kernel"] + dense["bias"], rtol=0, atol=1e-5)
