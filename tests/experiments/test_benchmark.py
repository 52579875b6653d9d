"""The speed suite: counts by hand, ratios, contenders that fail, faithful peers."""

import json
import os
import resource
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.fit import SECONDS_A_CHUNK
from betavae_jax.gaussian import kl_per_latent
from betavae_jax.likelihoods import bernoulli
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS
from betavae_jax.types import Posterior
from experiments.bench import floors, groups, suite
from experiments.bench.contenders import MAKERS, Entry
from experiments.bench.measure import Worker, measure_group
from experiments.bench.precision import compare
from experiments.bench.table import group_rows, markdown, plot, ratio
from experiments.peers import flax_vae

SHORT = {"rounds": 2, "seconds": 0.01}


def soon():
    return time.monotonic() + 100


def test_flops_and_bytes_of_a_layer_are_those_counted_by_hand():
    found = {layer.name: layer for layer in floors.layers()}
    # 16×16 outputs, 4×4 taps, 32 channels to 32.
    assert found["conv_1"].products == 256 * 16 * 32 * 32
    assert (found["conv_1"].inputs, found["conv_1"].outputs) == (32 * 32 * 32, 16 * 16 * 32)
    assert found["transposed_2"].products == found["conv_1"].products
    assert found["transposed_2"].outputs == found["conv_1"].inputs
    assert found["conv_0"].inputs == 64 * 64
    assert found["feature_map"].weights == 256 * 1024
    forward = sum(layer.products for layer in found.values())
    assert floors.step_flops(2) == 2 * 2 * (3 * forward - found["conv_0"].products)
    # Adam's traffic does not grow with the batch, and stays in float32.
    weights = sum(layer.weights for layer in found.values())
    assert 2 * floors.step_bytes(1) - floors.step_bytes(2) == 4 * 7 * weights
    single, half = floors.step_bytes(64), floors.step_bytes(64, 2)
    assert single - 28 * weights == 2 * (half - 28 * weights)


def test_the_count_of_flops_is_that_of_xla_for_plain_convolutions():
    network = NETWORKS["conv_locatello"]((64, 64, 1), 10, convolution="lax")
    model = make_model(network, bernoulli())
    params = jax.eval_shape(model.init, jax.random.key(0))
    x, z = jax.ShapeDtypeStruct((2, 64, 64, 1), "float32"), jax.ShapeDtypeStruct((2, 10), "float32")
    counted = sum(
        jax.jit(function).lower(params, argument).cost_analysis()["flops"]
        for function, argument in ((model.encode, x), (model.decode, z))
    )
    expected = 2 * 2 * sum(layer.products for layer in floors.layers())
    # XLA leaves out the taps that meet the padding, and counts activations.
    assert 0.85 * expected < counted < 1.05 * expected


def test_floors_are_work_over_rates():
    rates = {"float32_flops_a_second": 1e12, "bytes_a_second": 1e9}
    floor = floors.floors(rates, 64, 2, "float32")
    assert floor["arithmetic_s"] == 2 * floors.step_flops(64) / 1e12
    assert floor["traffic_s"] == 2 * floors.step_bytes(64) / 1e9 == floor["floor_s"]


def test_a_rate_of_memory_is_not_that_of_fresh_pages():
    megabytes = 64
    pages = megabytes * 1_000_000 / resource.getpagesize()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    floors.best_seconds(lambda x: x + 1, jnp.zeros(megabytes * 250_000))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 5 * pages  # of the arrays to begin with; each pass is 25 times all of them


def test_rates_are_positive():
    rates = floors.measure_rates(size=64, megabytes=1)
    assert set(rates) >= {"float32_flops_a_second", "bf16_flops_a_second", "bytes_a_second"}
    assert min(rates.values()) > 0


