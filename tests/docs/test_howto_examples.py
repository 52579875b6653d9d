"""The files of the how-to page are an objective, a metric and a data set as they stand there."""

import json
import subprocess
import sys
import types

import numpy as np
import pytest

from betavae_jax.data import DATASETS
from betavae_jax.fit import Hooks, feed_of, fit, program_of
from betavae_jax.metrics import METRICS, evaluate_metrics
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.runs.settings import Settings, build

PAGE = "docs/how-to/adding.md"
SMALL = {"num_steps": 20, "batch_size": 8, "num_latents": 2, "network": "mlp"}
FLAGS = [
    "--num_steps=20", "--batch_size=8", "--num_latents=3", "--image_size=16",
    "--network_channels=4,4", "--network_widths=8", "--notensorboard",
]  # fmt: skip


@pytest.fixture
def shown(monkeypatch, shown_files):
    """What the files define, once they have been imported; the registries forget it afterwards."""
    registries = {"free_bits": OBJECTIVES, "linear_readout": METRICS, "rings": DATASETS}
    files = shown_files(PAGE)
    assert [name.removesuffix(".py") for name in files] == list(registries)
    modules = {}
    for name, code in files.items():
        module = types.ModuleType(name.removesuffix(".py"))
        registry = registries[module.__name__]
        monkeypatch.setitem(registry, module.__name__, None)
        exec(compile(code, name, "exec"), module.__dict__)
        assert callable(registry[module.__name__])
        modules[module.__name__] = module
    return modules


def test_an_objective_and_a_data_set_of_ones_own_are_trained_as_any_other(shown):
    experiment = build(
        Settings(
            dataset="rings",
            data={"image_size": 16, "num_radii": 4},
            objective="free_bits",
            coefficients={"free_nats": [0.0, 2.0]},
            network_settings={"widths": "16"},
            **SMALL,
        )
    )
    space = experiment.splits.train.space
    assert space.full_grid
    assert space.sizes == (16, 4)
    program = program_of(experiment)
    seen = []
    hooks = Hooks(on_log=lambda step, means, carry: seen.append(means))
    fitted = fit(
        program, experiment.runs, feed_of(experiment, program), num_steps=SMALL["num_steps"],
        log_every=SMALL["num_steps"], hooks=hooks, show_progress=False,
    )  # fmt: skip
    assert fitted.step == SMALL["num_steps"]
    (means,) = seen
    # Without a floor the loss is the negative ELBO; with one, each latent pays for it at least.
    paid = means.extras["paid_rate"]
    np.testing.assert_allclose(paid[0], means.rate[0], rtol=1e-6)
    assert paid[1] >= 2 * 2.0
    np.testing.assert_allclose(means.loss, means.distortion + paid, rtol=1e-6)


def test_a_metric_of_ones_own_is_computed_as_any_other(shown):
    factors = np.random.default_rng(0).integers(0, 5, (400, 2))
    codes = factors @ np.array([[2.0, 1.0], [0.0, -1.0]])
    (scored,) = evaluate_metrics(
        ["linear_readout", "mig"], codes[None], factors, codes[None], factors
    )
    assert scored.refused == {}
    assert scored.results["linear_readout"].value == pytest.approx(1.0)
    json.dumps(scored.results["linear_readout"].to_json(), allow_nan=False)


@pytest.mark.slow
def test_the_files_are_drivers(tmp_path, shown_files):
    for name, code in shown_files(PAGE).items():
        (tmp_path / name).write_text(code)

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    swept = ["--objective=free_bits", "--free_nats=0.1,0.5", "--blob_grid=8", "--blob_margin=4"]
    assert "free_nats=0.5" in run("free_bits.py", *swept, "--workdir=runs/free_bits", *FLAGS)
    assert "report:" in run("rings.py", "--dataset=rings", "--num_radii=4", "--beta=4",
                            "--workdir=runs/rings", *FLAGS)  # fmt: skip
    assert "--num_radii" in run("rings.py", "--help")
    codes = np.random.default_rng(0).normal(size=(600, 3))
    np.savez(tmp_path / "codes.npz", codes=codes, factors=(codes[:, :1] > 0).astype(int))
    scored = run("linear_readout.py", "--codes=codes.npz", "--metrics=linear_readout")
    assert "linear_readout" in scored
