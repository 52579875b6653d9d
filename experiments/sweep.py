"""Trains a study: objectives × coefficients × learning rates × seeds, pack by pack.

A list is swept; a coefficient goes to those of the objectives that have it. The same command
again goes on where the last one was stopped, and several may share the work.

  python -m experiments.sweep --objective=beta_vae,factor_vae --beta=1,4 --gamma=10,40 --seed=0,1,2
  python -m experiments.sweep --study=study.toml
  python -m experiments.sweep --study=locatello_dsprites --num_seeds=5 --data_dir=dsprites.npz
  python -m experiments.sweep --workdir=runs/NAME --shard=0/4      # one of four processes
  python -m experiments.sweep --workdir=runs/NAME --executor=ray   # packs as tasks, many hosts
"""

import contextlib
import pathlib
from typing import Any

from absl import flags

from betavae_jax.checks import InputError
from betavae_jax.study.compose import compose_when_finished
from betavae_jax.study.grid import (
    STUDIES,
    Study,
    load_study_file,
    make_study,
    with_scores,
)
from betavae_jax.study.plan import describe_plan, read_study
from experiments import cli, score_flags, settings_flags
from experiments.path_flags import define_path
from experiments.planning import plan_study
from experiments.ray_executor import Executor, on_cluster
from experiments.settings_flags import define_settings, read_given
from experiments.shares import parse_count, parse_shard, say_unfinished, train_packs, train_shard

define_settings()
for module in (cli, score_flags, settings_flags):
    flags.adopt_module_key_flags(module)  # so that --help shows them
_STUDY = define_path("study", None, f"{', '.join(STUDIES)}, or a TOML file.")
_SEEDS = flags.DEFINE_integer("num_seeds", None, "Seeds from 0, in place of a list.")
_RUNS = flags.DEFINE_string("runs_per_device", "auto", "Runs of a pack; auto measures.")
_SHARD = flags.DEFINE_string("shard", "0/1", "I/N: this process trains packs I, I + N, ...")
_EXECUTOR = flags.DEFINE_enum("executor", "local", ["local", "ray"], "Who trains the packs.")
_RAY = flags.DEFINE_string("ray_address", None, "HOST:PORT of a Ray cluster; else one is started.")


def main() -> int:
    """Plans the study, trains its packs, and composes the results when all are finished."""
    cli.exclude_nondeterministic_operations()
    shard, count = parse_shard(_SHARD.value), parse_count(_RUNS.value)
    given = _given()
    workdir = pathlib.Path(cli.WORKDIR.value or _default_workdir(given))
    bits = {"deterministic": cli.DETERMINISTIC.value, "allow_inexact_resume": cli.INEXACT.value}
    study = _study(workdir, given)
    with _executor() as (plans, trains):
        study, plan = plans(workdir, study, runs_per_device=count, **bits)
        print(describe_plan(workdir, study, plan))
        packs = plan.packs[shard[0] :: shard[1]]
        ended = trains(workdir, study, packs, **bits)
    if ended.signal:
        return cli.stopped_by(ended.signal, ended.step)
    page = compose_when_finished(workdir)
    if page is None:
        is_held = _SHARD.present and ended.status == "busy"
        return say_unfinished(workdir, study, plan, packs if is_held else ())
    print(f"results: {page}")
    return 0


def _given() -> dict[str, Any]:
    """What flags say of the study, in the form of a study file."""
    settings = read_given()
    objectives = settings.pop("objective", None)
    given: dict[str, Any] = {"settings": settings} if settings else {}
    if flags.FLAGS.preset is not None:
        given.setdefault("settings", {})["preset"] = flags.FLAGS.preset
    if objectives is not None:
        given["sweep"] = [{"objective": name.strip()} for name in objectives.split(",")]
    for name in ("metrics", "num_seeds", "num_train", "num_test"):
        if flags.FLAGS[name].present:
            given[name] = flags.FLAGS[name].value
    return given


def _study(workdir: pathlib.Path, given: dict[str, Any]) -> Study:
    """The study that is asked for; without any word of it, the one that the directory holds."""
    if _STUDY.value is None and not {"settings", "sweep", "num_seeds"} & set(given):
        standing = read_study(workdir)
        if standing is None:
            raise InputError(
                "expected --study, --objective or a --workdir that holds a study; got none"
            )
        return with_scores(standing, given)
    if _STUDY.value is None:
        return make_study({"sweep": [{"objective": "beta_vae"}]}, given)
    if "sweep" in given:
        raise InputError("expected either --study or --objective; got both")
    known = STUDIES.get(_STUDY.value)
    return make_study(known or load_study_file(pathlib.Path(_STUDY.value)), given)


def _executor() -> contextlib.AbstractContextManager[Executor]:
    if _EXECUTOR.value == "local":
        if _RAY.value is not None:
            raise InputError("expected --ray_address with --executor=ray; got it without")
        train = train_shard if _SHARD.present else train_packs
        return contextlib.nullcontext(Executor(plan_study, train))
    if _SHARD.present:
        raise InputError("expected either --shard or --executor=ray; got both")
    return on_cluster(_RAY.value)


def _default_workdir(given: dict[str, Any]) -> str:
    objectives = [sweep["objective"] for sweep in given.get("sweep", [])] or ["study"]
    name = pathlib.PurePath(_STUDY.value).stem if _STUDY.value else "-".join(objectives)
    return f"runs/{name}"


if __name__ == "__main__":
    cli.run(main)
