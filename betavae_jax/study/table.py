"""The runs of a study as one table, CSV and Parquet."""

import csv
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from betavae_jax.checks import is_number
from betavae_jax.runs.records import replacing, write_text
from betavae_jax.study.grid import Study, labels_of
from betavae_jax.study.ledger import PackState, causes_of_failure
from betavae_jax.study.plan import pack_directory

CSV, PARQUET = "study.csv", "study.parquet"

_FIRST = ("pack", "run", "sweep", "objective", "learning_rate", "seed")
_THEN = ("step", "elbo", "distortion", "rate", "active_latents", "failed_at", "cause",
         "params_sha256")  # fmt: skip
_WHOLE = {"pack", "run", "seed", "step", "active_latents", "failed_at"}
_WORDS = {"sweep", "objective", "cause", "params_sha256"}

Row = Mapping[str, Any]


def table_of(workdir: pathlib.Path, study: Study, states: Sequence[PackState]) -> list[Row]:
    """One row a run, in the order of the plan; what is not known or not finite is None.

    Args:
      workdir: The study's directory.
      study: What was asked.
      states: The packs, trained.

    Returns:
      Rows with the same keys: `pack`, `run` (in the pack's directory), `sweep`, `objective`, the
      coefficients of all objectives, `learning_rate`, `seed`, what `results.json` holds of a run,
      `cause` of a failure, and the scalars of every metric: the headline by the metric's name,
      the others as `metric.score`.
    """
    labels = labels_of(study)
    rows: list[dict[str, Any]] = []
    for state in states:
        causes = causes_of_failure(pack_directory(workdir, state.pack.number), state.rows)
        for run in state.rows:
            flat = {"pack": state.pack.number, "sweep": labels[state.pack.sweep], **run}
            flat |= {"cause": causes.get(run["run"]), **run["coefficients"]}
            flat |= _scores(run["metrics"])
            rows.append(flat)
    coefficients = dict.fromkeys(k for s in states for run in s.rows for k in run["coefficients"])
    scores = sorted({k for s in states for run in s.rows for k in _scores(run["metrics"])})
    first, then = list(_FIRST), list(_THEN)
    columns = [*first[:4], *coefficients, *first[4:], *then, *scores]
    return [{name: _finite(row.get(name)) for name in columns} for row in rows]


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Every scalar of the metrics of a run."""
    found: dict[str, Any] = {}
    for metric, result in metrics.items():
        if not isinstance(result, Mapping) or not is_number(result.get("value")):
            continue
        found[metric] = result["value"]
        for name, value in result.get("scores", {}).items():
            if name != metric and is_number(value):
                found[f"{metric}.{name}"] = value
    return found


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def coefficient_names(rows: Sequence[Row]) -> list[str]:
    """The columns that are coefficients."""
    columns = list(rows[0])
    return columns[columns.index("objective") + 1 : columns.index("learning_rate")]


def score_names(rows: Sequence[Row]) -> list[str]:
    """The columns that are headlines of metrics."""
    columns = list(rows[0])
    return [name for name in columns[columns.index(_THEN[-1]) + 1 :] if "." not in name]


def write_csv(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Writes a CSV file, whole or not at all; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_parquet(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Writes a Parquet file, whole or not at all; whole numbers, words, and float64."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        name: pa.int64() if name in _WHOLE else pa.string() if name in _WORDS else pa.float64()
        for name in rows[0]
    }
    arrays = [pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()]
    with replacing(path) as beside:
        pq.write_table(pa.table(arrays, names=list(kinds)), beside)
