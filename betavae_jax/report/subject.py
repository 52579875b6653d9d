"""A run as the report speaks of it: its title, its latents, the factors that they follow."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.factor_codes import LEAST_R, matched_latents
from betavae_jax.metrics.alignment import axis_alignment
from betavae_jax.plots.latents import label_latents, order_latents
from betavae_jax.report.examples import Examples
from betavae_jax.runs.records import ACTIVE_NATS


class Subject(NamedTuple):
    """A run whose figures are drawn."""

    row: Mapping[str, Any]  # of `results.json`
    title: str
    kl: np.ndarray  # [D], NaN where not finite
    names: list[str]  # [D], such as "(pos_x)"; empty where no factor is followed
    log: Sequence[Mapping[str, Any]]  # its lines of `metrics.jsonl`


def make_subject(
    row: Mapping[str, Any],
    title: str,
    log: Sequence[Mapping[str, Any]],
    alignment: Mapping[str, tuple[int, float]],
) -> Subject:
    """Collects what is known of a run; see `match_factors` for the alignment."""
    kl = np.asarray(row["kl_per_latent"], np.float64)  # None becomes NaN
    kl = np.where(np.isfinite(kl), kl, np.nan)
    names = [""] * len(kl)
    for factor, (latent, correlation) in alignment.items():
        if correlation >= LEAST_R:
            names[latent] = f"({factor})"
    return Subject(row, title, kl, names, log)


def match_factors(
    row: Mapping[str, Any], examples: Examples, means: np.ndarray
) -> dict[str, tuple[int, float]]:
    """For each factor, the latent that follows it and their abs Pearson r.

    It is what was measured, if it was; else, where there are two factors or more, it is found
    among the examples. A single factor is mostly a class, whose numbers have no order.

    Args:
      row: The run's row of `results.json`.
      examples: The examples of the report.
      means: The run's codes of the population `[N, D]`.
    """
    measured = matched_latents(row)
    if measured:
        return measured
    count = len(examples.factor_names)
    if not 2 <= count <= means.shape[1] or not np.all(np.isfinite(means)):
        return {}
    found = axis_alignment(means, examples.factors)
    pairs = zip(found.latent.tolist(), found.correlation.tolist(), strict=True)
    return dict(zip(examples.factor_names, pairs, strict=True))


def say_latents(subject: Subject) -> str:
    """The latents that carry something, in words."""
    labels = label_latents(subject.kl, subject.names)
    active = [labels[d].replace("  ", " ") for d in order_latents(subject.kl)
              if subject.kl[d] > ACTIVE_NATS]  # fmt: skip
    if not active:
        return "no latent carries anything"
    more = f" and {len(active) - 4} more" if len(active) > 4 else ""
    return ", ".join(active[:4]) + more
