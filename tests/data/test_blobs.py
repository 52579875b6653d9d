"""The white dot against a plain double loop in float64."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.data.blobs import load_blobs
from betavae_jax.types import FactorSpace

KEY = jax.random.key(0)
DRAW = {
    "gaussian": lambda squared, sigma: math.exp(-squared / (2 * sigma**2)),
    "disc": lambda squared, sigma: float(squared <= sigma**2),
}


def gather(dataset, index):
    return dataset.gather(dataset.arrays, jnp.asarray(index, jnp.int32), KEY)


def factors(dataset, index):
    return dataset.factors(dataset.arrays, jnp.asarray(index, jnp.int32))


def reference(x, y, size, sigma, grid, margin, shape):
    """Draws one dot pixel by pixel; x counts lattice columns, y lattice rows."""
    step = (size - 2 * margin) / (grid - 1)
    centre_x, centre_y = margin + x * step, margin + y * step
    image = np.zeros((size, size, 1))
    for r, c in itertools.product(range(size), range(size)):
        squared = (c + 0.5 - centre_x) ** 2 + (r + 0.5 - centre_y) ** 2
        image[r, c, 0] = DRAW[shape](squared, sigma)
    return image


@pytest.mark.parametrize(
    ("size", "sigma", "grid", "margin", "shape"),
    [
        (32, 2.0, 32, 5.0, "gaussian"),
        (32, 3.3, 32, 5.0, "disc"),
        (8, 0.7, 2, 0.0, "gaussian"),
        (17, 1.5, 5, 2.25, "gaussian"),
        (17, 2.1, 5, 2.25, "disc"),
    ],
)
def test_images_are_those_of_a_pixel_loop(size, sigma, grid, margin, shape):
    splits = load_blobs(
        image_size=size, blob_sigma=sigma, blob_grid=grid, blob_margin=margin, blob_shape=shape
    )
    chosen = [(0, 0), (1, 0), (0, 1), (grid - 1, 0), (grid - 1, grid - 1), (grid // 2, 1)]
    index = [x * grid + y for x, y in chosen]
    expected = np.stack([reference(x, y, size, sigma, grid, margin, shape) for x, y in chosen])
    images = gather(splits.train, index)
    assert images.dtype == jnp.float32
    np.testing.assert_allclose(images, expected, atol=2e-6)
    np.testing.assert_array_equal(factors(splits.train, index), chosen)


def test_x_moves_along_columns_and_y_along_rows():
    dataset = load_blobs(blob_sigma=2.0, blob_margin=5.0).train
    left, right, bottom = gather(dataset, [0, 31 * 32, 31])[..., 0]
    assert np.unravel_index(np.argmax(left), left.shape) in {(4, 4), (4, 5), (5, 4), (5, 5)}
    rows, columns = np.indices((32, 32))
    for image, row, column in [(left, 5, 5), (right, 5, 27), (bottom, 27, 5)]:
        assert float(jnp.sum(image * rows) / jnp.sum(image)) + 0.5 == pytest.approx(row, abs=0.05)
        assert float(jnp.sum(image * columns) / jnp.sum(image)) + 0.5 == pytest.approx(
            column, abs=0.05
        )


def test_index_and_factors_go_both_ways():
    splits = load_blobs(blob_grid=7)
    space = splits.train.space
    assert splits.test is None
    assert space == (("x", "y"), (7, 7), True)
    assert splits.train.num_examples == 49
    every = factors(splits.train, np.arange(49))
    assert every.dtype == jnp.int32
    np.testing.assert_array_equal(every, list(itertools.product(range(7), range(7))))
    np.testing.assert_array_equal(
        np.ravel_multi_index(np.asarray(every).T, space.sizes), np.arange(49)
    )


@pytest.mark.parametrize("shape", ["gaussian", "disc"])
def test_values_lie_between_black_and_white(shape):
    dataset = load_blobs(blob_shape=shape, blob_grid=9).train
    images = np.asarray(gather(dataset, np.arange(81)))
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images.max(axis=(1, 2, 3)) > 0.85).all()
    assert len(np.unique(images.reshape(81, -1), axis=0)) == 81


def test_gather_is_the_same_traced_mapped_and_scanned():
    dataset = load_blobs().train
    index = jnp.array([[0, 5, 1023], [31, 512, 700]], jnp.int32)
    eager = jnp.stack([dataset.gather(dataset.arrays, row, KEY) for row in index])
    arrays = jax.device_put(dataset.arrays)
    mapped = jax.vmap(dataset.gather, in_axes=(None, 0, None))(arrays, index, KEY)
    traced = jax.jit(dataset.gather)(arrays, index[1], KEY)

    @jax.jit
    def scanned(arrays, index):
        return jax.lax.scan(lambda c, row: (c, dataset.gather(arrays, row, KEY)), 0, index)[1]

    np.testing.assert_allclose(mapped, eager, atol=1e-6)
    np.testing.assert_allclose(traced, eager[1], atol=1e-6)
    np.testing.assert_allclose(scanned(arrays, index), eager, atol=1e-6)


def test_arrays_wait_on_the_host():
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(load_blobs().train.arrays))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"image_size": 7}, "image_size to be a whole number of at least 8; got 7"),
        ({"image_size": 257}, "image_size to be at most 256; got 257"),
        ({"image_size": 32.0}, "image_size to be a whole number"),
        ({"blob_sigma": 0}, "blob_sigma to be a number above 0; got 0"),
        ({"blob_sigma": float("nan")}, "blob_sigma to be a number above 0; got nan"),
        ({"blob_grid": 1}, "blob_grid to be a whole number of at least 2; got 1"),
        ({"blob_grid": 40000}, "blob_grid to be at most 32768; got 40000"),
        ({"blob_margin": -0.5}, "blob_margin to be a number of at least 0; got -0.5"),
        ({"blob_margin": 16}, "blob_margin to be below half the image, 16; got 16"),
        ({"blob_shape": "square"}, "blob_shape to be one of disc, gaussian; got 'square'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, expected):
    with pytest.raises(InputError, match=expected) as caught:
        load_blobs(**settings)
    assert "\n" not in str(caught.value)


def test_several_radii_are_a_third_factor():
    settings = {"image_size": 16, "blob_grid": 3, "blob_margin": 6.0, "blob_sigma": 2.0}
    data = load_blobs(**settings, blob_radii=5, blob_radius_span=0.25).train
    assert data.space == FactorSpace(("x", "y", "radius"), (3, 3, 5), full_grid=True)
    assert data.num_examples == 45
    index = np.arange(45)
    factors = np.stack(np.unravel_index(index, (3, 3, 5)), axis=1)
    np.testing.assert_array_equal(data.factors(data.arrays, index), factors)
    np.testing.assert_allclose(data.arrays.sigmas, [1.5, 1.75, 2.0, 2.25, 2.5])
    images = np.asarray(data.gather(data.arrays, index, jax.random.key(0)))
    middle = load_blobs(**settings).train
    expected = middle.gather(middle.arrays, np.arange(9), jax.random.key(0))
    np.testing.assert_array_equal(images[2::5], expected)
    # The mass of a gaussian is 2πσ², so far from the border.
    mass = images[4 * 5 : 5 * 5].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(mass, 2 * np.pi * np.asarray(data.arrays.sigmas) ** 2, rtol=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blob_radii": 0}, "expected blob_radii"),
        ({"blob_radii": 3, "blob_radius_span": 1.0}, "below 1"),
        ({"blob_radii": 3, "blob_radius_span": 0.0}, "above 0"),
        ({"blob_radii": 10**9}, "at most"),
    ],
)
def test_radii_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        load_blobs(**settings)
