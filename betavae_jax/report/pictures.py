"""What a run makes of examples and codes: everything that its figures show."""

import functools
from typing import NamedTuple

import numpy as np

from betavae_jax.coding import Coding, map_rows
from betavae_jax.plots.latents import order_latents
from betavae_jax.report.examples import Examples
from betavae_jax.types import Params, Posterior

SPAN = 3.0  # standard deviations of the prior that a traversal covers
QUANTILES = (0.01, 0.99)
GRID_VALUES = np.linspace(-2.4, 2.4, 9)
_STEPS = 11
_NUM_SAMPLES = 40


class Codes(NamedTuple):
    """Posteriors of one run, on the host; those of the map have their means only."""

    examples: Posterior  # leaves [E, D]
    population: Posterior  # leaves [N, D]
    map: np.ndarray  # [M, D]; M = 0 without a map


class Pictures(NamedTuple):
    """What one run decodes, on the host; x is [H, W, C] or [F]."""

    reconstructions: np.ndarray  # [E, *x]
    samples: np.ndarray  # [S, *x], the same draws from the prior for every run
    traversals: np.ndarray  # [D, T, *x] over [-3, 3], the others at the first example's mean
    from_prior: np.ndarray  # [D, T, *x] over [-3, 3], the others at 0
    quantiles: np.ndarray  # [D, T, *x] over the aggregate posterior's, the others at its median
    grid: np.ndarray  # [G, G, *x] over the two latents of the largest KL, the others at 0
    interpolation: np.ndarray  # [T, *x] between the second and the last example


def encode_examples(coding: Coding, params: Params, examples: Examples) -> Codes:
    """Encodes the examples of a report with one run; the means of a map only where it has rows."""
    encode = functools.partial(map_rows, functools.partial(coding.encode, params))
    population = encode(examples.population)
    if examples.map is None:
        on_map = population.mean[:0]
    elif examples.map_x is examples.population:
        on_map = population.mean
    else:
        on_map = encode(examples.map_x).mean
    return Codes(encode(examples.x), population, on_map)


def sample_aggregate(codes: Codes) -> np.ndarray:
    """One sample of q(z|x) for each example of the population: `[N, D]`."""
    mean, log_variance = codes.population
    noise = np.random.default_rng(0).standard_normal(np.shape(mean))
    return np.asarray(mean + np.exp(0.5 * np.clip(log_variance, -40, 40)) * noise)


@np.errstate(invalid="ignore")  # codes of a run that blew up may be infinite
def decode_pictures(coding: Coding, params: Params, codes: Codes, kl: np.ndarray) -> Pictures:
    """Decodes what the figures of one run show.

    Args:
      coding: The model's functions.
      params: Parameters of one run.
      codes: Its codes.
      kl: KL of each latent `[D]`, nats.
    """
    num_latents = len(kl)
    means = np.asarray(codes.examples.mean)
    span = np.tile(np.linspace(-SPAN, SPAN, _STEPS), (num_latents, 1))
    aggregate = sample_aggregate(codes)
    quantiles = np.quantile(aggregate, np.linspace(*QUANTILES, _STEPS), axis=0).T
    zero = np.zeros(num_latents)
    z = Pictures(
        means,
        np.random.default_rng(0).standard_normal((_NUM_SAMPLES, num_latents)),
        _move_each(means[0], span),
        _move_each(zero, span),
        _move_each(np.median(aggregate, axis=0), quantiles),
        _move_pair(num_latents, order_latents(kl)[:2]),
        means[1] + np.linspace(0, 1, _STEPS)[:, None] * (means[-1] - means[1]),
    )
    rows = np.concatenate([part.reshape(-1, num_latents) for part in z])
    decoded = map_rows(functools.partial(coding.decode, params), rows)
    ends = np.cumsum([part.size // num_latents for part in z])[:-1]
    pieces = np.split(decoded, ends)
    return Pictures(
        *(
            piece.reshape(part.shape[:-1] + decoded.shape[1:])
            for piece, part in zip(pieces, z, strict=True)
        )
    )


def _move_each(base: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Codes `[D, T, D]`: each latent at its values `[D, T]`, the others at base `[D]`."""
    moved = np.eye(len(base), dtype=bool)[:, None, :]
    return np.where(moved, values[:, :, None], base[None, None, :])


def _move_pair(num_latents: int, pair: np.ndarray) -> np.ndarray:
    """Codes `[G, G, D]`, 0 but for two latents; the first moves along the first axis."""
    z = np.zeros((len(GRID_VALUES), len(GRID_VALUES), num_latents))
    for axis, latent in enumerate(pair):
        z[..., latent] = np.expand_dims(GRID_VALUES, 1 - axis)
    return z
