"""Measures the metrics beside the seconds that their originals take.

  python -m experiments.benchmark_metrics                     # minutes
  python -m experiments.benchmark_metrics --exact_dci         # and DCI with scikit-learn's trees
  python -m experiments.benchmark_metrics --arrays=codes.npz  # on codes of one's own

Each metric has a process of its own. "first" is its first call there, with what it imports for
that (scikit-learn, LightGBM) and compiles; "again" is the best of three more. The arrays are 10,000
training and 5,000 test rows, 10 latents that mix 5 factors of 3, 6, 40, 32 and 32 values.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from absl import flags

from betavae_jax.checks import check_name
from betavae_jax.evaluation import load_codes
from betavae_jax.runs.records import write_json
from experiments import cli
from experiments.path_flags import define_path, new_file
from experiments.peers.metric_cases import CASES, draw_codes, measure

_ARRAYS = define_path("arrays", None, "A .npz file, as experiments.evaluate --codes.")
_JSON = define_path("json", None, "A JSON file for the figures.")
_EXACT_DCI = flags.DEFINE_boolean("exact_dci", False, "Measure DCI with the exact trees too.")
_WORKER = flags.DEFINE_string("measure", None, "Internal: the metric that this process measures.")


def main() -> int:
    """Measures every metric in turn and prints the table."""
    if _WORKER.value:
        check_name("measure", _WORKER.value, CASES)
        path = _ARRAYS.value
        arrays = load_codes(pathlib.Path(path)) if path else draw_codes()
        print(json.dumps(measure(CASES[_WORKER.value], arrays)))
        return 0
    if _ARRAYS.value:
        load_codes(pathlib.Path(_ARRAYS.value))  # refused before anything is measured
    output = new_file(_JSON)
    names = [name for name in CASES if name != "DCI, exact trees" or _EXACT_DCI.value]
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load average {load}; seconds")
    print(f"{'metric':<26} {'original':>9} {'first':>8} {'again':>8}  {'original / again':>16}")
    measured = {}
    for name in names:
        measured[name] = {"original": CASES[name].original, **_start(name)}
        print(_line(name, **measured[name]), flush=True)
    print(_line("all of these", **_total(list(measured.values()))))
    if output:
        write_json(output, {"load_average": load, "seconds": measured})
    return 0


def _start(name: str) -> dict[str, float]:
    """Measures one metric in a process of its own."""
    codes = [f"--arrays={_ARRAYS.value}"] if _ARRAYS.value else []
    command = [sys.executable, "-m", "experiments.benchmark_metrics", f"--measure={name}", *codes]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


def _line(name: str, original: float, first: float, again: float) -> str:
    return f"{name:<26} {original:9.3f} {first:8.3f} {again:8.3f}  {original / again:16.1f}"


def _total(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: sum(m[part] for m in measured) for part in ("original", "first", "again")}


if __name__ == "__main__":
    cli.run(main)
