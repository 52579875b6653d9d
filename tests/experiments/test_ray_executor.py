"""Packs as tasks: refusals, and two real nodes, one of them killed."""

import contextlib
import importlib.util
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from betavae_jax.checks import InputError
from experiments import ray_executor, ray_tasks
from experiments.packs import PackEnd

ROOT = pathlib.Path(__file__).resolve().parents[2]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (the extra ray)"
)
STUDY = """
metrics = ["none"]
[settings]
batch_size = 8
num_latents = 3
num_steps = {steps}
log_every = 50
checkpoint_every = 50
seed = [0, 1]
network = "mlp"
[settings.network_settings]
widths = "64"
decoder_widths = "64"
[settings.data]
image_size = 16
blob_grid = 8
blob_margin = 4.0
blob_sigma = 1.5
[[sweep]]
objective = "beta_vae"
coefficients = {{beta = [1.0, 2.0, 4.0, 8.0]}}
[[sweep]]
objective = "beta_tcvae"
coefficients = {{beta = [1.0, 2.0, 4.0, 8.0]}}
[[sweep]]
objective = "dip_vae_i"
coefficients = {{lambda_od = [1.0, 2.0, 4.0, 8.0]}}
"""


def test_what_a_node_refuses_is_returned(tmp_path):
    refused = ray_tasks.pack_task(str(tmp_path), tmp_path / "none", 0, {})
    assert refused.is_input
    assert socket.gethostname() in refused.reason
    with pytest.raises(InputError, match="to be a study with a plan"):
        ray_executor._accept(refused)
    missing = ray_tasks.pack_task(str(tmp_path / "gone"), tmp_path, 0, {})
    assert "on every node" in missing.reason
    with pytest.raises(OSError, match="full"):
        ray_executor._accept(ray_tasks.Refused("full", False))
    assert ray_executor._accept(PackEnd("finished", 1, 0)).step == 1


def test_ray_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"betavae_jax\[ray\]"), ray_executor.on_cluster():
        pass


@pytest.mark.parametrize("address", ["nowhere", "host:port", "ray://host:10001", ":6379"])
def test_an_address_that_is_none(address):
    with pytest.raises(InputError, match="HOST:PORT"):
        ray_executor._check_address(address)


def test_an_address_that_nobody_answers():
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1 .*refused"):
        ray_executor._check_address("127.0.0.1:1")


@needs_ray
def test_an_address_that_is_another_service(monkeypatch):
    monkeypatch.setattr(ray_executor, "_SECONDS_TO_ATTACH", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=address):
            ray_executor._check_address(address)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--executor=ray", "--shard=0/2"], "either --shard or --executor=ray"),
        (["--ray_address=127.0.0.1:1"], "with --executor=ray"),
    ],
)
def test_flags_that_exclude_each_other(flags, reason, tmp_path):
    ended = sweep(tmp_path / "w", {}, "--objective=beta_vae", *flags)
    assert ended.returncode == 2
    assert reason in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "w").exists()


@needs_ray
def test_a_cluster_of_our_own_is_protected_and_leaves_nothing_at_home(tmp_path):
    code = (
        "import os\n"
        "from experiments.ray_executor import on_cluster\n"
        "with on_cluster():\n"
        "    import ray\n"
        "    print(ray.cluster_resources()['CPU'] >= 1, os.environ['RAY_AUTH_MODE'])\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=90
    )
    assert (ended.returncode, ended.stdout) == (0, "True token\n"), ended.stderr[-2000:]
    assert not (tmp_path / ".ray").exists()


def sweep(workdir, env, *flags):
    command = [sys.executable, "-m", "experiments.sweep", f"--workdir={workdir}", *flags]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=400
    )


def digests(workdir):
    """By what a run is: two plans may cut a study differently."""
    sweeps = json.loads((workdir / "study.json").read_text())["sweeps"]
    packs = json.loads((workdir / "plan.json").read_text())["packs"]
    found = {}
    for path in workdir.glob("packs/*/results.json"):
        objective = sweeps[packs[int(path.parent.name)]["sweep"]]["objective"]
        for row in json.loads(path.read_text())["runs"]:
            coefficients = tuple(sorted(row["coefficients"].items()))
            found[objective, coefficients, row["seed"]] = row["params_sha256"]
    return found


def in_progress(workdir):
    """The packs that have a checkpoint and are not finished."""
    begun = {path.parents[1] for path in workdir.glob("packs/*/checkpoints/[0-9]*")}
    return [pack for pack in begun if not (pack / "results.json").exists()]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def two_nodes():
    """Two nodes of a CPU each: (address, environment, process of the second)."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # paths of sockets are short
    env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env["RAY_USAGE_STATS_ENABLED"] = "0"
    port, nodes = free_port(), []
    common = ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--block"]
    common += ["--object-store-memory=100000000", "--disable-usage-stats"]
    head = ["--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false"]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    try:
        for flags in (head, [f"--address=127.0.0.1:{port}"]):
            log = (pathlib.Path(folder) / f"node{len(nodes)}.txt").open("w")
            nodes.append(
                subprocess.Popen(
                    [*ray, *flags, *common],
                    env={**os.environ, **env},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
            log.close()
            wait_for_node(port, folder, len(nodes))
        yield f"127.0.0.1:{port}", env, nodes[1]
    finally:
        for node in nodes:
            kill_tree(node)


def wait_for_node(port, folder, count):
    log = pathlib.Path(folder) / f"node{count - 1}.txt"
    end = time.monotonic() + 40
    while "Ray runtime started" not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def children(pid):
    found = []
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            found += [*children(int(child)), int(child)]
    return found


def kill_tree(process):
    """Kills a node with all that it started, as a power cut does."""
    if process.poll() is not None:
        return
    for pid in [*children(process.pid), process.pid]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    process.wait(timeout=10)


@needs_ray
@pytest.mark.slow
def test_a_node_killed_midway_changes_no_bit(tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(steps=1000))
    flags = [f"--study={study}", "--runs_per_device=4"]
    alone = sweep(tmp_path / "alone", {"XLA_FLAGS": ""}, *flags)
    assert alone.returncode == 0, alone.stderr
    workdir = tmp_path / "ray"
    with two_nodes() as (address, env, second):
        driver = subprocess.Popen(
            [sys.executable, "-m", "experiments.sweep", f"--workdir={workdir}", *flags,
             "--executor=ray", f"--ray_address={address}"],
            cwd=ROOT, env={**os.environ, **env, "XLA_FLAGS": ""}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            end = time.monotonic() + 120
            while len(in_progress(workdir)) < 2:  # each node has one CPU: both train
                assert driver.poll() is None, driver.communicate()
                assert time.monotonic() < end
                time.sleep(0.1)
            kill_tree(second)
            interrupted = in_progress(workdir)
            output = driver.communicate(timeout=300)
        finally:
            driver.kill()
    assert driver.returncode == 0, output
    assert len(interrupted) >= 2  # one of them is the killed node's
    expected = digests(tmp_path / "alone")
    assert len(expected) == len(set(expected.values())) == 24
    assert digests(workdir) == expected
