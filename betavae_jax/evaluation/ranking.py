"""The ranking of runs by UDR: which of them are compared with each other."""

import numpy as np

from betavae_jax.metrics import Scored, evaluate_metrics

_STOPPED = "expected a run that trained to its end; this one stopped where a value was not finite"


def rank_runs(
    kinds: np.ndarray, codes: np.ndarray, kl: np.ndarray, stopped: np.ndarray, everyone: str
) -> list[Scored]:
    """UDR among runs that differ in their seed alone; among all, where a run has no such other.

    A run that stopped is compared with none: its codes are those of a network half trained.

    Args:
      kinds: What is equal in runs that differ in their seed alone `[R, P]`.
      codes: Posterior means `[R, N, D]` of the same rows.
      kl: KL per latent `[R, D]`, nats.
      stopped: Which runs did not train to their end `[R]`, bool.
      everyone: All of them in words, for the convention of the result.

    Returns:
      A `Scored` a run.
    """
    _, kind = np.unique(kinds, axis=0, return_inverse=True)
    among = "runs that differ in their seed alone"
    if np.bincount(kind).min() < 2:
        kind, among = np.zeros_like(kind), everyone
    scored = [Scored({}, {"udr": _STOPPED}) for _ in codes]
    empty = np.zeros((codes.shape[1], 0), np.int64)
    for value in np.unique(kind[~stopped]):
        runs = np.flatnonzero((kind == value) & ~stopped)
        found = evaluate_metrics(["udr"], codes[runs], empty, codes[runs], empty, kl=kl[runs])
        for run, one in zip(runs, found, strict=True):
            results = {name: r._replace(convention=f"{r.convention}; among {among}")
                       for name, r in one.results.items()}  # fmt: skip
            scored[run] = one._replace(results=results)
    return scored
