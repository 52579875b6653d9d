"""The examples that a report shows and encodes, fetched once for all runs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from betavae_jax.codes import evaluation_rows, fetch_examples, fetch_factors
from betavae_jax.training import data_shape
from betavae_jax.types import Dataset

_NUM_EXAMPLES = 10
_MOST_ROWS = 5_000
_FEWEST_ROWS = 256
_NUMBERS_AT_ONCE = 1 << 23  # values of all rows together, about
_MOST_LEVELS = 32  # of a factor in a map of a full grid
_ROWS_A_CELL = 8  # of another map, on average


class Map(NamedTuple):
    """Two factors, and the cells of their values that rows belong to."""

    factors: tuple[int, int]  # which of the K
    names: tuple[str, str]
    cells: np.ndarray  # [M, 2], each row's place in the map
    sizes: tuple[int, int]


class Examples(NamedTuple):
    """Rows of the evaluated set, on the host."""

    x: np.ndarray  # [E, ...], to look at; the first is from the middle of the set
    population: np.ndarray  # [N, ...], that stand for the set
    factors: np.ndarray  # [N, K] int32; K = 0 where none are known
    factor_names: tuple[str, ...]  # K
    map: Map | None
    map_x: np.ndarray  # [M, ...]; the population itself where the set is no full grid


def fetch(data: Dataset) -> Examples:
    """Fetches the examples of a report, without a map yet.

    Args:
      data: The set that the runs were evaluated on, its arrays on the host.
    """
    few = np.random.default_rng(0).choice(data.num_examples, _NUM_EXAMPLES - 1)
    shown = np.asarray([_central_row(data.num_examples), *few]).astype(np.int32)
    most = _NUMBERS_AT_ONCE // math.prod(data_shape(data))
    population = evaluation_rows(data.num_examples, min(max(most, _FEWEST_ROWS), _MOST_ROWS))
    x = fetch_examples(data, population)
    names = data.space.names if data.space else ()
    factors = fetch_factors(data, population)
    return Examples(fetch_examples(data, shown), x, factors, names, None, x)


def fetch_map(data: Dataset, examples: Examples, strength: np.ndarray) -> Examples:
    """Adds the map of the two factors that matter most, where two are known.

    Args:
      data: The set, as for `fetch`.
      examples: Its examples.
      strength: How well a latent follows each factor `[K]`; of equal ones, that with more values.
    """
    space = data.space
    if space is None or sum(size > 1 for size in space.sizes) < 2:
        return examples
    worth = np.nan_to_num(np.asarray(strength, np.float64)) + np.asarray(space.sizes) / 1e9
    worth[np.asarray(space.sizes) < 2] = -1
    first, second = sorted(np.argsort(-worth, kind="stable")[:2].tolist())
    map_x = examples.population
    if space.full_grid:
        cells, rows = _grid_rows(space.sizes, (first, second))
        map_x = fetch_examples(data, rows)
    else:
        most = max(2, int(np.sqrt(len(map_x) / _ROWS_A_CELL)))
        cells = np.stack([_levels(examples.factors[:, k], most) for k in (first, second)], axis=1)
    height, width = (cells.max(axis=0) + 1).tolist()
    names = space.names[first], space.names[second]
    shown = Map((first, second), names, cells, (height, width))
    return examples._replace(map=shown, map_x=map_x)


def _levels(labels: np.ndarray, most: int) -> np.ndarray:
    """Numbers the values of a factor `[N]` from 0; neighbours share a level where they are many."""
    numbers = np.unique(labels, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    return numbers * min(count, most) // count


def _central_row(num_examples: int) -> int:
    """The middle of a set; on a square grid of two factors, the middle of both."""
    side = int(np.sqrt(num_examples))
    is_square = side > 1 and side * side == num_examples
    return (num_examples + side) // 2 if is_square else num_examples // 2


def _grid_rows(sizes: Sequence[int], chosen: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Cells `[M, 2]` and rows `[M]` of a full grid over two factors, the others in the middle."""
    levels = [
        np.unique(np.linspace(0, sizes[k] - 1, min(sizes[k], _MOST_LEVELS)).astype(int))
        for k in chosen
    ]
    counts = [len(level) for level in levels]
    cells = np.moveaxis(np.indices(counts), 0, -1).reshape(-1, 2)
    place = [np.full(len(cells), size // 2, np.int64) for size in sizes]
    for k, level, cell in zip(chosen, levels, cells.T, strict=True):
        place[k] = level[cell]
    return cells, np.ravel_multi_index(place, tuple(sizes)).astype(np.int32)


def average_over_map(codes: np.ndarray, shown: Map) -> np.ndarray:
    """Averages codes `[M, D]` in the cells of a map: `[D, A, B]`, NaN where a cell has no row."""
    height, width = shown.sizes
    cell = shown.cells[:, 0] * width + shown.cells[:, 1]
    counts = np.bincount(cell, minlength=height * width)
    sums = np.stack([np.bincount(cell, column, height * width) for column in codes.T])
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means.reshape(-1, height, width)
