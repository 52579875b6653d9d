"""The table of a study, and what it says as a whole."""

import csv
import json
import math
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from betavae_jax.checks import InputError
from betavae_jax.evaluation import LOWER_IS_BETTER
from betavae_jax.runs.directory import CONFIG, FIGURES, LOG, REPORT, RESULTS
from betavae_jax.runs.records import append_log, write_json
from betavae_jax.study.compose import compose, compose_when_finished
from betavae_jax.study.grid import make_study
from betavae_jax.study.ledger import (
    ABSENT,
    BEGUN,
    FINISHED,
    TRAINED,
    read_ledger,
)
from betavae_jax.study.plan import (
    Plan,
    cut,
    load_study,
    pack_directory,
    write_plan,
    write_study,
)
from betavae_jax.study.summary import (
    choose_by_udr,
    columns_of,
    rank_correlations,
    settings_of_rows,
    spread_of,
    texts_of,
)
from betavae_jax.study.table import (
    CSV,
    PARQUET,
    coefficient_names,
    score_names,
    table_of,
    write_csv,
)

MACHINE = {"format": 2, "versions": {"jax": "1"}, "device_kind": "cpu"}
STUDY = make_study(
    {
        "sweep": [
            {"objective": "beta_vae", "coefficients": {"beta": [1.0, 4.0]}},
            {"objective": "dip_vae_i", "coefficients": {"lambda_od": [2.0]}},
        ],
        "settings": {"seed": [0, 1], "num_steps": 50},
        "metrics": ["mig", "udr"],
    }
)
COEFFICIENTS = [{"beta": 1.0}, {"beta": 4.0}, {"beta": 1.0, "lambda_od": 2.0, "lambda_d": 20.0}]


def row_of(run, setting, seed, mig, udr, **change):
    scores = {
        "mig": {"value": mig, "scores": {"mig": mig, "mig_max": mig + 0.5}},
        "udr": {"value": udr, "scores": {"udr": udr, "num_active": 2}},
    }
    return {
        "run": run,
        "objective": "beta_vae" if setting < 2 else "dip_vae_i",
        "coefficients": COEFFICIENTS[setting],
        "learning_rate": 1e-3,
        "seed": seed,
        "step": 50,
        "elbo": -100.0 - mig,
        "distortion": 90.0,
        "rate": 10.0 + mig,
        "kl_per_latent": [1.0, 2.0],
        "active_latents": 2,
        "failed_at": None,
        "params_sha256": f"{setting}{seed}" * 32,
        "metrics": scores,
        **change,
    }


@pytest.fixture
def workdir(tmp_path):
    """A study of three packs of two seeds; one run has failed."""
    write_study(tmp_path, STUDY)
    write_plan(tmp_path, Plan(cut(STUDY, 2), 2, 1, (), MACHINE))
    reason = "expected finite codes"
    failed = {"failed_at": 7, "step": 7, "elbo": None, "rate": None, "metrics": {},
              "unscored": {"mig": reason, "udr": reason}}  # fmt: skip
    rows = [
        [row_of(0, 0, 0, 0.1, 0.5), row_of(1, 0, 1, 0.3, 0.4)],
        [row_of(0, 1, 0, 0.2, 0.9), row_of(1, 1, 1, 0.0, 0.0, **failed)],
        [row_of(0, 2, 0, 0.6, 0.1), row_of(1, 2, 1, 0.5, 0.2)],
    ]
    for number, own in enumerate(rows):
        folder = pack_directory(tmp_path, number)
        folder.mkdir(parents=True)
        config = {"settings": {"network": "conv"}, "program": {"format": 2}}
        write_json(folder / CONFIG, config)
        write_json(folder / RESULTS, {"runs": own})
    lines = [{"step": 10, "run": run, "loss": None if run else 3.0, "elbo": None if run else -3.0,
              "grad_norm": None if run else 1.0} for run in (0, 1)]  # fmt: skip
    append_log(pack_directory(tmp_path, 1) / LOG, lines)
    return tmp_path


def states_of(workdir):
    return read_ledger(workdir, STUDY, Plan(cut(STUDY, 2), 2, 1, (), MACHINE))


