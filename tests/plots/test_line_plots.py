"""Figures of vectors: what the files show."""

import numpy as np
import pytest
from PIL import Image

from betavae_jax.checks import InputError
from betavae_jax.plots.vectors import (
    draw_vector_reconstructions,
    draw_vector_samples,
    draw_vector_traversals,
)

WHITE = 255


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def count_near(picture, colour, tolerance=40):
    return np.count_nonzero(np.all(np.abs(picture - np.asarray(colour)) < tolerance, axis=-1))


@pytest.mark.parametrize("num_features", [1, 2, 7, 300])
@pytest.mark.parametrize("kind", ["traversals", "reconstructions", "samples"])
def test_nothing_is_cut_off(kind, num_features, tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 11, num_features))
    if kind == "traversals":
        names = ["(a_long_name_of_a_factor)"] * 5
        draw_vector_traversals(x, np.arange(5.0), tmp_path / "a.png", span=3.0, names=names)
    elif kind == "reconstructions":
        draw_vector_reconstructions(x[0], x[1], tmp_path / "a.png")
    else:
        draw_vector_samples(x[0], tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    assert np.all(picture[[0, -1]] == WHITE)
    assert np.all(picture[:, [0, -1]] == WHITE)
    assert (tmp_path / "a.png").stat().st_size < 300_000


def test_lines_have_the_colour_of_the_latent(tmp_path):
    """Constant vectors from -1 (blue) to 1 (red): below is blue, above is red."""
    x = np.linspace(-1, 1, 5)[None, :, None] * np.ones((1, 5, 20))
    draw_vector_traversals(x, np.asarray([1.0]), tmp_path / "a.png", span=3.0)
    picture = read(tmp_path / "a.png")
    left = picture[:, : picture.shape[1] * 2 // 3]  # without the bar of colours
    blue, red = (59, 76, 192), (180, 4, 38)
    rows = {name: [i for i, row in enumerate(left) if count_near(row, colour) > 40]
            for name, colour in {"blue": blue, "red": red}.items()}  # fmt: skip
    assert rows["red"]
    assert rows["blue"]
    assert max(rows["red"]) < min(rows["blue"])


def test_panels_fall_in_kl(tmp_path):
    """Only latent 1 has lines; with the largest KL its panel comes first, else last."""
    x = np.full((3, 5, 20), np.nan)
    x[1] = np.linspace(-1, 1, 5)[:, None]
    thirds = {}
    for place, kl in {"first": [0.1, 5.0, np.nan], "last": [5.0, np.nan, 1.0]}.items():
        draw_vector_traversals(x, np.asarray(kl), tmp_path / "a.png", span=3.0)
        picture = read(tmp_path / "a.png")
        panels = picture[:, : int(0.86 * picture.shape[1])]
        red = np.flatnonzero(np.all(np.abs(panels - (180, 4, 38)) < 40, axis=-1).sum(axis=0) > 0)
        thirds[place] = np.median(red) / panels.shape[1]
    assert thirds["first"] < 0.45
    assert thirds["last"] > 0.6


def test_originals_and_reconstructions_are_told_apart(tmp_path):
    x = np.zeros((4, 20))
    draw_vector_reconstructions(x, x + 1, tmp_path / "a.png")
    apart = count_near(read(tmp_path / "a.png"), (214, 39, 40))
    draw_vector_reconstructions(x, np.full_like(x, np.nan), tmp_path / "a.png")
    assert count_near(read(tmp_path / "a.png"), (214, 39, 40)) < apart / 4  # the legend's


def test_values_that_are_not_finite_are_left_out(tmp_path):
    x = np.full((2, 5, 6), np.nan)
    x[0, :, 2:4], x[1, 0, 0] = 1.0, np.inf
    draw_vector_traversals(x, np.full(2, np.nan), tmp_path / "a.png", span=3.0)
    draw_vector_samples(x[0], tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (draw_vector_samples, (np.zeros((3, 4, 1)),)),
        (draw_vector_samples, (np.zeros((0, 4)),)),
        (draw_vector_reconstructions, (np.zeros((3, 4)), np.zeros((3, 5)))),
        (draw_vector_reconstructions, (np.zeros(3), np.zeros(3))),
    ],
    ids=["three axes", "no sample", "unequal", "one axis"],
)
def test_files_refuse(call, arguments, tmp_path):
    with pytest.raises(InputError, match="expected"):
        call(*arguments, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
