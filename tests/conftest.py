"""A strict session: two CPU devices, rank promotion is an error, warnings are errors."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A program is kept under the flags that it was compiled with, so all processes have the same ones,
# each once; the drivers ask for the second, which a CPU ignores.
if "--xla_force_host_platform_device_count=2" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    )
if os.environ["JAX_PLATFORMS"] == "cpu" and "deterministic_ops" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += " --xla_gpu_deterministic_ops=true"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes share a GPU
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")

# A program compiled once serves both workers and the processes that tests start, with the same
# bits: who starts the session makes the folder, and all others inherit its name.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _COMPILED = tempfile.TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import contextlib
import gc
import pathlib

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

_REFERENCE_DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and jax.default_backend() == "cpu":
        pytest.skip("no accelerator (set JAX_PLATFORMS=cuda,cpu)")


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Lets go of what a file compiled: programs are mappings, of which Linux grants 65,530."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def reference_data() -> pathlib.Path:
    """The folder of reference data: real sprites, a prepared tfds set, reference values."""
    folder = pathlib.Path(os.environ.get("BETAVAE_REFERENCE_DATA", _REFERENCE_DATA))
    if not folder.is_dir():
        pytest.skip("no reference data beside this checkout (set BETAVAE_REFERENCE_DATA)")
    return folder


@pytest.fixture(scope="session")
def make_experiment():
    """Builds a small experiment: 16×16 blobs, a narrow code and network, small batches."""
    from betavae_jax.runs.settings import Settings, build

    def make(**settings):
        data = {"image_size": 16, "blob_grid": 8, "blob_margin": 4.0, "blob_sigma": 1.5}
        small = {"data": data, "batch_size": 8, "num_latents": 3}
        if "network" not in settings:
            small["network_settings"] = {"channels": "4,4", "widths": "16"}
        return build(Settings(**{**small, **settings}))

    return make


@pytest.fixture(scope="session")
def train_run():
    """Trains in a folder and writes its results: `train_run(workdir, **settings)`."""
    from betavae_jax.evaluation import evaluate
    from betavae_jax.fit import program_of
    from betavae_jax.fit_directory import fit_directory
    from betavae_jax.runs.directory import CONFIG, RESULTS
    from betavae_jax.runs.machine import describe_program
    from betavae_jax.runs.records import write_json
    from betavae_jax.runs.settings import Settings, build, to_config

    def train(workdir, **settings):
        workdir.mkdir(parents=True)
        experiment = build(Settings(tensorboard=False, **settings))
        program = program_of(experiment)
        described = describe_program(experiment, program.vectorized_runs)
        write_json(workdir / CONFIG, to_config(experiment.settings, described))
        fitted = fit_directory(experiment, program, workdir, show_progress=False)
        write_json(workdir / RESULTS, evaluate(experiment, program, fitted.carry))
        return workdir

    return train


@pytest.fixture(scope="session")
def run_directory(train_run, tmp_path_factory) -> pathlib.Path:
    """A finished run directory: two β whose latents follow a dot on 16×16 pixels."""
    return train_run(
        tmp_path_factory.mktemp("runs") / "dots",
        data={"image_size": 16, "blob_grid": 16, "blob_margin": 3.5, "blob_sigma": 2.0},
        coefficients={"beta": [2.0, 4.0]},
        num_latents=3,
        network="mlp",
        network_settings={"widths": "128,128", "decoder_widths": "128,128"},
        learning_rate=[2e-3],
        num_steps=3_000,
        checkpoint_every=1_500,
        log_every=1_500,
    )


@pytest.fixture
def synced_when_named(monkeypatch):
    """`watch(name, files)` is a list: whether each of `files()` is on the disk when a file takes
    that name."""
    fsync, replace, synced = os.fsync, os.replace, set()

    def watch(name, files):
        seen = []

        def noted(descriptor):
            fsync(descriptor)
            synced.add(os.fstat(descriptor).st_ino)

        def watched(source, target):
            if os.path.basename(target) == name:
                seen.extend(path.stat().st_ino in synced for path in files())
            replace(source, target)

        monkeypatch.setattr(os, "fsync", noted)
        monkeypatch.setattr(os, "replace", watched)
        return seen

    return watch


@pytest.fixture(scope="session")
def counted_compilations():
    """A context that counts the compilations done inside: a list of their durations."""

    @contextlib.contextmanager
    def count():
        durations = []
        live = True

        def listen(event, duration, **_):
            if live and event == "/jax/core/compile/backend_compile_duration":
                durations.append(duration)

        jax.monitoring.register_event_duration_secs_listener(listen)
        yield durations
        live = False

    return count
