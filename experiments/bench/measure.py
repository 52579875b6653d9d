"""Measures a group of contenders, each a process of its own that waits while another works."""

import contextlib
import json
import math
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from experiments.bench.contenders import Entry
from experiments.bench.worker import MARK

_LAST_LINES = 6  # of what a failed process said
_MOST_STEPS = 100_000  # of a turn
_READY_TIMEOUT = 90.0  # seconds until a group's contenders must be ready
_CALL_TIMEOUT = 60.0  # seconds that a measured call may take


class ContenderError(Exception):
    """A contender that ended, or did not answer in time."""


class Worker:
    """A contender's process."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        spec = json.dumps({"maker": entry.maker, "options": dict(entry.options)})
        flags = f"{os.environ.get('XLA_FLAGS', '')} {entry.xla_flags}".strip()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.bench.worker", spec],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={
                **os.environ,
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "XLA_FLAGS": flags,
                **entry.environment,
            },
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or []:
            if line.startswith(MARK):
                self._lines.put(line[len(MARK) :])
        self._lines.put(None)

    def answer(self, seconds: float) -> dict[str, Any]:
        """Waits for the next answer."""
        try:
            line = self._lines.get(timeout=max(seconds, 0.01))
        except queue.Empty:
            raise ContenderError("no answer in time") from None
        if line is None:
            raise ContenderError(f"ended with code {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def advance(self, count: int) -> dict[str, Any]:
        """Takes steps and says how long they took."""
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(f"{count}\n")
                self._process.stdin.flush()
        except OSError:
            pass  # the answer says what happened
        return self.answer(_CALL_TIMEOUT)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        telling = [line for line in lines if "Error" in line or "error" in line]
        return " | ".join((telling or lines)[-_LAST_LINES:])[-600:] or "no message"

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # what was still to be written has no reader
                if stream is not None:
                    stream.close()


def measure_group(
    entries: Mapping[str, Entry],
    *,
    deadline: float,
    rounds: int = 5,
    seconds: float = 0.4,
    starts: int = 1,
) -> dict[str, Any]:
    """Measures contenders in turn, round after round.

    Args:
      entries: The contenders, by name.
      deadline: Of `time.monotonic()`; what is not ready or measured then has failed.
      rounds: In which each takes its turn, those of all starts; a start's first is left out.
      seconds: A turn's length, roughly.
      starts: How often all begin anew, since a process may be fast or slow for as long as it
        lives, by where its memory happens to lie.

    Returns:
      For each name: `step_s`, seconds a step of each round, and its facts; or `failed`, why.
    """
    results: dict[str, Any] = {name: {"runs": entry.runs} for name, entry in entries.items()}
    counts: dict[str, int] = {}
    for start in range(starts):
        now = time.monotonic()
        if now >= deadline:
            break
        left = {name: entry for name, entry in entries.items() if "failed" not in results[name]}
        ready = now + _READY_TIMEOUT if start else min(deadline, now + _READY_TIMEOUT)
        with _started(left, results, ready) as workers:
            for name in [name for name in workers if name not in counts]:
                with _recorded(results[name], workers, name):
                    granularity = results[name]["granularity"]
                    counts[name] = _calibrate(workers[name], granularity, seconds)
            part = rounds // starts + (start < rounds % starts)
            _take_rounds(workers, results, counts, deadline, part)
    for result in results.values():
        if "step_s" in result:
            result["median_s"] = statistics.median(result["step_s"])
        else:
            result.setdefault("failed", "the time was up before it could start")
    return results


@contextlib.contextmanager
def _recorded(result: dict[str, Any], workers: dict[str, Worker], name: str) -> Any:
    try:
        yield
    except ContenderError as error:
        result["failed"] = str(error)
        workers.pop(name).stop()


@contextlib.contextmanager
def _started(entries: Mapping[str, Entry], results: dict[str, Any], ready: float) -> Any:
    """The processes of contenders that are ready in time; they end with it."""
    workers: dict[str, Worker] = {}
    try:
        for name, entry in entries.items():
            workers[name] = Worker(entry)
        for name in list(workers):
            with _recorded(results[name], workers, name):
                facts = workers[name].answer(ready - time.monotonic())["facts"]
                results[name] = {**facts, **results[name]}  # those of its first start
        yield workers
    finally:
        for worker in workers.values():
            worker.stop()


def _take_rounds(
    workers: dict[str, Worker],
    results: dict[str, Any],
    counts: dict[str, int],
    deadline: float,
    rounds: int,
) -> None:
    """Has all contenders take their turns; the first of many calls is left out."""
    measured: set[str] = set()
    for number in range(rounds + 1):
        for name in list(workers):
            late = time.monotonic() >= deadline
            if late and name in measured:
                continue  # one round of each is enough then
            with _recorded(results[name], workers, name):
                answer = workers[name].advance(counts[name])
                seconds = answer.pop("seconds")
                if number or late or counts[name] == results[name]["granularity"]:
                    results[name].setdefault("step_s", []).append(seconds / counts[name])
                    measured.add(name)
                results[name].update(answer, steps_a_round=counts[name])
            if name not in workers:
                results[name].pop("step_s", None)


def _calibrate(worker: Worker, granularity: int, seconds: float) -> int:
    """The number of steps that last about so long, from calls that double until they do."""
    count = granularity
    while True:
        taken = worker.advance(count)["seconds"]
        if taken > seconds / 8 or count >= _MOST_STEPS:
            wanted = min(count * seconds / max(taken, 1e-9), _MOST_STEPS)
            return max(1, math.ceil(wanted / granularity)) * granularity
        count *= 8
