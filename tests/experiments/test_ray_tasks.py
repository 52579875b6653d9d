"""What a task takes of a Ray cluster, and in which environment it runs."""

import pathlib
import types

import pytest

from betavae_jax.checks import InputError
from betavae_jax.study.plan import Pack, Plan
from experiments import ray_tasks

ROOT = pathlib.Path(__file__).resolve().parents[2]


def cluster(*nodes):
    """A cluster of nodes that live, beside one that is gone."""
    gone = {"Alive": False, "Resources": {"CPU": 64, "GPU": 64}}
    resources = [{"Alive": True, "Resources": node} for node in nodes] + [gone]
    return types.SimpleNamespace(nodes=lambda: resources)


def plan(kind, devices=1, runs=6):
    return Plan((Pack(0, 0, 0, runs),), runs, devices, (), {"device_kind": kind})


@pytest.mark.parametrize(
    ("nodes", "planned", "tasks", "expected"),
    [
        ([{"CPU": 2}], plan("cpu, x"), 8, (1, 0)),  # more tasks than CPUs: one each
        ([{"CPU": 4}, {"CPU": 4}], plan("cpu, x"), 2, (4, 0)),  # fewer: all are used
        ([{"CPU": 1}, {"CPU": 7}], plan("cpu, x"), 2, (1, 0)),  # every node fits a task
        ([{"CPU": 16}], plan("cpu, x", runs=3), 1, (3, 0)),  # no more than there are runs
        ([{}, {"CPU": 1}], plan("cpu, x"), 2, (1, 0)),  # a head that trains nothing
        ([{"CPU": 8, "GPU": 2}], None, 1, (1, 1)),
        ([{"CPU": 8, "GPU": 2}], plan("H100", devices=2), 9, (1, 2)),
        ([{"CPU": 8, "GPU": 2}], plan("cpu, x"), 8, (1, 0)),
    ],
)
def test_the_share_of_a_task(nodes, planned, tasks, expected, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert ray_tasks.share_of(cluster(*nodes), planned, tasks) == expected


@pytest.mark.parametrize(
    ("nodes", "planned", "message"),
    [
        ([{"CPU": 8}] * 2, plan("H100"), "1 GPU and a CPU, which .* of 0 GPUs, 8 CPUs$"),
        (
            [{"CPU": 8, "GPU": 4}, {"CPU": 2}],
            plan("H100", devices=8),
            r"with 8 GPUs and a CPU, which the study was planned for; got nodes of "
            r"0 GPUs, 2 CPUs or 4 GPUs, 8 CPUs$",
        ),
        ([{"GPU": 2}, {"CPU": 2}], None, "with 1 GPU and a CPU; got nodes of"),  # not on one node
        ([{}], plan("cpu, x"), "a CPU, which .* got nodes of 0 GPUs, 0 CPUs$"),
        ([], None, "a CPU; got no node$"),
    ],
)
def test_what_no_node_can_run_is_refused_and_not_waited_for(nodes, planned, message, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(InputError, match=message):
        ray_tasks.share_of(cluster(*nodes), planned, 3)


@pytest.mark.parametrize(
    ("nodes", "share", "tasks", "expected"),
    [
        ([{"CPU": 2}, {"CPU": 3}], (1, 0), 9, 5),
        ([{"CPU": 2}, {"CPU": 3}], (1, 0), 4, 4),
        ([{"CPU": 3}, {"CPU": 3}], (2, 0), 9, 2),  # no task is on two nodes
        ([{"CPU": 9, "GPU": 3}, {"CPU": 9, "GPU": 3}], (1, 2), 9, 2),
        ([{"CPU": 1, "GPU": 4}], (1, 1), 9, 1),
        ([{}], (1, 0), 9, 1),
    ],
)
def test_how_many_tasks_run_at_once(nodes, share, tasks, expected):
    assert ray_tasks.at_once(cluster(*nodes), ray_tasks.Share(*share), tasks) == expected


@pytest.mark.parametrize(
    ("share", "small", "large", "wanted"),
    [
        ((1, 2), {"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 2}, "2 GPUs and a CPU; got nodes of 1 G"),
        ((3, 0), {"CPU": 2}, {"CPU": 4}, "3 CPUs; got nodes of 0 GPUs, 2 CPUs"),
    ],
)
def test_what_is_waited_for_is_told_once(share, small, large, wanted):
    told, nodes = [], [large]
    watched = types.SimpleNamespace(nodes=lambda: cluster(*nodes).nodes())
    look = ray_tasks.watch(watched, ray_tasks.Share(*share), told.append)
    for there in ([large], [large, small], [small], [], [small], [small, large], [large]):
        nodes[:] = there
        look()
    assert len(told) == 2
    assert told[0].startswith(f"waiting for a node of the Ray cluster with {wanted}")
    assert told[1].endswith("again: going on")
    nodes[:] = []
    look()
    assert told[2].endswith("; got no node")


def test_a_task_has_the_settings_of_the_command():
    given = {"XLA_FLAGS": "--a", "BETAVAE_CACHE": "c", "HOME": "h", "RAY_AUTH_TOKEN": "t"}
    env = ray_tasks.environment_of(ray_tasks.Share(2, 0), given)
    assert (env["XLA_FLAGS"], env["BETAVAE_CACHE"]) == ("--a", "c")
    assert (env["NPROC"], env["JAX_NUM_CPU_DEVICES"], env["JAX_PLATFORMS"]) == ("2", "2", "cpu")
    assert env["PYTHONPATH"] == str(ROOT)
    assert not {"HOME", "RAY_AUTH_TOKEN"} & set(env)
    assert "NPROC" not in ray_tasks.environment_of(ray_tasks.Share(1, 1), given)
    forced = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert "JAX_NUM_CPU_DEVICES" not in ray_tasks.environment_of(ray_tasks.Share(1, 0), forced)
