"""Measures the training step, in turn with its peers, and prints ratios within one run.

  python -m experiments.benchmark                 # ours alone
  python -m experiments.benchmark --peer=torch    # beside PyTorch eager, NCHW and channels_last
  python -m experiments.benchmark --dataset=dsprites --part=gather    # what the data costs
  python -m experiments.benchmark --part=population --objectives=beta_tcvae,factor_vae
  python -m experiments.benchmark --decode=10000  # JPEGs of an image folder
  python -m experiments.benchmark --suite=cpu --output=suite.json     # everything; or --suite=gpu

A ratio is the median over rounds of first / other; see `bench.measure`.
"""

import importlib.util
import os
import pathlib
import time

from absl import flags

from betavae_jax.checks import InputError, check_name
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.runs.records import write_json
from experiments import cli
from experiments.bench.contenders import Entry, ours
from experiments.bench.decoding import decoding_rate
from experiments.bench.measure import measure_group
from experiments.bench.suite import report_suite
from experiments.bench.table import group_rows
from experiments.path_flags import define_path, new_file

_POPULATION = 4  # runs of the part of that name
_SECONDS_ON_GPU = 440.0  # device time is dear
_SECONDS_ON_CPU = 600.0  # seven minutes do on a quiet machine, and machines are rarely quiet
PEERS = {
    "torch": {
        "PyTorch eager, NCHW": {},
        "PyTorch eager, channels_last": {"channels_last": True},
    }
}
PARTS = ("gather", "population")

_PEER = flags.DEFINE_list("peer", [], f"Frameworks to measure beside ours: {', '.join(PEERS)}.")
_PART = flags.DEFINE_list("part", [], f"Parts of our step to measure: {', '.join(PARTS)}.")
_OBJECTIVES = flags.DEFINE_list("objectives", [], "Objectives to measure beside beta_vae.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds in turn.", lower_bound=1)
_STARTS = flags.DEFINE_integer("starts", 3, "Fresh processes that share the rounds.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 1.2, "Of a contender's turn in a round.", lower_bound=0)
_DATASET = flags.DEFINE_string("dataset", "blobs", "What ours reads: 64×64 images.")
_NETWORK = flags.DEFINE_string("network", "conv_locatello", "The network of all.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Examples in a batch.", lower_bound=1)
_PRECISION = flags.DEFINE_string("precision", "float32", "Of ours: float32 or bf16.")
_RUNS = flags.DEFINE_integer("runs", 1, "Runs of ours in one program.", lower_bound=1)
_DECODE = flags.DEFINE_integer("decode", 0, "Instead: decode so many JPEGs of 200 pixels.")
_OUTPUT = define_path("output", None, "A JSON file for the figures.")
_SUITE = flags.DEFINE_string("suite", None, "Instead: measure everything, cpu or gpu.")
_BUDGET = flags.DEFINE_float(
    "budget_s",
    None,
    f"Seconds that all may take; {_SECONDS_ON_CPU:g}, of the GPU's suite {_SECONDS_ON_GPU:g}.",
    lower_bound=1,
)
_GROUPS = flags.DEFINE_list("groups", [], "Groups of the suite; all by default.")


def _entries() -> dict[str, Entry]:
    """What the flags ask for, ours first."""
    options = {
        "dataset": _DATASET.value,
        "network": _NETWORK.value,
        "batch_size": _BATCH_SIZE.value,
        "precision": _PRECISION.value,
    }
    runs, cores = _RUNS.value, cli.count_cores()
    parts = {
        "gather": Entry("part", {**options, "part": "gather", "runs": runs}, runs=runs),
        "population": ours(
            {**options, "runs": _POPULATION, "num_devices": cores},
            environment={"JAX_NUM_CPU_DEVICES": str(cores)},
            runs=_POPULATION,
        ),
    }
    return {
        "ours": ours({**options, "runs": runs}, runs=runs),
        **{name: parts[name] for name in _PART.value},
        **{
            name: ours({**options, "runs": runs, "objective": name}, runs=runs)
            for name in _OBJECTIVES.value
        },
        **{
            name: Entry("torch", {"batch_size": _BATCH_SIZE.value, **layout})
            for peer in _PEER.value
            for name, layout in PEERS[peer].items()
        },
    }


def main() -> int:
    """Measures, prints and writes the figures."""
    for flag, known in ((_PEER, PEERS), (_PART, PARTS), (_OBJECTIVES, OBJECTIVES)):
        for name in flag.value:
            check_name(flag.name, name, known)
    for name in _PEER.value:
        if importlib.util.find_spec(name) is None:  # before ours is measured
            raise InputError(
                f"expected {name} for --peer={name}; it is missing (pip install"
                f" 'betavae_jax[{name}]')"
            )
    output = new_file(_OUTPUT)
    budget = _BUDGET.value or (_SECONDS_ON_GPU if _SUITE.value == "gpu" else _SECONDS_ON_CPU)
    if _SUITE.value:
        output = output or pathlib.Path(f"benchmark_{_SUITE.value}.json")
        report_suite(_SUITE.value, budget, output, _GROUPS.value)
        return 0
    failed = False
    if _DECODE.value:
        figures: dict[str, object] = {"decoded_images_a_second": decoding_rate(_DECODE.value)}
        print(f"{figures['decoded_images_a_second']:.0f} images a second")
    else:
        deadline = time.monotonic() + budget
        results = measure_group(
            _entries(),
            deadline=deadline,
            rounds=_ROUNDS.value,
            seconds=_SECONDS.value,
            starts=min(_STARTS.value, _ROUNDS.value),
        )
        print("\n".join(group_rows(results, _BATCH_SIZE.value)))
        failed = any("failed" in result for result in results.values())
        figures = {"contenders": results}
    if output:
        write_json(output, {**figures, "cores": os.cpu_count()})
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
