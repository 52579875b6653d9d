"""Figures of codes, populations, pairs of latents and moving pictures: what the files show."""

import numpy as np
import pytest
from PIL import Image

from betavae_jax.checks import InputError
from betavae_jax.plots.animation import draw_animation
from betavae_jax.plots.codes import draw_aggregate_posterior, draw_code_maps, draw_information
from betavae_jax.plots.curves import draw_elbo_history, draw_rate_distortion
from betavae_jax.plots.images import draw_grid, draw_interpolation
from betavae_jax.plots.vectors import draw_vector_interpolation

WHITE = 255


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def count(picture, colour, tolerance=12):
    return np.count_nonzero(np.all(np.abs(picture - np.asarray(colour)) <= tolerance, axis=-1))


def greys(rows, columns, size=8):
    """Images whose grey tells their place: `[rows, columns, size, size, 1]`."""
    values = np.linspace(0.1, 0.9, rows * columns).reshape(rows, columns, 1, 1, 1)
    return np.broadcast_to(values, (rows, columns, size, size, 1))


def order_along(line, values):
    """The values, out of those given, in the order in which a line of pixels meets them."""
    found = [v for v in line if np.min(np.abs(v - values)) <= 1]
    nearest = [int(np.argmin(np.abs(v - values))) for v in found]
    return [n for i, n in enumerate(nearest) if i == 0 or nearest[i - 1] != n]


# Heat maps of codes.


