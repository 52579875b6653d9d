"""The metrics as they are timed, beside the seconds of their originals.

The originals' seconds are constants, measured once with disentanglement_lib's (Locatello et al.
2019) and latent_quantization's (Hsu et al. 2023) own code and scikit-learn 1.9.1, on the means of a
β-VAE with arrays of these sizes: the best of three calls on two idle cores, imports not included;
DCI is one call, its processor time.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Four = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

_SIZES = (3, 6, 40, 32, 32)
_LATENTS = 10
_UDR_RUNS, _UDR_ROWS = 5, 2_000


class Case(NamedTuple):
    """A metric, as it is timed."""

    name: str  # in METRICS
    settings: dict[str, Any]
    original: float  # seconds
    repeats: int = 3


CASES = {
    "MIG": Case("mig", {}, 0.12),
    "modularity, explicitness": Case("modularity", {}, 2.148),
    "SAP": Case("sap", {}, 0.841),
    "SAP, continuous": Case("sap", {"continuous": True}, 0.003),
    "IRS": Case("irs", {}, 0.026),
    "unsupervised scores": Case("unsupervised", {}, 0.233),
    "InfoM, InfoC, InfoE": Case("infomec", {}, 4.296),
    "β-VAE score": Case("beta_vae_score", {}, 1.265),
    "FactorVAE score": Case("factor_vae_score", {}, 0.825),
    "UDR, lasso, 5 runs": Case("udr", {}, 0.06),
    "UDR, Spearman, 5 runs": Case("udr", {"correlation": "spearman"}, 0.6),
    "DCI, LightGBM": Case("dci", {"trees": "lightgbm"}, 298.1, 1),
    "DCI, exact trees": Case("dci", {}, 298.1, 0),
}


def measure(case: Case, arrays: Four) -> dict[str, float]:
    """Seconds of the first call in this process, and of the best of some more."""
    began = time.perf_counter()
    score = _make_call(case, arrays)
    score()
    first = time.perf_counter() - began
    again = [_seconds(score) for _ in range(case.repeats)]
    return {"first": first, "again": min(again, default=first)}


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def draw_codes() -> Four:
    """Codes that mix the factors, with noise."""
    rng = np.random.default_rng(0)
    sizes = np.asarray(_SIZES)
    mixing = rng.normal(size=(len(sizes), _LATENTS))
    pairs = []
    for rows in (10_000, 5_000):
        factors = rng.integers(sizes, size=(rows, len(sizes)))
        clean = (factors / (sizes - 1) - 0.5) * 2
        codes = np.tanh(clean @ mixing) + 0.2 * rng.normal(size=(rows, _LATENTS))
        pairs.append((codes.astype(np.float32), factors))
    return (*pairs[0], *pairs[1])


def _make_call(case: Case, arrays: tuple[np.ndarray, ...]) -> Callable[[], Any]:
    """The call of a metric; importing it is part of its first call."""
    from betavae_jax.metrics import METRICS, metric_inputs
    from betavae_jax.metrics.sources import existing_rows

    train, factors, test, test_factors = arrays
    inputs = metric_inputs(case.name)
    if "population" in inputs:
        rng = np.random.default_rng(1)
        width = train.shape[1]
        turns = [np.linalg.qr(rng.normal(size=(width, width)))[0] for _ in range(_UDR_RUNS)]
        population = np.stack([train[:_UDR_ROWS] @ turn for turn in turns])
        kl = np.ones((_UDR_RUNS, width))
        return lambda: METRICS[case.name](population, kl, **case.settings)
    known = {"codes": train, "factors": factors, "codes_train": train, "factors_train": factors,
             "codes_test": test, "factors_test": test_factors}  # fmt: skip

    def call() -> Any:
        if "source" in inputs:  # grouping the rows is part of the work
            return METRICS[case.name](existing_rows(train, factors), **case.settings)
        return METRICS[case.name](*(known[name] for name in inputs), **case.settings)

    return call
