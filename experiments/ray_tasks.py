"""What a task of a Ray cluster takes, what it does, and what it returns."""

import logging
import os
import pathlib
import socket
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from betavae_jax.checks import InputError
from betavae_jax.study.grid import Study
from betavae_jax.study.plan import Plan
from experiments.packs import run_pack
from experiments.planning import plan_study

LOSSES = 10  # of a pack's process or node, before it is given up
_TRAVEL = ("JAX_", "XLA_", "BETAVAE_")  # variables that tasks have as this process has them


class Share(NamedTuple):
    """What a task takes of a node."""

    cpus: int
    gpus: int


class Refused(NamedTuple):
    """What a task returns where its node cannot train."""

    reason: str
    is_input: bool  # whether it can be corrected; otherwise it is trouble with files


def share_of(ray: ModuleType, plan: Plan | None, tasks: int) -> Share:
    """Divides a cluster among tasks.

    The packs of a GPU were cut for so many of them, and a new plan is cut for one. On CPUs bits
    do not depend on how many there are: a task takes one, so that the evaluation of a pack,
    which keeps one busy, stands beside the training of others; it takes more where there are
    fewer tasks than CPUs.

    Raises:
      InputError: If no node of the cluster has what a task takes: Ray would wait for one.
    """
    nodes = _nodes(ray)
    has_gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
    has_gpus &= os.environ.get("JAX_PLATFORMS") != "cpu"
    if plan is not None:
        has_gpus = not str(plan.machine.get("device_kind", "")).startswith("cpu")
    if has_gpus:
        share = Share(1, plan.num_devices if plan else 1)
    else:
        cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1] or [1]
        runs = max((pack.num_runs for pack in plan.packs), default=1) if plan else 1
        share = Share(max(1, min(sum(cpus) // tasks, min(cpus), runs)), 0)
    if not any(_fits(node, share) for node in nodes):
        raise InputError(
            f"expected a node of the Ray cluster with {_say_share(share)}"
            f"{', which the study was planned for' if plan else ''}; got {_say(nodes)}"
        )
    return share


def watch(ray: ModuleType, share: Share, tell: Callable[[str], None]) -> Callable[[], None]:
    """Follows whether the cluster still has a node for a task; Ray waits for one in silence.

    Args:
      ray: Connected to the cluster.
      share: What a task takes.
      tell: Told once that no node holds a task, with what there is, and once that one does again.

    Returns:
      What to call now and then.
    """
    waiting = False

    def look() -> None:
        nonlocal waiting
        nodes = _nodes(ray)
        was_waiting, waiting = waiting, not any(_fits(node, share) for node in nodes)
        if waiting and not was_waiting:
            tell(
                f"waiting for a node of the Ray cluster with {_say_share(share)}; got {_say(nodes)}"
            )
        elif was_waiting and not waiting:
            tell(f"a node of the Ray cluster has {_say_share(share)} again: going on")

    return look


def _say_share(share: Share) -> str:
    cpus = f"{share.cpus} CPUs" if share.cpus > 1 else "a CPU"
    gpus = f"{share.gpus} GPU{'s' if share.gpus > 1 else ''}"
    return f"{gpus} and {cpus}" if share.gpus else cpus


def _say(nodes: Sequence[Mapping[str, float]]) -> str:
    kinds = sorted({f"{node.get('GPU', 0):g} GPUs, {node.get('CPU', 0):g} CPUs" for node in nodes})
    return f"nodes of {' or '.join(kinds)}" if kinds else "no node"


def at_once(ray: ModuleType, share: Share, tasks: int) -> int:
    """How many of some tasks the nodes that live now hold at the same time, one at least."""
    return max(1, min(sum(_fits(node, share) for node in _nodes(ray)), tasks))


def _nodes(ray: ModuleType) -> list[dict[str, float]]:
    """What each node that lives has in all."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _fits(node: Mapping[str, float], share: Share) -> int:
    """How many tasks a node holds."""
    cpus = node.get("CPU", 0) // share.cpus
    return int(min(cpus, node.get("GPU", 0) // share.gpus) if share.gpus else cpus)


def make_task(ray: ModuleType, function: Callable[..., Any], share: Share) -> Any:
    """Makes a task of a function; lost with its process or node, it is started again."""
    return ray.remote(
        num_cpus=share.cpus,
        num_gpus=share.gpus,
        max_retries=LOSSES,
        runtime_env={"env_vars": environment_of(share, os.environ)},
    )(function)


def environment_of(share: Share, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a task: this code, the same settings of JAX and XLA, its CPUs.

    Args:
      share: What the task takes.
      given: The environment of this process.
    """
    chosen = {name: value for name, value in given.items() if name.startswith(_TRAVEL)}
    here = str(pathlib.Path(__file__).resolve().parents[1])
    chosen["PYTHONPATH"] = os.pathsep.join(filter(None, [here, given.get("PYTHONPATH")]))
    if share.gpus:
        return chosen
    chosen |= {"JAX_PLATFORMS": "cpu", "NPROC": str(share.cpus)}  # NPROC: the threads of XLA
    if "xla_force_host_platform_device_count" not in chosen.get("XLA_FLAGS", ""):
        chosen.setdefault("JAX_NUM_CPU_DEVICES", str(share.cpus))
    return chosen


def plan_task(cwd: str, workdir: pathlib.Path, study: Study, choices: dict[str, Any]) -> Any:
    """Calls `plan_study` in the directory `cwd`."""
    return _guarded(cwd, lambda: plan_study(workdir, study, **choices))


def pack_task(cwd: str, workdir: pathlib.Path, number: int, bits: dict[str, Any]) -> Any:
    """Calls `run_pack` in the directory `cwd`."""
    return _guarded(cwd, lambda: run_pack(workdir, number, **bits))


def _guarded(cwd: str, call: Callable[[], Any]) -> Any:
    """Calls in the directory of the command; what its node refuses is returned, not raised."""
    logging.getLogger("absl").setLevel(logging.WARNING)  # Orbax tells a page at every save
    node = f"on node {socket.gethostname()}"
    try:
        os.chdir(cwd)
    except OSError as error:
        return Refused(f"expected {cwd} on every node; {error.strerror} {node}", True)
    try:
        return call()
    except InputError as error:
        return Refused(f"{error} ({node})", True)
    except OSError as error:
        return Refused(f"{error} ({node})", False)
