"""Runs a suite: every group, its figures written after each, then the floors."""

import os
import pathlib
import platform
import tempfile
import time
from typing import Any

from betavae_jax.checks import check_name
from betavae_jax.fit import SECONDS_A_CHUNK
from betavae_jax.runs.records import write_json
from experiments.bench import floors
from experiments.bench.compiling import measure_compilation
from experiments.bench.groups import CHUNKS, SUITES, Group, Known, fastest_form
from experiments.bench.measure import measure_group
from experiments.bench.table import markdown, plot

_BATCH_SIZE = 64
_SHARES_OF_COMPILATION = {"cpu": 20.0, "gpu": 70.0}  # beside those of the groups


def report_suite(name: str, budget: float, output: pathlib.Path, only: list[str]) -> None:
    """Runs a suite, prints its tables and draws its figure; arguments as for `run_suite`.

    Raises:
      InputError: If there is no such suite, or a group is not one of its.
    """
    check_name("suite", name, SUITES)
    names = [group.name for group in SUITES[name]] + ["compilation"]
    for group in only:
        check_name("groups", group, names)
    figures = run_suite(name, budget, output, only)
    print(markdown(figures))
    plot(figures, output.with_suffix(".png"))


def run_suite(name: str, budget: float, output: pathlib.Path, only: list[str]) -> dict[str, Any]:
    """Measures all groups of a suite, or some, within a budget of seconds.

    A group may take its share of what is left; what it leaves goes to those after it. One whose
    time is up ends after a round of each contender that is ready, so none starves the others.

    Args:
      name: In `SUITES`.
      budget: Seconds in all; contenders that are not ready in time are recorded as failed.
      output: The JSON file.
      only: Names of groups; empty for all.
    """
    began = time.monotonic()
    deadline = began + budget
    figures: dict[str, Any] = {
        "suite": name,
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "groups": {},
        "titles": {},
    }
    known = figures["groups"]
    with_compilation = not only or "compilation" in only
    chosen = [g for g in SUITES[name] if not only or g.name in (*only, "rates")]
    shares = [g.share for g in chosen] + [_SHARES_OF_COMPILATION[name]] * with_compilation
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Contenders that start anew compile once. On a GPU two thirds of a compilation is trying
        # kernels for each matrix product, and the products of most groups are the same.
        shared = {"JAX_COMPILATION_CACHE_DIR": folder}
        for index, group in enumerate(chosen):
            started = time.monotonic()
            ends = started + (deadline - started) * group.share / sum(shares[index:])
            known[group.name] = _measure(group, known, ends, shared)
            figures["titles"][group.name] = group.title
            figures.setdefault("group_seconds", {})[group.name] = time.monotonic() - started
            write_json(output, figures)
            print(f"# {group.title}: {time.monotonic() - started:.0f} s", flush=True)
    if with_compilation:
        runs = 64 if name == "gpu" else 4
        form = fastest_form(known, "one_run")
        options = {"form": form, "dataset": "dsprites", "runs": runs}
        figures["compilation"] = measure_compilation(options, deadline)
    figures["floors"] = _floors(known)
    figures["derived"] = _derived(known)
    figures["seconds"] = time.monotonic() - began
    write_json(output, figures)
    return figures


def _measure(
    group: Group, known: Known, deadline: float, environment: dict[str, str]
) -> dict[str, Any]:
    """Measures a group whose processes have this environment beside their own."""
    entries = {
        name: entry._replace(environment={**environment, **entry.environment})
        for name, entry in group.entries(known).items()
    }
    return measure_group(
        entries,
        deadline=deadline,
        rounds=group.rounds,
        seconds=group.seconds,
        starts=group.starts,
    )


def _floors(known: dict[str, Any]) -> dict[str, Any]:
    """How near the fastest contenders are to what the machine could do."""
    rates = known.get("rates", {}).get("rates", {})
    found: dict[str, Any] = {
        "step_flops": floors.step_flops(_BATCH_SIZE),
        "step_bytes": floors.step_bytes(_BATCH_SIZE),
    }
    if "bytes_a_second" not in rates:
        return found
    for group, results in known.items():
        for name, result in results.items():
            if not name.startswith(("ours", "float32, ", "bf16, ")) or "median_s" not in result:
                continue
            precision = "bf16" if name.startswith("bf16") else "float32"
            floor = floors.floors(rates, _BATCH_SIZE, result["runs"], precision)
            over = result["median_s"] / floor["floor_s"]
            found[f"{group}: {name}"] = {**floor, "times_the_floor": over}
    return found


def _derived(known: dict[str, Any]) -> dict[str, Any]:
    """What follows from the figures: ratios, extrapolations, a chunk's overhead."""
    derived: dict[str, Any] = {}
    singles = {
        name: result["median_s"]
        for group in ("one_run", "one_run_levers")
        for name, result in known.get(group, {}).items()
        if "median_s" in result
    }
    if singles:
        derived["seconds_of_300000_steps"] = {n: 3e5 * s for n, s in singles.items()}
    parts = known.get("parts_1", {})
    (few, short), (many, long) = ((n, parts.get(name, {}).get("median_s")) for name, n in CHUNKS)
    if short and long:
        step = (long - short) / (many - few)
        derived["chunk_overhead"] = (short - few * step) / SECONDS_A_CHUNK
    return derived
