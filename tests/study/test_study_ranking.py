"""UDR of runs whose like are in other packs."""

import csv

import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.metrics import udr
from betavae_jax.runs.directory import CONFIG, RESULTS
from betavae_jax.runs.machine import FORMAT
from betavae_jax.runs.records import write_json
from betavae_jax.study.compose import compose, compose_when_finished
from betavae_jax.study.grid import make_study
from betavae_jax.study.ledger import FINISHED, TRAINED, read_ledger, scored_in_pack
from betavae_jax.study.plan import Plan, cut, pack_directory, write_plan, write_study
from betavae_jax.study.ranking import save_codes

ROWS, LATENTS = 60, 3
BETAS = [1.0, 4.0]


def make(seeds, betas=BETAS):
    return make_study(
        {
            "sweep": [{"objective": "beta_vae", "coefficients": {"beta": betas}}],
            "settings": {"seed": seeds, "num_steps": 50, "num_latents": LATENTS},
            "metrics": ["unsupervised", "udr"],
            "num_train": ROWS,
        }
    )


def place(workdir, study, most_runs):
    """Packs as training leaves them; the codes of every run, in the order of the plan."""
    plan = Plan(cut(study, most_runs), most_runs, 1, (), {})
    write_study(workdir, study)
    write_plan(workdir, plan)
    rng = np.random.default_rng(0)
    seeds = study.sweeps[0].seed
    grid = [(beta, seed) for beta in study.sweeps[0].coefficients["beta"] for seed in seeds]
    common = rng.normal(size=(ROWS, LATENTS))
    codes = []
    for pack in plan.packs:
        own = np.stack([common @ rng.normal(size=(LATENTS, LATENTS)) for _ in range(pack.num_runs)])
        rows = [
            {"run": k, "objective": "beta_vae", "coefficients": {"beta": beta},
             "learning_rate": 1e-3, "seed": seed, "step": 50, "elbo": -1.0, "distortion": 1.0,
             "rate": 0.0, "kl_per_latent": [1.0] * LATENTS, "active_latents": 3, "failed_at": None,
             "params_sha256": "0", "metrics": {"unsupervised": {"value": 0.5, "scores": {}}}}
            for k, (beta, seed) in enumerate(grid[pack.first : pack.last])
        ]  # fmt: skip
        folder = pack_directory(workdir, pack.number)
        folder.mkdir(parents=True)
        config = {"program": {"format": FORMAT}, "settings": {"network": "conv"}}
        write_json(folder / CONFIG, config)
        write_json(folder / RESULTS, {"runs": rows})
        save_codes(folder, own)
        codes.append(own.astype(np.float32))
    return plan, np.concatenate(codes)


def column(workdir, name):
    lines = (workdir / "study.csv").read_text().splitlines()
    return [row[name] for row in csv.DictReader(lines)]


def test_seeds_of_several_packs_are_ranked_together(tmp_path):
    study = make([0, 1, 2])
    plan, codes = place(tmp_path, study, 2)
    assert [pack.num_runs for pack in plan.packs] == [2, 1, 2, 1]
    compose(tmp_path)
    kl = np.ones((3, LATENTS))
    expected = [result.value for runs in (codes[:3], codes[3:]) for result in udr(runs, kl)]
    assert column(tmp_path, "udr") == [str(value) for value in expected]
    assert set(column(tmp_path, "udr.num_active")) == {"3"}


def test_settings_of_one_seed_are_ranked_with_the_whole_sweep(tmp_path):
    study = make([0], [1.0, 2.0, 4.0])
    plan, codes = place(tmp_path, study, 2)
    assert [pack.num_runs for pack in plan.packs] == [2, 1]
    compose(tmp_path)
    expected = [result.value for result in udr(codes, np.ones((3, LATENTS)))]
    assert column(tmp_path, "udr") == [str(value) for value in expected]


@pytest.mark.parametrize(("seeds", "most_runs", "later"), [
    ([0, 1, 2], 3, False),  # a pack a setting
    ([0, 1, 2], 6, False),
    ([0], 2, False),  # one pack
    ([0], 1, True),
    ([0, 1, 2], 2, True),
])  # fmt: skip
def test_a_pack_ranks_its_runs_alone_where_it_holds_their_like(seeds, most_runs, later):
    study = make(seeds)
    for pack in cut(study, most_runs):
        assert ("udr" not in scored_in_pack(study, pack)) == later
        assert "unsupervised" in scored_in_pack(study, pack)
        unasked = study._replace(metrics=("unsupervised",))
        assert scored_in_pack(unasked, pack) == ["unsupervised"]


def test_a_pack_is_not_finished_without_its_codes(tmp_path):
    study = make([0, 1, 2])
    plan, codes = place(tmp_path, study, 2)
    last = pack_directory(tmp_path, 3)
    assert {state.state for state in read_ledger(tmp_path, study, plan)} == {FINISHED}
    fewer = study._replace(num_train=ROWS - 1)  # codes of so many rows are to be made anew
    assert {state.state for state in read_ledger(tmp_path, fewer, plan)} == {TRAINED}
    more = study._replace(num_train=ROWS + 1)  # as of a set that has no more examples than ROWS
    assert {state.state for state in read_ledger(tmp_path, more, plan)} == {FINISHED}
    (last / "codes.npy").write_bytes(b"\x93NUMPY")
    assert read_ledger(tmp_path, study, plan)[3].state == TRAINED
    assert compose_when_finished(tmp_path) is None
    with pytest.raises(InputError, match=r"to be finished; got \[3\]"):
        compose(tmp_path)
    save_codes(last, codes[5:])
    assert compose_when_finished(tmp_path) is not None


def test_a_ranking_stays_where_other_metrics_are_asked_for(tmp_path):
    study = make([0, 1, 2])
    place(tmp_path, study, 2)
    compose(tmp_path)
    ranked = column(tmp_path, "udr")
    write_study(tmp_path, study._replace(metrics=("unsupervised",)))
    compose(tmp_path)
    assert column(tmp_path, "udr") == ranked
    (pack_directory(tmp_path, 1) / "codes.npy").unlink()  # as of a pack that was trained anew
    compose(tmp_path)
    assert "udr" not in (tmp_path / "study.csv").read_text()


def test_codes_that_are_not_finite_are_told_apart(tmp_path):
    study = make([0, 1, 2])
    _, codes = place(tmp_path, study, 2)
    save_codes(pack_directory(tmp_path, 1), np.full_like(codes[2:3], np.nan))
    page = compose(tmp_path)
    expected = [result.value for result in udr(codes[:2], np.ones((2, LATENTS)))]
    assert column(tmp_path, "udr")[:3] == [*map(str, expected), ""]
    assert "udr: expected finite codes and KL; got NaN or infinity (1 run)" in page.read_text()
