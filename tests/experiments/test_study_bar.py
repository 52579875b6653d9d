"""The time left of a study, as far as it is known."""

import time

import pytest

from betavae_jax.study.grid import make_study
from betavae_jax.study.ledger import PackState
from betavae_jax.study.plan import cut
from experiments.study_bar import Pace, StudyBar, say_left, seconds_left

STEPS = {"beta_vae": 100.0, "factor_vae": 50.0}
PACKS = {"beta_vae": 2, "factor_vae": 1}


def test_nothing_is_claimed_before_it_is_measured():
    assert seconds_left({}, STEPS, PACKS) == (None, ["beta_vae", "factor_vae"])
    assert say_left(None, []) == "time left: measuring"


def test_each_objective_has_its_pace():
    paces = {"beta_vae": Pace(10.0, 20.0, 6.0, 2), "factor_vae": Pace(20.0, 10.0)}
    left, unknown = seconds_left(paces, STEPS, PACKS)
    # Steps at half a second and at two; three packs of three seconds beside their steps.
    assert left == pytest.approx(100 * 0.5 + 50 * 2.0 + 3 * 3.0)
    assert unknown == []


def test_an_objective_that_is_not_measured_is_named():
    left, unknown = seconds_left({"beta_vae": Pace(10.0, 20.0)}, STEPS, PACKS)
    assert left == pytest.approx(150 * 0.5)
    assert unknown == ["factor_vae"]
    assert say_left(3_725.4, unknown) == "1:02:05 left, factor_vae not measured yet"
    assert seconds_left({"beta_vae": Pace(1.0, 2.0)}, {"beta_vae": 0.0}, {"beta_vae": 0}) == (
        0.0,
        [],
    )


def test_the_bar_counts_the_steps_of_all_runs(monkeypatch):
    study = make_study({"sweep": [{"objective": "vae"}],
                        "settings": {"seed": [0, 1, 2], "num_steps": 40}})  # fmt: skip
    packs = cut(study, 2)
    states = [PackState(packs[0], "begun", 10, []), PackState(packs[1], "absent", 0, [])]
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bar = StudyBar(study, states, workers=2, show=False)
    assert (bar._bar.total, bar._bar.n) == (120, 20)
    bar.begin(0)
    for at, step in ((5.0, 11), (8.0, 26), (11.0, 40)):  # five seconds to compile, then five a s
        now[0] = at
        bar.at(0, step)
    assert bar._paces["vae"][:2] == (6.0, 29 * 2)
    now[0] = 13.0
    bar.end(0)
    assert bar._paces["vae"][2:] == (7.0, 1)  # before the first chunk, and after the last
    assert bar._done == {0: 40, 1: 0}
    bar.close()


def test_what_is_told_stands_in_a_line_above_the_bar(capsys):
    study = make_study({"sweep": [{"objective": "vae"}], "settings": {"num_steps": 40}})
    bar = StudyBar(study, [PackState(pack, "absent", 0, []) for pack in cut(study, 1)])
    bar.tell("waiting")
    bar.close()
    output, errors = capsys.readouterr()
    assert output == ""
    assert "waiting" in errors.splitlines()