def test_ratios_are_of_rounds():
    assert ratio([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == 1.0
    assert ratio([1.0, 3.0], [4.0]) == 0.5


@pytest.fixture
def sleepers(monkeypatch, tmp_path):
    """Contenders of a module of their own, which need no compiler."""
    folder = tmp_path / "experiments_for_tests"
    folder.mkdir()
    folder.joinpath("sitecustomize.py").write_text(
        "import os, time\n"
        "from experiments.bench import contenders\n"
        "def sleeper(step=0.001, fail_after=None, log=os.devnull):\n"
        "    left = [fail_after]\n"
        "    print(os.getpid(), file=open(log, 'a'))\n"
        "    def advance(count):\n"
        "        if left[0] is not None:\n"
        "            left[0] -= 1\n"
        "            if left[0] < 0:\n"
        "                raise ValueError('out of patience')\n"
        "        time.sleep(step * count)\n"
        "    facts = {'known': 1, 'cache': os.environ.get('JAX_COMPILATION_CACHE_DIR')}\n"
        "    return contenders.Contender(advance, facts, 2)\n"
        "contenders.MAKERS['sleeper'] = sleeper\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{folder}:.")


def test_contenders_are_measured_and_failures_told_apart(sleepers):
    results = measure_group(
        {
            "fast": Entry("sleeper", {"step": 0.0005}, runs=3),
            "slow": Entry("sleeper", {"step": 0.002}),
            "never": Entry("sleeper", {"nonsense": 1}),
            "not for long": Entry("sleeper", {"fail_after": 4}),
        },
        deadline=soon(),
        **SHORT,
    )
    assert len(results["fast"]["step_s"]) == 2
    assert results["fast"]["known"] == 1
    assert results["fast"]["runs"] == 3
    assert results["fast"]["steps_a_round"] % 2 == 0
    assert 2 < results["slow"]["median_s"] / results["fast"]["median_s"] < 6
    assert "nonsense" in results["never"]["failed"]
    assert "out of patience" in results["not for long"]["failed"]
    assert "median_s" not in results["not for long"]
    text = markdown({"groups": {"one_run": results}, "titles": {"one_run": "One run"}})
    assert "out of patience" in text
    assert "| fast | 0." in text


def test_rounds_are_shared_by_fresh_processes(sleepers, tmp_path):
    entries = {
        "well": Entry("sleeper", {"log": str(tmp_path / "well.txt")}),
        "unable": Entry("sleeper", {"log": str(tmp_path / "unable.txt"), "fail_after": 3}),
    }
    results = measure_group(entries, deadline=soon(), rounds=4, seconds=0.01, starts=3)
    assert len(results["well"]["step_s"]) == 4
    assert results["well"]["known"] == 1
    assert len(set(tmp_path.joinpath("well.txt").read_text().split())) == 3
    assert "out of patience" in results["unable"]["failed"]
    assert len(tmp_path.joinpath("unable.txt").read_text().split()) == 1  # not tried again
    assert "median_s" not in results["unable"]


def test_starts_for_which_no_time_is_left_are_left_out(sleepers):
    entries = {"slow": Entry("sleeper", {"step": 0.5})}
    results = measure_group(entries, deadline=time.monotonic() + 8, rounds=8, seconds=3, starts=8)
    assert 1 <= len(results["slow"]["step_s"]) < 8
    assert "failed" not in results["slow"]


def test_the_overhead_of_a_chunk_is_what_is_not_its_steps():
    parts = {"a chunk of 1 step": {"median_s": 0.08}, "a chunk of 11 steps": {"median_s": 0.58}}
    derived = suite._derived({"parts_1": parts})
    assert derived["chunk_overhead"] == pytest.approx(0.03 / SECONDS_A_CHUNK)
    del parts["a chunk of 11 steps"]["median_s"]
    assert "chunk_overhead" not in suite._derived({"parts_1": parts})


def test_the_spread_of_rounds_is_told():
    results = {
        "ours": {"runs": 1, "step_s": [1.0, 2.0, 3.0], "median_s": 2.0, "first_call_s": 1.0},
        "other": {"runs": 1, "step_s": [2.0, 2.0, 2.0], "median_s": 2.0, "first_call_s": 1.0},
    }
    assert "| 1.00 (0.50 to 1.50) |" in group_rows(results)[-1]


def test_a_contender_that_is_not_ready_in_time_has_failed(sleepers):
    entries = {"late": Entry("sleeper", {"step": 60.0})}
    results = measure_group(entries, deadline=time.monotonic() + 2, **SHORT)
    assert results["late"]["failed"] == "no answer in time"
    results = measure_group(entries, deadline=time.monotonic() - 1, **SHORT)
    assert "could start" in results["late"]["failed"]


def test_a_worker_that_was_killed_is_reported(sleepers):
    worker = Worker(Entry("sleeper"))
    worker.answer(100)
    worker._process.kill()
    with pytest.raises(Exception, match="ended with code -9"):
        worker.advance(1)
    worker.stop()


def test_groups_name_contenders_that_exist():
    known = {
        "one_run": {"ours, lax": {"median_s": 1.0}, "ours, kernels": {"median_s": 0.5}},
        "population": {"float32, matmul": {"median_s": 1.0}, "bf16, kernels": {"failed": "no"}},
    }
    assert groups.fastest_form(known, "one_run") == "kernels"
    assert groups.fastest_form(known, "population", "bf16, ") == "auto"
    for members in groups.SUITES.values():
        assert len({group.name for group in members}) == len(members)
        for group in members:
            entries = group.entries(known)
            assert entries
            assert {entry.maker for entry in entries.values()} <= set(MAKERS)
            json.dumps({name: entry._asdict() for name, entry in entries.items()})


def test_a_suite_writes_its_figures(sleepers, monkeypatch, tmp_path):
    def entries(known):
        return {"ours, matmul": Entry("sleeper"), "PyTorch": Entry("sleeper", {"step": 0.002})}

    def rates(known):
        return {"rates": Entry("sleeper")}

    members = (
        groups.Group("rates", "Rates", rates, 1, 0.01),
        groups.Group("one_run", "One run", entries, 2, 0.01),
    )
    monkeypatch.setitem(suite.SUITES, "gpu", members)
    output = tmp_path / "figures.json"
    told = suite.run_suite("gpu", 100.0, output, ["one_run"])
    figures = json.loads(output.read_text())
    assert figures == told
    assert "| PyTorch | " in markdown(figures)
    plot(figures, output.with_suffix(".png"))
    assert set(figures["groups"]) == {"rates", "one_run"}
    caches = {r["cache"] for results in figures["groups"].values() for r in results.values()}
    assert len(caches) == 1  # one for all processes, and not the session's
    assert caches != {os.environ["JAX_COMPILATION_CACHE_DIR"]}
    assert set(figures["derived"]["seconds_of_300000_steps"]) == {"ours, matmul", "PyTorch"}
    assert output.with_suffix(".png").stat().st_size > 1000
    plot({"groups": {"rates": {}}, "titles": {}}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_no_group_starves_those_after_it(sleepers, monkeypatch, tmp_path):
    def stuck(known):
        return {"quick": Entry("sleeper"), "stuck": Entry("sleeper", {"step": 300.0})}

    members = (
        groups.Group("stuck", "Stuck", stuck, 2, 0.01, share=2),
        groups.Group("after", "After", lambda known: {"quick": Entry("sleeper")}, 2, 0.01, share=1),
    )
    monkeypatch.setitem(suite.SUITES, "gpu", members)
    monkeypatch.setitem(suite._SHARES_OF_COMPILATION, "gpu", 1.0)
    left = lambda options, deadline: {"left": deadline - time.monotonic()}  # noqa: E731
    monkeypatch.setattr(suite, "measure_compilation", left)
    figures = suite.run_suite("gpu", 16.0, tmp_path / "figures.json", [])
    results = figures["groups"]
    assert results["stuck"]["stuck"]["failed"] == "no answer in time"
    assert len(results["stuck"]["quick"]["step_s"]) == 1  # what was ready has had a turn
    assert len(results["after"]["quick"]["step_s"]) == 2
    assert 8 <= figures["group_seconds"]["stuck"] < 10  # its half, and that turn
    # What the second left of its quarter goes to the last.
    assert figures["compilation"]["left"] > 16 - 10 - figures["group_seconds"]["after"]


def test_ours_and_a_part_are_measured_in_turn(tmp_path):
    command = [sys.executable, "-m", "experiments.benchmark", "--network=mlp", "--batch_size=2",
               "--part=gather", "--rounds=1", "--seconds=0.01",
               "--output", str(tmp_path / "figures.json")]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    measured = json.loads((tmp_path / "figures.json").read_text())["contenders"]
    assert list(measured) == ["ours", "gather"]
    assert 0 < measured["gather"]["median_s"] < measured["ours"]["median_s"]
    assert "| gather | " in ended.stdout


def test_an_unknown_suite_is_refused():
    # In a process of its own: drivers' flags share one name space.
    command = [sys.executable, "-m", "experiments.benchmark", "--suite=tpu"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "expected suite to be one of cpu, gpu; got 'tpu'" in ended.stderr


def test_plain_flax_is_our_network_and_loss():
    model = make_model(NETWORKS["conv_locatello"]((64, 64, 1), 10), bernoulli())
    params = jax.jit(model.init)(jax.random.key(1))
    theirs = {"encoder": params["encoder"], "decoder": params["decoder"]["network"]}
    x = jax.random.uniform(jax.random.key(2), (2, 64, 64, 1))
    key = jax.random.key(3)

    @jax.jit
    def both(params, theirs):
        posterior = model.encode(params, x)
        mean, log_variance = flax_vae.Encoder(10).apply({"params": theirs["encoder"]}, x)
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        logits = flax_vae.Decoder().apply({"params": theirs["decoder"]}, z)
        rate = kl_per_latent(Posterior(mean, log_variance)).sum(axis=1)
        ours = jnp.mean(4.0 * rate - model.log_likelihood(model.decode(params, z), x))
        loss = flax_vae.negative_elbo(theirs, x, key, 10, 4.0)
        return (posterior.mean, posterior.log_variance, model.decode(params, z), ours), (
            mean, log_variance, logits, loss)  # fmt: skip

    for ours, other in zip(*both(params, theirs), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


def test_precisions_are_compared_seed_by_seed():
    figures = compare(np.asarray([-100.0, -50.0]), np.asarray([-101.0, -50.0]))
    assert figures["difference_percent"] == -0.5
    assert figures["standard_error_percent"] == pytest.approx(0.5)
    assert figures["within_tolerance"]
    assert not compare(np.ones(2), np.full(2, 1.1))["within_tolerance"]
