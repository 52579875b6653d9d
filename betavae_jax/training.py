"""Training as one compiled program: any number of runs, steps and devices.

`step` is pure mathematics on one run. `Program.advance` is the compiled loop:
devices by `pmap`, the runs of a device by `lax.map`, steps by a loop whose
length is an argument, so that one compilation serves every number of steps and
a run's bits do not depend on where the host cut the loop.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from betavae_jax.mapped import over_devices
from betavae_jax.schedules import scheduled_coefficients
from betavae_jax.types import (
    Array,
    Arrays,
    Batch,
    Dataset,
    Model,
    Objective,
    Params,
    RunSettings,
    Shape,
    Terms,
    TrainState,
)


class Carry(NamedTuple):
    """What the loop carries: the state, and the terms summed since they were last reported."""

    state: TrainState
    sums: Terms
    num_summed: Array  # [] int32


class Program(NamedTuple):
    """The compiled functions of a population; leaves are `[num_devices, R / num_devices, ...]`."""

    init: Callable[[RunSettings, Arrays], Carry]
    advance: Callable[[Carry, RunSettings, Arrays, Array], Carry]  # the carry is donated
    report: Callable[[Carry], Carry]  # starts the sums anew; the carry is donated
    devices: tuple[jax.Device, ...]
    vectorized_runs: int  # V: runs of a device that share one vectorised step


def data_shape(data: Dataset) -> Shape:
    """The shape of one example, `(H, W, C)` or `(F,)`, without computing one."""
    index = jax.ShapeDtypeStruct((1,), np.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    shape: Shape = jax.eval_shape(data.gather, data.arrays, index, key).shape[1:]
    return shape


def check_objective(
    objective: Objective, data: Dataset, *, batch_size: int, num_latents: int
) -> None:
    """Has an objective refuse at once a batch, a set or a shape that it cannot learn from.

    Args:
      objective: The objective.
      data: What it draws from.
      batch_size: Examples in a view of a batch.
      num_latents: D, for the critic.

    Raises:
      InputError: If it refuses.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    jax.eval_shape(
        lambda key, arrays: objective.draw(key, batch_size, data._replace(arrays=arrays)),
        key,
        data.arrays,
    )
    x_shape = data_shape(data)
    jax.eval_shape(lambda key: objective.init_critic(key, x_shape, num_latents), key)


def gather_batch(data: Dataset, index: Array, key: Array) -> Batch:
    """Fetches the examples `index [V, B]` and what is known of their factors."""
    num_views, batch_size = index.shape
    flat = index.reshape(-1)
    x, factors = data.gather(data.arrays, flat, key), data.factors(data.arrays, flat)
    split = (num_views, batch_size)
    return Batch(
        x.reshape(split + x.shape[1:]),
        factors.reshape(split + factors.shape[1:]),
        data.num_examples,
    )


def make_init(
    model: Model, objective: Objective, x_shape: Shape, num_latents: int
) -> Callable[[RunSettings], TrainState]:
    """Makes the function that starts one run from its settings (leaves `[]`)."""

    def init_state(settings: RunSettings) -> TrainState:
        init_key, _ = jax.random.split(jax.random.key(settings.seed))
        model_key, critic_key = jax.random.split(init_key)
        params = model.init(model_key)
        critic = objective.init_critic(critic_key, x_shape, num_latents)
        return TrainState(
            params,
            critic,
            objective.optimizer(settings.learning_rate).init(params),
            objective.critic_optimizer(settings.learning_rate).init(critic),
            step=jnp.zeros((), jnp.int32),
            failed_at=jnp.full((), -1, jnp.int32),
        )

    return init_state


def make_step(
    model: Model,
    objective: Objective,
    data: Dataset,
    batch_size: int,
    clip_norm: float | None = None,
) -> Callable[[TrainState, RunSettings, Arrays], tuple[TrainState, Terms]]:
    """Makes one training step of one run, as a pure function.

    A step whose loss or gradient is not finite leaves the state as it was and records its
    number in `failed_at`; every later step of that run then repeats it, so its failing terms
    stay visible while the run's parameters stay at their last finite values.

    Args:
      model: The model.
      objective: What to minimise.
      data: Where batches come from; its own `arrays` are not used.
      batch_size: Examples in a view of a batch.
      clip_norm: The largest global norm of a gradient, the model's and the critic's each;
        longer ones are scaled down to it. None for no limit.

    Returns:
      `step(state, settings, arrays) -> (state, terms)`, leaves without an axis for runs. The
      term `grad_norm` is the norm before clipping.
    """

    def step(state: TrainState, settings: RunSettings, arrays: Arrays) -> tuple[TrainState, Terms]:
        _, steps_key = jax.random.split(jax.random.key(settings.seed))
        key = jax.random.fold_in(steps_key, state.step)
        draw_key, gather_key, loss_key, critic_key = jax.random.split(key, 4)
        placed = data._replace(arrays=arrays)
        index = objective.draw(draw_key, batch_size, placed)
        batch = gather_batch(placed, index, gather_key)
        coefficients = scheduled_coefficients(settings.coefficients, settings.schedules, state.step)

        (_, (terms, evidence)), grads = jax.value_and_grad(objective.loss, has_aux=True)(
            state.params, state.critic, model, batch, coefficients, loss_key
        )
        (critic_value, critic_extras), critic_grads = jax.value_and_grad(
            objective.critic_loss, has_aux=True
        )(state.critic, jax.lax.stop_gradient(evidence), coefficients, critic_key)

        grad_norm = optax.tree.norm((grads, critic_grads))
        terms = terms._replace(extras={**terms.extras, **critic_extras, "grad_norm": grad_norm})
        finite = jnp.isfinite(terms.loss) & jnp.isfinite(critic_value) & jnp.isfinite(grad_norm)
        ok = (state.failed_at < 0) & finite
        stopped = state._replace(
            failed_at=jnp.where(state.failed_at < 0, state.step, state.failed_at)
        )
        # A branch is compiled apart from what feeds it: how its sums are rounded does not depend
        # on the layout of the gradients, which differs between programs for one device and two.
        state = jax.lax.cond(
            ok,
            lambda grads: _update(objective, settings, state, grads, clip_norm),
            lambda _: stopped,
            (grads, critic_grads),
        )
        return state, terms

    return step


