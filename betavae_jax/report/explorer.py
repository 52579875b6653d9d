"""What the sliders of the page read: examples, codes and decoders, as plain JSON values."""

import base64
import functools
import io
import math
from typing import Any

import numpy as np

from betavae_jax.coding import Coding, map_rows
from betavae_jax.plots.images import to_rgb
from betavae_jax.plots.latents import label_latents, order_latents
from betavae_jax.report.decoder import (
    NotForThePageError,
    decoder_for_page,
    describe_decoder,
    round_decoder,
)
from betavae_jax.report.examples import Examples
from betavae_jax.report.pictures import SPAN, Codes, Pictures
from betavae_jax.report.subject import Subject
from betavae_jax.runs.records import ACTIVE_NATS
from betavae_jax.runs.settings import Experiment
from betavae_jax.types import Params

_TOLERANCE = 1e-2  # between the model and its decoder in the page, of the range of x
_BF16_TOLERANCE = 1e-1  # the model itself rounds, and the page does not
_THUMBNAIL = 64  # pixels; a larger image is shown by every n-th of its pixels


def png_data(image: np.ndarray) -> str:
    """An image `[H, W, C]` in [0, 1] as the text of a PNG's data URI."""
    from PIL import Image

    pixels = np.round(255 * to_rgb(image)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def describe_examples(examples: Examples) -> list[Any]:
    """The examples to choose from: images as data URIs, vectors as lists."""
    if examples.x.ndim == 2:
        return [[round(float(value), 4) for value in x] for x in examples.x]
    every = math.ceil(max(examples.x.shape[1:3]) / _THUMBNAIL)
    return [png_data(image[::every, ::every]) for image in examples.x]


def describe_run_for_page(
    experiment: Experiment,
    coding: Coding,
    params: Params,
    subject: Subject,
    coded: Codes,
    shown: Pictures,
    examples: Examples,
) -> dict[str, Any]:
    """What the sliders of one run need.

    Raises:
      NotForThePageError: If its decoder cannot run in a page, its codes are not finite, or its
        weights cannot be rounded without the pictures changing.
    """
    codes = np.asarray(coded.examples.mean, np.float64)
    if not (np.all(np.isfinite(codes)) and np.all(np.isfinite(shown.reconstructions))):
        raise NotForThePageError("it does not give finite values")
    settings = experiment.settings
    decoder = describe_decoder(
        experiment.model, params, examples.x.shape[1:], settings.num_latents, settings.likelihood
    )
    low, high = _visible_range(examples, shown)
    tolerance = _BF16_TOLERANCE if settings.precision == "bf16" else _TOLERANCE
    tolerance *= 1.0 if examples.x.ndim == 4 else max(1.0, high - low)
    decode = functools.partial(coding.decode, round_decoder(params))
    rounded = map_rows(decode, np.asarray(coded.examples.mean))
    if not np.max(np.abs(rounded - shown.reconstructions)) <= tolerance:  # NaN is not either
        raise NotForThePageError("its pictures change when its weights are rounded to fit the page")
    codes = np.round(codes, 4)
    labels = label_latents(subject.kl, subject.names)
    return {
        "run": subject.row["run"],
        "title": subject.title,
        "latents": [
            {"latent": int(d), "label": labels[d], "silent": bool(subject.kl[d] <= ACTIVE_NATS)}
            for d in order_latents(subject.kl)
        ],
        "span": max(SPAN, math.ceil(10 * np.abs(codes).max()) / 10),
        "range": [low, high],
        "codes": codes.tolist(),
        "decoder": decoder_for_page(
            decoder, np.asarray(coded.examples.mean[0]), shown.reconstructions[0], tolerance
        ),
    }


def _visible_range(examples: Examples, shown: Pictures) -> tuple[float, float]:
    """The smallest and the largest value that the examples and the traversals take."""
    values = [x[np.isfinite(x)] for x in (examples.x, shown.traversals)]
    low, high = min(x.min() for x in values), max(x.max() for x in values)
    return round(float(low), 4), round(float(high), 4)