def test_the_ledger_reads_how_far_packs_are(workdir):
    assert [state.state for state in states_of(workdir)] == [FINISHED] * 3
    first = pack_directory(workdir, 0)
    content = json.loads((first / RESULTS).read_text())
    del content["runs"][0]["metrics"]["udr"]
    write_json(first / RESULTS, content)
    assert states_of(workdir)[0].state == TRAINED
    (first / RESULTS).write_text("{")
    (first / "checkpoints" / "30").mkdir(parents=True)
    (first / "checkpoints" / "40.damaged").mkdir()
    assert states_of(workdir)[0][1:3] == (BEGUN, 30)
    (first / CONFIG).unlink()
    assert states_of(workdir)[0].state == ABSENT


def test_the_table_has_a_row_a_run(workdir):
    rows = table_of(workdir, STUDY, states_of(workdir))
    assert [row["pack"] for row in rows] == [0, 0, 1, 1, 2, 2]
    assert coefficient_names(rows) == ["beta", "lambda_od", "lambda_d"]
    assert score_names(rows) == ["mig", "udr"]
    assert rows[0]["mig.mig_max"] == pytest.approx(0.6)
    assert rows[0]["lambda_od"] is None
    assert rows[3]["cause"] == "loss not finite"
    assert (rows[3]["failed_at"], rows[3]["elbo"], rows[3]["mig"]) == (7, None, None)
    assert rows[2]["cause"] is None


def test_csv_and_parquet_hold_the_same(workdir):
    compose(workdir)
    rows = table_of(workdir, STUDY, states_of(workdir))
    text = (workdir / "study.csv").read_text()
    assert "nan" not in text.lower()
    read = list(csv.DictReader(text.splitlines()))
    table = pq.read_table(workdir / "study.parquet")
    assert table.column_names == list(rows[0]) == list(read[0])
    for row, line, other in zip(rows, read, table.to_pylist(), strict=True):
        assert other == row
        for name, value in row.items():
            assert line[name] == ("" if value is None else str(value))
    assert str(table.schema.field("seed").type) == "int64"


def test_the_page_tells_of_failures_and_choices(workdir):
    page = compose(workdir)
    assert page == workdir / REPORT
    text = page.read_text()
    assert "5 of 6 runs finished" in text
    assert "run 1 of pack 1 at step 7 (loss not finite)" in text
    assert text.count("<img") == 3
    assert "dip_vae_i: 50 steps of 64 examples, conv" in text
    assert "mig: expected finite codes (1 run)" in text
    # The chosen run is found by what it is found by among all.
    assert text.count('data-words="beta_vae beta=4 seed=0"') == 2
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize("metrics", [(), ("mig", "udr")])
def test_a_study_whose_runs_all_failed_has_its_page(workdir, metrics):
    write_study(workdir, STUDY._replace(metrics=metrics))
    nothing = dict.fromkeys(("elbo", "distortion", "rate", "active_latents"))
    failed = {**nothing, "failed_at": 3, "step": 3, "metrics": {},
              "unscored": dict.fromkeys(metrics, "expected finite codes")}  # fmt: skip
    for number in range(3):
        rows = [row_of(run, number, run, 0.0, 0.0, **failed) for run in (0, 1)]
        write_json(pack_directory(workdir, number) / RESULTS, {"runs": rows})
    text = compose(workdir).read_text()
    assert "0 of 6 runs finished" in text
    assert text.count("<img") == 1  # the plane; there is no metric to draw
    assert not (workdir / "figures" / "metrics.png").exists()
    assert len((workdir / "study.csv").read_text().splitlines()) == 7


def test_composing_waits_for_every_pack(workdir):
    page = compose_when_finished(workdir)
    before = page.stat().st_mtime_ns
    assert compose_when_finished(workdir) == page
    assert page.stat().st_mtime_ns == before  # nothing is newer than it
    (pack_directory(workdir, 2) / RESULTS).unlink()
    assert compose_when_finished(workdir) is None
    with pytest.raises(InputError, match=r"to be finished; got \[2\]"):
        compose(workdir)


