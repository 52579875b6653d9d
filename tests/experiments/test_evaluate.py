"""The driver that scores: a run directory, codes from a file, refusals."""

import functools
import json
import re
import shutil

import numpy as np
import pytest

from betavae_jax.evaluation import Score, with_score
from betavae_jax.metrics import mig
from betavae_jax.runs.directory import locked
from betavae_jax.runs.settings import Settings, build
from betavae_jax.study.grid import make_study
from betavae_jax.study.plan import may_be_scored, write_study
from experiments import evaluate, score_table

SMALL = ("--num_train=400", "--num_test=150", "--jobs=1")
NETWORK = {"network": "mlp", "network_settings": {"widths": "8", "decoder_widths": "8"}}


@pytest.fixture
def invoke(invoke_driver):
    return functools.partial(invoke_driver, evaluate.main)


@pytest.fixture(scope="module")
def trained(make_experiment, tmp_path_factory, train):
    """Six steps of two runs on blobs; no results yet."""
    experiment = make_experiment(
        seed=[0, 1], num_steps=6, checkpoint_every=3, log_every=2, tensorboard=False, **NETWORK
    )
    return train(tmp_path_factory.mktemp("trained") / "a", experiment)


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "a")


def results_of(workdir):
    return json.loads((workdir / "results.json").read_text())["runs"]


def test_a_population_is_scored_and_its_page_written_again(invoke, workdir):
    code, output, _ = invoke(f"--workdir={workdir}", "--metrics=mig,udr,unsupervised", *SMALL)
    assert code == 0
    assert output.startswith("no results of step 6: evaluating\nrun 0, seed=0\n  mig  ")
    assert "[interval] of udr: quartiles over the other runs" in output
    assert f"report: {workdir / 'report.html'}" in output
    rows = results_of(workdir)
    for row in rows:
        assert set(row["metrics"]) == {"axis_alignment", "mig", "udr", "unsupervised"}
        assert 0 <= row["metrics"]["mig"]["value"] <= 1
        assert np.shape(row["metrics"]["mig"]["matrices"]["mutual_information"]) == (3, 2)
        assert row["metrics"]["mig"]["factor_names"] == ["x", "y"]
        assert row["metrics"]["mig"]["sizes"]["rows"] == 400
    text = (workdir / "report.html").read_text("utf-8")
    assert f'data-value="{rows[0]["metrics"]["mig"]["value"]}"' in text
    assert "from histograms of 400 examples" in text  # the matrix that was measured


def test_what_stands_is_kept_and_what_is_measured_again_replaced(invoke, workdir):
    assert invoke(f"--workdir={workdir}", "--metrics=mig", *SMALL)[0] == 0
    before = results_of(workdir)
    code, output, _ = invoke(f"--workdir={workdir}", "--metrics=irs,mig", "--draw_seed=1", *SMALL)
    assert code == 0
    assert "evaluating" not in output
    after = results_of(workdir)
    for old, new in zip(before, after, strict=True):
        assert new["metrics"]["axis_alignment"] == old["metrics"]["axis_alignment"]
        assert new["metrics"]["mig"] != old["metrics"]["mig"]
        assert "irs" in new["metrics"]
        assert {k: v for k, v in new.items() if k != "metrics"} == {
            k: v for k, v in old.items() if k != "metrics"
        }


def test_a_pack_is_scored_as_its_study_says(invoke, trained, tmp_path):
    pack = shutil.copytree(trained, tmp_path / "study" / "packs" / "000")
    study = make_study({"sweep": [{"objective": "vae"}], "num_train": 400, "num_test": 150,
                        "metrics": ["none"]})  # fmt: skip
    write_study(tmp_path / "study", study)
    for other, said in (
        (
            ["--num_train=300", "--num_test=150"],
            "expected num_train=400, as .*; got num_train=300 ",
        ),
        (["--num_test=9"], "expected num_test=150, as all scores of .*; got num_test=9 "),
        (["--draw_seed=1"], "expected draw_seed=0, as all scores of .*; got draw_seed=1 "),
    ):
        code, _, errors = invoke(f"--workdir={pack}", "--metrics=mig", *other)
        assert code == 2
        assert re.fullmatch(rf"betavae_jax: {said}\(a copy of .* elsewhere .*\)\n", errors)
        assert not (pack / "results.json").exists()
        assert not may_be_scored(tmp_path / "study")
    copy = shutil.copytree(pack, tmp_path / "elsewhere")
    assert invoke(f"--workdir={copy}", "--metrics=mig", "--num_train=300")[0] == 0
    for same in ([], SMALL):
        assert invoke(f"--workdir={pack}", "--metrics=mig", *same)[0] == 0
        assert [row["metrics"]["mig"]["sizes"]["rows"] for row in results_of(pack)] == [400] * 2
    assert may_be_scored(tmp_path / "study")  # its effort changes no longer


