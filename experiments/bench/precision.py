"""How far bf16 is from float32, in the ELBO."""

from typing import Any

import numpy as np

TOLERANCE = 0.5  # per cent


def compare(single: np.ndarray, half: np.ndarray) -> dict[str, Any]:
    """Paired differences of ELBOs `[R]`, per cent of the float32 one; NaN where a run failed."""
    percent = 100 * (half - single) / np.abs(single)
    root = np.sqrt(len(percent))
    return {
        "float32": single.tolist(),
        "bf16": half.tolist(),
        "difference_percent": float(percent.mean()),
        "standard_error_percent": float(percent.std(ddof=1) / root),
        "seeds_percent": float(100 * single.std(ddof=1) / abs(single.mean())),
        "within_tolerance": bool(abs(percent.mean()) <= TOLERANCE),
    }
