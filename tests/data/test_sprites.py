"""The drawn sprites against the published images, known counts and a plain polygon test."""

import math

import numpy as np
import pytest

from betavae_jax.data.sprites import (
    FACTOR_SIZES,
    NUM_IMAGES,
    NUM_SPRITES,
    draw_sprite,
)


def unpack(packed):
    return np.unpackbits(packed, axis=-1).reshape(-1, 64, 64)


def draw_images(index):
    """The images `[B]`, each from all positions of its sprite."""
    sprites, positions = np.divmod(index, 1024)
    packed = np.zeros((len(index), 512), np.uint8)
    for sprite in np.unique(sprites):
        chosen = sprites == sprite
        packed[chosen] = draw_sprite(int(sprite))[positions[chosen]]
    return packed


def differences(packed, published):
    """Counts the pixels of each image that differ."""
    return np.bitwise_count(packed ^ published.reshape(packed.shape)).sum(axis=1)


def published_images(reference_data, name):
    with np.load(reference_data / name) as archive:
        return archive["index"], archive["bits"]


def reference(shape, scale, orientation, x, y):
    """Draws an image pixel by pixel: a pixel is lit where the outline turns around its centre."""
    if shape == 0:
        outline = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
    elif shape == 1:
        turns = [math.tau * k / 100 for k in range(100)]
        outline = [(0.665 * math.cos(t), math.sin(t) / 2.66) for t in turns]
    else:
        turns = [math.tau * k / 150 for k in range(150)]
        outline = [
            (
                0.5 * math.sin(t) ** 3,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
                / 29
                - 0.075,
            )
            for t in turns
        ]
    size, angle = 19.2 * (0.5 + 0.1 * scale), math.tau * orientation / 39
    cosine, sine = math.cos(angle), math.sin(angle)
    points = [
        (
            round(256 * (16 + 32 * x / 31 + size * (cosine * u + sine * v))),
            round(256 * (16 + 32 * y / 31 + size * (cosine * v - sine * u))),
        )
        for u, v in outline
    ]
    image = np.zeros((64, 64), np.uint8)
    for r in range(64):
        for c in range(64):
            turn = 0.0
            for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
                # the centre is moved off the lines of the grid: right and up, less than a step
                u, v = 256 * c + 128 + 1e-4, 256 * r + 128 - 1e-7
                turn += math.atan2(
                    (ax - u) * (by - v) - (bx - u) * (ay - v),
                    (ax - u) * (bx - u) + (ay - v) * (by - v),
                )
            image[r, c] = abs(turn) > math.pi
    return image


@pytest.mark.parametrize(
    "factors", [(0, 0, 0, 0, 0), (0, 5, 7, 31, 3), (1, 2, 12, 9, 31), (2, 1, 30, 17, 22)]
)
def test_images_are_those_of_a_pixel_loop(factors):
    index = np.ravel_multi_index(factors, FACTOR_SIZES)
    sprite = draw_sprite(int(index) // 1024)
    assert sprite.shape == (1024, 512)
    assert sprite.dtype == np.uint8
    np.testing.assert_array_equal(unpack(sprite[index % 1024])[0], reference(*factors))


def test_every_sprite_is_the_published_one(reference_data):
    index, bits = published_images(reference_data, "dsprites_real_720_packed.npz")
    assert len(set(index // 1024)) == NUM_SPRITES == 720
    np.testing.assert_array_equal(differences(draw_images(index), bits), 0)


def test_a_sample_of_sprites_at_all_positions_is_the_published_one(reference_data):
    index, bits = published_images(reference_data, "dsprites_real_64834_packed.npz")
    chosen = np.isin(index // 1024, np.arange(5, 720, 17))
    different = differences(draw_images(index[chosen]), bits[chosen])
    assert len(different) > 3000
    assert (different == 0).mean() > 0.999
    assert different.max() <= 1


@pytest.mark.slow
def test_all_known_published_images_but_nine(reference_data):
    index, bits = published_images(reference_data, "dsprites_real_64834_packed.npz")
    different = differences(draw_images(index), bits)
    assert np.bincount(different).tolist() == [64_825, 9]


@pytest.mark.slow
def test_lit_pixels_of_the_whole_set():
    counts = np.stack(
        [np.bitwise_count(draw_sprite(s)).sum(axis=1, dtype=np.int64) for s in range(NUM_SPRITES)]
    )
    assert counts.size == NUM_IMAGES == 737_280
    assert counts.min() == 50
    assert counts.max() == 400
    assert counts.sum() == 128_328_864  # the published mean pixel is of two fewer
    assert counts.sum() / (NUM_IMAGES * 64**2) == pytest.approx(0.042494423521889584, rel=1e-7)


def test_margins_are_empty_and_counts_in_range():
    sprites = [0, 5 * 40 + 5, 240 + 5 * 40 + 13, 480 + 5 * 40 + 20, 719]  # the largest of each
    images = np.concatenate([unpack(draw_sprite(s)) for s in sprites])
    inner = images.copy()
    inner[:, 2:62, 2:62] = 0
    assert inner.sum() == 0
    counts = images.sum(axis=(1, 2))
    assert counts.min() >= 50
    assert counts.max() <= 400


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_the_last_orientation_repeats_the_first(shape):
    sprite = np.ravel_multi_index((shape, 3, 0), FACTOR_SIZES[:3])
    np.testing.assert_array_equal(draw_sprite(sprite), draw_sprite(sprite + 39))


def test_positions_move_the_sprite_by_32_31ths_of_a_pixel():
    images = unpack(draw_sprite(700)).reshape(32, 32, 64, 64)
    pixels = np.arange(64) + 0.5
    columns = (images.sum(axis=2) * pixels).sum(axis=2) / images.sum(axis=(2, 3))
    rows = (images.sum(axis=3) * pixels).sum(axis=2) / images.sum(axis=(2, 3))
    steps = 32 / 31 * np.arange(32)
    np.testing.assert_allclose(columns - columns[:1], np.tile(steps[:, None], 32), atol=0.3)
    np.testing.assert_allclose(rows - rows[:, :1], np.tile(steps, (32, 1)), atol=0.3)


def test_a_whole_step_of_32_pixels_repeats_the_image():
    images = unpack(draw_sprite(333)).reshape(32, 32, 64, 64)
    np.testing.assert_array_equal(np.roll(images[0, 0], (32, 32), (0, 1)), images[31, 31])
    np.testing.assert_array_equal(np.roll(images[0, 7], 32, 1), images[31, 7])
