"""The white dot's figure: each latent moved alone, beside where in the plane it responds."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from betavae_jax.checks import check_shape
from betavae_jax.plots.images import tile_images
from betavae_jax.plots.latents import label_latents, order_latents
from betavae_jax.plots.panels import DPI, show_codes


class DotPanel(NamedTuple):
    """One model's half of the figure."""

    title: str
    originals: np.ndarray  # [T, H, W, C] in [0, 1]
    reconstructions: np.ndarray  # [T, H, W, C]
    traversals: np.ndarray  # [D, T, H, W, C]
    maps: np.ndarray  # [D, X, Y], each latent's mean code over the positions of the dot
    kl_per_latent: np.ndarray  # [D], nats


def draw_dots(panels: Sequence[DotPanel], path: pathlib.Path) -> None:
    """Draws models side by side: originals, reconstructions, then a row a latent.

    Each latent's row moves it over [-3, 3] with the others at the code of one image; to its right
    is the latent's mean over the positions of the dot, blue for -3, white for 0, red for 3. Rows
    fall in KL.

    Args:
      panels: The models, of as many latents and images each.
      path: The file to write, PNG.

    References:
      Burgess et al. 2018, figure 2.
    """
    from matplotlib.figure import Figure

    rows = 2 + len(panels[0].kl_per_latent)
    columns = len(panels[0].originals)
    width = 0.36 * columns + 1.9
    figure = Figure(figsize=(width * len(panels), 0.42 * rows + 0.5), dpi=DPI)
    for number, panel in enumerate(panels):
        check_shape("maps", panel.maps.shape, (len(panel.kl_per_latent), None, None))
        left = number / len(panels)
        share = 1 / len(panels)
        figure.text(left + share / 2, 0.985, panel.title, ha="center", va="top", fontsize=11)
        order = order_latents(panel.kl_per_latent)
        labels = label_latents(panel.kl_per_latent)
        strips = [panel.originals, panel.reconstructions, *panel.traversals[order]]
        names = ["original", "reconstruction", *(labels[latent] for latent in order)]
        for row, (strip, name) in enumerate(zip(strips, names, strict=True)):
            height = 0.93 / rows
            bottom = 0.94 - (row + 1) * height
            image_width = share * 0.36 * columns / width
            start = left + share * 1.25 / width
            axes = figure.add_axes((start, bottom, image_width, 0.92 * height))
            axes.imshow(tile_images(strip[None]), interpolation="nearest", aspect="auto")
            axes.axis("off")
            figure.text(
                start - 0.004, bottom + height / 2, name, ha="right", va="center", fontsize=8
            )
            if row >= 2:
                place = (start + image_width + 0.006, bottom, 0.42 * share / width, 0.92 * height)
                beside = figure.add_axes(place)
                show_codes(beside, panel.maps[order[row - 2]].T)  # x to the right and y down
                beside.spines[:].set(color="0.6", linewidth=0.5)
    figure.savefig(path)


def draw_posterior_widths(
    names: Sequence[str], kl: np.ndarray, deviation: np.ndarray, path: pathlib.Path
) -> None:
    """Draws, for each factor, how wide the posterior of its latent is against what it carries.

    Args:
      names: `K` factors.
      kl: KL of the latent matched with each factor, over runs `[R, K]`, nats.
      deviation: The mean posterior standard deviation of that latent `[R, K]`.
      path: The file to write, PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(names):
        axes.scatter(kl[:, k], deviation[:, k], label=name, s=28)
    rate = np.linspace(0.01, max(float(kl.max()), 0.1) * 1.05, 200)
    axes.plot(rate, np.exp(-rate), color="0.6", linewidth=1, label="exp(-KL)")
    axes.set_xlabel("KL of the factor's latent (nats)")
    axes.set_ylabel("posterior standard deviation")
    axes.set_ylim(0, 1.05)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path)
