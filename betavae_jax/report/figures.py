"""The figures of a report: which there are, where they go, what is said of them."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.metrics.information import mutual_information_matrix
from betavae_jax.plots import animation, codes, curves, images, vectors
from betavae_jax.plots.latents import label_latents, order_latents
from betavae_jax.report.examples import Examples, average_over_map
from betavae_jax.report.pictures import (
    GRID_VALUES,
    QUANTILES,
    SPAN,
    Codes,
    Pictures,
    sample_aggregate,
)
from betavae_jax.report.subject import Subject, say_latents

_VECTORS_DRAWN = 8  # originals, and samples; each has a panel of its own


class Figure(NamedTuple):
    """A picture in a file, and the words under it."""

    path: pathlib.Path
    caption: str
    alt: str  # for those who do not see it


def draw_core(
    folder: pathlib.Path, subject: Subject, examples: Examples, shown: Pictures
) -> list[Figure]:
    """Draws what every run shows: traversals, reconstructions, samples, KL over training.

    Returns:
      The figures, in the order of the page.
    """
    traversals, pairs, samples, history = (
        folder / f"run{subject.row['run']:03d}_{name}.png"
        for name in ("traversals", "reconstructions", "samples", "kl")
    )
    look: dict[str, Any] = {"span": SPAN, "names": subject.names}
    if examples.x.ndim == 2:
        few = slice(_VECTORS_DRAWN)
        vectors.draw_vector_traversals(shown.traversals, subject.kl, traversals, **look)
        vectors.draw_vector_reconstructions(examples.x[few], shown.reconstructions[few], pairs)
        vectors.draw_vector_samples(shown.samples[few], samples)
    else:
        images.draw_traversals(shown.traversals, subject.kl, traversals, **look)
        images.draw_reconstructions(examples.x, shown.reconstructions, pairs)
        images.draw_samples(shown.samples, samples)
    latents = say_latents(subject)
    figures = [
        Figure(
            traversals,
            "Each latent moved alone from −3 to 3, the one of the largest KL first.",
            f"Traversals of {subject.title}, a latent a row or panel; {latents}.",
        ),
        Figure(
            pairs,
            "Originals and their reconstructions.",
            f"Originals and reconstructions of {subject.title}.",
        ),
        Figure(
            samples,
            "Samples from the prior, the same draws for every run.",
            f"Decoded samples from the prior of {subject.title}.",
        ),
    ]
    return [*figures, *_draw_history(subject, latents, history)]


def _draw_history(subject: Subject, latents: str, path: pathlib.Path) -> list[Figure]:
    """Draws the KL of each latent over training; nothing without a log."""
    if not subject.log:
        return []
    values = [[np.nan if v is None else v for v in line["kl_per_latent"]] for line in subject.log]
    steps = np.asarray([line["step"] for line in subject.log])
    curves.draw_kl_history(steps, np.asarray(values), path)
    alt = f"Curves of the KL of each latent over the steps of {subject.title}; at the end, "
    return [Figure(path, "KL of each latent over training.", f"{alt}{latents}.")]


def draw_more(
    folder: pathlib.Path, subject: Subject, examples: Examples, shown: Pictures, coded: Codes
) -> list[Figure]:
    """Draws what the runs that are looked at closely show besides.

    Returns:
      The figures, in the order of the page.
    """
    stem = f"run{subject.row['run']:03d}"
    is_vector = examples.x.ndim == 2
    figures = [
        *_draw_codes(folder / stem, subject, examples, coded),
        *(_draw_vectors if is_vector else _draw_images)(folder / stem, subject, examples, shown),
    ]
    posterior = folder / f"{stem}_posterior.png"
    aggregate = sample_aggregate(coded)
    codes.draw_aggregate_posterior(aggregate, subject.kl, posterior, names=subject.names)
    caption = f"The aggregate posterior of each latent over {len(aggregate):,} examples, and the "
    alt = f"Histograms of each latent of {subject.title} with the prior's density."
    return [*figures, Figure(posterior, f"{caption}prior (line).", alt)]


def _draw_codes(
    stem: pathlib.Path, subject: Subject, examples: Examples, coded: Codes
) -> list[Figure]:
    """Draws codes over factors and what they share with them; nothing where none are known."""
    figures = []
    if examples.map and np.all(np.isfinite(coded.map)):
        path = stem.with_name(f"{stem.name}_codes.png")
        maps = average_over_map(coded.map, examples.map)
        both = examples.map.names
        codes.draw_code_maps(maps, subject.kl, both, path, names=subject.names)
        figures.append(
            Figure(
                path,
                f"The code of each latent over {both[0]} and {both[1]}: blue −3, white 0, red 3.",
                f"Heat maps of the latents of {subject.title} over {both[0]} (downwards) and "
                f"{both[1]} (rightwards).",
            )
        )
    means = np.asarray(coded.population.mean)
    if examples.factor_names and np.all(np.isfinite(means)):
        path = stem.with_name(f"{stem.name}_information.png")
        information, count = _information(subject, examples, means)
        codes.draw_information(information, subject.kl, examples.factor_names, path)
        latent, factor = np.unravel_index(np.argmax(information), information.shape)
        figures.append(
            Figure(
                path,
                f"Mutual information of latents and factors, from histograms of {count:,} "
                "examples; what is independent is a little above 0.",
                f"Matrix of mutual information of {subject.title}; the largest is "
                f"{information[latent, factor]:.2f} nats of z{latent} with "
                f"{examples.factor_names[factor]}.",
            )
        )
    return figures


def _information(subject: Subject, examples: Examples, means: np.ndarray) -> tuple[np.ndarray, int]:
    """The matrix `[D, K]` that was measured, if one was; and how many examples it is from."""
    measured = subject.row["metrics"].get("mig") or {}
    matrix = (measured.get("matrices") or {}).get("mutual_information")
    if matrix is not None and np.shape(matrix) == (means.shape[1], len(examples.factor_names)):
        return np.asarray(matrix, np.float64), measured["sizes"]["rows"]
    return mutual_information_matrix(means[None], examples.factors)[0], len(means)


def _draw_images(
    stem: pathlib.Path, subject: Subject, examples: Examples, shown: Pictures
) -> list[Figure]:
    way, moving = (stem.with_name(f"{stem.name}_{name}")
                   for name in ("interpolation.png", "moving.gif"))  # fmt: skip
    images.draw_interpolation(shown.interpolation, (examples.x[1], examples.x[-1]), way)
    animation.draw_animation(shown.traversals, subject.kl, moving)
    return [
        *_draw_traversals(stem, subject, shown),
        Figure(
            way,
            "From one image to another along the line between their codes.",
            f"An interpolation of {subject.title} between two images.",
        ),
        *_draw_grid(stem, subject, shown),
        Figure(
            moving,
            "Latents moved there and back, the largest KL first.",
            f"Animation of the latents of {subject.title}.",
        ),
    ]


def _draw_traversals(stem: pathlib.Path, subject: Subject, shown: Pictures) -> list[Figure]:
    """Draws each latent moved alone, from the prior's mean and over what it takes."""
    prior, quantiles = (stem.with_name(f"{stem.name}_{n}.png") for n in ("prior", "quantiles"))
    look: dict[str, Any] = {"span": SPAN, "names": subject.names}
    title, range_text = subject.title, "1st to the 99th percentile"
    images.draw_traversals(
        shown.from_prior, subject.kl, prior, **look,
        title=f"each latent from {-SPAN:g} to {SPAN:g}, the others at the prior's mean",
    )  # fmt: skip
    low, high = (f"{share:.0%}" for share in QUANTILES)
    images.draw_traversals(
        shown.quantiles, subject.kl, quantiles, **look,
        title=f"each latent over {low} to {high} of its aggregate posterior",
    )  # fmt: skip
    return [
        Figure(
            prior,
            "Each latent moved alone, the others at the mean of the prior.",
            f"Traversals of {title} from the prior's mean.",
        ),
        Figure(
            quantiles,
            f"Each latent over the {range_text} of its aggregate posterior.",
            f"Traversals of {title} over the {range_text} of each latent.",
        ),
    ]


