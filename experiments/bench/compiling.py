"""Seconds to compile: without a cache, and in a second process with the first one's."""

import tempfile
import time
from typing import Any

from experiments.bench.contenders import Entry
from experiments.bench.measure import ContenderError, Worker


def measure_compilation(options: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Compiles the same program in two processes, the second with the first one's cache.

    Args:
      options: Of the contender `ours`.
      deadline: Of `time.monotonic()`.
    """
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        for name in ("cold", "cached"):
            began = time.monotonic()
            worker = Worker(Entry("ours", options, environment=environment))
            try:
                facts = worker.answer(deadline - time.monotonic())["facts"]
                results[name] = {
                    "compile_s": facts["compile_s"],
                    "process_s": time.monotonic() - began,
                }
            except ContenderError as error:
                results[name] = {"failed": str(error)}
            finally:
                worker.stop()
    return results
