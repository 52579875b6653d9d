"""The packs of a study as tasks of a Ray cluster, on any number of hosts.

A task is one pack and nothing else: what it has done stands in the study's directory, which all
nodes share. A task that is lost with its process or its node is started again by Ray, and goes
on from the pack's last checkpoint.
"""

import contextlib
import logging
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from betavae_jax.checks import InputError
from betavae_jax.fit import listen
from betavae_jax.study.grid import Study
from betavae_jax.study.ledger import BEGUN, FINISHED, PackState, read_pack
from betavae_jax.study.plan import Pack, Plan, read_plan, read_study
from experiments.packs import PackEnd
from experiments.ray_tasks import (
    LOSSES,
    Refused,
    at_once,
    make_task,
    pack_task,
    plan_task,
    share_of,
    watch,
)
from experiments.shares import WAITS
from experiments.study_bar import StudyBar

_SECONDS_A_LOOK = 3.0  # at the ledger
_SECONDS_TO_SAVE = 25.0  # less than the 30 that Kubernetes leaves
_SECONDS_TO_CONNECT = 10.0
_SECONDS_TO_ATTACH = 40.0
_STORE = 100 * 2**20  # bytes; what tasks return is small

# Ray ends a process that cannot connect, after a page of text: another process tries first.
_ATTACH = """
import logging, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
"""


class Executor(NamedTuple):
    """Who plans a study and trains its packs: calls with the arguments of these."""

    plan_study: Callable[..., tuple[Study, Plan]]  # as `planning.plan_study`
    train_packs: Callable[..., PackEnd]  # as `shares.train_packs`


class Work(NamedTuple):
    """What can be done with the packs of a study, by their numbers."""

    submit: Callable[[int], Any]  # starts a task of one; its reference
    look: Callable[[Iterable[int]], list[PackState]]  # how far some have come
    at_once: Callable[[int], int]  # how many of so many tasks run now at the same time
    watch: Callable[[], None]  # tells that no node can run one, and that one can again


@contextlib.contextmanager
def on_cluster(address: str | None = None) -> Iterator[Executor]:
    """Gives an executor on a Ray cluster, to which this process is connected meanwhile.

    Args:
      address: HOST:PORT of a cluster of which this host is a node; None starts one, of this
        host alone, which ends with the context.

    Yields:
      The executor. Planning is a task too, so that it measures the hardware that trains.

    Raises:
      InputError: If Ray is not installed, or there is no such cluster.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if address is None:
        _protect()  # before Ray is imported: it reads its mode then
    ray = _import_ray()
    if address is not None:
        _check_address(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init("local", include_dashboard=False, object_store_memory=_STORE, **quiet)
        else:
            ray.init(address, **quiet)
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own in place
        yield Executor(
            lambda *args, **kwargs: _plan(ray, *args, **kwargs),
            lambda *args, **kwargs: _train(ray, *args, **kwargs),
        )
    finally:
        ray.shutdown()


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A task without GPUs is told to use none by JAX_PLATFORMS.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "expected Ray for --executor=ray; it is missing (pip install 'betavae_jax[ray]')"
        ) from None
    return ray


def _protect() -> None:
    """Gives a cluster of our own a token of its own, unless the environment says otherwise.

    Without one, whoever reaches the ports of a cluster runs code in it; left to itself, Ray
    writes a token into the home directory, where it decides over later clusters.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _check_address(address: str) -> None:
    """Raises InputError, naming the address, unless a cluster answers there."""
    expected = "expected ray_address to be HOST:PORT of a Ray cluster that this host belongs to"
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InputError(f"{expected}; got {address!r}")
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"{expected}; got {address} ({error})") from None
    try:
        command = [sys.executable, "-c", _ATTACH, address]
        tried = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS_TO_ATTACH
        )
    except subprocess.TimeoutExpired:
        reason = f"it is none that answers within {_SECONDS_TO_ATTACH:.0f} s"
        raise InputError(f"{expected}; got {address} ({reason})") from None
    if tried.returncode:
        last = tried.stderr.strip().splitlines()[-1:] or ["it is none"]
        raise InputError(f"{expected}; got {address} ({last[0][:200]})")


