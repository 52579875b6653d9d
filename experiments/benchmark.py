"""Measures the training step, in turn with its peers, and prints ratios within one run.

  python -m experiments.benchmark                 # ours alone
  python -m experiments.benchmark --peer=torch    # beside PyTorch eager, NCHW and channels_last
  python -m experiments.benchmark --dataset=dsprites --part=gather    # what the data costs
  python -m experiments.benchmark --part=population --objectives=beta_tcvae,factor_vae
  python -m experiments.benchmark --decode=10000  # JPEGs of an image folder
  python -m experiments.benchmark --suite=cpu --output=suite.json     # everything; or --suite=gpu

A ratio is the median over rounds of ours / peer; see `bench.turns`.
"""

import functools
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from betavae_jax.checks import check_name
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.runs.settings import Settings
from experiments import cli
from experiments.bench.suite import report_suite
from experiments.bench.turns import measure, table, work

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


def _make_torch(*, channels_last: bool) -> Any:
    from experiments.peers.torch_vae import make_step

    return make_step(_BATCH_SIZE.value, 10, channels_last=channels_last)


CONTENDERS: dict[str, Callable[[], Callable[[int], None]]] = {
    "ours": lambda: _make_ours("step"),
    "gather": lambda: _make_ours("gather"),
    "population": lambda: _make_ours("step", runs=_POPULATION),
    "torch": lambda: _make_torch(channels_last=False),
    "torch_channels_last": lambda: _make_torch(channels_last=True),
    **{name: functools.partial(_make_ours, "step", objective=name) for name in OBJECTIVES},
}


def _command_of(name: str) -> list[str]:
    """What starts the process of a contender."""
    return [sys.executable, "-m", "experiments.benchmark", *sys.argv[1:], f"--worker={name}"]


def main() -> int:
    """Measures, prints and writes the figures."""
    if _WORKER.value:
        return work(CONTENDERS[_WORKER.value]())
    for flag, known in ((_PEER, PEERS), (_PART, PARTS), (_OBJECTIVES, OBJECTIVES)):
        for name in flag.value:
            check_name(flag.name, name, known)
    if _SUITE.value:
        output = pathlib.Path(_OUTPUT.value or f"benchmark_{_SUITE.value}.json")
        report_suite(_SUITE.value, _BUDGET.value, output, _GROUPS.value)
        return 0
    if _DECODE.value:
        from experiments.peers.ours import decoding_rate

        figures: dict[str, Any] = {"decoded_images_a_second": decoding_rate(_DECODE.value)}
        print(f"{figures['decoded_images_a_second']:.0f} images a second")
    else:
        peers = (name for peer in _PEER.value for name in PEERS[peer])
        names = ["ours", *_PART.value, *_OBJECTIVES.value, *peers]
        figures = measure({n: _command_of(n) for n in names}, _STEPS.value, _ROUNDS.value)
        print(table(figures))
    figures["cores"] = os.cpu_count()
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    cli.run(main)
