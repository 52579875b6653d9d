"""A contender's process: makes it, then takes as many steps as each line of its input says.

  python -m experiments.bench.worker '{"maker": "ours", "options": {}}'

It answers in lines of JSON that begin with a mark, since libraries print, too.
"""

import json
import resource
import sys
import time
from typing import Any

MARK = "@@"


def _tell(answer: dict[str, Any]) -> None:
    print(MARK + json.dumps(answer), flush=True)


def _peak_megabytes() -> dict[str, Any]:
    peaks = {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if "jax" in sys.modules:
        statistics = sys.modules["jax"].local_devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in statistics:
            peaks["peak_device_mb"] = statistics["peak_bytes_in_use"] / 2**20
    elif "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        peaks["peak_device_mb"] = sys.modules["torch"].cuda.max_memory_allocated() / 2**20
    return peaks


def main(spec: str) -> int:
    """Serves until the input ends."""
    from experiments.bench.contenders import MAKERS

    began = time.perf_counter()
    wanted = json.loads(spec)
    contender = MAKERS[wanted["maker"]](**wanted["options"])
    contender.advance(1)
    first = time.perf_counter() - began
    facts = {**contender.facts, "first_call_s": first, "granularity": contender.granularity}
    _tell({"facts": facts})
    for line in sys.stdin:
        count = int(line)
        began = time.perf_counter()
        contender.advance(count)
        seconds = time.perf_counter() - began
        _tell({"seconds": seconds, **_peak_megabytes()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
