"""The figures of a study: what the panels hold, and that print stays legible on the page."""

import matplotlib.axes
import numpy as np
import PIL.Image
import pytest

from betavae_jax.checks import InputError
from betavae_jax.plots.study import draw_boxes, draw_rank_correlations

PAGE = 1056  # pixels that a page shows of a figure without making it smaller


@pytest.fixture
def boxed(monkeypatch):
    """Collects what is drawn as boxes, and where."""
    seen = []
    draw = matplotlib.axes.Axes.boxplot

    def note(axes, groups, **settings):
        seen.append((axes, groups, settings["positions"]))
        return draw(axes, groups, **settings)

    monkeypatch.setattr(matplotlib.axes.Axes, "boxplot", note)
    return seen


def test_a_box_is_of_the_finite_values_of_a_setting(boxed, tmp_path):
    objectives = ["vae", "vae", "beta_vae", "beta_vae", "beta_vae", "beta_vae"]
    settings = ["", "", "beta=2", "beta=2", "beta=1", "beta=2"]
    values = np.asarray([[0.5, np.nan, 0.1, 0.2, 0.7, np.inf], [3, 3, 3, 3, 3, 3]], float)
    draw_boxes(values, ["mig", "active_latents"], objectives, settings, tmp_path / "a.png")
    (mig, groups, positions), (active, _, everywhere) = boxed
    assert [group.tolist() for group in groups] == [[0.1, 0.2]]
    assert list(positions) == [1]  # of vae and of beta=1 there is a single value each
    assert list(everywhere) == [0, 1]
    assert [label.get_text() for label in mig.get_xticklabels()] == ["vae", "beta=2", "beta=1"]
    dots = mig.collections[0].get_offsets()
    np.testing.assert_allclose(dots, [[0, 0.5], [1, 0.1], [1, 0.2], [2, 0.7]])
    assert np.all(active.get_yticks() % 1 == 0)


@pytest.mark.parametrize("number", [2, 13, 36])
def test_print_is_not_made_smaller_by_the_page(tmp_path, number):
    settings = [f"lambda_od={k}" for k in range(number)]
    values = np.arange(3.0 * number).reshape(3, number)
    draw_boxes(values, ["a", "b", "c"], ["dip_vae_i"] * number, settings, tmp_path / "a.png")
    with PIL.Image.open(tmp_path / "a.png") as image:
        assert image.width <= PAGE


def test_shapes_that_disagree_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"values of shape \[1, 2\]; got \[1, 3\]"):
        draw_boxes(np.zeros((1, 3)), ["a"], ["x", "y"], ["", ""], tmp_path / "a.png")
    with pytest.raises(InputError, match=r"correlations of shape \[2, 2\]; got \[1, 2\]"):
        draw_rank_correlations(np.zeros((1, 2)), ["a", "b"], tmp_path / "a.png")
    with pytest.raises(InputError, match="expected the number of metrics to be"):
        draw_boxes(np.zeros((0, 2)), [], ["x", "y"], ["", ""], tmp_path / "a.png")
