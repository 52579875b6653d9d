"""Measures the training step, in turn with its peers, and prints ratios within one run.

  python -m experiments.benchmark                 # ours alone
  python -m experiments.benchmark --peer=torch    # beside PyTorch eager, NCHW and channels_last

Each contender is a process of its own that waits while another works. A round lets
each take the same number of steps; the ratio is the median over rounds of ours / peer.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from betavae_jax.checks import check_name
from experiments import cli

PEERS = {"torch": ("torch", "torch_channels_last")}

_PEER = flags.DEFINE_list("peer", [], f"Frameworks to measure beside ours: {', '.join(PEERS)}.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds in turn.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 20, "Steps of each contender in a round.", lower_bound=1)
_NETWORK = flags.DEFINE_string("network", "conv_locatello", "The network of both.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Examples in a batch.", lower_bound=1)
_RUNS = flags.DEFINE_integer("runs", 1, "Runs of ours in one program.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "A JSON file for the figures.")
_WORKER = flags.DEFINE_string("worker", None, "Internal: the contender that this process is.")


def _make_ours() -> Callable[[int], None]:
    import jax
    import numpy as np

    from betavae_jax.fit import program_of
    from betavae_jax.population import place_runs, replicate
    from betavae_jax.runs.settings import Settings, build

    experiment = build(
        Settings(
            data={"image_size": 64, "blob_margin": 10.0, "blob_sigma": 4.0},
            network=_NETWORK.value,
            batch_size=_BATCH_SIZE.value,
            seed=tuple(range(_RUNS.value)),
        )
    )
    program = program_of(experiment)
    arrays = replicate(experiment.splits.train.arrays, program.devices)
    settings = place_runs(experiment.runs, program.devices)
    carry = program.init(settings, arrays)

    def advance(count: int) -> None:
        nonlocal carry
        steps = replicate(np.int32(count), program.devices)
        carry = jax.block_until_ready(program.advance(carry, settings, arrays, steps))

    return advance


def _make_torch(*, channels_last: bool) -> Callable[[int], None]:
    from experiments.peers.torch_vae import make_step

    step: Callable[[int], None] = make_step(_BATCH_SIZE.value, 10, channels_last=channels_last)
    return step


CONTENDERS: dict[str, Callable[[], Callable[[int], None]]] = {
    "ours": _make_ours,
    "torch": lambda: _make_torch(channels_last=False),
    "torch_channels_last": lambda: _make_torch(channels_last=True),
}


def _work(name: str) -> int:
    """Takes as many steps as each line of standard input says; prints the seconds."""
    advance = CONTENDERS[name]()
    for line in sys.stdin:
        began = time.perf_counter()
        advance(int(line))
        print(time.perf_counter() - began, flush=True)
    return 0


def _ask(worker: "subprocess.Popen[str]", steps: int) -> float:
    if worker.stdin is None or worker.stdout is None:
        raise ValueError("expected a contender with pipes")
    worker.stdin.write(f"{steps}\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise OSError(f"a contender ended with code {worker.wait()}; its message is above")
    return float(answer)


def _start(name: str) -> "subprocess.Popen[str]":
    own = [argument for argument in sys.argv[1:] if not argument.startswith("--output")]
    command = [sys.executable, "-m", "experiments.benchmark", *own, f"--worker={name}"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _measure(names: list[str]) -> dict[str, Any]:
    workers = {name: _start(name) for name in names}
    try:
        # The first step of each compiles or warms up, and is told apart.
        first = {name: _ask(worker, 1) for name, worker in workers.items()}
        for worker in workers.values():
            _ask(worker, _STEPS.value)
        rounds = [
            {name: _ask(worker, _STEPS.value) / _STEPS.value for name, worker in workers.items()}
            for _ in range(_ROUNDS.value)
        ]
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return {"first_call_s": first, "step_s": {n: [r[n] for r in rounds] for n in names}}


def main() -> int:
    """Measures, prints and writes the figures."""
    if _WORKER.value:
        return _work(_WORKER.value)
    for peer in _PEER.value:
        check_name("peer", peer, PEERS)
    names = ["ours", *(name for peer in _PEER.value for name in PEERS[peer])]
    figures = _measure(names)
    figures["cores"] = os.cpu_count()
    ours = figures["step_s"]["ours"]
    print(f"{'':>20} {'first call s':>12} {'step ms':>8} {'ours / it':>9}")
    for name in names:
        times = figures["step_s"][name]
        ratio = statistics.median(a / b for a, b in zip(ours, times, strict=True))
        figures.setdefault("ours_over", {})[name] = ratio
        print(
            f"{name:>20} {figures['first_call_s'][name]:>12.1f} "
            f"{1e3 * statistics.median(times):>8.1f} {ratio:>9.2f}"
        )
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    cli.run(main)
