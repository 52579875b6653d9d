"""Contenders that take the same number of steps in turn, each a process of its own."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def work(advance: Callable[[int], None]) -> int:
    """Takes as many steps as each line of standard input says; prints seconds and peak MB."""
    for line in sys.stdin:
        began = time.perf_counter()
        advance(int(line))
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(seconds, peak, flush=True)
    return 0


def measure(commands: Mapping[str, Sequence[str]], steps: int, rounds: int) -> dict[str, Any]:
    """Measures contenders in turn.

    Args:
      commands: What starts the process of each, which then does `work`.
      steps: Of each in a round.
      rounds: How many.

    Returns:
      By contender `first_call_s`, `peak_rss_mb`, and `step_s`, seconds a step in each round.

    Raises:
      OSError: If a contender ends.
    """
    workers = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, command in commands.items()
    }
    try:
        # The first step of each compiles or warms up, and is told apart.
        first = {name: _ask(worker, 1)[0] for name, worker in workers.items()}
        memory = {name: _ask(worker, steps)[1] for name, worker in workers.items()}
        taken = [
            {name: _ask(worker, steps)[0] / steps for name, worker in workers.items()}
            for _ in range(rounds)
        ]
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    times = {name: [one[name] for one in taken] for name in commands}
    return {"first_call_s": first, "peak_rss_mb": memory, "step_s": times}


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


def table(figures: dict[str, Any]) -> str:
    """What `measure` found, a line a contender; adds the ratios, `ours_over`, to the figures."""
    ours = figures["step_s"]["ours"]
    lines = [
        f"{'':>20} {'first call s':>12} {'step ms':>8} {'ours / it':>9} {'it / ours':>9} "
        f"{'peak MB':>8}"
    ]
    for name, times in figures["step_s"].items():
        ratio = statistics.median(a / b for a, b in zip(ours, times, strict=True))
        figures.setdefault("ours_over", {})[name] = ratio
        lines.append(
            f"{name:>20} {figures['first_call_s'][name]:>12.1f} "
            f"{1e3 * statistics.median(times):>8.2f} {ratio:>9.2f} {1 / ratio:>9.3f} "
            f"{figures['peak_rss_mb'][name]:>8.0f}"
        )
    return "\n".join(lines)
