"""The examples that a population is scored on: drawn, read, encoded."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from betavae_jax.codes import encode_rows, fetch_examples, fetch_factors, narrow
from betavae_jax.population import num_runs, replicate
from betavae_jax.runs.settings import Experiment
from betavae_jax.training import Carry, Program
from betavae_jax.types import Dataset

_ROWS_AT_ONCE = 1_000
_TRAINED_ON = 2 / 3  # of a set without a test split, where two draws share no example


class Rows(NamedTuple):
    """Some examples of sets that stand one after another."""

    sets: tuple[Dataset, ...]
    numbers: np.ndarray  # [N], counted through all sets

    @property
    def num_distinct(self) -> int:
        """How many different examples these are."""
        return len(np.unique(self.numbers))


def draw_rows(
    experiment: Experiment, num_train: int, num_test: int, seed: int, *, apart: bool = False
) -> tuple[Rows, Rows]:
    """Draws examples uniformly with replacement: of a full grid, independent uniform factors.

    Args:
      experiment: Whose data. Where it has a test split, the test rows are from there; but where
        factor values were held out, both draws are from all examples, so that classifiers know
        every value.
      num_train: Rows to fit to.
      num_test: Rows to test on.
      seed: Of both draws.
      apart: Whether no example may be in both, of a set without a test split too. Published
        metrics draw twice from the whole set.

    Returns:
      Training and test rows.
    """
    rng = np.random.default_rng(seed)
    train, test = experiment.splits
    if test is not None and not experiment.settings.held_out:
        return (
            Rows((train,), rng.integers(train.num_examples, size=num_train)),
            Rows((test,), rng.integers(test.num_examples, size=num_test)),
        )
    sets = (train,) if test is None else (train, test)
    number = sum(data.num_examples for data in sets)
    order = rng.permutation(number) if apart else np.arange(number)
    cut = int(number * _TRAINED_ON)
    first, second = (order[:cut], order[cut:]) if apart else (order, order)
    return Rows(sets, rng.choice(first, num_train)), Rows(sets, rng.choice(second, num_test))


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
