"""Scores the runs of a directory, or codes made elsewhere, by published metrics.

  python -m experiments.evaluate --workdir=runs/NAME                  # a minute a run
  python -m experiments.evaluate --workdir=runs/NAME --metrics=all    # many minutes
  python -m experiments.evaluate --codes=codes.npz --metrics=mig,sap --output=scores.json

Scores of a run are kept under `metrics` in `results.json`, and shown on the page. A file of codes
holds codes_train [N, D], factors_train [N, K], codes_test, factors_test; or codes and factors.
"""

import pathlib
import sys
from collections.abc import Iterator

import numpy as np
from absl import flags
from tqdm import tqdm

from betavae_jax.checks import InputError
from betavae_jax.evaluation import (
    Effort,
    Score,
    expand_names,
    load_codes,
    needs_factors,
    score_codes,
    score_population,
    with_score,
)
from betavae_jax.report import write_report
from betavae_jax.restore import load_population
from betavae_jax.runs.directory import RESULTS, locked, read_config
from betavae_jax.runs.records import write_json
from betavae_jax.study.effort import settle_effort
from experiments import cli, score_flags, score_table
from experiments.directory import standing_results
from experiments.file_flags import OUTPUT
from experiments.path_flags import define_path, new_file
from experiments.score_flags import NUM_TEST, NUM_TRAIN, asked_metrics

flags.adopt_module_key_flags(score_flags)  # so that --help shows them
for name in (cli.WORKDIR.name, cli.DETERMINISTIC.name, OUTPUT.name):  # JSON, of --codes
    flags.declare_key_flag(name)
_CODES = define_path("codes", None, "Instead of a run directory: codes in a .npz file.")
_SEED = flags.DEFINE_integer("draw_seed", 0, "Of every draw.", lower_bound=0)
_JOBS = flags.DEFINE_integer("jobs", -1, "Processors for classifiers; -1 is all.")
_GRID_LIMIT = flags.DEFINE_integer(
    "grid_limit", Effort().grid_limit, "A full grid of more is not encoded whole.", lower_bound=0
)
_EFFORT = {"num_train": NUM_TRAIN, "num_test": NUM_TEST, "seed": _SEED, "grid_limit": _GRID_LIMIT}


def main() -> int:
    """Scores, prints and keeps the scores."""
    workdir, codes = cli.WORKDIR.value, _CODES.value
    if OUTPUT.value and not codes:
        raise InputError("expected --output with --codes; a run directory has its results.json")
    if _JOBS.value != -1 and _JOBS.value < 1:
        raise InputError(f"expected jobs to be at least 1, or -1 for all; got {_JOBS.value}")
    effort = Effort(NUM_TRAIN.value, NUM_TEST.value, _SEED.value, _JOBS.value, _GRID_LIMIT.value)
    if workdir and not codes:
        return _score_directory(pathlib.Path(workdir), effort)
    if codes and not workdir:
        return _score_codes(pathlib.Path(codes), effort)
    raise InputError("expected either --workdir=DIRECTORY or --codes=FILE.npz; got "
                     f"{'both' if codes else 'neither'}")  # fmt: skip


def _score_codes(path: pathlib.Path, effort: Effort) -> int:
    for flag in (NUM_TRAIN, NUM_TEST, _GRID_LIMIT):
        if flag.present:
            raise InputError(f"expected --{flag.name} with --workdir; --codes are taken whole")
    names, output = expand_names(asked_metrics(), baselines=False), new_file(OUTPUT)
    four = load_codes(path, factors=all(map(needs_factors, names)), seed=effort.seed)
    scores = list(_follow(score_codes(four, names, effort), len(names)))
    score_table.check_some(scores)
    print(score_table.describe(scores, {0: str(path)}))
    if output:
        write_json(output, score_table.to_json(scores))
    return 0


def _score_directory(workdir: pathlib.Path, effort: Effort) -> int:
    names = expand_names(asked_metrics())
    read_config(workdir)  # before the lock, which would make the directory
    cli.exclude_nondeterministic_operations()
    named = {field: flag.name for field, flag in _EFFORT.items() if flag.present}
    with locked(workdir):
        effort = settle_effort(workdir, effort, named)
        experiment, program, carry, step = population = load_population(workdir)
        results = standing_results(workdir, population)
        rows = results["runs"]
        kl = np.asarray([row["kl_per_latent"] for row in rows], np.float64)  # None becomes NaN
        scores: list[Score] = []
        scoring = score_population(experiment, program, carry, kl, names, effort)
        for score in _follow(scoring, len(names) * len(rows)):
            scores.append(score)
            if not score.refused:
                rows[score.run] = with_score(rows[score.run], score)
            if score.name == names[-1]:  # a kill costs no more than one run
                write_json(workdir / RESULTS, results)
        score_table.check_some(scores)
        page = write_report(workdir, experiment, carry, results)
    print(score_table.describe(scores, score_table.titles(rows)))
    print(f"step {step:,}; scores: {workdir / RESULTS}; report: {page}")
    return 0


def _follow(scores: Iterator[Score], total: int) -> Iterator[Score]:
    """Passes scores on, with a progress bar."""
    often = 0.2 if sys.stderr.isatty() else 10.0
    with tqdm(scores, total=total, unit="score", mininterval=often, delay=1.0) as bar:
        for score in bar:
            bar.set_postfix_str(score.name, refresh=False)
            yield score


if __name__ == "__main__":
    cli.run(main)
