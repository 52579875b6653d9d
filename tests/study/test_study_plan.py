"""How a study is cut, and what of a plan is refused."""

import json

import pytest

from betavae_jax.checks import InputError
from betavae_jax.population import num_runs
from betavae_jax.runs.settings import grid_of
from betavae_jax.study.grid import make_study
from betavae_jax.study.plan import (
    PLAN,
    STUDY,
    Plan,
    check_machine,
    check_same_study,
    cut,
    describe_plan,
    read_plan,
    read_study,
    write_plan,
    write_study,
)

MACHINE = {"format": 2, "versions": {"jax": "1"}, "device_kind": "cpu"}


def study_of(values, seeds, **settings):
    betas = [float(v) for v in range(1, values + 1)]
    sweeps = [
        {"objective": "beta_vae", "coefficients": {"beta": betas}},
        {"objective": "vae", "learning_rate": [1e-3, 1e-4, 1e-5]},
    ]
    return make_study({"sweep": sweeps, "settings": {"seed": list(range(seeds)), **settings}})


@pytest.mark.parametrize("values", [1, 5, 6])
@pytest.mark.parametrize("seeds", [1, 3, 50])
@pytest.mark.parametrize("most", [1, 2, 7, 12, 64, 1000])
def test_every_run_is_in_one_pack(values, seeds, most):
    study = study_of(values, seeds)
    packs = cut(study, most)
    assert [pack.number for pack in packs] == list(range(len(packs)))
    rows = [(p.sweep, row) for p in packs for row in range(p.first, p.last)]
    wanted = [(k, row) for k, s in enumerate(study.sweeps) for row in range(num_runs(grid_of(s)))]
    assert rows == wanted
    for sweep in range(2):
        own = [pack for pack in packs if pack.sweep == sweep]
        sizes = [pack.num_runs for pack in own]
        assert max(sizes) <= most
        if seeds <= most:  # whole settings
            assert all(p.first % seeds == p.last % seeds == 0 for p in own)
            assert max(sizes) - min(sizes) <= seeds
        else:  # within a setting
            assert all(p.first // seeds == (p.last - 1) // seeds for p in own)
            assert max(sizes) - min(sizes) <= 1


def test_a_plan_is_told_in_a_line(tmp_path):
    for seeds, line in [(1, "1 run of vae in 1 pack"), (2, "2 runs of vae in 2 packs")]:
        settings = {"seed": list(range(seeds))}
        study = make_study({"sweep": [{"objective": "vae"}], "settings": settings})
        plan = Plan(cut(study, 1), 1, 1, (), MACHINE)
        assert describe_plan(tmp_path, study, plan) == f"{tmp_path}: {line}"


def test_packs_are_as_few_as_can_be_and_equal_where_they_can():
    study = study_of(6, 50)
    assert [p.num_runs for p in cut(study, 100) if p.sweep == 0] == [100, 100, 100]
    assert [p.num_runs for p in cut(study, 220) if p.sweep == 0] == [150, 150]
    assert [p.num_runs for p in cut(study, 16) if p.sweep == 0][:4] == [13, 13, 12, 12]


def plan_of(study, most=4):
    measured = ({"runs_per_device": 4, "images_per_second": 10.0},)
    return Plan(cut(study, most), most, 1, measured, MACHINE)


def test_study_and_plan_come_back(tmp_path):
    study = study_of(3, 2, num_steps=40)
    assert read_study(tmp_path) is None
    assert read_plan(tmp_path, study) is None
    write_study(tmp_path, study)
    write_plan(tmp_path, plan_of(study))
    check_same_study(tmp_path, read_study(tmp_path), study)
    assert read_plan(tmp_path, study) == plan_of(study)


def damage(tmp_path, change):
    content = json.loads((tmp_path / PLAN).read_text())
    change(content)
    (tmp_path / PLAN).write_text(json.dumps(content))


CHANGES = [
    (lambda c: c["packs"].pop(), "it holds .* runs of"),
    (lambda c: c["packs"].pop(0), "its pack 0 is another"),
    (lambda c: c["packs"][1].update(first=1), "rows of its pack 1"),
    (lambda c: c["packs"][0].update(sweep=5), "its pack 0 is another"),
    (lambda c: c["packs"][0].update(colour=1), "the plan of this study"),
    (lambda c: c.pop("machine"), "the plan of this study"),
    (lambda c: c.update(runs_per_device="x"), "the plan of this study"),
    (lambda c: c.update(format=99), "of format 1"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_damaged_plan_is_refused(tmp_path, change, message):
    study = study_of(3, 2)
    write_plan(tmp_path, plan_of(study))
    damage(tmp_path, change)
    with pytest.raises(InputError, match=message):
        read_plan(tmp_path, study)


@pytest.mark.parametrize("name", [STUDY, PLAN])
def test_files_cut_short_are_refused(tmp_path, name):
    study = study_of(3, 2)
    write_study(tmp_path, study)
    write_plan(tmp_path, plan_of(study))
    (tmp_path / name).write_text((tmp_path / name).read_text()[:100])
    with pytest.raises(InputError, match="to be JSON"):
        read_plan(tmp_path, read_study(tmp_path))


def test_the_plan_of_another_study_is_refused(tmp_path):
    write_plan(tmp_path, plan_of(study_of(3, 2)))
    with pytest.raises(InputError, match=r"it holds|rows of"):
        read_plan(tmp_path, study_of(4, 2))


def test_another_study_is_named(tmp_path):
    with pytest.raises(InputError, match="num_steps of beta_vae was 40, is 50"):
        check_same_study(tmp_path, study_of(3, 2, num_steps=40), study_of(3, 2, num_steps=50))
    with pytest.raises(InputError, match=r"its objectives were beta_vae, vae, are vae"):
        check_same_study(tmp_path, study_of(3, 2), make_study({"sweep": [{"objective": "vae"}]}))


def test_another_machine_is_named(tmp_path):
    plan = plan_of(study_of(3, 2))
    check_machine(tmp_path, plan, MACHINE)
    with pytest.raises(InputError, match=r"device_kind was 'cpu', is 'gpu'.*allow_inexact"):
        check_machine(tmp_path, plan, {**MACHINE, "device_kind": "gpu"})
