"""The table of data sets: names, settings, and what importing it costs."""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.data import DATASETS, dataset_settings, load_dataset

KNOWN = (
    "arrays, blobs, digits, dsprites, dsprites_color, dsprites_noisy, dsprites_scream, folder,"
    " tfds:<name>"
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """One small set of every kind that needs no prepared data."""
    path = tmp_path_factory.mktemp("data") / "set.npz"
    images = np.arange(5 * 8 * 8, dtype=np.uint8).reshape(5, 8, 8)
    np.savez(path, images=images, labels=[0, 1, 2, 1, 0])
    return {
        "arrays": load_dataset("arrays", data_dir=path),
        "digits": load_dataset("digits"),
        "blobs": load_dataset("blobs", image_size=8, blob_grid=3, blob_margin=1.0),
    }


def test_settings_are_the_loaders_keyword_only_parameters():
    assert dataset_settings("blobs") == {
        "image_size": 32,
        "blob_sigma": 4.0,
        "blob_grid": 32,
        "blob_margin": 9.0,
        "blob_shape": "gaussian",
        "blob_radii": 1,
        "blob_radius_span": 0.5,
    }
    assert dataset_settings("arrays") == {
        "data_dir": None,
        "factor_sizes": "",
        "factor_names": "",
        "standardize": True,
    }
    assert dataset_settings("digits") == {}
    assert dataset_settings("tfds") == dataset_settings("tfds:mnist") == {"data_dir": None}


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_setting_has_a_default(name):
    assert inspect.Parameter.empty not in dataset_settings(name).values()


@pytest.mark.parametrize("kind", ["arrays", "blobs", "digits"])
def test_every_data_set_keeps_the_contract(loaded, kind):
    dataset = loaded[kind].train
    index = jnp.array([0, dataset.num_examples - 1, 1], jnp.int32)

    @jax.jit
    def batch(arrays, index):
        return dataset.gather(arrays, index, jax.random.key(0)), dataset.factors(arrays, index)

    x, factors = batch(jax.device_put(dataset.arrays), index)
    assert x.dtype == jnp.float32
    assert x.ndim == 4
    assert x.shape[0] == 3
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    assert factors.dtype == jnp.int32
    assert factors.shape == (3, len(dataset.space.names))
    assert (np.asarray(factors) < dataset.space.sizes).all()
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(dataset.arrays))


def test_what_follows_the_colon_is_the_loaders_name(reference_data):
    splits = load_dataset("tfds:fashion_mnist:3.0.1", data_dir=reference_data / "tfds")
    assert splits.train.num_examples == 6000


@pytest.mark.parametrize("name", ["mnist", "", "tfds", "tfds:", "blobs:big", "Blobs", None])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=KNOWN) as caught:
        load_dataset(name)
    assert str(caught.value).endswith(f"got {name!r}")


def test_settings_of_an_unknown_name_are_refused():
    with pytest.raises(InputError, match=KNOWN):
        dataset_settings("mnist")


def test_unknown_settings_are_refused_with_the_known_ones():
    expected = r"arrays, which takes data_dir, .*, standardize; got blob_grid, image_size$"
    with pytest.raises(InputError, match=expected):
        load_dataset("arrays", image_size=32, blob_grid=3)
    with pytest.raises(InputError, match=r"tfds, which takes data_dir; got name$"):
        load_dataset("tfds:mnist", name="other")


def test_importing_loads_no_readers_and_starts_no_backend():
    code = """
import sys
import betavae_jax.data
from jax._src import xla_bridge
heavy = {"tensorflow_datasets", "tensorflow", "PIL", "h5py", "matplotlib", "array_record",
         "sklearn"}
found = sorted(heavy & set(sys.modules)) + sorted(xla_bridge._backends)
sys.exit(", ".join(found) or 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