def test_results_that_changed_while_they_were_composed_are_composed_again(workdir, monkeypatch):
    path = pack_directory(workdir, 0) / RESULTS
    results = json.loads(path.read_text())
    results["runs"][0]["elbo"] = -1234.5

    def write(*arguments):
        write_json(path, results)  # by another process, once the old ones are read
        write_csv(*arguments)

    with monkeypatch.context() as patch:
        patch.setitem(compose.__globals__, "write_csv", write)
        page = compose_when_finished(workdir)
    assert "-1234.5" not in page.read_text()
    assert compose_when_finished(workdir) == page
    assert "-1234.5" in page.read_text()


@pytest.mark.parametrize("name", [CSV, PARQUET])
@pytest.mark.parametrize("how", ["gone", "empty", "old"])
def test_a_table_that_is_missing_is_made_again(workdir, name, how):
    compose_when_finished(workdir)
    path, before = workdir / name, (workdir / name).read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(b"of an earlier state")
        os.utime(path, (1, 1))
    compose_when_finished(workdir)
    assert path.read_bytes() == before


def test_figures_are_on_the_disk_before_the_page(workdir, synced_when_named):
    """Where a page stands, they are not drawn again."""
    seen = synced_when_named(REPORT, (workdir / FIGURES).iterdir)
    compose(workdir)
    assert seen
    assert all(seen)


def test_a_disk_too_full_for_figures_is_named(workdir):
    (workdir / FIGURES).mkdir()
    (workdir / FIGURES / "rate_distortion.png").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/figures'"):
        compose(workdir)
    assert not (workdir / REPORT).exists()


def test_a_directory_without_a_study_is_refused(tmp_path):
    with pytest.raises(InputError, match="to be a study with a plan"):
        compose(tmp_path)
    assert list(tmp_path.iterdir()) == []
    write_study(tmp_path, STUDY)  # as a kill before its plan leaves it
    with pytest.raises(InputError, match="to be a study with a plan"):
        load_study(tmp_path)


def test_settings_are_summed_up_over_seeds(workdir):
    rows = table_of(workdir, STUDY, states_of(workdir))
    assert (
        texts_of(rows) == ["beta=1"] * 2 + ["beta=4"] * 2 + ["beta=1, lambda_od=2, lambda_d=20"] * 2
    )
    first, second, third = settings_of_rows(rows)
    assert (first.sweep, first.text, first.runs, first.failed) == ("beta_vae", "beta=1", 2, 0)
    assert first.spreads["mig"].mean == pytest.approx(0.2)
    assert first.spreads["mig"].deviation == pytest.approx(np.std([0.1, 0.3], ddof=1))
    assert second.failed == 1
    assert second.spreads["mig"] == (0.2, None, 1)
    assert third.sweep == "dip_vae_i"
    assert spread_of([None, math.nan]) == (None, None, 0)
    rates = [1e-3, 1e-4, 1e-3, 1e-4, 5e-4, 5e-4]
    rows = [{**row, "learning_rate": rate} for row, rate in zip(rows, rates, strict=True)]
    settings = settings_of_rows(rows)  # two rates are two settings, not two seeds of one
    assert [setting.text for setting in settings] == [
        "beta=1, learning_rate=0.001", "beta=1, learning_rate=0.0001",
        "beta=4, learning_rate=0.001", "beta=4, learning_rate=0.0001",
        "beta=1, lambda_od=2, lambda_d=20",
    ]  # fmt: skip
    assert [setting.runs for setting in settings] == [1, 1, 1, 1, 2]
    rows = [{**row, "beta": row["beta"] + 1e6} for row in rows[:4]]  # another in the 7th digit
    assert [(setting.text.split(", ")[0], setting.runs) for setting in settings_of_rows(rows)] == [
        ("beta=1000001.0", 1), ("beta=1000001.0", 1), ("beta=1000004.0", 1), ("beta=1000004.0", 1),
    ]  # fmt: skip


