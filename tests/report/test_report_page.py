"""The page as a file: what it holds, what it leaves out, how large it is."""

import html.parser
import json
import re

import numpy as np
import pytest
from PIL import Image

from betavae_jax.checks import InputError
from betavae_jax.data import load_dataset
from betavae_jax.plots.latents import order_latents
from betavae_jax.report import page as page_module
from betavae_jax.report import write_report
from betavae_jax.report.examples import Map, average_over_map, fetch, fetch_map
from betavae_jax.report.figures import Figure
from betavae_jax.report.sections import Budget, figure_html
from betavae_jax.report.tables import best_runs, say_outcome, title_of_run, varying_settings


class Reader(html.parser.HTMLParser):
    """Collects the tags and the words of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(reported):
    return Reader(reported.page.read_text("utf-8"))


def data_of(reader):
    return json.loads(max(reader.words, key=len))


@pytest.mark.parametrize("kind", ["population", "vector_page"])
def test_the_page_is_one_small_file(request, kind):
    reported = request.getfixturevalue(kind)
    text = reported.page.read_text("utf-8")
    assert len(text.encode()) < 5_000_000
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
    assert "default-src 'none'" in text
    assert "http:" not in text
    assert "https:" not in text


@pytest.mark.parametrize("kind", ["population", "vector_page"])
def test_every_picture_has_words(request, kind):
    images = read(request.getfixturevalue(kind)).all("img")
    assert len(images) >= 6
    assert all(image["alt"].strip() for image in images)
    assert len({image["alt"] for image in images}) == len(images)


def test_settings_that_differ_in_the_seventh_digit_are_two():
    shared = {"learning_rate": 1e-4, "elbo": -1.0}
    rows = [
        {**shared, "run": run, "coefficients": {"beta": 1e6 + run}, "seed": 1_234_567}
        for run in range(2)
    ]
    assert best_runs(rows) == [0, 1]
    assert title_of_run(rows[1], ["beta", "learning_rate", "seed"]) == (
        "run 1, beta=1000001.0, learning_rate=0.0001, seed=1234567"
    )


def test_a_population(population):
    reader = read(population)
    assert len(reader.all("tr")) == 5
    ids = [s["id"] for s in reader.all("section") if s.get("id", "").startswith("run")]
    rows = population.results["runs"]
    best = best_runs(rows)
    assert ids[:2] == [f"run{run}" for run in best]
    assert sorted(ids) == ["run0", "run1", "run2", "run3"]
    others = sorted({0, 1, 2, 3} - set(best))
    text = "".join(reader.words)
    for run in others:
        assert f"--workdir={population.workdir} --run={run}" in text
    assert [run["run"] for run in data_of(reader)["runs"]] == best
    assert "|r| with x" in text


def test_the_sliders_fall_in_kl(population):
    for run in data_of(read(population))["runs"]:
        kl = np.asarray(population.results["runs"][run["run"]]["kl_per_latent"])
        assert [latent["latent"] for latent in run["latents"]] == order_latents(kl).tolist()
        assert all(f"{kl[e['latent']]:.2f} nats" in e["label"] for e in run["latents"])


def test_latents_are_pale_that_do_not_count_as_active(population, tmp_path):
    results = json.loads(json.dumps(population.results))
    results["runs"][0]["kl_per_latent"] = [0.012, 0.0099, 1.0]  # two are said as 0.01 nats
    page = write_report(tmp_path, population.experiment, population.carry, results, run=0)
    (run,) = data_of(Reader(page.read_text("utf-8")))["runs"]
    silent = [(latent["latent"], latent["silent"]) for latent in run["latents"]]
    assert silent == [(2, False), (0, False), (1, True)]


def test_the_figures_of_a_population(population):
    names = {path.name for path in (population.workdir / "figures").iterdir()}
    assert {"elbo.png", "rate_distortion.png"} <= names
    closely = {
        "traversals.png", "reconstructions.png", "samples.png", "kl.png", "prior.png", "grid.png",
        "quantiles.png", "interpolation.png", "posterior.png", "codes.png", "information.png",
        "moving.gif",
    }  # fmt: skip
    for run in best_runs(population.results["runs"]):
        assert {n.split("_")[1] for n in names if n.startswith(f"run{run:03d}_")} == closely
    few = {"traversals.png", "reconstructions.png", "samples.png", "kl.png"}
    for run in {0, 1, 2, 3} - set(best_runs(population.results["runs"])):
        assert {n.split("_")[1] for n in names if n.startswith(f"run{run:03d}_")} == few


def test_without_factors_nothing_is_said_of_them(vector_page):
    text = "".join(read(vector_page).words[:-4])
    assert "|r| with" not in text
    assert "information" not in text.lower()
    names = {path.name for path in (vector_page.workdir / "figures").iterdir()}
    assert not {name for name in names if "codes" in name or "information" in name}


def test_values_that_are_not_finite(population, tmp_path):
    """A run that failed, with nothing measured and a log of nothing, is shown all the same."""
    results = json.loads(json.dumps(population.results))
    for row in results["runs"][:2]:
        row.update(elbo=None, distortion=None, rate=None, active_latents=None, failed_at=7)
        row.update(kl_per_latent=[None, None, 0.5], metrics={})
    results["runs"][2]["elbo"] = float("nan")
    results["runs"][2]["rate"] = float("inf")
    lines = [
        {"run": 0, "step": 10, "elbo": None, "kl_per_latent": [None] * 3},
        {"run": 1, "step": 10, "elbo": None, "kl_per_latent": [None] * 3},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = write_report(tmp_path, population.experiment, population.carry, results)
    text = path.read_text("utf-8")
    assert "Stopped where a value was not finite: run 0 at step 7, run 1 at step 7." in text
    assert text.count("its last finite parameters") == 2
    words = [w for w in Reader(text).words if len(w) < 5_000]  # not what is encoded
    assert not re.search(r"\b(NaN|nan|inf|Infinity)\b", " ".join(words))
    assert best_runs(results["runs"]) == [3, 0]


def test_parameters_that_are_not_finite(population, tmp_path):
    import jax

    params = jax.tree.map(lambda leaf: leaf * np.nan, population.carry.state.params)
    carry = population.carry._replace(state=population.carry.state._replace(params=params))
    path = write_report(tmp_path, population.experiment, carry, population.results)
    text = path.read_text("utf-8")
    assert "No sliders for this run: it does not give finite values." in text
    assert "This page has no sliders." in text


def test_one_run_of_a_population(population, tmp_path):
    arguments = (population.experiment, population.carry, population.results)
    path = write_report(tmp_path, *arguments, run=2)
    assert path == tmp_path / "figures" / "run002.html"
    reader = Reader(path.read_text("utf-8"))
    assert len(reader.all("tr")) == 2
    assert [run["run"] for run in data_of(reader)["runs"]] == [2]
    assert "run 2, beta=16, seed=0" in "".join(reader.words)
    for run in (-1, 4):
        with pytest.raises(InputError, match=f"expected run to be from 0 to 3; got {run}"):
            write_report(tmp_path, *arguments, run=run)


def test_what_does_not_fit_is_listed(population, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "MOST_BYTES", 150_000)
    monkeypatch.setattr(page_module, "CLOSELY", 0)
    path = write_report(tmp_path, population.experiment, population.carry, population.results)
    text = path.read_text("utf-8")
    assert len(text) < 150_000
    for run in range(4):
        assert f"--workdir={tmp_path} --run={run}" in text


def test_an_unfinished_run_says_so(population):
    (row, *_) = population.results["runs"]
    assert row["step"] == 0
    assert "Unfinished: 0 of 2,000 steps are done." in population.page.read_text("utf-8")
    finished = {**row, "step": 2000, "elbo": -3.0, "distortion": 2.0, "rate": 1.0}
    assert say_outcome([finished], 2000) == (
        "The run finished 2,000 steps. The ELBO is -3.00 nats: distortion 2.00, rate 1.00."
    )
    both = [finished, {**finished, "run": 1, "elbo": -2.0}]
    assert say_outcome(both, 2000).startswith("All 2 runs finished 2,000 steps. The highest ELBO")
    both[0]["failed_at"] = 3
    assert say_outcome(both, 2000).startswith("1 of 2 runs finished 2,000 steps. Stopped where")


def test_the_settings_that_vary(population):
    rows = population.results["runs"]
    assert varying_settings(rows) == ["beta", "seed"]
    assert varying_settings(rows[:1]) == ["beta", "learning_rate", "seed"]


def test_a_budget_is_kept():
    budget = Budget(5)
    assert budget.take("ä")  # two bytes
    assert not budget.take("abcd")
    assert budget.take("abc")
    assert not budget.take("a")


@pytest.mark.parametrize(("height", "kind"), [(16_383, "webp"), (16_384, "png")])
def test_a_figure_that_webp_cannot_hold_stays_as_it_is(tmp_path, height, kind):
    path = tmp_path / "a.png"
    Image.new("L", (2, height)).save(path)
    assert f"data:image/{kind};base64," in figure_html(Figure(path, "", ""))


# The examples.


def test_the_map_of_a_grid(make_experiment):
    """On the grid of blobs, the map's images move as its axes say."""
    data = make_experiment().splits.train
    examples = fetch_map(data, fetch(data), np.asarray([0.1, np.nan]))
    assert examples.map.names == ("x", "y")
    assert examples.map.sizes == (8, 8)
    x, y = average_over_map(centres(examples.map_x), examples.map)
    assert np.all(np.diff(x, axis=0) > 0.3)
    assert np.all(np.abs(np.diff(x, axis=1)) < 0.1)
    assert np.all(np.diff(y, axis=1) > 0.3)


