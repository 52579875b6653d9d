"""What a study says as a whole: settings over seeds, rank correlations, the label-free choice."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from betavae_jax.evaluation import LOWER_IS_BETTER
from betavae_jax.runs.records import say_value
from betavae_jax.study.ledger import UDR
from betavae_jax.study.table import Row, coefficient_names, score_names

_OF_EVERY_RUN = ("elbo", "distortion", "rate", "active_latents")
_HEADS = {
    "elbo": "ELBO",
    "active_latents": "active latents",
    **{name: f"{name} ↓" for name in LOWER_IS_BETTER},
}


class Spread(NamedTuple):
    """A number over the seeds of a setting."""

    mean: float | None
    deviation: float | None  # of the sample; None of a single run
    number: int  # of the finite ones


class Setting(NamedTuple):
    """The runs that differ in their seed alone."""

    sweep: str
    text: str  # such as `beta=4`
    runs: int
    failed: int  # that stopped where a value was not finite
    spreads: Mapping[str, Spread]  # over the others


class Choice(NamedTuple):
    """The run of a sweep that UDR would choose without labels."""

    sweep: str
    chosen: Row
    setting: str
    udr: float
    ranks: Mapping[str, float]  # of each other metric: the share of runs that do not beat it


def head_of(name: str) -> str:
    """How tables and figures head a number; ↓ where less is better."""
    return _HEADS.get(name, name)


def text_of(row: Row, names: Sequence[str], rates: bool) -> str:
    """A setting in words: coefficients, and the learning rate where it varies."""
    parts = [f"{name}={say_value(row[name])}" for name in names if row[name] is not None]
    if rates:
        parts.append(f"learning_rate={say_value(row['learning_rate'])}")
    return ", ".join(parts)


def texts_of(rows: Sequence[Row]) -> list[str]:
    """The setting of every run in words: the coefficients that vary in its sweep, or all."""
    names = coefficient_names(rows)
    values: dict[str, dict[str, set[Any]]] = {}
    for row in rows:
        own = values.setdefault(row["sweep"], {})
        for name in (*names, "learning_rate"):
            own.setdefault(name, set()).add(row[name])
    texts = []
    for row in rows:
        own = values[row["sweep"]]
        varying = [name for name in names if len(own[name]) > 1]
        texts.append(text_of(row, varying or names, len(own["learning_rate"]) > 1))
    return texts


def finished(rows: Sequence[Row]) -> list[Row]:
    """The runs that trained to their end; a network half trained is no result of its setting."""
    return [row for row in rows if row["failed_at"] is None]


def settings_of_rows(rows: Sequence[Row]) -> list[Setting]:
    """Every setting, over its seeds."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row, text in zip(rows, texts_of(rows), strict=True):
        groups.setdefault((row["sweep"], text), []).append(row)
    names = [*_OF_EVERY_RUN, *score_names(rows)]
    return [
        Setting(
            sweep,
            text,
            len(own),
            len(own) - len(finished(own)),
            {name: spread_of([row[name] for row in finished(own)]) for name in names},
        )
        for (sweep, text), own in groups.items()
    ]


def spread_of(values: Sequence[float | None]) -> Spread:
    """Mean and standard deviation of those that are known."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return Spread(None, None, 0)
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Spread(float(np.mean(known)), deviation, len(known))


def columns_of(rows: Sequence[Row], names: Sequence[str]) -> np.ndarray:
    """Numbers of every run `[M, R]`; NaN where there is none, and of runs that stopped."""
    values = np.asarray(
        [[math.nan if row[name] is None else row[name] for row in rows] for name in names],
        np.float64,
    ).reshape(len(names), len(rows))
    values[:, [row["failed_at"] is not None for row in rows]] = math.nan
    return values


def rank_correlations(values: np.ndarray) -> np.ndarray:
    """Spearman's correlation of every two rows.

    Args:
      values: `[M, R]`; a pair is compared over the runs where both are finite.

    Returns:
      `[M, M]`; NaN where fewer than three runs are left, or one of them is constant.
    """
    from scipy.stats import spearmanr

    found = np.full((len(values), len(values)), np.nan)
    for i, a in enumerate(values):
        for j, b in enumerate(values[: i + 1]):
            kept = np.isfinite(a) & np.isfinite(b)
            if kept.sum() > 2 and np.ptp(a[kept]) > 0 and np.ptp(b[kept]) > 0:
                found[i, j] = found[j, i] = float(spearmanr(a[kept], b[kept]).statistic)
    return found


def choose_by_udr(rows: Sequence[Row]) -> list[Choice]:
    """The finished run of the highest UDR in each sweep, and how good other metrics find it.

    References:
      Duan et al. 2020, Unsupervised model selection for variational disentangled representation
      learning.
    """
    if not rows or UDR not in rows[0]:
        return []
    choices = []
    others = [name for name in score_names(rows) if name != UDR]
    named = [
        pair for pair in zip(rows, texts_of(rows), strict=True) if pair[0]["failed_at"] is None
    ]
    for sweep in dict.fromkeys(row["sweep"] for row in rows):
        own = [(row, text) for row, text in named if row["sweep"] == sweep]
        scored = [(row, text) for row, text in own if row[UDR] is not None]
        if not scored:
            continue
        best, text = max(scored, key=lambda pair: pair[0][UDR])
        ranks = {}
        for name in others:
            known = [row[name] for row, _ in own if row[name] is not None]
            if best[name] is not None and len(known) > 1:
                sign = -1 if name in LOWER_IS_BETTER else 1
                ranks[name] = sum(sign * v <= sign * best[name] for v in known) / len(known)
        choices.append(Choice(sweep, best, text, best[UDR], ranks))
    return choices
