"""The ranking of runs by UDR: which of them are compared with each other."""

import numpy as np

from betavae_jax.metrics import Scored, evaluate_metrics


def rank_runs(kinds: np.ndarray, codes: np.ndarray, kl: np.ndarray, everyone: str) -> list[Scored]:
    """UDR among runs that differ in their seed alone; among all, where a run has no such other.

    Args:
      kinds: What is equal in runs that differ in their seed alone `[R, P]`.
      codes: Posterior means `[R, N, D]` of the same rows.
      kl: KL per latent `[R, D]`, nats.
      everyone: All of them in words, for the convention of the result.

    Returns:
      A `Scored` a run.
    """
    _, kind = np.unique(kinds, axis=0, return_inverse=True)
    among = "runs that differ in their seed alone"
    if np.bincount(kind).min() < 2:
        kind, among = np.zeros_like(kind), everyone
    scored: dict[int, Scored] = {}
    empty = np.zeros((codes.shape[1], 0), np.int64)
    for value in np.unique(kind):
        runs = np.flatnonzero(kind == value)
        found = evaluate_metrics(["udr"], codes[runs], empty, codes[runs], empty, kl=kl[runs])
        for run, one in zip(runs, found, strict=True):
            results = {name: r._replace(convention=f"{r.convention}; among {among}")
                       for name, r in one.results.items()}  # fmt: skip
            scored[int(run)] = one._replace(results=results)
    return [scored[run] for run in range(len(codes))]
