"""Where metrics that hold a factor fixed get their codes: a simulator, or rows that exist."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from betavae_jax.checks import InputError, check_at_least
from betavae_jax.grids import group_rows
from betavae_jax.metrics.rows import (
    check_codes,
    check_every_value,
    check_labels,
    check_num_factors,
)
from betavae_jax.types import FactorSpace

_POINTS_AT_ONCE = 500
_POINTS_PER_FACTOR = 20

Generator = np.random.Generator
EncodeFn = Callable[[np.ndarray], np.ndarray]  # factors [n, K] int64 -> codes [n, D]


class Source(NamedTuple):
    """Draws codes with all factors free, with one fixed, or in pairs that agree in one.

    `P` counts the points drawn, `B` the batch behind each. The factor of a point is drawn
    uniformly, and so is its value where the source can choose it.
    """

    num_factors: int  # K
    draw: Callable[[Generator, int], tuple[np.ndarray, np.ndarray]]
    # ^ (rng, n) -> codes [n, D], factors [n, K]
    draw_fixed: Callable[[Generator, int, int], tuple[np.ndarray, np.ndarray]]
    # ^ (rng, P, B) -> factor [P], codes [P, B, D]: a batch shares its factor's value
    draw_pairs: Callable[[Generator, int, int], tuple[np.ndarray, np.ndarray, np.ndarray]]
    # ^ (rng, P, B) -> factor [P], codes [P, B, D] twice: row by row they share the factor's value
    description: str


def check_points(source: Source, num_train: int, num_test: int) -> None:
    """Raises InputError unless there are two factors, and 20 points for each to train and test."""
    check_num_factors(source.num_factors)
    for name, number in (("num_train", num_train), ("num_test", num_test)):
        check_at_least(name, number, _POINTS_PER_FACTOR * source.num_factors, integer=True)


def in_parts(num_points: int) -> Iterator[int]:
    """Cuts a number of points into those that are drawn at once."""
    for start in range(0, num_points, _POINTS_AT_ONCE):
        yield min(_POINTS_AT_ONCE, num_points - start)


def simulator(encode_fn: EncodeFn, space: FactorSpace) -> Source:
    """A source that can make an example of any combination of factor values.

    Args:
      encode_fn: Codes `[n, D]` of the examples with factors `[n, K]`.
      space: The factors; a full grid, each with at least two values.

    Returns:
      Independent factors, uniform with replacement, as in the published protocols.

    Raises:
      InputError: If the grid is not full or a factor has one value only.
    """
    sizes = np.asarray(space.sizes)
    if not space.full_grid or sizes.size == 0 or sizes.min() < 2:
        raise InputError(
            f"expected a full grid of factors with 2 values or more; got sizes "
            f"{sizes.tolist()}, {'full' if space.full_grid else 'not full'}"
        )

    def encode(factors: np.ndarray) -> np.ndarray:
        codes = check_codes(encode_fn(factors.reshape(-1, sizes.size)), "codes of the simulator")
        return codes.reshape(*factors.shape[:-1], codes.shape[1])

    def factors_of(rng: Generator, *shape: int) -> np.ndarray:
        return rng.integers(sizes, size=(*shape, sizes.size))

    def draw(rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        factors = factors_of(rng, n)
        return encode(factors), factors

    def draw_fixed(rng: Generator, points: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        factor, factors = rng.integers(sizes.size, size=points), factors_of(rng, points, batch)
        held = np.arange(sizes.size) == factor[:, None, None]
        return factor, encode(np.where(held, factors[:, :1], factors))

    def draw_pairs(
        rng: Generator, points: int, batch: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        factor = rng.integers(sizes.size, size=points)
        first, second = factors_of(rng, points, batch), factors_of(rng, points, batch)
        held = np.arange(sizes.size) == factor[:, None, None]
        return factor, encode(first), encode(np.where(held, first, second))

    return Source(sizes.size, draw, draw_fixed, draw_pairs, "simulator, uniform factors")


def grid_simulator(codes: np.ndarray, space: FactorSpace) -> Source:
    """A simulator that looks up the codes of a full grid, each encoded once.

    Args:
      codes: `[product of sizes, D]`, in row-major order of the factors.
      space: The factors; a full grid.

    Raises:
      InputError: If the grid is not full or the codes do not cover it.
    """
    codes = check_codes(codes)
    if len(codes) != np.prod(space.sizes, dtype=np.int64):
        raise InputError(
            f"expected codes of all {np.prod(space.sizes, dtype=np.int64)} factor combinations; "
            f"got {len(codes)}"
        )
    return simulator(lambda f: codes[np.ravel_multi_index(f.T, space.sizes)], space)


def existing_rows(codes: np.ndarray, factors: np.ndarray) -> Source:
    """A source that groups the rows at hand by the value of a factor.

    Other factors keep whatever distribution they have within a group, so with dependent
    factors it conditions where a simulator intervenes.

    Args:
      codes: `[N, D]`.
      factors: Class labels `[N, K]`.

    Returns:
      Rows drawn uniformly with replacement. `draw_fixed` refuses factor values with fewer rows
      than a batch, `draw_pairs` those with one row, which it never pairs with itself.

    Raises:
      InputError: If an array cannot be scored.
    """
    codes = check_codes(codes)
    factors = check_labels(factors, len(codes))
    rows, num_factors = factors.shape
    groups = np.stack([group_rows(column[:, None]) for column in factors.T], axis=1)  # [3, K, N]
    rank = (np.argsort(groups[0], axis=1) - groups[1]).ravel()  # each row's place in its group
    order, start, size = groups.reshape(3, -1)  # [K N], factor after factor

    def draw(rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        index = rng.integers(rows, size=n)
        return codes[index], factors[index]

    def draw_fixed(rng: Generator, points: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        if size.min() < batch:
            check_every_value(factors, batch, "a batch holds one value")
        factor, seed_row = rng.integers(num_factors, size=points), rng.integers(rows, size=points)
        at = (factor * rows + seed_row)[:, None]
        member = _below(rng, np.broadcast_to(size[at], (points, batch)))
        place = (factor * rows)[:, None] + start[at] + member
        return factor, codes.take(order.take(place), axis=0)

    def draw_pairs(
        rng: Generator, points: int, batch: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if size.min() < 2:
            check_every_value(factors, 2, "two rows of one value make a pair")
        factor = rng.integers(num_factors, size=points)
        first = rng.integers(rows, size=(points, batch))
        at = (factor * rows)[:, None] + first
        other = _below(rng, size.take(at) - 1)
        other += other >= rank.take(at)  # any row of the group but the first itself
        second = order.take((factor * rows)[:, None] + start.take(at) + other)
        return factor, codes.take(first, axis=0), codes.take(second, axis=0)

    return Source(num_factors, draw, draw_fixed, draw_pairs, "existing rows, grouped by factor")


def _below(rng: Generator, bounds: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 to below each bound; four times as fast as `rng.integers(bounds)`."""
    return (rng.random(bounds.shape) * bounds).astype(np.int64)
