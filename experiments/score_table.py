"""Scores as text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from betavae_jax.checks import InputError
from betavae_jax.evaluation import Score
from betavae_jax.report.tables import title_of_run, varying_settings

_DASH = "–"


def titles(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """The runs of `results.json` in words."""
    names = varying_settings(rows)
    return {row["run"]: title_of_run(row, names) for row in rows}


def describe(scores: Sequence[Score], titles: Mapping[int, str]) -> str:
    """The scores of each run with their intervals, then what was refused, a line a reason."""
    width = max(len(score.name) for score in scores)
    found = [score for score in scores if not score.refused]
    lines = []
    for run, title in titles.items():
        lines.append(title)
        for score in found:
            if score.run == run:
                lines.append(_line(score, width))
                lines += [f"  {'':{width}}  {text}" for text in _few_labels(score.result["scores"])]
    methods = {s.name: s.result["interval"]["method"] for s in found if s.result["interval"]}
    lines += [f"[interval] of {names}: {text}" for text, names in _gather(methods.items())]
    lines += [f"not scored: {names}: {reason}" for reason, names in _gather(_refused(scores))]
    return "\n".join(lines)


def to_json(scores: Sequence[Score]) -> dict[str, Any]:
    """The scores of one run, and what was refused."""
    found = {score.name: score.result for score in scores if not score.refused}
    return {"metrics": found, "refused": {s.name: s.refused for s in scores if s.refused}}


def check_some(scores: Sequence[Score]) -> None:
    """Raises InputError, with the reasons, where every score was refused."""
    if all(score.refused for score in scores):
        raise InputError("; ".join(dict.fromkeys(score.refused for score in scores)))


def _line(score: Score, width: int) -> str:
    value, interval = score.result["value"], score.result["interval"]
    text = f"  {score.name:<{width}}  {_DASH if value is None else format(value, '.4f'):>7}"
    if interval:
        text += f"  [{interval['low']:.4f}, {interval['high']:.4f}]"
    return text


def _few_labels(scores: Mapping[str, float]) -> list[str]:
    """Accuracies by number of labels, a line a predictor; nothing for other metrics."""
    curves: dict[str, list[str]] = {}
    for name, value in scores.items():
        parts = name.split(":")
        if parts[-1] == "mean_test_accuracy" and len(parts) == 3:
            curves.setdefault(parts[0], []).append(f"{int(parts[1]):,}: {value:.3f}")
        elif parts[-1] == "sample_efficiency":
            curves[parts[0]].append(f"sample efficiency {value:.3f}")
    return [f"{predictor} by labels  {',  '.join(curve)}" for predictor, curve in curves.items()]


def _refused(scores: Sequence[Score]) -> list[tuple[str, str]]:
    """What was refused and why; where not of every run, of which."""
    runs: dict[tuple[str, str], list[int]] = {}
    for score in scores:
        if score.refused:
            runs.setdefault((score.name, score.refused), []).append(score.run)
    every = len({score.run for score in scores})
    named = {pair: "" if len(mine) == every else f" of run {', '.join(map(str, mine))}"
             for pair, mine in runs.items()}  # fmt: skip
    return [(name + which, reason) for (name, reason), which in named.items()]


def _gather(named: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each text once, with the names that it belongs to."""
    names: dict[str, dict[str, None]] = {}
    for name, text in named:
        names.setdefault(text, {})[name] = None
    return [(text, ", ".join(group)) for text, group in names.items()]
