"""A model's compiled functions for any number of rows on the host.

Rows go in batches whose sizes are powers of two, so few programs serve every number of rows;
programs are shared by all models of one architecture.
"""

import functools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax import gaussian
from betavae_jax.checks import check_count, check_shape
from betavae_jax.examples import plain
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.networks import NETWORKS
from betavae_jax.restore import model_of
from betavae_jax.runs.settings import Settings
from betavae_jax.types import Array, Leaf, Model, Params, Posterior, Shape

ROWS_AT_ONCE = 256  # a power of two
_ARCHITECTURES = 32  # whose programs are kept

_ARCHITECTURE = ("network", "network_settings", "likelihood", "likelihood_settings",
                 "num_latents", "precision")  # fmt: skip


class Coding(NamedTuple):
    """Compiled functions of a model; x is as the model sees it."""

    model: Model
    encode: Callable[[Params, Leaf], Posterior]  # (params, x [B, ...])
    decode: Callable[[Params, Leaf], Array]  # (params, z [B, D]) -> the mean of p(x|z) [B, ...]
    sample: Callable[[Params, Leaf, Array], Array]  # (params, row [B], key) -> x [B, ...]
    bound: Callable[..., Array]
    # ^ (params, x [B, ...], key, num_samples, importance) -> [B], nats


def make_coding(settings: Settings, x_shape: Shape) -> Coding:
    """Makes the functions of the model that resolved settings name, or finds them made already.

    Args:
      settings: Resolved; what is no part of the architecture does not matter.
      x_shape: The shape of an example.
    """
    architecture = {name: getattr(settings, name) for name in _ARCHITECTURE}
    # A name may stand for another function later, as in a notebook.
    makers = NETWORKS.get(settings.network), LIKELIHOODS.get(settings.likelihood)
    return _make_coding(json.dumps(architecture, sort_keys=True), makers, tuple(x_shape))


@functools.lru_cache(_ARCHITECTURES)
def _make_coding(architecture: str, makers: tuple[Any, ...], x_shape: Shape) -> Coding:
    del makers  # tell one architecture from another
    settings = Settings(**json.loads(architecture))
    model, num_latents = model_of(settings, x_shape), settings.num_latents

    def decode(params: Params, z: Array) -> Array:
        return model.mean(model.decode(params, z))

    def sample(params: Params, row: Array, key: Array) -> Array:
        def draw(row: Array) -> Array:
            return jax.random.normal(jax.random.fold_in(key, row), (num_latents,))

        return decode(params, jax.vmap(draw)(row))

    return Coding(
        model,
        jax.jit(model.encode),
        jax.jit(decode),
        jax.jit(sample),
        jax.jit(functools.partial(bound, model), static_argnums=(3, 4)),
    )


def bound(
    model: Model, params: Params, x: Array, key: Array, num_samples: int, importance: int
) -> Array:
    """Estimates the bound on log p(x) of each example alone.

    Its noise is drawn from the key and the example itself: it does not depend on the others,
    nor on the example's place among them.

    Args:
      model: The model.
      params: Its parameters.
      x: Examples `[B, ...]`.
      key: A PRNG key.
      num_samples: Estimates that are averaged.
      importance: K, samples in each of them: 1 for the ELBO, its KL in closed form; more for the
        importance-weighted bound, which rises to log p(x) with K.

    Returns:
      Nats `[B]`.

    References:
      Kingma & Welling 2014, equation 3. Burda et al. 2016, Importance Weighted Autoencoders,
      equation 8.
    """
    posterior = model.encode(params, x)
    rate = jnp.sum(gaussian.kl_per_latent(posterior), axis=1)
    draws = num_samples * importance
    keys = jax.vmap(lambda row: jax.random.split(jax.random.fold_in(key, fingerprint(row)), draws))

    def log_weight(keys: Array) -> Array:
        z = jax.vmap(gaussian.sample)(keys, posterior)
        likelihood = model.log_likelihood(model.decode(params, z), x)
        if importance == 1:
            return likelihood - rate
        prior = jnp.sum(gaussian.log_density(z, jnp.zeros_like(z), jnp.zeros_like(z)), axis=1)
        return likelihood + prior - jnp.sum(gaussian.log_density(z, *posterior), axis=1)

    log_weights = jax.lax.map(log_weight, jnp.swapaxes(keys(x), 0, 1))  # [draws, B]
    log_weights = log_weights.reshape(num_samples, importance, -1)
    estimates = jax.nn.logsumexp(log_weights, axis=1) - math.log(importance)
    return jnp.mean(estimates, axis=0)


def fingerprint(x: Array) -> Array:
    """A number that depends on every bit of an example: uint32 `[]`."""
    bits = jax.lax.bitcast_convert_type(x.reshape(-1).astype(jnp.float32), jnp.uint32)
    place = jnp.arange(bits.size, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    # MurmurHash3's mixing of 32 bits: a sum of the bits themselves would lose those of images of
    # few values, which differ in few places.
    h = bits ^ place
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(h ^ (h >> 16), dtype=jnp.uint32)


def map_rows(function: Callable[[np.ndarray], Any], rows: np.ndarray) -> Any:
    """Applies a compiled function to rows, in batches of few sizes.

    Args:
      function: Of a batch `[B, ...]`; its results have a leading `B` too.
      rows: `[N, ...]`, one or more.

    Returns:
      The results for the rows, NumPy leaves `[N, ...]`.
    """
    done = [function(batch) for batch in _batches(rows)]  # computed while the next is prepared
    fetched = jax.device_get(done)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(rows)], *fetched)


def _batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Cuts rows into batches; the last is filled to a power of two with its last row."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        batch = rows[start : start + ROWS_AT_ONCE]
        missing = (1 << (len(batch) - 1).bit_length()) - len(batch)
        yield np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch


def as_key(key: Any) -> Array:
    """A whole number, or a key of `jax.random`, as a key; raises InputError for anything else."""
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        check_shape("key", key.shape, ())
        return key
    check_count("key, if it is none of jax.random,", key := plain(key), 0)
    return jax.random.key(key)