def test_blue_is_minus_three_white_zero_red_three(tmp_path):
    for value, colour in [(-3, (0, 0, 255)), (0, (255, 255, 255)), (3, (255, 0, 0)),
                          (5, (255, 0, 0)), (np.nan, (204, 204, 204))]:  # fmt: skip
        draw_code_maps(np.full((1, 4, 4), value), np.ones(1), ("y", "x"), tmp_path / "a.png")
        picture = read(tmp_path / "a.png")
        panel = picture[:, : picture.shape[1] // 2]  # without the bar of colours
        assert count(panel, colour) > 0.3 * panel[..., 0].size


def test_a_map_has_its_first_factor_downwards(tmp_path):
    maps = np.zeros((1, 8, 8))
    maps[0, 4:] = 3.0
    draw_code_maps(maps, np.ones(1), ("y", "x"), tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    red = np.all(np.abs(picture - (255, 0, 0)) < 12, axis=-1)[:, : picture.shape[1] // 2]
    rows = np.flatnonzero(red.sum(1) > 20)
    assert rows.min() > 0.4 * picture.shape[0]
    assert np.ptp(np.flatnonzero(red.any(0))) > 0.5 * red.shape[1]


@pytest.mark.parametrize("num_latents", [1, 4, 12])
def test_code_figures_of_any_number_of_latents(num_latents, tmp_path):
    rng = np.random.default_rng(0)
    kl, names = rng.exponential(size=num_latents), ["(a_long_name)"] * num_latents
    kl[0] = np.nan
    maps = rng.normal(size=(num_latents, 5, 7))
    draw_code_maps(maps, kl, ("a", "b"), tmp_path / "a.png", names=names)
    samples = rng.normal(size=(50, num_latents))
    samples[0, 0], samples[1] = np.nan, np.inf
    draw_aggregate_posterior(samples, kl, tmp_path / "b.png", names=names)
    information = rng.random((num_latents, 3))
    information[0] = np.nan
    draw_information(information, kl, ["one", "another", "a_third_factor"], tmp_path / "c.png")
    for name in "abc":
        picture = read(tmp_path / f"{name}.png")
        assert np.all(picture[[0, -1]] == WHITE)
        assert np.all(picture[:, [0, -1]] == WHITE)


def test_nothing_but_nan(tmp_path):
    nothing = np.full((2, 3), np.nan)
    draw_information(nothing, np.full(2, np.nan), ["a", "b", "c"], tmp_path / "a.png")
    draw_aggregate_posterior(nothing.T, np.full(2, np.nan), tmp_path / "b.png")
    draw_code_maps(np.full((2, 3, 3), np.nan), np.full(2, np.nan), ("a", "b"), tmp_path / "c.png")
    draw_rate_distortion(np.full(2, np.nan), np.ones(2), ["a", "b"], tmp_path / "d.png")
    draw_elbo_history([np.arange(3)], [np.full(3, np.nan)], ["a"], tmp_path / "e.png")
    assert len(list(tmp_path.iterdir())) == 5


def test_the_darkest_cell_is_the_largest_information(tmp_path):
    information = np.zeros((2, 2))
    information[1, 0] = 2.0  # latent 1 has the larger KL: the cell is at the top left
    draw_information(information, np.asarray([0.1, 1.0]), ["a", "b"], tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    blob = np.all(picture < 8, axis=-1)[:, : int(0.75 * picture.shape[1])]
    solid = [c for c in range(blob.shape[1]) if blob[:, c].sum() > 20]
    rows = np.flatnonzero(blob[:, solid].any(1))
    assert np.median(rows) < 0.5 * picture.shape[0]


def test_the_posterior_is_compared_with_the_prior(tmp_path):
    """Codes of no spread are one tall bar; the prior's line is then far below it."""
    rng = np.random.default_rng(0)
    filled = {}
    for name, scale in {"prior": 1.0, "narrow": 0.1}.items():
        samples = scale * rng.normal(size=(5_000, 1))
        draw_aggregate_posterior(samples, np.ones(1), tmp_path / "a.png")
        picture = read(tmp_path / "a.png")
        blue = (picture[..., 2] - picture[..., 0]) > 60
        filled[name] = np.ptp(np.flatnonzero(blue.any(0)))
    assert filled["narrow"] < 0.4 * filled["prior"]


# Populations.


def test_the_elbo_line_has_slope_minus_one(tmp_path):
    """Every point of the same ELBO lies on the dashed line, which hides behind them."""
    rate = np.linspace(0, 10, 40)
    draw_rate_distortion(rate, 50 - rate, ["a"] * 40, tmp_path / "a.png")
    draw_rate_distortion(rate, 50 - 0.2 * rate, ["a"] * 40, tmp_path / "b.png")

    def grey(name):
        picture = read(tmp_path / name)
        inner = picture[30:-60, 80 : int(0.7 * picture.shape[1])]
        return count(inner, (127, 127, 127), 30)

    assert grey("a.png") < 0.5 * grey("b.png")


def test_groups_have_their_own_colours(tmp_path):
    draw_rate_distortion(np.arange(3.0), np.ones(3), ["a", "b", "c"], tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    for colour in [(31, 119, 180), (255, 127, 14), (44, 160, 44)]:
        assert count(picture, colour) > 60  # a point, and one in the legend


@pytest.mark.parametrize("num_groups", [11, 22, 50, 90])
def test_many_groups_stand_beside_the_plane(tmp_path, num_groups):
    values = np.linspace(0, 1, num_groups)
    groups = [f"beta={number}" for number in range(num_groups)]
    draw_rate_distortion(values, values, groups, tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    for edge in (picture[[0, -1]], picture[:, [0, -1]]):
        assert np.all(edge == WHITE)  # nothing is cut
    frame = np.flatnonzero(np.all(picture == 0, axis=-1).sum(0) > 300)  # of the axes
    assert frame[-1] > 400
    assert np.any(picture[:, frame[-1] + 5 :] < 128)


def test_long_names_of_runs_stay_within_the_axes(tmp_path):
    names = [f"run {k}, alpha=0.5, beta={k}, learning_rate=0.001, seed={k}" for k in range(8)]
    pictures = []
    for labels in (names, [str(k) for k in range(8)]):
        draw_elbo_history([np.arange(3)] * 8, [np.arange(3.0)] * 8, labels, tmp_path / "a.png")
        pictures.append(read(tmp_path / "a.png"))
    np.testing.assert_array_equal(pictures[0][:, :70], pictures[1][:, :70])  # the numbers of ELBO


def test_runs_of_unequal_length_and_many_runs(tmp_path):
    steps = [np.arange(1, 3 + run) * 50 for run in range(12)]
    elbo = [-100.0 + step for step in steps]
    elbo[3][1] = np.nan
    draw_elbo_history(steps, elbo, [f"run {run}" for run in range(12)], tmp_path / "a.png")
    assert count(read(tmp_path / "a.png"), (191, 191, 191), 8) > 50  # the eleventh is grey


# Pairs of latents, ways, and moving pictures.


def test_a_grid_rises_upwards_and_to_the_right(tmp_path):
    values = np.asarray([-1.0, 0.0, 1.0])
    images = greys(3, 3, 16)
    draw_grid(images, values, tmp_path / "a.png", labels=("z1", "z0"))
    picture = read(tmp_path / "a.png")[..., 0]
    known = np.round(255 * images[:, :, 0, 0, 0]).astype(int)
    column = picture[:, picture.shape[1] - 30]
    assert order_along(column, known[:, 2]) == [2, 1, 0]
    line = picture[30]
    assert order_along(line, known[2]) == [0, 1, 2]


def test_the_ends_of_a_way_are_the_originals(tmp_path):
    images = greys(1, 6, 16)[0]  # none of them as grey as the gaps
    ends = (np.full((16, 16, 1), 0.02), np.full((16, 16, 1), 0.98))
    draw_interpolation(images, ends, tmp_path / "a.png")
    picture = read(tmp_path / "a.png")[..., 0]
    known = np.round(255 * np.asarray([0.02, *images[:, 0, 0, 0], 0.98])).astype(int)
    assert order_along(picture[30], known) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_an_animation_goes_there_and_back(tmp_path):
    images = np.stack([greys(1, 4)[0], np.zeros((4, 8, 8, 1))])
    draw_animation(images, np.asarray([0.1, 5.0]), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as file:
        assert file.format == "GIF"
        assert file.info["loop"] == 0
        assert file.n_frames == 6
        right = []
        for frame in range(6):
            file.seek(frame)
            pixels = np.asarray(file.convert("L")).astype(int)
            assert pixels[3, 3] <= 2  # the latent of the larger KL stands first, and is black
            right.append(pixels[3, -3])
    assert right[:4] == sorted(right[:4])
    np.testing.assert_allclose(right[4:], [right[2], right[1]], atol=2)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_animation_of_any_channels(channels, tmp_path):
    images = np.random.default_rng(0).random((7, 3, 8, 8, channels))
    draw_animation(images, np.ones(7), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as file:
        assert file.size == (2 * (5 * 8 + 4 * 2), 2 * (2 * 8 + 2))


def test_the_way_between_vectors(tmp_path):
    x = np.linspace(0, 1, 5)[:, None] * np.ones((5, 10))
    draw_vector_interpolation(x, (x[0], x[-1]), tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    left = picture[:, : int(0.8 * picture.shape[1])]
    assert count(left, (59, 76, 192), 30) > 50
    assert count(left, (180, 4, 38), 30) > 50


IMAGES, ONES = np.zeros((3, 3, 8, 8, 1)), np.ones(3)


@pytest.mark.parametrize(
    ("call", "arguments", "settings"),
    [
        (draw_code_maps, (np.zeros((2, 4, 4)), ONES, ("a", "b")), {}),
        (draw_information, (np.zeros((3, 2)), ONES, ["a"]), {}),
        (draw_aggregate_posterior, (np.zeros((9, 2)), ONES), {}),
        (draw_grid, (IMAGES, np.arange(2.0)), {"labels": ("a", "b")}),
        (draw_interpolation, (IMAGES[0], (np.zeros((8, 8, 3)), np.zeros((8, 8, 3)))), {}),
        (draw_vector_interpolation, (np.zeros((4, 3)), (np.zeros(2), np.zeros(2))), {}),
        (draw_animation, (IMAGES, np.ones(2)), {}),
    ],
)
def test_refusals(call, arguments, settings, tmp_path):
    paths = {draw_code_maps: 3, draw_information: 3}
    at = paths.get(call, 2)
    arguments = (*arguments[:at], tmp_path / "a.png", *arguments[at:])
    with pytest.raises(InputError, match="expected"):
        call(*arguments, **settings)
    assert not list(tmp_path.iterdir())