def _update(
    objective: Objective,
    settings: RunSettings,
    state: TrainState,
    grads: tuple[Params, Params],
    clip_norm: float | None,
) -> TrainState:
    """Applies the gradients of the model and of the critic."""
    if clip_norm is not None:
        clip = optax.clip_by_global_norm(clip_norm)
        grads = tuple(clip.update(g, optax.EmptyState())[0] for g in grads)
    optimizer = objective.optimizer(settings.learning_rate)
    updates, opt_state = optimizer.update(grads[0], state.opt_state, state.params)
    critic_optimizer = objective.critic_optimizer(settings.learning_rate)
    critic_updates, critic_opt_state = critic_optimizer.update(
        grads[1], state.critic_opt_state, state.critic
    )
    return TrainState(
        optax.apply_updates(state.params, updates),
        optax.apply_updates(state.critic, critic_updates),
        opt_state,
        critic_opt_state,
        state.step + 1,
        state.failed_at,
    )


def _over_runs(function: Callable[..., Any], vectorized_runs: int) -> Callable[..., Any]:
    """Maps over the runs of one device, `vectorized_runs` at a time."""
    # With a batch size, even of one, lax.map vectorises the body; without one it is a plain loop,
    # in which a run's bits do not depend on how many runs there are.
    batch_size = vectorized_runs if vectorized_runs > 1 else None
    return lambda xs: jax.lax.map(function, xs, batch_size=batch_size)


def _take_steps(
    step: Callable[[TrainState, RunSettings, Arrays], tuple[TrainState, Terms]],
    carry: Carry,
    settings: RunSettings,
    arrays: Arrays,
    num_steps: Array,
) -> Carry:
    """Advances one run, its terms added up."""

    def body(_: Array, carry: Carry) -> Carry:
        state, terms = step(carry.state, settings, arrays)
        return Carry(state, jax.tree.map(jnp.add, carry.sums, terms), carry.num_summed + 1)

    return jax.lax.fori_loop(0, num_steps, body, carry)


def make_program(
    model: Model,
    objective: Objective,
    data: Dataset,
    *,
    batch_size: int,
    num_latents: int,
    devices: tuple[jax.Device, ...],
    vectorized_runs: int = 1,
    clip_norm: float | None = None,
) -> Program:
    """Makes the compiled program of a population.

    Args:
      model: The model.
      objective: What to minimise.
      data: Where batches come from; its arrays travel as an argument, never in the program.
      batch_size: Examples in a view of a batch.
      num_latents: D, for the critic.
      devices: Where the runs go; each device holds as many.
      vectorized_runs: V, the runs of a device that advance together. With 1 a run's bits do
        not depend on the other runs.
      clip_norm: The largest norm of a gradient; see `make_step`.

    Returns:
      The program; compilation happens at the first call of each function.
    """
    init_state = make_init(model, objective, data_shape(data), num_latents)
    step = make_step(model, objective, data, batch_size, clip_norm)

    def init_run(settings: RunSettings, arrays: Arrays) -> Carry:
        state = init_state(settings)
        shapes = jax.eval_shape(step, state, settings, arrays)[1]
        sums = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return Carry(state, sums, jnp.zeros((), jnp.int32))

    def init(settings: RunSettings, arrays: Arrays) -> Carry:
        return _over_runs(lambda s: init_run(s, arrays), vectorized_runs)(settings)

    def advance(carry: Carry, settings: RunSettings, arrays: Arrays, num_steps: Array) -> Carry:
        def advance_run(run: tuple[Carry, RunSettings]) -> Carry:
            return _take_steps(step, *run, arrays, num_steps)

        return _over_runs(advance_run, vectorized_runs)((carry, settings))

    def report(carry: Carry) -> Carry:
        zeros = jax.tree.map(jnp.zeros_like, (carry.sums, carry.num_summed))
        return Carry(carry.state, *zeros)

    return Program(
        over_devices(init, devices, in_axes=(0, None)),
        over_devices(advance, devices, in_axes=(0, 0, None, None), donate_argnums=(0,)),
        over_devices(report, devices, donate_argnums=(0,)),
        devices,
        vectorized_runs,
    )
