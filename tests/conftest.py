"""A strict session: two CPU devices, rank promotion is an error, warnings are errors."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")

import pathlib

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

_REFERENCE_DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and jax.default_backend() == "cpu":
        pytest.skip("no accelerator (set JAX_PLATFORMS=cuda)")


@pytest.fixture(scope="session")
def reference_data() -> pathlib.Path:
    """The folder of reference data: real sprites, a prepared tfds set, reference values."""
    folder = pathlib.Path(os.environ.get("BETAVAE_REFERENCE_DATA", _REFERENCE_DATA))
    if not folder.is_dir():
        pytest.skip("no reference data beside this checkout (set BETAVAE_REFERENCE_DATA)")
    return folder


@pytest.fixture(scope="session")
def make_experiment():
    """Builds a small experiment: 16×16 blobs, a narrow code, small batches."""
    from betavae_jax.runs.settings import Settings, build

    def make(**settings):
        data = {"image_size": 16, "blob_grid": 8, "blob_margin": 4.0, "blob_sigma": 1.5}
        small = {"data": data, "batch_size": 8, "num_latents": 3}
        return build(Settings(**{**small, **settings}))

    return make
