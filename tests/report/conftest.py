"""A page of an untrained population, and a browser to open it with."""

import pathlib
import shutil
from typing import NamedTuple

import jax
import numpy as np
import pytest

from betavae_jax.checks import jsonable
from betavae_jax.evaluation import evaluate
from betavae_jax.fit import feed_of, program_of
from betavae_jax.population import place_runs
from betavae_jax.report import write_report
from betavae_jax.runs.directory import CONFIG, LOG
from betavae_jax.runs.machine import describe_program
from betavae_jax.runs.records import append_log, write_json
from betavae_jax.runs.settings import Settings, build, to_config


class Reported(NamedTuple):
    """A population and its page."""

    workdir: pathlib.Path
    experiment: object
    carry: object
    results: dict
    page: pathlib.Path


def report_of(experiment, workdir, *, change=lambda results: results, scale=2.0):
    """Writes the report of a population as it starts; its parameters are scaled to look alive."""
    program = program_of(experiment)
    feed = feed_of(experiment, program)
    carry = program.init(place_runs(experiment.runs, program.devices), feed.arrays(0))
    params = jax.tree.map(lambda leaf: _scale_runs(leaf, scale), carry.state.params)
    carry = carry._replace(state=carry.state._replace(params=params))
    results = jsonable(evaluate(experiment, program, carry))
    write_json(workdir / CONFIG, to_config(experiment.settings, describe_program(experiment, 1)))
    for row in results["runs"]:
        lines = [
            {"run": row["run"], "step": step, "elbo": -100.0 + step,
             "kl_per_latent": row["kl_per_latent"]}
            for step in (10, 20)
        ]  # fmt: skip
        append_log(workdir / LOG, lines)
    results = change(results)
    page = write_report(workdir, experiment, carry, results)
    return Reported(workdir, experiment, carry, results, page)


def _scale_runs(leaf, scale):
    """Each run a little more than the one before it: they start alike where their seeds are."""
    factors = scale + 0.1 * np.arange(leaf.shape[0] * leaf.shape[1], dtype=np.float32)
    return leaf * factors.reshape(leaf.shape[:2] + (1,) * (leaf.ndim - 2))


@pytest.fixture(scope="session")
def population(make_experiment, tmp_path_factory):
    """Four runs: two β, two seeds."""
    settings = {"coefficients": {"beta": [1.0, 16.0]}, "seed": [0, 1]}
    experiment = make_experiment(network="conv", **settings)  # of the size that people report
    return report_of(experiment, tmp_path_factory.mktemp("population"))


@pytest.fixture(scope="session")
def vector_page(tmp_path_factory):
    """One run on vectors of 20 features, without factors."""
    folder = tmp_path_factory.mktemp("vectors")
    x = np.cumsum(np.random.default_rng(0).normal(size=(60, 20)), axis=1)
    np.savez(folder / "x.npz", x=x.astype(np.float32))
    settings = Settings(
        dataset="arrays",
        data={"data_dir": str(folder / "x.npz")},
        num_latents=2,
        network_settings={"widths": "16", "decoder_widths": "16,16"},
    )
    (folder / "a").mkdir()
    return report_of(build(settings), folder / "a")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    selenium = pytest.importorskip("selenium", reason="needs the package selenium")
    del selenium
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,900",
                 "disable-background-networking", "disable-component-update"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    yield window
    window.quit()
