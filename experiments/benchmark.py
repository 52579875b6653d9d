"""Measures the training step, in turn with its peers, and prints ratios within one run.

  python -m experiments.benchmark                 # ours alone
  python -m experiments.benchmark --peer=torch    # beside PyTorch eager, NCHW and channels_last
  python -m experiments.benchmark --dataset=dsprites --part=gather    # what the data costs
  python -m experiments.benchmark --part=population --objectives=beta_tcvae,factor_vae
  python -m experiments.benchmark --decode=10000  # JPEGs of an image folder
  python -m experiments.benchmark --suite=cpu --output=suite.json     # everything; or --suite=gpu

Each contender is a process of its own that waits while another works. A round lets
each take the same number of steps; the ratio is the median over rounds of ours / peer.
"""

import functools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from betavae_jax.checks import check_name
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.runs.settings import Settings
from experiments import cli

_POPULATION = 4  # runs of the part of that name
PEERS = {"torch": ("torch", "torch_channels_last")}
PARTS = ("gather", "population")

_PEER = flags.DEFINE_list("peer", [], f"Frameworks to measure beside ours: {', '.join(PEERS)}.")
_PART = flags.DEFINE_list("part", [], f"Parts of our step to measure: {', '.join(PARTS)}.")
_OBJECTIVES = flags.DEFINE_list("objectives", [], "Objectives to measure beside beta_vae.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds in turn.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 20, "Steps of each contender in a round.", lower_bound=1)
_DATASET = flags.DEFINE_string("dataset", "blobs", "What ours reads: 64×64 images.")
_NETWORK = flags.DEFINE_string("network", "conv_locatello", "The network of all.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Examples in a batch.", lower_bound=1)
_PRECISION = flags.DEFINE_string("precision", "float32", "Of ours: float32 or bf16.")
_RUNS = flags.DEFINE_integer("runs", 1, "Runs of ours in one program.", lower_bound=1)
_DECODE = flags.DEFINE_integer("decode", 0, "Instead: decode so many JPEGs of 200 pixels.")
_OUTPUT = flags.DEFINE_string("output", None, "A JSON file for the figures.")
_SUITE = flags.DEFINE_string("suite", None, "Instead: measure everything, cpu or gpu.")
_BUDGET = flags.DEFINE_float("budget_s", 440.0, "Seconds that a suite may take.", lower_bound=1)
_GROUPS = flags.DEFINE_list("groups", [], "Groups of the suite; all by default.")
_WORKER = flags.DEFINE_string("worker", None, "Internal: the contender that this process is.")


def _make_ours(
    part: str, *, runs: int | None = None, objective: str = "beta_vae"
) -> Callable[[int], None]:
    from experiments.peers import ours

    experiment = ours.make_experiment(
        Settings(
            dataset=_DATASET.value,
            objective=objective,
            network=_NETWORK.value,
            batch_size=_BATCH_SIZE.value,
            seed=tuple(range(runs or _RUNS.value)),
            precision=_PRECISION.value,
        )
    )
    return {"step": ours.make_step, "gather": ours.make_gather}[part](experiment)


def _make_torch(*, channels_last: bool) -> Callable[[int], None]:
    from experiments.peers.torch_vae import make_step

    step: Callable[[int], None] = make_step(_BATCH_SIZE.value, 10, channels_last=channels_last)
    return step


CONTENDERS: dict[str, Callable[[], Callable[[int], None]]] = {
    "ours": lambda: _make_ours("step"),
    "gather": lambda: _make_ours("gather"),
    "population": lambda: _make_ours("step", runs=_POPULATION),
    "torch": lambda: _make_torch(channels_last=False),
    "torch_channels_last": lambda: _make_torch(channels_last=True),
    **{name: functools.partial(_make_ours, "step", objective=name) for name in OBJECTIVES},
}


def _work(name: str) -> int:
    """Takes as many steps as each line of standard input says; prints seconds and peak MB."""
    advance = CONTENDERS[name]()
    for line in sys.stdin:
        began = time.perf_counter()
        advance(int(line))
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(seconds, peak, flush=True)
    return 0


def _ask(worker: "subprocess.Popen[str]", steps: int) -> tuple[float, float]:
    if worker.stdin is None or worker.stdout is None:
        raise ValueError("expected a contender with pipes")
    worker.stdin.write(f"{steps}\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise OSError(f"a contender ended with code {worker.wait()}; its message is above")
    seconds, peak = answer.split()
    return float(seconds), float(peak)


def _start(name: str) -> "subprocess.Popen[str]":
    own = [argument for argument in sys.argv[1:] if not argument.startswith("--output")]
    command = [sys.executable, "-m", "experiments.benchmark", *own, f"--worker={name}"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _measure(names: list[str]) -> dict[str, Any]:
    workers = {name: _start(name) for name in names}
    try:
        # The first step of each compiles or warms up, and is told apart.
        first = {name: _ask(worker, 1)[0] for name, worker in workers.items()}
        memory = {name: _ask(worker, _STEPS.value)[1] for name, worker in workers.items()}
        rounds = [
            {name: _ask(worker, _STEPS.value)[0] / _STEPS.value for name, worker in workers.items()}
            for _ in range(_ROUNDS.value)
        ]
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    steps = {name: [r[name] for r in rounds] for name in names}
    return {"first_call_s": first, "peak_rss_mb": memory, "step_s": steps}


def _print(figures: dict[str, Any]) -> None:
    ours = figures["step_s"]["ours"]
    print(
        f"{'':>20} {'first call s':>12} {'step ms':>8} {'ours / it':>9} {'it / ours':>9} "
        f"{'peak MB':>8}"
    )
    for name, times in figures["step_s"].items():
        ratio = statistics.median(a / b for a, b in zip(ours, times, strict=True))
        figures.setdefault("ours_over", {})[name] = ratio
        print(
            f"{name:>20} {figures['first_call_s'][name]:>12.1f} "
            f"{1e3 * statistics.median(times):>8.2f} {ratio:>9.2f} {1 / ratio:>9.3f} "
            f"{figures['peak_rss_mb'][name]:>8.0f}"
        )


def _measure_suite(name: str) -> int:
    from experiments.bench.groups import SUITES
    from experiments.bench.suite import run_suite
    from experiments.bench.table import markdown, plot

    check_name("suite", name, SUITES)
    names = [group.name for group in SUITES[name]] + ["compilation"]
    for group in _GROUPS.value:
        check_name("groups", group, names)
    output = pathlib.Path(_OUTPUT.value or f"benchmark_{name}.json")
    figures = run_suite(name, _BUDGET.value, output, _GROUPS.value)
    print(markdown(figures))
    plot(figures, output.with_suffix(".png"))
    return 0


def main() -> int:
    """Measures, prints and writes the figures."""
    if _WORKER.value:
        return _work(_WORKER.value)
    for peer in _PEER.value:
        check_name("peer", peer, PEERS)
    for part in _PART.value:
        check_name("part", part, PARTS)
    for objective in _OBJECTIVES.value:
        check_name("objectives", objective, OBJECTIVES)
    if _SUITE.value:
        return _measure_suite(_SUITE.value)
    if _DECODE.value:
        from experiments.peers.ours import decoding_rate

        figures: dict[str, Any] = {"decoded_images_a_second": decoding_rate(_DECODE.value)}
        print(f"{figures['decoded_images_a_second']:.0f} images a second")
    else:
        peers = (name for peer in _PEER.value for name in PEERS[peer])
        figures = _measure(["ours", *_PART.value, *_OBJECTIVES.value, *peers])
        _print(figures)
    figures["cores"] = os.cpu_count()
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    cli.run(main)
