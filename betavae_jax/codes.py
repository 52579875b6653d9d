"""A whole data set through a population: codes, and the terms of the bound."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax import gaussian
from betavae_jax.mapped import over_devices
from betavae_jax.memory import EVALUATION, check_memory
from betavae_jax.population import replicate, take_runs
from betavae_jax.training import Program
from betavae_jax.types import Array, Arrays, Dataset, Model, Params, Posterior, draw_uniformly

ROWS_EVALUATED = 10_000
_ROWS_AT_ONCE = 256
_PROGRAMS_KEPT = 16
_KEY = 0  # evaluation draws its samples from this key, whatever the seed of a run
_DATA_KEY = 1  # and what a data set draws with its examples from this one


class Bound(NamedTuple):
    """The ELBO of each run and its parts, in nats, means over the rows evaluated."""

    elbo: np.ndarray  # [R]
    distortion: np.ndarray  # [R]
    rate: np.ndarray  # [R]
    kl_per_latent: np.ndarray  # [R, D]
    num_evaluated: int


def evaluation_rows(num_examples: int, num_rows: int = ROWS_EVALUATED) -> np.ndarray:
    """The rows that stand for a set: all, or `num_rows` fixed ones of a larger set; sorted."""
    if num_examples <= num_rows:
        return np.arange(num_examples, dtype=np.int32)
    rows = np.random.default_rng(_KEY).choice(num_examples, num_rows, replace=False)
    return np.sort(rows).astype(np.int32)


@functools.lru_cache(maxsize=_PROGRAMS_KEPT)
def _map_rows(
    function: Callable[[Model, Params, Array, Array], Any],
    model: Model,
    gather: Callable[[Arrays, Array, Array], Array],
    devices: tuple[jax.Device, ...],
) -> Callable[[Params, Arrays, Array], Any]:
    """Compiles `function(model, params, x [B, ...], index [B])` over runs and batches of rows.

    The result takes parameters as `Program` holds them and index `[num_batches, B]`, and
    returns leaves `[num_devices, R / num_devices, num_batches, ...]`. It is kept for the next
    population of the same model and data, so that the packs of a study compile it once.
    """

    def apply(params: Params, arrays: Arrays, index: Array) -> Any:
        def rows(run_params: Params, batch_index: Array) -> Any:
            x = gather(arrays, batch_index, jax.random.key(_DATA_KEY))
            return function(model, run_params, x, batch_index)

        return jax.lax.map(lambda p: jax.lax.map(lambda i: rows(p, i), index), params)

    return over_devices(apply, devices, in_axes=(0, None, None))


def _encode(model: Model, params: Params, x: Array, index: Array) -> Posterior:
    del index
    return model.encode(params, x)


def _bound(model: Model, params: Params, x: Array, index: Array) -> tuple[Array, Array]:
    """Distortion `[B]` of one sample each, and KL per latent `[B, D]`."""
    posterior = model.encode(params, x)
    natural = model.decode(params, _sample_each(posterior, index))
    return -model.log_likelihood(natural, x), gaussian.kl_per_latent(posterior)


def _batches(rows: np.ndarray) -> np.ndarray:
    """Cuts rows `[N]` into `[num_batches, B]`; the first rows again fill the last batch."""
    size = min(_ROWS_AT_ONCE, len(rows))
    padding = -len(rows) % size
    # Different rows, since the optimal sigma of a Gaussian likelihood is a batch's.
    return np.pad(rows, (0, padding), mode="wrap").reshape(-1, size)


def _sample_each(posterior: Posterior, index: Array) -> Array:
    """One sample an example; it depends on the row, not on the batch that holds it."""
    keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(_KEY), row))(index)
    return jax.vmap(gaussian.sample)(keys, posterior)


def make_bound(
    model: Model, data: Dataset, program: Program, runs: int, *, num_rows: int = ROWS_EVALUATED
) -> Callable[[Params], Bound]:
    """Makes the function that evaluates every run on fixed rows, one sample each, a fixed key.

    Of a set that is drawn by a law of its own, such as correlated factors, the rows are as many
    draws by that law.

    Args:
      model: The model.
      data: The set to evaluate on, its arrays on the host; the rows go to the devices now.
      program: The program that holds the population.
      runs: R.
      num_rows: How many rows represent a set that has more.

    Returns:
      A function of the parameters as the program holds them, compiled at its first call. It
      returns means over the rows; a run whose parameters give no finite value has NaN there. It
      raises TooLargeError where the memory of a CPU does not hold it.
    """
    if data.draw is draw_uniformly:
        data, rows = fixed_rows(data, num_rows)
    else:
        key = jax.random.key(_KEY)
        rows = np.sort(data.draw(data.arrays, key, (num_rows,), data.num_examples))
        data, rows = narrow(data, rows)
    index = replicate(_batches(rows), program.devices)
    arrays = replicate(data.arrays, program.devices)
    mapped = _map_rows(_bound, model, data.gather, program.devices)

    def evaluate(params: Params) -> Bound:
        check_memory(mapped, (params, arrays, index), program.devices, EVALUATION)
        distortion, kl = take_runs(mapped(params, arrays, index), runs)
        # Means in float64, over the rows without the padding of the last batch.
        distortion = distortion.reshape(runs, -1)[:, : len(rows)].mean(axis=1, dtype=np.float64)
        kl = kl.reshape(runs, -1, kl.shape[-1])[:, : len(rows)].mean(axis=1, dtype=np.float64)
        rate = kl.sum(axis=1)
        return Bound(-(distortion + rate), distortion, rate, kl, len(rows))

    return evaluate


def fixed_rows(data: Dataset, num_rows: int = ROWS_EVALUATED) -> tuple[Dataset, np.ndarray]:
    """The rows that stand for a set, and a set that holds no more than them where it can.

    Returns:
      (data, rows `[M]` int32 in it).
    """
    return narrow(data, evaluation_rows(data.num_examples, num_rows))


def narrow(data: Dataset, rows: np.ndarray) -> tuple[Dataset, np.ndarray]:
    """A set without all rows but `rows [M]`, where it can be, and their numbers in it."""
    if not data.take or len(rows) == data.num_examples:
        return data, rows
    small = data._replace(arrays=data.take(data.arrays, rows), num_examples=len(rows))
    return small, np.arange(len(rows), dtype=np.int32)


def encode_rows(
    model: Model,
    data: Dataset,
    program: Program,
    params: Params,
    arrays: Arrays,
    rows: np.ndarray,
    runs: int,
) -> Posterior:
    """Encodes the examples `rows [N]` with every run.

    Args:
      model: The model.
      data: The set that the rows belong to.
      program: The program that holds the population.
      params: Parameters as the program holds them.
      arrays: The set's arrays, placed on the program's devices.
      rows: Row numbers `[N]`, int32.
      runs: R.

    Returns:
      The posteriors, NumPy leaves `[R, N, D]`.

    Raises:
      TooLargeError: If the memory of a CPU does not hold it.
    """
    mapped = _map_rows(_encode, model, data.gather, program.devices)
    index = replicate(_batches(rows), program.devices)
    check_memory(mapped, (params, arrays, index), program.devices, EVALUATION)
    encoded = take_runs(mapped(params, arrays, index), runs)
    flat: Posterior = jax.tree.map(
        lambda a: a.reshape(runs, -1, a.shape[-1])[:, : len(rows)], encoded
    )
    return flat


def fetch_examples(data: Dataset, rows: np.ndarray) -> np.ndarray:
    """The examples `rows [N]` of a set, as NumPy `[N, ...]`."""
    data, rows = narrow(data, rows)  # so that the rest of the set stays where it is
    return np.asarray(data.gather(data.arrays, jnp.asarray(rows), jax.random.key(_DATA_KEY)))


def fetch_factors(data: Dataset, rows: np.ndarray) -> np.ndarray:
    """The factors of the examples `rows [N]` of a set, as NumPy `[N, K]`."""
    data, rows = narrow(data, rows)
    return np.asarray(data.factors(data.arrays, jnp.asarray(rows)))