def centres(images):
    """The centre of each image along x and y: `[N, 2]`."""
    images = images[..., 0]
    places = np.arange(images.shape[1])
    weight = images.sum((1, 2))
    along_x = (images.sum(1) * places).sum(1) / weight
    along_y = (images.sum(2) * places).sum(1) / weight
    return np.stack([along_x, along_y], axis=1)


def test_cells_are_averaged():
    shown = Map((0, 1), ("a", "b"), np.asarray([[0, 0], [0, 0], [1, 1]]), (2, 2))
    codes = np.asarray([[1.0, 5.0], [3.0, 5.0], [7.0, 0.0]])
    expected = [[[2, np.nan], [np.nan, 7]], [[5, np.nan], [np.nan, 0]]]
    np.testing.assert_array_equal(average_over_map(codes, shown), expected)


@pytest.mark.parametrize("num_examples", [1, 2, 9, 1000])
def test_any_number_of_examples(num_examples, tmp_path):
    x = np.arange(num_examples, dtype=np.float32)[:, None]
    np.savez(tmp_path / "x.npz", x=x)
    settings = {"data_dir": str(tmp_path / "x.npz"), "standardize": False}
    data = load_dataset("arrays", **settings).train
    examples = fetch(data)
    assert examples.x.shape == (10, 1)
    assert examples.x[0, 0] in range(num_examples)
    assert len(examples.population) == num_examples
    assert examples.map is None
