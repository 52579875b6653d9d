"""The parts of a step, each alone in a loop of the same kind, forward and backward.

In the whole step parts share passes over memory, so that the sum of the parts is not the step.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from betavae_jax import gaussian
from betavae_jax.types import Array, Posterior
from experiments.bench.contenders import NUM_LATENTS, Contender
from experiments.bench.programs import compile_call, make_experiment

PARTS = ("gather", "encoder", "decoder", "likelihood", "optimizer")
_TINY = 1e-9  # of the gradient, to feed it back so that no step can be left out

Loop = tuple[Any, Callable[[Any, Array], Any]]  # what is carried, and (carried, x) -> carried


def _descend(tree: Any, grads: Any) -> Any:
    return jax.tree.map(lambda leaf, grad: leaf - _TINY * grad.astype(leaf.dtype), tree, grads)


def _encoder(model: Any, params: Any, x: Array) -> Loop:
    del x

    def loss(params: Any, x: Array) -> Array:
        posterior = model.encode(params, x)
        return jnp.sum(jnp.square(posterior.mean)) + jnp.sum(posterior.log_variance)

    return params, lambda params, x: _descend(params, jax.grad(loss)(params, x))


def _decoder(model: Any, params: Any, x: Array) -> Loop:
    z = jnp.ones((len(x), NUM_LATENTS))

    def loss(carried: Any, x: Array) -> Array:
        params, z = carried
        return jnp.sum(model.decode(params, z) * x)

    return (params, z), lambda carried, x: _descend(carried, jax.grad(loss)(carried, x))


def _likelihood(model: Any, params: Any, x: Array) -> Loop:
    del params
    flat = jnp.zeros((len(x), NUM_LATENTS))

    def loss(carried: Any, x: Array) -> Array:
        natural, posterior = carried
        z = gaussian.sample(jax.random.key(0), posterior)
        kl = jnp.sum(gaussian.kl_per_latent(posterior), axis=1)
        return jnp.mean(kl - model.log_likelihood(natural, x)) + jnp.mean(z)

    carried = (jnp.zeros_like(x), Posterior(flat, flat))
    return carried, lambda carried, x: _descend(carried, jax.grad(loss)(carried, x))


def _optimizer(model: Any, params: Any, x: Array) -> Loop:
    del model, x
    optimizer = optax.adam(1e-3)

    def update(carried: Any, x: Array) -> Any:
        del x
        params, opt_state, grads = carried
        norm = optax.tree.norm(grads)
        updates, new_state = optimizer.update(grads, opt_state, params)
        new = (optax.apply_updates(params, updates), new_state)
        params, opt_state = jax.tree.map(
            lambda a, b: jnp.where(jnp.isfinite(norm), a, b), new, (params, opt_state)
        )
        return params, opt_state, grads

    grads = jax.tree.map(lambda leaf: 1e-3 * jnp.ones_like(leaf), params)
    return (params, optimizer.init(params), grads), update


_MAKERS: dict[str, Callable[[Any, Any, Array], Loop]] = {
    "encoder": _encoder,
    "decoder": _decoder,
    "likelihood": _likelihood,
    "optimizer": _optimizer,
}


def make_part(*, part: str, runs: int = 1, **options: Any) -> Contender:
    """Makes one of `PARTS` for `runs` runs in a vectorised step."""
    experiment = make_experiment(runs=runs, **options)
    if part == "gather":
        return _make_gather(experiment, runs)
    model, batch_size = experiment.model, experiment.settings.batch_size
    shape = jax.eval_shape(
        experiment.splits.train.gather,
        experiment.splits.train.arrays,
        np.zeros(batch_size, np.int32),
        jax.random.key(0),
    ).shape

    def init(key: Array, x: Array) -> Any:
        return _MAKERS[part](model, model.init(key), x)[0]

    def step(carried: Any, x: Array) -> Any:
        # The functions are pure: those of the shapes serve for every run's values.
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return _MAKERS[part](model, zeros, x)[1](carried, x)

    if runs > 1:
        init, step = jax.vmap(init), jax.vmap(step)
        shape = (runs, *shape)
    keys = jax.random.split(jax.random.key(0), runs)
    x = jax.random.uniform(jax.random.key(1), shape)
    carried = jax.jit(init)(keys if runs > 1 else keys[0], x)

    def loop(carried: Any, x: Array, count: Array) -> Any:
        return jax.lax.fori_loop(0, count, lambda _, c: step(c, x), carried)

    return _looped(jax.jit(loop, donate_argnums=0), carried, x)


def _make_gather(experiment: Any, runs: int) -> Contender:
    data, batch_size = experiment.splits.train, experiment.settings.batch_size

    def draw(total: Array, key: Array, arrays: Any) -> Array:
        draw_key, gather_key = jax.random.split(key)
        index = data.draw(arrays, draw_key, (batch_size,), data.num_examples)
        # A sum over the batch needs every pixel, so that none is left out.
        return total + data.gather(arrays, index, gather_key).sum(axis=0)

    arrays = jax.device_put(data.arrays)
    shape = jax.eval_shape(data.gather, arrays, np.zeros(1, np.int32), jax.random.key(0)).shape[1:]

    def loop(total: Array, constant: Any, count: Array) -> Array:
        keys, arrays = constant

        def body(step: Array, total: Array) -> Array:
            own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, step)
            return jax.vmap(draw, in_axes=(0, 0, None))(total, own, arrays)

        return jax.lax.fori_loop(0, count, body, total)

    keys = jax.random.split(jax.random.key(0), runs)
    start = jnp.zeros((runs, *shape))
    return _looped(jax.jit(loop, donate_argnums=0), start, (keys, arrays))


def _looped(loop: Any, carried: Any, constant: Any) -> Contender:
    compiled, facts = compile_call(loop, carried, constant, np.int32(0))

    def advance(count: int) -> None:
        nonlocal carried
        carried = jax.block_until_ready(compiled(carried, constant, np.int32(count)))

    return Contender(advance, facts)