def test_udr_chooses_in_each_objective(workdir):
    rows = table_of(workdir, STUDY, states_of(workdir))
    beta, dip = choose_by_udr(rows)
    assert (beta.sweep, beta.setting, beta.chosen["seed"], beta.udr) == ("beta_vae", "beta=4", 0,
                                                                        0.9)  # fmt: skip
    assert beta.ranks["mig"] == pytest.approx(2 / 3)  # of three finite ones
    assert dip.chosen["seed"] == 1
    assert choose_by_udr([{k: v for k, v in row.items() if k != "udr"} for row in rows]) == []
    unscored = [{**row, "udr": None} if row["sweep"] == "beta_vae" else row for row in rows]
    assert choose_by_udr(unscored) == [dip]
    rows[0]["mig"] = None  # refused for this run alone: the chosen one is compared with the others
    assert choose_by_udr(rows)[0].ranks["mig"] == pytest.approx(1 / 2)


def test_a_run_that_stopped_counts_nowhere_else(workdir):
    """The network that it was at its stop has finite scores, and may have the best."""
    rows = table_of(workdir, STUDY, states_of(workdir))
    early = {"mig": 0.9, "udr": 1.0, "elbo": -1.0, "rate": 0.1}
    kept = [{**row, **early} if row["failed_at"] is not None else row for row in rows]
    assert kept[3]["mig"] == 0.9
    assert settings_of_rows(kept) == settings_of_rows(rows)
    for ours, other in zip(choose_by_udr(kept), choose_by_udr(rows), strict=True):
        assert ours == other
    values = columns_of(kept, ["mig", "elbo"])
    assert np.isnan(values[:, 3]).all()
    assert np.isfinite(values[:, [0, 1, 2, 4, 5]]).all()


def test_where_less_is_better_the_lowest_beats_all(workdir):
    rows = [
        {**row, "unsupervised": value, "fairness": value}
        for row, value in zip(
            table_of(workdir, STUDY, states_of(workdir)),
            [0.5, 0.2, 0.1, None, 3.0, 4.0],
            strict=True,
        )
    ]
    beta, dip = choose_by_udr(rows)
    assert beta.ranks["unsupervised"] == beta.ranks["fairness"] == 1.0  # 0.1 of three
    assert beta.ranks["mig"] == pytest.approx(2 / 3)
    assert dip.ranks["unsupervised"] == 0.5  # 4.0 of two
    assert {"unsupervised", "fairness"} == LOWER_IS_BETTER


def change_runs(workdir, change):
    for number in range(3):
        path = pack_directory(workdir, number) / RESULTS
        content = json.loads(path.read_text())
        for run in content["runs"]:
            change(number, run)
        write_json(path, content)


def test_the_page_marks_where_less_is_better(workdir):
    def add(number, run):
        run["metrics"]["unsupervised"] = {"value": 5.0 - number}

    change_runs(workdir, add)
    text = compose(workdir).read_text()
    assert text.count(">unsupervised ↓</button>") == 3  # of choices, settings, runs
    assert text.count(">mig</button>") == 3
    assert "4.000 (100 %)" in text  # of beta_vae: the others have 5 twice, and 4
    assert "0.200 (67 %)" in text
    assert "that it equals or beats; where ↓ stands, less is better" in text


def test_without_udr_the_page_says_what_it_needs(workdir):
    write_study(workdir, STUDY._replace(metrics=("mig",)))
    change_runs(workdir, lambda _, run: run["metrics"].pop("udr", None))
    text = compose(workdir).read_text()
    assert "UDR was not measured" in text
    assert "or all of an objective whose settings have one seed" in text


def test_rank_correlations_are_spearmans_over_finite_pairs():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 20))
    values[0, 3] = values[1, 5] = np.nan
    values[2] = 1.0
    found = rank_correlations(values)
    kept = np.isfinite(values[:2]).all(axis=0)
    expected = spearmanr(values[0][kept], values[1][kept]).statistic
    assert found[0, 1] == found[1, 0] == pytest.approx(expected)
    assert found[0, 0] == pytest.approx(1.0)
    assert np.isnan(found[2]).all()
    assert np.isnan(rank_correlations(values[:2, :2])).all()
    few = rank_correlations(np.asarray([[1.0, 2, 3, np.nan, 5], [4.0, 9, 6, 8, np.nan]]))
    assert few[0, 1] == pytest.approx(0.5)  # of three runs: 1 - 6 (0 + 1 + 1) / (3 · 8)
