"""Figures: tiles pixel by pixel, and what the files show."""

import numpy as np
import pytest
from PIL import Image

from betavae_jax.checks import InputError
from betavae_jax.plots.curves import draw_kl_history
from betavae_jax.plots.images import (
    draw_reconstructions,
    draw_samples,
    draw_traversals,
    tile_images,
    to_rgb,
)
from betavae_jax.plots.latents import label_latents, order_latents

WHITE = 255


def read(path):
    """The file as `[height, width, 3]` bytes; white where nothing was drawn."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def black(*shape):
    return np.zeros(shape, np.float32)


def assert_clear_border(picture, pixels=2):
    """Nothing was cut: the outermost pixels are blank."""
    inner = picture[pixels:-pixels, pixels:-pixels]
    assert np.count_nonzero(picture != WHITE) == np.count_nonzero(inner != WHITE)
    assert np.count_nonzero(inner != WHITE) > 0


def tiles_of(picture):
    """(top, bottom, left, right) of the tiles: the rows and columns that are black half through."""
    dark = np.all(picture == 0, axis=-1)
    rows = np.flatnonzero(dark.sum(1) > 0.2 * picture.shape[1])
    columns = np.flatnonzero(dark.sum(0) > 0.5 * (rows[-1] - rows[0]))
    return rows[0], rows[-1], columns[0], columns[-1]


# The tiles.


def test_the_layout_of_grey_tiles():
    images = np.asarray([[[[1, 2]], [[3, 4]]], [[[5, 6]], [[7, 8]]], [[[9, 10]], [[0, 10]]]]) / 10
    picture = tile_images(images[..., None])  # 3 rows and 2 columns of 1×2 pixels
    gap = 0.5
    expected = [
        [0.1, 0.2, gap, gap, 0.3, 0.4],
        [gap] * 6,
        [gap] * 6,
        [0.5, 0.6, gap, gap, 0.7, 0.8],
        [gap] * 6,
        [gap] * 6,
        [0.9, 1.0, gap, gap, 0.0, 1.0],
    ]
    assert picture.shape == (7, 6, 3)
    for channel in range(3):
        np.testing.assert_allclose(picture[..., channel], expected, rtol=1e-6)


def test_the_layout_of_coloured_tiles():
    images = np.random.default_rng(0).random((2, 3, 4, 5, 3))
    picture = tile_images(images)
    assert picture.shape == (2 * 4 + 2, 3 * 5 + 2 * 2, 3)
    is_gap = np.ones(picture.shape[:2], bool)
    for row in range(2):
        for column in range(3):
            area = slice(6 * row, 6 * row + 4), slice(7 * column, 7 * column + 5)
            np.testing.assert_allclose(picture[area], images[row, column], rtol=1e-6)
            is_gap[area] = False
    np.testing.assert_array_equal(picture[is_gap], np.full((is_gap.sum(), 3), 0.5))


def test_the_gap_is_two_pixels():
    picture = tile_images(black(1, 2, 3, 3, 1))
    np.testing.assert_array_equal(picture[0, :, 0], [0, 0, 0, 0.5, 0.5, 0, 0, 0])


def test_a_picture_of_many_latents_fits_a_page(tmp_path):
    path = tmp_path / "a.png"
    draw_traversals(black(64, 2, 128, 128, 1), np.zeros(64), path, span=3.0)
    with Image.open(path) as image:
        assert 64 * 130 < image.height <= 16_383  # every pixel, and what WebP holds


def test_one_tile_without_a_gap():
    image = np.random.default_rng(1).random((1, 1, 6, 4, 3))
    np.testing.assert_allclose(tile_images(image), image[0, 0], rtol=1e-6)


def test_values_are_clipped():
    picture = tile_images(np.asarray([-0.5, 0.25, 1.75]).reshape(1, 1, 1, 3, 1))
    np.testing.assert_allclose(picture[0, :, 0], [0, 0.25, 1])


def test_the_images_are_left_alone():
    images = np.full((1, 2, 2, 2, 1), 3.0)
    tile_images(images)[...] = 0
    np.testing.assert_array_equal(images, np.full((1, 2, 2, 2, 1), 3.0))


@pytest.mark.parametrize("shape", [(2, 2, 4, 4), (1, 2, 2, 4, 4, 1), (4,)])
def test_tiles_refuse(shape):
    with pytest.raises(InputError, match=r"expected images of shape \[any, any, any, any, any\]"):
        tile_images(black(*shape))


@pytest.mark.parametrize("channels", [0, 5])
def test_tiles_refuse_channels(channels):
    with pytest.raises(InputError, match=r"expected images .* of 1 to 4 channels; got"):
        tile_images(black(1, 1, 4, 4, channels))


def test_alpha_lies_over_white():
    grey = np.asarray([[0.5, 1.0], [0.5, 0.0], [0.0, 0.25], [1.0, 2.0]]).reshape(1, 4, 2)
    np.testing.assert_allclose(to_rgb(grey)[0, :, 0], [0.5, 1.0, 0.75, 1.0])
    colours = np.asarray([[1.0, 0.0, 0.5, 0.5], [1.0, 0.0, 0.5, 1.0]]).reshape(1, 2, 4)
    np.testing.assert_allclose(to_rgb(colours)[0], [[1, 0.5, 0.75], [1, 0, 0.5]])


def test_what_is_not_finite_is_mid_grey():
    image = np.asarray([np.nan, np.inf, -np.inf, 0.25]).reshape(1, 4, 1)
    np.testing.assert_array_equal(to_rgb(image)[0, :, 2], [0.5, 0.5, 0.5, 0.25])


# The files.


def draw_one(kind, path, *, size=(16, 16), channels=1, rows=3):
    tile = (*size, channels)
    if kind == "traversals":
        names = ["(position_of_the_dot)", "", "(y)"] * rows
        kl = np.linspace(0.5, 123.0, rows)
        draw_traversals(black(rows, 11, *tile), kl, path, span=3.0, names=names[:rows])
    elif kind == "reconstructions":
        draw_reconstructions(black(10, *tile), black(10, *tile), path)
    else:
        draw_samples(black(40, *tile), path)


@pytest.mark.parametrize("kind", ["traversals", "reconstructions", "samples"])
@pytest.mark.parametrize(
    ("size", "channels"), [((8, 8), 1), ((64, 64), 3), ((28, 28), 1), ((64, 16), 1), ((12, 40), 3)]
)
def test_nothing_is_cut_off(kind, size, channels, tmp_path):
    draw_one(kind, tmp_path / "a.png", size=size, channels=channels)
    picture = read(tmp_path / "a.png")
    assert_clear_border(picture)
    height, width = picture.shape[:2]
    assert 40 < height < 2000
    assert 300 < width < 2000
    assert (tmp_path / "a.png").stat().st_size < 200_000


def test_the_rows_have_labels_at_their_height(tmp_path):
    draw_one("traversals", tmp_path / "a.png", size=(64, 64), rows=5)
    picture = read(tmp_path / "a.png")
    top, bottom, left, right = tiles_of(picture)
    assert (right - left) / (bottom - top) == pytest.approx(11 / 5, rel=0.02)
    ink = np.any(picture[:, :left] < 128, axis=(1, 2))  # rows of pixels with writing
    edges = np.flatnonzero(np.diff(np.r_[False, ink, False].astype(int)))
    starts, ends = edges[::2], edges[1::2]
    centres = (starts + ends) / 2
    expected = top + (np.arange(5) + 0.5) * (bottom - top) / 5
    assert len(centres) == 5
    np.testing.assert_allclose(centres, expected, atol=8)
    assert np.any(picture[:top] < 128)  # the title


def test_samples_have_no_labels(tmp_path):
    draw_one("samples", tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    top, bottom, left, right = tiles_of(picture)
    picture = picture.copy()
    picture[top - 1 : bottom + 2, left - 1 : right + 2] = WHITE
    assert np.all(picture > 120)  # beside the tiles there is no writing


def test_rows_fall_in_kl(tmp_path):
    """Each latent has its own grey; the rows of the figure tell the order."""
    greys = np.asarray([0.2, 0.4, 0.6, 0.8], np.float32)
    images = np.broadcast_to(greys[:, None, None, None, None], (4, 6, 16, 16, 1))
    draw_traversals(images, np.asarray([0.1, 7.0, 0.1, 2.0]), tmp_path / "a.png", span=2.0)
    picture = read(tmp_path / "a.png")[..., 0].astype(int)
    column = picture[:, picture.shape[1] - 40]  # in the last tile
    found = [value for value in column if value in np.round(255 * greys).astype(int)]
    order = list(dict.fromkeys(np.round(np.asarray(found) / 255, 1)))
    assert order == [0.4, 0.8, 0.2, 0.6]  # 7, 2, 0.1 and again 0.1 nats


def test_originals_stand_above(tmp_path):
    originals, reconstructions = black(4, 16, 16, 1), np.ones((4, 16, 16, 1), np.float32)
    draw_reconstructions(originals, reconstructions, tmp_path / "a.png")
    picture = read(tmp_path / "a.png")[..., 0]
    column = picture[:, picture.shape[1] - 40]
    assert np.flatnonzero(column == 0).max() < picture.shape[0] / 2


def test_samples_fill_whole_rows(tmp_path):
    heights = {}
    for count in (3, 10, 19, 20):
        draw_samples(black(count, 16, 16, 1), tmp_path / "a.png")
        top, bottom, left, right = tiles_of(read(tmp_path / "a.png"))
        heights[count] = round(10 * (bottom - top) / (right - left))
    assert heights == {3: 3, 10: 1, 19: 1, 20: 2}


@pytest.mark.parametrize("width", [16, 28, 32, 64])
def test_every_pixel_is_shown(width, tmp_path):
    """An image of one red column shows it, whichever column it is and in every tile."""
    for first in range(0, width, 10):
        images = black(10, width, width, 3)
        for i in range(10):
            images[i, :, min(first + i, width - 1), 0] = 1
        draw_samples(images, tmp_path / "a.png")
        picture = read(tmp_path / "a.png").astype(int)
        line = picture[picture.shape[0] // 2]
        red = line[:, 0] - line[:, 1] > 200
        assert np.sum(np.diff(red.astype(int)) == 1) == 10, f"columns from {first}"


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (draw_samples, (black(3, 8, 8, 5),)),
        (draw_reconstructions, (black(3, 8, 8, 5), black(3, 8, 8, 5))),
        (draw_samples, (black(3, 8),)),
        (draw_samples, (black(0, 8, 8, 1),)),
        (draw_reconstructions, (black(3, 8, 8, 1), black(2, 8, 8, 1))),
    ],
    ids=["five channels", "five channels, pairs", "vectors", "no sample", "unequal numbers"],
)
def test_files_refuse(call, arguments, tmp_path):
    with pytest.raises(InputError, match="expected"):
        call(*arguments, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


# The latents.


def test_the_order_of_latents():
    kl = np.asarray([0.1, np.nan, 7.0, 0.1, np.inf, 2.0])
    np.testing.assert_array_equal(order_latents(kl), [2, 5, 0, 3, 1, 4])
    labels = label_latents(kl, ["", "(x)", "(y)", "", "", ""])
    assert labels[:3] == ["z0  0.10 nats", "z1  (x)", "z2  7.00 nats  (y)"]
    assert label_latents(kl)[4] == "z4"


# The curves.


@pytest.mark.parametrize(("num_steps", "num_latents"), [(1, 3), (60, 10), (20, 40)])
def test_the_kl_history(num_steps, num_latents, tmp_path):
    steps = 50 * np.arange(1, num_steps + 1)
    kl = np.random.default_rng(0).exponential(size=(num_steps, num_latents))
    draw_kl_history(steps, kl, tmp_path / "kl.png")
    picture = read(tmp_path / "kl.png")
    assert picture.shape == (340, 640, 3)
    assert_clear_border(picture)


def test_curves_have_a_colour_where_they_matter(tmp_path):
    def colourful(kl):
        draw_kl_history(np.asarray([50, 100]), kl, tmp_path / "kl.png")
        picture = read(tmp_path / "kl.png").astype(int)
        return np.count_nonzero(np.ptp(picture, axis=-1) > 60)

    assert colourful(np.asarray([[1.0, 2.0], [2.0, 3.0]])) > 500
    assert colourful(np.asarray([[1.0, 2.0], [0.001, 0.002]])) == 0


def test_curves_of_a_run_that_failed(tmp_path):
    """What is not finite is left out; the latents that mattered keep their colours."""
    kl = np.asarray([[1.0, 2.0], [2.0, 3.0], [np.nan, np.nan]])
    draw_kl_history(np.asarray([50, 100, 150]), kl, tmp_path / "kl.png")
    picture = read(tmp_path / "kl.png").astype(int)
    assert_clear_border(picture)
    assert np.count_nonzero(np.ptp(picture, axis=-1) > 60) > 200
    draw_kl_history(np.asarray([50]), np.full((1, 2), np.nan), tmp_path / "kl.png")
    assert_clear_border(read(tmp_path / "kl.png"))
