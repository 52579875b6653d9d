"""What only an accelerator can show: `JAX_PLATFORMS=cuda,cpu pytest -m gpu`."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from betavae_jax.export import FORMATS, export_run
from betavae_jax.export.functions import functions_of
from betavae_jax.layers import FORMS, convolution, transposed_convolution
from betavae_jax.population import place_runs, replicate, take_runs
from betavae_jax.representation import load
from betavae_jax.training import make_program

pytestmark = pytest.mark.gpu

ROOT = pathlib.Path(__file__).resolve().parents[1]
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# The largest error of a sum of products, of the largest value: TF32 keeps 10 bits of a factor
# and bf16 7, so half of the last is 2⁻¹¹ and 2⁻⁸; errors of a sum and of two factors add up.
LARGEST_ERROR = {"float32": 4 * 2**-11, "bfloat16": 4 * 2**-8}
# Large image and small one's channels: the layers of conv_locatello, and shapes that fill no block.
LAYERS = {
    "grey": ((64, 64, 64, 1), 32),
    "wide": ((64, 32, 32, 32), 32),
    "middle": ((64, 16, 16, 32), 64),
    "narrow": ((64, 8, 8, 64), 64),
    "odd": ((7, 6, 10, 16), 16),
}


def down(x, kernel):
    padding = ((1, 1), (1, 1))
    return lax.conv_general_dilated(x, kernel, (2, 2), padding, dimension_numbers=DIMENSIONS)


def up(y, kernel):
    return lax.conv_transpose(y, kernel, (2, 2), "SAME", dimension_numbers=DIMENSIONS)


def value_and_gradients(fn, x, kernels):
    """Of a population of two kernels: values, and gradients of a fixed functional of them."""

    def one(kernel):
        value, pull_back = jax.vjp(fn, x, kernel)
        cotangent = jnp.sin(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape)
        return value, *pull_back(cotangent.astype(value.dtype))

    return jax.jit(jax.vmap(one))(kernels)


@pytest.mark.parametrize("dtype", LARGEST_ERROR)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_convolution_in_full_precision(form, layer, dtype):
    large, features = LAYERS[layer]
    small = (large[0], large[1] // 2, large[2] // 2, features)
    keys = jax.random.split(jax.random.key(0), 4)
    for fn, exact, shape, channels in (
        (convolution, down, large, (large[-1], features)),
        (transposed_convolution, up, small, (features, large[-1])),
    ):
        x = jax.random.normal(keys[0], shape).astype(dtype)
        kernels = jax.random.normal(keys[1], (2, 4, 4, *channels)).astype(dtype)
        actual = value_and_gradients(functools.partial(fn, form=form), x, kernels)
        with jax.default_matmul_precision("highest"):
            expected = value_and_gradients(
                exact, x.astype(jnp.float32), kernels.astype(jnp.float32)
            )
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == dtype
            error = jnp.max(jnp.abs(a.astype(jnp.float32) - e)) / jnp.max(jnp.abs(e))
            assert error < LARGEST_ERROR[dtype]


def test_vectorised_runs_are_the_runs_one_by_one(make_experiment):
    experiment = make_experiment(seed=(0, 1, 2, 3))
    devices = jax.local_devices()[:1]

    def after_a_step(vectorized_runs):
        program = make_program(
            experiment.model,
            experiment.objective,
            experiment.splits.train,
            batch_size=experiment.settings.batch_size,
            num_latents=experiment.settings.num_latents,
            devices=devices,
            vectorized_runs=vectorized_runs,
        )
        arrays = replicate(experiment.splits.train.arrays, program.devices)
        settings = place_runs(experiment.runs, program.devices)
        carry = program.init(settings, arrays)
        one = replicate(np.int32(1), program.devices)
        return take_runs(program.advance(carry, settings, arrays, one), 4).state.params

    with jax.default_matmul_precision("highest"):
        together, apart = after_a_step(4), after_a_step(1)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def drive(driver, *arguments, expected=0):
    """Calls a driver in a process of its own; returns what it said to standard error."""
    ended = subprocess.run(
        [sys.executable, "-m", f"experiments.{driver}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == expected, ended.stderr[-2000:]
    return ended.stderr


def digests(workdir):
    runs = json.loads((workdir / "results.json").read_text())["runs"]
    return [run["params_sha256"] for run in runs]


@pytest.mark.parametrize("form", ["matmul", "kernels"])
def test_a_resumed_population_has_the_same_bits(tmp_path, form):
    own = ("--beta=1,4", "--seed=0,1", "--noreport", f"--network_convolution={form}")
    drive("train", f"--workdir={tmp_path / 'straight'}", "--num_steps=400", *own)
    for steps in (200, 400):
        drive("train", f"--workdir={tmp_path / 'resumed'}", f"--num_steps={steps}", *own)
    assert digests(tmp_path / "straight") == digests(tmp_path / "resumed")


def test_the_count_of_runs_a_device_holds_is_measured(tmp_path):
    study = ("--objective=beta_vae", "--beta=1,4", "--seed=0,1,2,3", "--num_steps=100",
             "--image_size=64", "--metrics=none", f"--workdir={tmp_path / 'study'}")  # fmt: skip
    drive("sweep", *study, "--runs_per_device=auto")
    plan = json.loads((tmp_path / "study" / "plan.json").read_text())
    speeds = {m["runs_per_device"]: m["images_per_second"] for m in plan["measured"]}
    assert plan["runs_per_device"] in speeds
    assert speeds[4] > 1.5 * speeds[1]  # a run alone does not fill the device


def test_more_runs_than_a_device_holds_are_refused_before_anything_is_written(tmp_path):
    seeds = ",".join(map(str, range(64)))
    study = ("--objective=beta_vae", "--beta=4", f"--seed={seeds}", "--batch_size=8192",
             "--image_size=64", "--network=conv_locatello", "--metrics=none",
             f"--workdir={tmp_path / 'study'}", "--runs_per_device=64")  # fmt: skip
    said = drive("sweep", *study, expected=2)
    assert "expected the memory of a device to hold 64 runs of beta_vae" in said
    assert not (tmp_path / "study" / "plan.json").exists()


def test_an_export_runs_on_the_accelerator_and_on_the_host(tmp_path):
    drive("train", f"--workdir={tmp_path / 'run'}", "--beta=4", "--num_steps=100", "--noreport")
    subject = load(tmp_path / "run")
    export_run(subject, ["stablehlo"], tmp_path / "out")
    exported, own = FORMATS["stablehlo"].load(tmp_path / "out"), functions_of(subject)
    x = np.random.default_rng(0).random((100, *subject.image_shape)).astype(np.float32)
    for device in (jax.local_devices()[0], jax.local_devices(backend="cpu")[0]):
        with jax.default_device(device):
            mean, log_variance = exported.encode(x)
            np.testing.assert_allclose((mean, log_variance), own.encode(x), rtol=0, atol=5e-3)
            np.testing.assert_allclose(exported.decode(mean), own.decode(mean), rtol=0, atol=5e-3)
