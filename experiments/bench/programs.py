"""Our own training, as the product compiles it and in loops built otherwise."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax.fit import fetch_progress, program_of
from betavae_jax.population import place_runs, replicate
from betavae_jax.runs.settings import Experiment, Settings, build
from betavae_jax.training import Carry, data_shape, make_init, make_step
from betavae_jax.types import Array, Arrays, RunSettings
from experiments.bench.contenders import NUM_LATENTS, Contender

_DOTS = {"image_size": 64, "blob_margin": 10.0, "blob_sigma": 4.0}


def make_experiment(
    *,
    dataset: str = "blobs",
    runs: int = 1,
    form: str = "auto",
    precision: str = "float32",
    batch_size: int = 64,
    objective: str = "beta_vae",
    network: str = "conv_locatello",
) -> Experiment:
    """Builds the experiment that is measured: 64×64 images of a set that needs no files."""
    return build(
        Settings(
            dataset=dataset,
            data=_DOTS if dataset == "blobs" else {},
            objective=objective,
            network=network,
            network_settings={} if form == "auto" else {"convolution": form},
            batch_size=batch_size,
            num_latents=NUM_LATENTS,
            seed=tuple(range(runs)),
            precision=precision,
        )
    )


def facts_of(compiled: Any, seconds: float) -> dict[str, Any]:
    """What XLA says of a compiled program: bytes that it holds, FLOPs and bytes of its ops."""
    facts: dict[str, Any] = {"compile_s": seconds}
    try:
        memory = compiled.memory_analysis()
        facts["temporary_bytes"] = int(memory.temp_size_in_bytes)
        facts["argument_bytes"] = int(memory.argument_size_in_bytes)
    except Exception as error:
        facts["memory_analysis"] = repr(error)
    try:
        cost = compiled.cost_analysis()
        cost = cost[0] if isinstance(cost, list) else cost
        # A loop's body counts once: of a step, with the loop's own few.
        facts["xla_flops"], facts["xla_bytes"] = cost.get("flops"), cost.get("bytes accessed")
    except Exception as error:
        facts["cost_analysis"] = repr(error)
    return facts


def compile_call(function: Any, *arguments: Any) -> tuple[Any, dict[str, Any]]:
    """Compiles a jitted function for these arguments; it, and what is known of it."""
    began = time.perf_counter()
    lowered = function.lower(*arguments)
    compiled = lowered.compile()
    return compiled, facts_of(compiled, time.perf_counter() - began)


def make_product(
    *, vectorized_runs: int = 0, runs: int = 1, num_devices: int = 1, **options: Any
) -> Contender:
    """The compiled program as every driver runs it.

    Args:
      vectorized_runs: V; 0 for the product's choice.
      runs: R.
      num_devices: That share the runs.
      **options: Of `make_experiment`.
    """
    experiment = make_experiment(runs=runs, **options)
    usable = jax.local_devices()[:num_devices]
    program = program_of(experiment, usable, vectorized_runs=vectorized_runs)
    devices = program.devices
    arrays = replicate(experiment.splits.train.arrays, devices)
    settings = place_runs(experiment.runs, devices)
    carry = program.init(settings, arrays)
    count = replicate(np.int32(0), devices)
    advance_program, facts = compile_call(program.advance, carry, settings, arrays, count)

    def advance(count: int) -> None:
        nonlocal carry
        steps = replicate(np.int32(count), devices)
        carry = jax.block_until_ready(advance_program(carry, settings, arrays, steps))

    return Contender(advance, facts)


def make_chunk(*, steps: int, **options: Any) -> Contender:
    """Chunks of so many steps, with what is fetched after each: the host loop's round."""
    experiment = make_experiment(**options)
    program = program_of(experiment, jax.local_devices()[:1])
    arrays = replicate(experiment.splits.train.arrays, program.devices)
    settings = place_runs(experiment.runs, program.devices)
    carry = program.init(settings, arrays)

    def advance(count: int) -> None:
        nonlocal carry
        for _ in range(count):
            wanted = replicate(np.int32(steps), program.devices)
            carry = program.advance(carry, settings, arrays, wanted)
            fetch_progress(carry, len(experiment.runs.seed))

    return Contender(advance)


def make_loop(
    *,
    runs: int = 1,
    vectorized: bool = False,
    unroll: int = 1,
    matmul_precision: str = "",
    prng: str = "",
    **options: Any,
) -> Contender:
    """The product's step in a loop of our own making, jitted.

    Args:
      runs: R; more than one are vectorised.
      vectorized: Whether one run is vectorised too, which turns the branch into a selection.
      unroll: Steps in the loop's body.
      matmul_precision: Of `jax_default_matmul_precision`; empty for the default.
      prng: Of `jax_default_prng_impl`; empty for the default.
      **options: Of `make_experiment`.
    """
    if matmul_precision:
        jax.config.update("jax_default_matmul_precision", matmul_precision)
    if prng:
        jax.config.update("jax_default_prng_impl", prng)
    experiment = make_experiment(runs=runs, **options)
    data, batch_size = experiment.splits.train, experiment.settings.batch_size
    step = make_step(experiment.model, experiment.objective, data, batch_size)
    init = make_init(experiment.model, experiment.objective, data_shape(data), NUM_LATENTS)
    settings: RunSettings = jax.device_put(experiment.runs)
    if runs == 1 and not vectorized:
        settings = jax.tree.map(lambda leaf: leaf[0], settings)
    else:
        step = jax.vmap(step, in_axes=(0, 0, None))
        init = jax.vmap(init)
    arrays = jax.device_put(data.arrays)

    def start(settings: RunSettings, arrays: Arrays) -> Carry:
        state = init(settings)
        shapes = jax.eval_shape(step, state, settings, arrays)[1]
        return Carry(state, jax.tree.map(jnp.zeros_like, shapes), jnp.zeros((), jnp.int32))

    def body(carry: Carry, settings: RunSettings, arrays: Arrays) -> Carry:
        state, terms = step(carry.state, settings, arrays)
        return Carry(state, jax.tree.map(jnp.add, carry.sums, terms), carry.num_summed + 1)

    def run(carry: Carry, settings: RunSettings, arrays: Arrays, count: Array) -> Carry:
        def bodies(_: Array, carry: Carry) -> Carry:
            for _step in range(unroll):
                carry = body(carry, settings, arrays)
            return carry

        return jax.lax.fori_loop(0, count, bodies, carry)

    return _carried(jax.jit(run, donate_argnums=0), jax.jit(start), settings, arrays, unroll)


def _carried(
    run: Any, start: Callable[..., Carry], settings: RunSettings, arrays: Arrays, unroll: int
) -> Contender:
    carry = start(settings, arrays)
    compiled, facts = compile_call(run, carry, settings, arrays, np.int32(0))

    def advance(count: int) -> None:
        nonlocal carry
        times = np.int32(-(-count // unroll))
        carry = jax.block_until_ready(compiled(carry, settings, arrays, times))

    return Contender(advance, facts, unroll)