def test_a_metric_that_is_refused_does_not_keep_others(invoke, workdir):
    code, output, _ = invoke(
        f"--workdir={workdir}", "--metrics=mig,unsupervised", "--num_train=200", "--num_test=9"
    )
    assert code == 0  # of 400 cells that a table of two latents has, 200 rows are too few
    assert output.count("not scored: unsupervised: expected at least 400 rows") == 1
    assert all(
        "mig" in r["metrics"] and "unsupervised" not in r["metrics"] for r in results_of(workdir)
    )


def test_without_factors_the_unsupervised_scores_remain(invoke, tmp_path, train):
    images = np.random.default_rng(0).random((600, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", data=images)
    settings = Settings(
        dataset="arrays", data={"data_dir": str(tmp_path / "x.npz")}, seed=[0, 1], num_latents=2,
        num_steps=2, batch_size=8, checkpoint_every=2, log_every=2, tensorboard=False, **NETWORK,
    )  # fmt: skip
    workdir = train(tmp_path / "a", build(settings))
    many = ("--num_train=500", "--num_test=20", "--jobs=1")
    code, output, _ = invoke(f"--workdir={workdir}", "--metrics=all", *many)
    assert code == 0
    refused = [line for line in output.splitlines() if line.startswith("not scored")]
    assert len(refused) == 1
    assert refused[0].endswith(": expected a data set with known factors; arrays has none")
    assert {"mig", "dci", "downstream_pixels"} <= set(refused[0].split(": ")[1].split(", "))
    assert [set(row["metrics"]) for row in results_of(workdir)] == [{"unsupervised", "udr"}] * 2
    code, _, errors = invoke(f"--workdir={workdir}", "--metrics=mig,sap", *many)
    assert code == 2
    assert errors == "betavae_jax: expected a data set with known factors; arrays has none\n"


@pytest.fixture
def codes(tmp_path):
    rng = np.random.default_rng(0)
    factors = rng.integers((3, 4), size=(600, 2))
    latents = np.concatenate([factors + 0.1 * rng.normal(size=(600, 2)),
                              rng.normal(size=(600, 2))], axis=1)  # fmt: skip
    path = tmp_path / "codes.npz"
    np.savez(path, codes_train=latents[:400], factors_train=factors[:400],
             codes_test=latents[400:], factors_test=factors[400:])  # fmt: skip
    return path


def test_codes_made_elsewhere(invoke, codes, tmp_path):
    output = tmp_path / "scores.json"
    code, text, _ = invoke(f"--codes={codes}", "--metrics=mig,sap,udr", f"--output={output}")
    assert code == 0
    scores = json.loads(output.read_text())
    assert list(scores["metrics"]) == ["mig", "sap"]
    arrays = np.load(codes)
    expected = mig(arrays["codes_train"], arrays["factors_train"])
    assert scores["metrics"]["mig"] == expected.to_json()
    assert scores["refused"] == {
        "udr": "expected codes of 2 runs or more; a file of codes holds one"
    }
    assert f"  mig   {expected.value:.4f}" in text
    assert "not scored: udr: expected codes of 2 runs or more" in text
    arrays.close()


@pytest.mark.slow  # every score but exact trees
def test_every_fast_score_of_codes(invoke, codes, tmp_path):
    output = tmp_path / "scores.json"
    assert invoke(f"--codes={codes}", f"--output={output}", "--jobs=1")[0] == 0
    scores = json.loads(output.read_text())
    assert set(scores["refused"]) == {"udr"}
    assert {"dci_lightgbm", "downstream", "infomec", "irs"} <= set(scores["metrics"])


@pytest.mark.slow  # exact trees
def test_every_score_of_a_population(invoke, make_experiment, train, tmp_path):
    many = ("--num_train=800", "--num_test=300", "--jobs=1")
    grid = {"image_size": 16, "blob_grid": 16, "blob_margin": 2.0}  # 8 × 8 are too few for some
    experiment = make_experiment(data=grid, seed=[0, 1], num_steps=6, tensorboard=False, **NETWORK)
    workdir = train(tmp_path / "a", experiment)
    code, output, _ = invoke(f"--workdir={workdir}", "--metrics=all", *many)
    assert (code, "not scored" in output) == (0, False)
    assert {"dci", "fairness", "strong_generalisation", "downstream_pca"} <= set(
        results_of(workdir)[1]["metrics"]
    )


REFUSALS = [
    ([], "expected either --workdir=DIRECTORY or --codes=FILE.npz; got neither"),
    (["--workdir=a", "--codes=b.npz"], "got both"),
    (["--workdir=missing"], "expected a run directory; missing/config.json is missing"),
    (["--workdir=a", "--output=b.json"], "expected --output with --codes"),
    (["--codes=missing.npz"], "missing.npz is missing"),
    (["--codes=damaged.npz"], "to be whole and readable"),
    (["--codes=nan.npz", "--metrics=mig"], "expected finite codes; got NaN or infinity in 1 of"),
    (["--codes=half.npz"], "expected factors to be whole numbers"),
    (["--codes=alone.npz", "--metrics=mig,sap"], "factors is missing"),
    (["--codes=part.npz", "--metrics=unsupervised"], "factors_test is missing"),
    (["--codes=codes.npz", "--metrics=mgi"], "expected each of the metrics to be one of"),
    (["--codes=codes.npz", "--metrics="], "a list of distinct values; got []"),
    (["--codes=codes.npz", "--metrics=udr"], "expected codes of 2 runs or more"),
    (["--codes=codes.npz", "--output=no/s.json"], "a folder that exists; got no/s.json"),
    (["--codes=codes.npz", "--output=folder"], "to be a file; got folder, a folder"),
    (["--codes=codes.npz", "--metrics=downstream_pca"], "codes; downstream_pca needs the pixels"),
    (["--codes=codes.npz", "--metrics=mig,downstream_pixels"], "downstream_pixels needs"),
    (["--codes=codes.npz", "--num_train=9"], "--num_train with --workdir; --codes are taken whole"),
    (["--codes=codes.npz", "--num_test=9"], "expected --num_test with --workdir"),
    (["--codes=codes.npz", "--grid_limit=9"], "expected --grid_limit with --workdir"),
    (["--codes=codes.npz", "--jobs=0"], "at least 1, or -1 for all; got 0"),
    (["--codes=codes.npz", "--num_train=0"], "num_train"),
    (["--metric=mig"], "Unknown command line flag 'metric'"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSALS)
def test_refusals_are_one_line(invoke, codes, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    z, k = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60)[:, None] % 3
    (tmp_path / "damaged.npz").write_bytes(codes.read_bytes()[:300])
    spoilt = np.where(np.arange(60)[:, None] == 1, np.inf, z)
    np.savez(tmp_path / "nan.npz", codes=spoilt, factors=k)
    np.savez(tmp_path / "half.npz", codes=z, factors=k + 0.5)
    np.savez(tmp_path / "alone.npz", codes=z)
    np.savez(tmp_path / "part.npz", codes_train=z, factors_train=k, codes_test=z)
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    code, output, errors = invoke(*arguments)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert says in errors
    assert sorted(tmp_path.iterdir()) == before


def test_codes_alone_have_unsupervised_scores(invoke, tmp_path):
    np.savez(tmp_path / "c.npz", codes=np.random.default_rng(0).normal(size=(900, 2)))
    code, text, _ = invoke(f"--codes={tmp_path / 'c.npz'}")
    assert code == 0
    assert "  unsupervised       0.0" in text
    refused = {line for line in text.splitlines() if line.startswith("not scored")}
    assert "not scored: udr: expected codes of 2 runs or more; a file of codes holds one" in refused
    (others,) = (line for line in refused if line.endswith(": expected factors; got codes alone"))
    assert {"mig", "dci_lightgbm", "downstream"} <= set(others.split(": ")[1].split(", "))
    assert len(refused) == 2


def test_the_table():
    interval = {"low": 0.25, "high": 0.75, "method": "quartiles"}
    few = {"logistic:10:mean_test_accuracy": 0.5, "logistic:1000:mean_test_accuracy": 1.0,
           "logistic:10:min_test_accuracy": 0.4, "logistic:sample_efficiency": 0.5}  # fmt: skip
    scores = [
        Score(0, "a", {"value": 0.5, "interval": interval, "scores": {}}, ""),
        Score(0, "downstream", {"value": None, "interval": None, "scores": few}, ""),
        Score(0, "zero", {"value": 0.0, "interval": None, "scores": {"mean_test_accuracy": 1}}, ""),
        Score(1, "a", {}, "expected more"),
        Score(1, "downstream", {}, "expected more"),
        Score(0, "b", {}, "expected more"),
        Score(1, "b", {}, "expected more"),
    ]
    assert score_table.describe(scores, {0: "first", 1: "second"}).splitlines() == [
        "first",
        "  a            0.5000  [0.2500, 0.7500]",
        "  downstream        –",
        "              logistic by labels  10: 0.500,  1,000: 1.000,  sample efficiency 0.500",
        "  zero         0.0000",
        "second",
        "[interval] of a: quartiles",
        "not scored: a of run 1, downstream of run 1, b: expected more",
    ]


def test_a_busy_directory_is_left_alone(invoke, workdir):
    with locked(workdir):
        code, _, errors = invoke(f"--workdir={workdir}", "--metrics=mig")
    assert code == 2
    assert "is using it" in errors


def test_a_score_takes_the_place_of_its_refusal():
    row = {"metrics": {}}
    row = with_score(row, Score(0, "mig", {}, "expected more rows"))
    assert row == {"metrics": {}, "unscored": {"mig": "expected more rows"}}
    row = with_score(row, Score(0, "mig", {"value": 0.5}, ""))
    assert row == {"metrics": {"mig": {"value": 0.5}}, "unscored": {}}
