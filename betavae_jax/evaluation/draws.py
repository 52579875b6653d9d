"""The examples that a population is scored on: drawn, read, encoded."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from betavae_jax.checks import check_at_least
from betavae_jax.codes import encode_rows, fetch_examples, fetch_factors, narrow
from betavae_jax.population import num_runs, replicate
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import Carry, Program
from betavae_jax.types import Dataset

_ROWS_AT_ONCE = 1_000
_TRAINED_ON = 2 / 3  # of a set without a test split, where the two parts share no example


class Rows(NamedTuple):
    """Some examples of sets that stand one after another."""

    sets: tuple[Dataset, ...]
    numbers: np.ndarray  # [N], counted through all sets

    @property
    def first_places(self) -> np.ndarray:
        """Where each of the different examples stands first `[n]`."""
        return np.unique(self.numbers, return_index=True)[1]


def draw_rows(
    experiment: Experiment, num_train: int, num_test: int, seed: int, *, apart: bool = False
) -> tuple[Rows, Rows]:
    """Draws examples to fit to, and others to test on.

    Of a full grid both are draws with replacement, from all of it: independent uniform factors,
    as a simulator would give them. Of other sets no example is drawn twice, and the two share
    none, so that a score is of as many examples as it says.

    Args:
      experiment: Whose data. Where it has a test split, the test rows are from there; but where
        factor values were held out, both are from all examples, so that classifiers know every
        value.
      num_train: Rows to fit to; fewer, where there are no more.
      num_test: Rows to test on, likewise.
      seed: Of both.
      apart: Whether a full grid is to be treated as other sets are.

    Returns:
      Training and test rows.

    Raises:
      InputError: If there is one example alone.
    """
    rng = np.random.default_rng(seed)
    train, test = experiment.splits
    if test is not None and not experiment.settings.held_out:
        return (
            Rows((train,), rng.permutation(train.num_examples)[:num_train]),
            Rows((test,), rng.permutation(test.num_examples)[:num_test]),
        )
    sets = (train,) if test is None else (train, test)
    number = sum(data.num_examples for data in sets)
    is_grid = train.space is not None and math.prod(train.space.sizes) == number
    if is_grid and not apart:
        drawn = Rows(sets, rng.integers(number, size=num_train))
        return drawn, Rows(sets, rng.integers(number, size=num_test))
    check_at_least("the number of examples to score on", number, 2, integer=True)
    order, cut = rng.permutation(number), int(number * _TRAINED_ON)
    return Rows(sets, order[:cut][:num_train]), Rows(sets, order[cut:][:num_test])


def whole(data: Dataset) -> Rows:
    """Every example of a set, once, in its order."""
    return Rows((data,), np.arange(data.num_examples))


def _read(rows: Rows, read: Callable[[Dataset, np.ndarray], np.ndarray]) -> np.ndarray:
    """Reads `[n, ...]` of the distinct rows of each set; `[N, ...]` of all of them.

    A set is restricted to its rows where it can be, so that no more than them is on a device.
    """
    distinct, inverse = np.unique(rows.numbers, return_inverse=True)
    parts, start = [], 0
    for data in rows.sets:
        mine = distinct[(distinct >= start) & (distinct < start + data.num_examples)] - start
        start += data.num_examples
        if len(mine):
            parts.append(read(*narrow(data, mine.astype(np.int32))))
    return np.concatenate(parts)[inverse]


def read_factors(rows: Rows) -> np.ndarray:
    """Factors `[N, K]` int64; K = 0 where none are known."""
    if rows.sets[0].space is None:
        return np.zeros((len(rows.numbers), 0), np.int64)
    return _read(rows, fetch_factors).astype(np.int64)


def read_pixels(rows: Rows, most: int) -> np.ndarray:
    """Examples as vectors `[N, F]`; images of more numbers than `most` as averages of blocks."""

    def read(data: Dataset, index: np.ndarray) -> np.ndarray:
        starts = range(0, len(index), _ROWS_AT_ONCE)
        pieces = (fetch_examples(data, index[s : s + _ROWS_AT_ONCE]) for s in starts)
        return np.concatenate([average_blocks(x, most).reshape(len(x), -1) for x in pieces])

    return _read(rows, read)


def average_blocks(x: np.ndarray, most: int) -> np.ndarray:
    """Averages square blocks of images, the smallest that leave at most `most` numbers.

    Args:
      x: Images `[N, H, W, C]`, or vectors `[N, F]`, which stay as they are.
      most: The most numbers an image; one block has C whatever is asked for.

    Returns:
      `[N, H', W', C]`; blocks at the lower and right border may be smaller.
    """
    if x.ndim != 4:
        return x
    height, width, channels = x.shape[1:]
    side = 1
    while -(-height // side) * -(-width // side) * channels > most and side < max(height, width):
        side += 1
    for axis in (1, 2):
        starts = np.arange(0, x.shape[axis], side)
        sizes = np.diff([*starts, x.shape[axis]])
        shape = [-1 if a == axis else 1 for a in range(4)]
        x = np.add.reduceat(x, starts, axis=axis) / sizes.reshape(shape).astype(x.dtype)
    return x


def make_encoder(
    experiment: Experiment, program: Program, carry: Carry
) -> Callable[[Rows], np.ndarray]:
    """Makes the function that encodes rows with every run: posterior means `[R, N, D]`."""
    runs = num_runs(experiment.runs)

    def read(data: Dataset, index: np.ndarray) -> np.ndarray:
        arrays = replicate(data.arrays, program.devices)
        posterior = encode_rows(
            experiment.model, data, program, carry.state.params, arrays, index, runs
        )
        return np.moveaxis(np.asarray(posterior.mean), 1, 0)

    return lambda rows: np.moveaxis(_read(rows, read), 0, 1)
