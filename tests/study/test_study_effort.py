"""What the scores of a study cost: one effort, whoever makes them."""

import json

import pytest

from betavae_jax.checks import InputError
from betavae_jax.evaluation import Effort
from betavae_jax.runs.directory import CONFIG, RESULTS
from betavae_jax.runs.records import write_json
from betavae_jax.study.effort import check_effort, settle_effort
from betavae_jax.study.grid import make_study
from betavae_jax.study.plan import (
    STUDY,
    Plan,
    cut,
    may_be_scored,
    pack_directory,
    read_study,
    write_plan,
    write_study,
)

SCORED = make_study({"sweep": [{"objective": "vae", "seed": [0, 1], "num_steps": 5}],
                     "metrics": ["mig"]})  # fmt: skip
UNSCORED = SCORED._replace(metrics=())
FEW = {"num_train": 500}
PLAN = Plan(cut(SCORED, 1), 1, 1, (), {})
NAMES = {"num_train": "num_train", "seed": "draw_seed"}


def begin(workdir, study):
    write_study(workdir, study)
    write_plan(workdir, PLAN)
    return pack_directory(workdir, 0)


def accepts(workdir, **effort):
    old = read_study(workdir)
    try:
        check_effort(workdir, old, old._replace(**effort), PLAN)
    except InputError:
        return False
    return True


def test_the_effort_stands_from_the_first_that_makes_scores(tmp_path):
    begin(tmp_path, SCORED)
    assert accepts(tmp_path)
    message = r"num_train=10000, num_test=5000, with which scores of .* got num_train=500, num_t"
    with pytest.raises(InputError, match=message):  # though there is no score
        check_effort(tmp_path, SCORED, SCORED._replace(**FEW), PLAN)


def test_the_effort_of_a_study_without_scores_changes(tmp_path):
    begin(tmp_path, UNSCORED)
    assert accepts(tmp_path, **FEW)
    begin(tmp_path, SCORED)
    begin(tmp_path, UNSCORED)  # another may be making scores still
    assert not accepts(tmp_path, **FEW)


@pytest.mark.parametrize("metrics", [["mig"], []])
def test_a_study_of_an_earlier_version(tmp_path, metrics):
    begin(tmp_path, SCORED._replace(metrics=tuple(metrics)))
    content = json.loads((tmp_path / STUDY).read_text())
    write_json(tmp_path / STUDY, {k: v for k, v in content.items() if k != "scored"})
    assert accepts(tmp_path, **FEW) == (not metrics)


@pytest.mark.parametrize(
    ("row", "accepted"),
    [
        ({"metrics": {"mig": {"value": 0.5}}}, False),
        ({"metrics": {}, "unscored": {"mig": "expected finite codes"}}, False),
        ({"metrics": {"axis_alignment": {"value": 0.5}}}, True),  # measured of every run
    ],
)
def test_scores_that_stand_keep_their_effort(tmp_path, row, accepted):
    folder = begin(tmp_path, UNSCORED)
    folder.mkdir(parents=True)
    write_json(folder / CONFIG, {})
    write_json(folder / RESULTS, {"runs": [{"failed_at": None, "step": 5, **row}]})
    assert accepts(tmp_path, **FEW) == accepted


def test_a_pack_is_scored_with_the_effort_of_its_study(tmp_path):
    folder = begin(tmp_path, UNSCORED._replace(num_train=500))
    asked = Effort(num_train=300, num_test=100, jobs=3)
    assert settle_effort(folder, asked, {}) == Effort(500, 5_000, jobs=3)
    assert settle_effort(folder, asked._replace(num_train=500), NAMES).num_test == 5_000


def test_a_pack_refuses_another_effort_and_then_its_study_does(tmp_path):
    folder = begin(tmp_path, UNSCORED)
    with pytest.raises(
        InputError, match=r"num_train=10000, draw_seed=0, as .*; got num_train=500, "
    ):
        settle_effort(folder, Effort(**FEW, seed=1), NAMES)
    assert not may_be_scored(tmp_path)
    settle_effort(folder, Effort(), NAMES)
    assert read_study(tmp_path) == UNSCORED
    assert not accepts(tmp_path, **FEW)


@pytest.mark.parametrize("name", ["000", "packs/000", "packs/packs"])
def test_a_run_directory_of_no_study_is_scored_as_asked(tmp_path, name):
    asked = Effort(300, 100)
    assert settle_effort(tmp_path / name, asked, NAMES) == asked
    assert list(tmp_path.iterdir()) == []