def _draw_grid(stem: pathlib.Path, subject: Subject, shown: Pictures) -> list[Figure]:
    """Draws images over the two latents of the largest KL; nothing where there is but one."""
    if len(subject.kl) < 2:
        return []
    path = stem.with_name(f"{stem.name}_grid.png")
    labels = label_latents(subject.kl, subject.names)
    up, right = (labels[latent] for latent in order_latents(subject.kl)[:2])
    images.draw_grid(shown.grid, GRID_VALUES, path, labels=(up, right))
    return [
        Figure(
            path,
            "The two latents of the largest KL together, the others at 0.",
            f"A grid of images of {subject.title} over {up} (upwards) and {right} (rightwards).",
        )
    ]


def _draw_vectors(
    stem: pathlib.Path, subject: Subject, examples: Examples, shown: Pictures
) -> list[Figure]:
    path = stem.with_name(f"{stem.name}_interpolation.png")
    vectors.draw_vector_interpolation(shown.interpolation, (examples.x[1], examples.x[-1]), path)
    caption = "From one example to another (dashed) along the line between their codes."
    return [Figure(path, caption, f"An interpolation of {subject.title} between two vectors.")]


def draw_population(
    folder: pathlib.Path,
    rows: Sequence[Mapping[str, Any]],
    groups: Sequence[str],
    titles: Sequence[str],
    log: Sequence[Mapping[str, Any]],
) -> list[Figure]:
    """Draws what the runs show side by side: the ELBO over training, rate and distortion.

    Args:
      folder: Where the files go.
      rows: The rows of `results.json`.
      groups: What the runs of one colour share, `R` strings.
      titles: A name for each run.
      log: The lines of `metrics.jsonl`.
    """
    figures = []
    lines = [[line for line in log if line["run"] == row["run"]] for row in rows]
    if any(lines):
        path = folder / "elbo.png"
        steps = [np.asarray([line["step"] for line in mine]) for mine in lines]
        elbo = [np.asarray([line["elbo"] for line in mine], np.float64) for mine in lines]
        curves.draw_elbo_history(steps, elbo, titles, path)
        figures.append(
            Figure(
                path, "The ELBO over training.", "Curves of the ELBO over the steps of training."
            )
        )
    if len(rows) > 1:
        path = folder / "rate_distortion.png"
        rate, distortion = (
            np.asarray([row[name] for row in rows], np.float64) for name in ("rate", "distortion")
        )
        curves.draw_rate_distortion(rate, distortion, groups, path)
        figures.append(
            Figure(
                path,
                "Rate and distortion of the runs; on the dashed line the ELBO is that of the best.",
                "Scatter of distortion against rate, a point a run.",
            )
        )
    return figures