def _plan(
    ray: ModuleType, workdir: pathlib.Path, study: Study, **choices: Any
) -> tuple[Study, Plan]:
    """Calls `plan_study` on a node, on one GPU or one CPU, or as many as a plan was cut for."""
    share = share_of(ray, _standing_plan(workdir), 1)
    task, look = make_task(ray, plan_task, share), watch(ray, share, _tell)
    with listen() as signals:
        ref = task.remote(os.getcwd(), workdir.absolute(), study, choices)
        while not ray.wait([ref], timeout=1.0)[0]:
            look()
            if signals:
                ray.cancel(ref)
                os.kill(os.getpid(), signals[0])  # nothing is there yet that could be saved
    planned: tuple[Study, Plan] = _accept(ray.get(ref))
    return planned


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _train(
    ray: ModuleType,
    workdir: pathlib.Path,
    study: Study,
    packs: Sequence[Pack],
    **bits: bool,
) -> PackEnd:
    """Trains packs as tasks; returns as `shares.train_packs` does."""
    states = [read_pack(workdir, study, pack) for pack in packs]
    to_do = [state for state in states if state.state != FINISHED]
    if not to_do:
        return PackEnd("finished", 0, 0)
    share = share_of(ray, _standing_plan(workdir), len(to_do))
    task = make_task(ray, pack_task, share)
    by_number = {state.pack.number: state.pack for state in to_do}
    bar = StudyBar(study, states, workers=at_once(ray, share, len(to_do)))
    work = Work(
        lambda number: task.remote(os.getcwd(), workdir.absolute(), number, bits),
        lambda numbers: [read_pack(workdir, study, by_number[number]) for number in numbers],
        lambda tasks: at_once(ray, share, tasks),
        watch(ray, share, bar.tell),
    )
    try:
        with listen() as signals:
            return _drive(ray, to_do, bar, work, signals)
    finally:
        bar.close()


def _drive(
    ray: ModuleType,
    to_do: Sequence[PackState],
    bar: StudyBar,
    work: Work,
    signals: Sequence[int],
) -> PackEnd:
    """Follows tasks until all are done or a signal comes."""
    running = {work.submit(state.pack.number): state.pack.number for state in to_do}
    steps = {state.pack.number: state.step for state in to_do}
    begun: set[int] = set()
    held: dict[int, float] = {}  # packs in use elsewhere: when to try again
    tries = dict.fromkeys(steps, 0)
    looked = time.monotonic()
    try:
        while (running or held) and not signals:
            if not running:
                time.sleep(1.0)
            for ref in ray.wait(list(running), timeout=1.0)[0] if running else []:
                number = running.pop(ref)
                end = _result(ray, ref, number)
                if end.status == "finished":
                    bar.end(number)
                elif tries[number] < len(WAITS):  # in use, or a signal came to the task's process
                    held[number] = time.monotonic() + WAITS[tries[number]]
                    tries[number] += 1
            for number in [n for n, when in held.items() if when <= time.monotonic()]:
                del held[number]
                running[work.submit(number)] = number
            if time.monotonic() - looked > _SECONDS_A_LOOK:
                bar.workers = work.at_once(len(running) + len(held))  # nodes come and go
                work.watch()
                _show(bar, work.look(running.values()), steps, begun)
                looked = time.monotonic()
    finally:  # of a signal, or an error of one of the tasks
        _cancel(ray, list(running))
    last = work.look(steps)
    if signals:
        reached = [state.step for state in last if state.state == BEGUN]
        return PackEnd("stopped", min(reached, default=0), signals[0])
    is_whole = all(state.state == FINISHED for state in last)
    return PackEnd("finished" if is_whole else "busy", 0, 0)


def _show(
    bar: StudyBar, states: Sequence[PackState], steps: dict[int, int], begun: set[int]
) -> None:
    """Moves the bar to the latest checkpoints: they are there whatever became of a node."""
    for state in states:
        number = state.pack.number
        if state.state == BEGUN and state.step > steps[number]:
            if number not in begun:
                bar.begin(number)
                begun.add(number)
            bar.at(number, state.step)
            steps[number] = state.step


def _cancel(ray: ModuleType, refs: list[Any]) -> None:
    """Interrupts tasks as Ctrl-C does, and waits until they have saved."""
    for ref in refs:
        ray.cancel(ref)
    if refs:
        ray.wait(refs, num_returns=len(refs), timeout=_SECONDS_TO_SAVE)


def _result(ray: ModuleType, ref: Any, number: int) -> PackEnd:
    """What a task returned.

    Raises:
      InputError: If its node refused.
      OSError: If it was lost too often, or there was trouble with files.
    """
    try:
        returned = ray.get(ref)
    except ray.exceptions.RayTaskError:
        raise  # a defect keeps its traceback
    except ray.exceptions.RayError as error:
        first = str(error).strip().split("\n")[0]
        raise OSError(f"pack {number} was lost {LOSSES + 1} times; {first}") from None
    end: PackEnd = _accept(returned)
    return end


def _accept(returned: Any) -> Any:
    if not isinstance(returned, Refused):
        return returned
    raise InputError(returned.reason) if returned.is_input else OSError(returned.reason)


def _standing_plan(workdir: pathlib.Path) -> Plan | None:
    study = read_study(workdir)
    return read_plan(workdir, study) if study else None
