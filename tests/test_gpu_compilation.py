"""What the compiler makes of the programs for GPUs that are not there: `make gpu-compile`.

XLA compiles for a GPU that it is only told of, so that a program which one refuses, or which
communicates, is found on any machine. Values and speed need the GPU: `test_on_accelerator.py`.
"""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from betavae_jax import fit, kernels
from betavae_jax.export import export_run
from betavae_jax.export.stablehlo import DECODER, ENCODER
from betavae_jax.fit import program_of
from betavae_jax.layers import FORMS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.representation import load

pytest.importorskip(
    "jax_plugins.xla_cuda12", reason="no compiler for NVIDIA GPUs (make gpu-compile brings it)"
)

# Compute capability, processors, threads of one, and shared memory of a block and of one, in bytes:
# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
GPUS = {
    "H100": (9, 0, 132, 2048, 232_448, 233_472),
    "RTX 4090": (8, 9, 128, 1536, 101_376, 102_400),
}
DETERMINISTIC = {"xla_gpu_deterministic_ops": True}  # as the drivers compile
COLLECTIVES = re.compile(
    r"\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+|send|recv)(-start)?\("
)


@functools.cache
def devices(gpu, count=1):
    major, minor, processors, threads, block, processor = GPUS[gpu]
    described = f"""
      gpu_device_info {{
        cuda_compute_capability {{ major: {major} minor: {minor} }}
        core_count: {processors}
        shared_memory_per_block: 49152
        shared_memory_per_block_optin: {block}
        shared_memory_per_core: {processor}
        threads_per_warp: 32
        threads_per_block_limit: 1024
        threads_per_core_limit: {threads}
        registers_per_block_limit: 65536
        registers_per_core_limit: 65536
        block_dim_limit_x: 2147483647
        block_dim_limit_y: 65535
        block_dim_limit_z: 65535
        fpus_per_core: 128
        memory_bandwidth: 1000000000000
        l2_cache_size: 40000000
        clock_rate_ghz: 1.5
        device_memory_size: 24000000000
      }}
      platform_name: "CUDA"
      runtime_version {{ major: 12 minor: 9 }}
      dnn_version_info {{ major: 9 minor: 10 }}
      device_description_str: "{gpu}"
    """
    shape = f"1x1x{count}"
    return topologies.get_topology_desc(
        "cuda", "cuda", topology=shape, target_config=described
    ).devices


def compile_for(gpu, function, *arguments):
    placed = SingleDeviceSharding(devices(gpu)[0])
    jitted = jax.jit(function, in_shardings=placed, out_shardings=placed)
    lowered = jitted.trace(*arguments).lower(lowering_platforms=("cuda",))
    return lowered.compile(compiler_options=DETERMINISTIC)


def compile_training(experiment, gpu, *, num_devices=1):
    """The program of a population, its runs shared by the devices."""
    program = program_of(experiment, devices(gpu, num_devices))
    settings = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((num_devices, len(a) // num_devices), a.dtype),
        experiment.runs,
    )
    arrays = jax.eval_shape(lambda: experiment.splits.train.arrays)
    carry = jax.eval_shape(program.init, settings, arrays)
    count = jax.ShapeDtypeStruct((), np.int32)
    lowered = program.advance.lower(carry, settings, arrays, count)
    return carry, lowered.compile(compiler_options=DETERMINISTIC)


def check_kernels(gpu, channels, features, dtype):
    def functions(x, y, k):
        return kernels.correlate(x, k), kernels.spread(y, k), kernels.kernel_gradient(x, y)

    shapes = (3, 6, 10, channels), (3, 3, 5, features), (4, 4, channels, features)
    x, y, k = (jax.ShapeDtypeStruct((2, *shape), dtype) for shape in shapes)
    text = compile_for(gpu, jax.vmap(functions), x, y, k).as_text()
    assert text.count('custom_call_target="__gpu$xla.gpu.triton"') == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_kernels_of_all_channels_fit_the_smallest_processors(dtype):
    for large, small in itertools.product((16, 32, 64), repeat=2):
        assert kernels.supports((3, 6, 10, large), small)
        check_kernels("RTX 4090", large, small, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("channels", "features"), [(16, 16), (32, 64), (64, 32), (64, 64)])
def test_the_kernels_compile_for_the_largest_processors(channels, features, dtype):
    check_kernels("H100", channels, features, dtype)


def test_a_collective_would_be_found():
    average = jax.pmap(lambda x: jax.lax.pmean(x, "i"), "i", devices=devices("H100", 2))
    text = average.lower(jax.ShapeDtypeStruct((2, 3), jnp.float32)).compile().as_text()
    assert COLLECTIVES.search(text)


@pytest.mark.parametrize(
    ("form", "precision"),
    [*((form, "float32") for form in FORMS), ("kernels", "bf16"), ("matmul", "bf16")],
)
def test_a_population_on_two_devices_has_no_collectives_and_one_carry(
    make_experiment, form, precision
):
    experiment = make_experiment(
        seed=(0, 1, 2, 3),
        precision=precision,
        network="conv",
        network_settings={"channels": "16,16", "widths": "16", "convolution": form},
    )
    carry, compiled = compile_training(experiment, "H100", num_devices=2)
    text = compiled.as_text()
    assert not COLLECTIVES.search(text)
    assert ("__gpu$xla.gpu.triton" in text) == (form == "kernels")
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(carry))
    assert compiled.memory_analysis().alias_size_in_bytes == kept // 2  # a device's share


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_compiles(make_experiment, objective):
    experiment = make_experiment(
        objective=objective, seed=(0, 1), batch_size=16, network="mlp", network_settings={}
    )
    _, compiled = compile_training(experiment, "H100")
    assert not COLLECTIVES.search(compiled.as_text())


def test_runs_in_turn_compile(make_experiment, monkeypatch):
    monkeypatch.setattr(fit, "default_vectorized_runs", lambda _runs, _devices: 1)
    _, compiled = compile_training(make_experiment(seed=(0, 1)), "H100")
    assert " conditional(" in compiled.as_text()  # the branch around an update


def test_an_export_compiles(train_run, tmp_path):
    data = {"image_size": 16, "blob_grid": 8, "blob_margin": 4.0}
    subject = load(train_run(tmp_path / "run", data=data, num_steps=2, batch_size=8))
    export_run(subject, ["stablehlo"], tmp_path / "out")
    for name, shape in ((ENCODER, subject.image_shape), (DECODER, (subject.num_latents,))):
        exported = jax.export.deserialize(bytearray((tmp_path / "out" / name).read_bytes()))
        compile_for("RTX 4090", exported.call, jax.ShapeDtypeStruct((7, *shape), jnp.float32))
