"""What every metric must do on codes whose answer is known, and what it must refuse."""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score

from betavae_jax.checks import InputError
from betavae_jax.metrics import METRICS, Result, metric_inputs, metric_settings
from betavae_jax.metrics.beta_vae_score import draw_features
from betavae_jax.metrics.dci import dci
from betavae_jax.metrics.results import binomial_interval
from betavae_jax.metrics.sources import existing_rows

QUICK = {
    "beta_vae_score": {"num_train": 1000, "num_test": 500},
    "factor_vae_score": {"num_train": 1000, "num_test": 500},
    "dci": {"trees": "lightgbm", "jobs": 1},
}
OF_ONE_RUN = [name for name in METRICS if name != "udr"]
every_metric = pytest.mark.parametrize("name", OF_ONE_RUN)


def score(name, small, change=lambda codes: codes, **settings) -> Result:
    """Scores the small representation after `change`, on its training and test rows."""
    train, test = change(small.codes_train), change(small.codes_test)
    arrays = {
        "codes": train, "factors": small.factors_train,
        "codes_train": train, "factors_train": small.factors_train,
        "codes_test": test, "factors_test": small.factors_test,
    }  # fmt: skip
    inputs = metric_inputs(name)
    if inputs == ("source",):
        arrays["source"] = existing_rows(train, small.factors_train)
    return METRICS[name](*(arrays[i] for i in inputs), **{**QUICK.get(name, {}), **settings})


@pytest.fixture(scope="module")
def plain(small):
    """The result of each metric on the unchanged codes."""
    return functools.cache(lambda name: score(name, small))


def with_constants(codes):
    return np.concatenate([codes, np.full((len(codes), 2), [0.1, -3.0], codes.dtype)], axis=1)


def test_the_registry_names_the_published_metrics():
    assert list(METRICS) == [
        "beta_vae_score", "factor_vae_score", "mig", "dci", "sap", "modularity", "irs",
        "unsupervised", "udr", "infomec",
    ]  # fmt: skip
    # What Locatello et al. (2019), Duan et al. (2020) and Hsu et al. (2023) scored with.
    points = {"batch_size": 64, "num_train": 10_000, "num_test": 5_000, "seed": 0}
    assert metric_settings("beta_vae_score") == points
    assert metric_settings("factor_vae_score") == {
        **points, "num_variance": 10_000, "min_std": 0.05,
    }  # fmt: skip
    assert metric_settings("mig") == {"bins": 20}
    assert metric_settings("irs") == {"bins": 20, "quantile": 0.99}
    assert metric_settings("udr")["min_kl"] == 0.01
    assert metric_settings("infomec")["neighbours"] == 10
    assert metric_inputs("udr") == ("population", "kl")
    with pytest.raises(InputError, match="expected the metric to be one of beta_vae_score"):
        metric_settings("migg")


@every_metric
def test_a_result_is_complete_and_plain(plain, name):
    result = plain(name)
    assert result.metric == name
    assert result.value in result.scores.values()
    assert result.convention
    assert {"numpy"} <= set(result.versions)
    assert result.sizes["latents"] == 5
    written = json.dumps(result.to_json(), allow_nan=False)
    assert json.loads(written)["value"] == result.value
    for part in (*result.per_latent.values(), *result.per_factor.values()):
        assert len(part) in (3, 5)
    if "num_test" in QUICK.get(name, {}):
        assert result.interval == binomial_interval(result.value, QUICK[name]["num_test"])
    if result.interval is not None:
        assert result.interval.low <= result.value <= result.interval.high


def test_the_scores_of_factors_make_up_the_whole(plain):
    of_factors = {"mig": ["mig"], "sap": ["sap"], "infomec": ["infoe"],
                  "dci": ["informativeness", "informativeness_train"],
                  "modularity": ["explicitness", "explicitness_train"]}  # fmt: skip
    for name, keys in of_factors.items():
        for key in keys:
            expected = plain(name).scores[key]
            np.testing.assert_allclose(np.mean(plain(name).per_factor[key]), expected)
    for name in ("mig", "sap"):
        np.testing.assert_array_equal(plain(name).per_factor["best_latent"], [0, 1, 2])


def test_accuracies_of_factors_are_the_shares_of_their_points(small):
    """Recall of each factor, of votes and of a classifier that are often wrong."""
    mixed = existing_rows(small.codes_train @ small.rotation, small.factors_train)
    sizes = {"num_train": 200, "num_test": 100, "batch_size": 4, "seed": 3}
    result = METRICS["factor_vae_score"](mixed, **sizes)
    votes, factor = result.matrices["votes"], result.per_latent["factor"]  # [D, K], [D]
    right = np.asarray([votes[factor == k, k].sum() for k in range(3)])
    assert 0.4 < result.value < 0.95
    np.testing.assert_allclose(result.value, right.sum() / 100)
    np.testing.assert_allclose(result.per_factor["eval_accuracy"], right / votes.sum(axis=0))
    result = METRICS["beta_vae_score"](mixed, **sizes)
    rng = np.random.default_rng(3)
    (x, y), (x_test, y_test) = (draw_features(mixed, rng, number, 4) for number in (200, 100))
    guessed = LogisticRegression(solver="newton-cholesky").fit(x, y).predict(x_test)
    assert 0.4 < result.value < 0.95
    np.testing.assert_allclose(result.value, np.mean(guessed == y_test))
    expected = recall_score(y_test, guessed, average=None)
    np.testing.assert_allclose(result.per_factor["eval_accuracy"], expected)


@every_metric
def test_the_same_call_gives_the_same_numbers(small, plain, name):
    assert score(name, small).to_json() == plain(name).to_json()


@every_metric
def test_the_order_of_latents_does_not_matter(small, plain, name):
    order = [3, 1, 4, 0, 2]
    moved, result = score(name, small, lambda codes: codes[:, order]), plain(name)
    # Trees and the jitter of nearest neighbours break ties by the order of the latents.
    atol = {"dci": 0.02, "infomec": 0.002}.get(name, 1e-5)
    for key, value in result.scores.items():
        np.testing.assert_allclose(moved.scores[key], value, rtol=0, atol=atol)
    for key, values in result.per_latent.items():
        np.testing.assert_allclose(moved.per_latent[key], values[order], rtol=0, atol=2.5 * atol)


@every_metric
def test_signs_do_not_matter(small, plain, name):
    flipped = score(name, small, lambda codes: codes * np.float32([-1, 1, -1, -1, 1]))
    atol = {"dci": 0.02, "infomec": 0.002, "sap": 0.002}.get(name, 1e-5)
    for key, value in plain(name).scores.items():
        np.testing.assert_allclose(flipped.scores[key], value, rtol=0, atol=atol)


SCALE_FREE = ["factor_vae_score", "mig", "dci", "modularity", "unsupervised"]


@pytest.mark.parametrize("name", SCALE_FREE)
def test_scales_and_offsets_of_latents_do_not_matter(small, plain, name):
    """The others weigh latents by their range, or penalise classifiers in the codes' units."""
    scales, offsets = np.float32([2, 4, 0.5, 8, 1]), np.float32([1, 0, -2, 0, 0.5])
    moved = score(name, small, lambda codes: codes * scales + offsets)
    atol = 0.02 if name == "dci" else 2e-3  # a code in another bin, by rounding
    for key, value in plain(name).scores.items():
        if not key.startswith("gaussian_wasserstein"):
            np.testing.assert_allclose(moved.scores[key], value, rtol=0, atol=atol)


def test_a_common_scale_does_not_matter_to_irs(small, plain):
    moved = score("irs", small, lambda codes: 3 * codes + np.float32(1))
    np.testing.assert_allclose(moved.value, plain("irs").value, atol=1e-5)


@pytest.mark.parametrize("name", ["mig", "dci", "sap", "irs", "infomec"])
def test_a_rotation_costs(small, plain, name):
    rotated = score(name, small, lambda codes: codes @ small.rotation.astype(np.float32))
    assert rotated.value < plain(name).value - 0.05


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        ("beta_vae_score", 0.99), ("factor_vae_score", 0.99), ("mig", 0.85), ("dci", 0.9),
        ("sap", 0.4), ("infomec", 0.7),
    ],
)  # fmt: skip
def test_aligned_codes_score_high(plain, name, at_least):
    assert at_least <= plain(name).value <= 1.0


def test_latents_that_are_the_factors_have_all_of_every_score(small):
    """Each factor is one latent, and there are no others."""

    def clean(codes):
        rows = small.factors_train if len(codes) == 2000 else small.factors_test
        return rows.astype(np.float32)

    assert score("mig", small, clean).value > 0.98
    assert score("dci", small, clean).value > 0.99
    assert score("modularity", small, clean).value > 0.98
    assert score("irs", small, clean).value > 0.99
    assert score("infomec", small, clean).value > 0.95
    np.testing.assert_allclose(
        score("modularity", small, clean).scores["explicitness"], 1.0, atol=0.05
    )


def test_a_copy_of_every_latent_leaves_no_gap(small):
    def copied(codes):
        return np.concatenate([codes[:, :3], codes[:, :3]], axis=1)

    assert score("mig", small, copied).value == 0.0
    assert score("sap", small, copied).value == 0.0
    assert score("factor_vae_score", small, copied).value > 0.99  # a copy stands for its factor
    total = score("unsupervised", small, copied).value
    assert 3 * 12 < total < 3 * 20  # each copy is cut off at machine precision


@every_metric
def test_constant_latents_change_little(small, plain, name):
    result = score(name, small, with_constants)
    json.dumps(result.to_json(), allow_nan=False)
    if name == "modularity":  # a latent without information counts as 0
        np.testing.assert_allclose(result.value, plain(name).value * 5 / 7, atol=1e-9)
    elif name != "sap":  # a constant's classifier guesses
        np.testing.assert_allclose(result.value, plain(name).value, atol=0.03)


@every_metric
@pytest.mark.parametrize("constant", [0.1, -3e5, 1e-30])
def test_latents_of_two_neighbouring_numbers_change_little(small, plain, name, constant):
    """A collapsed latent is a number give or take rounding, between which no bins fit."""
    pair = np.float32([constant, np.nextafter(np.float32(constant), np.float32(1))])

    def with_collapsed(codes):
        latents = np.random.default_rng(len(codes)).choice(pair, size=(len(codes), 2))
        return np.concatenate([codes, latents], axis=1)

    result = score(name, small, with_collapsed)
    json.dumps(result.to_json(), allow_nan=False)
    if name == "modularity":  # noise has a modularity by chance
        np.testing.assert_allclose(
            result.per_latent["modularity"][:5], plain(name).per_latent["modularity"], atol=1e-9
        )
    elif name not in ("sap", "unsupervised"):
        np.testing.assert_allclose(result.value, plain(name).value, atol=0.03)


@every_metric
@pytest.mark.parametrize("constant", [0.0, 0.1, -3e5, 5e8])
def test_collapse_is_a_defined_number(small, name, constant):
    result = score(name, small, lambda codes: np.full_like(codes, constant))
    json.dumps(result.to_json(), allow_nan=False)
    values = [*result.scores.values(), *result.per_latent.values(), *result.matrices.values()]
    assert all(np.all(np.isfinite(value)) for value in values)
    if name == "beta_vae_score":
        np.testing.assert_allclose(result.value, 1 / 3, atol=0.08)
    else:
        assert result.value == 0.0
    if name == "modularity":
        assert result.scores["explicitness"] == 0.5


def test_one_active_latent_is_compact(small):
    def one(codes):
        return codes * np.float32([1, 0, 0, 0, 0])

    result = score("infomec", small, one)
    assert result.scores["num_active"] == 1
    assert result.scores["infoc"] == 1.0
    assert result.value > 0.8


def spoil(small, **changes):
    arrays = {name: getattr(small, name) for name in
              ("codes_train", "factors_train", "codes_test", "factors_test")}  # fmt: skip
    arrays.update(changes)
    arrays["codes"], arrays["factors"] = arrays["codes_train"], arrays["factors_train"]
    return arrays


def call(name, arrays):
    inputs = metric_inputs(name)
    if inputs == ("source",):
        arrays["source"] = existing_rows(arrays["codes"], arrays["factors"])
    return METRICS[name](*(arrays[i] for i in inputs), **QUICK.get(name, {}))


@every_metric
def test_codes_that_are_not_finite_are_refused(small, name):
    codes = small.codes_train.copy()
    codes[[4, 9], 1] = np.nan
    with pytest.raises(InputError, match="got NaN or infinity in 2 of 2000 rows"):
        call(name, spoil(small, codes_train=codes))


@pytest.mark.parametrize("name", [n for n in OF_ONE_RUN if n != "unsupervised"])
def test_factors_that_cannot_be_labels_are_refused(small, name):
    factors = small.factors_train
    with pytest.raises(InputError, match="to be integer labels; got float64"):
        call(name, spoil(small, factors_train=factors + 0.5))
    one_value = factors * [1, 0, 1]
    with pytest.raises(InputError, match="got 1 value of factor 1 in 2000 rows"):
        call(name, spoil(small, factors_train=one_value))
    with pytest.raises(InputError, match=r"expected factors.* \[2000, K\]; got shape \[1999, 3\]"):
        call(name, spoil(small, factors_train=factors[1:]))
    with pytest.raises(InputError, match=r"expected factors.* \[2000, K\]; got shape \[2000, 0\]"):
        call(name, spoil(small, factors_train=factors[:, :0]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mig", "expected at least 100 rows, because .* 20 × 5 cells; got 30: 70 are missing"),
        ("unsupervised", "expected at least 400 rows"),
        ("dci", "expected at least 50 training rows, .* takes 5 values; got 30: 20 are missing"),
        ("sap", "expected at least 50 training rows"),
        ("modularity", "expected at least 50 training rows"),
        ("infomec", "expected at least 50 rows"),
        ("irs", r"expected at least 20 rows for every value .* \d+ rows are missing"),
        ("factor_vae_score", r"expected at least 64 rows for every value .* a batch"),
    ],
)
def test_too_few_rows_are_refused_and_counted(small, name, message):
    few = spoil(small, codes_train=small.codes_train[:30], factors_train=small.factors_train[:30])
    with pytest.raises(InputError, match=message):
        call(name, few)


@pytest.mark.parametrize("name", ["dci", "sap", "modularity"])
def test_test_rows_must_fit(small, name):
    with pytest.raises(InputError, match="expected at least 25 test rows"):
        call(name, spoil(small, codes_test=small.codes_test[:9],
                         factors_test=small.factors_test[:9]))  # fmt: skip
    with pytest.raises(InputError, match="every value of factor 0; got 1 in the test rows only"):
        call(
            name,
            spoil(
                small, factors_test=1 + np.maximum(small.factors_test, [[2, 0, 0]]) - [[0, 1, 1]]
            ),
        )
    with pytest.raises(InputError, match="of one width"):
        call(name, spoil(small, codes_test=small.codes_test[:, 1:]))


@pytest.mark.parametrize("name", ["mig", "dci", "sap", "unsupervised"])
def test_one_latent_is_refused_where_a_second_matters(small, name):
    with pytest.raises(InputError, match=r"expected at least 2 latents .*; got 1"):
        call(name, spoil(small, codes_train=small.codes_train[:, :1]))


@pytest.mark.parametrize("name", ["dci", "modularity", "infomec", "beta_vae_score",
                                  "factor_vae_score"])  # fmt: skip
def test_one_factor_is_refused_where_a_second_matters(small, name):
    one = {n: getattr(small, n)[:, :1] for n in ("factors_train", "factors_test")}
    with pytest.raises(InputError, match="expected at least 2 factors; got 1"):
        call(name, spoil(small, **one))


def test_the_exact_trees_do_not_depend_on_processes(small):
    rows = slice(0, 200)
    arrays = (small.codes_train[rows], small.factors_train[rows],
              small.codes_test, small.factors_test)  # fmt: skip
    alone, shared = (dci(*arrays, jobs=jobs, seed=3) for jobs in (1, 2))
    assert alone.to_json() == shared.to_json()
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(random_state=3).fit(arrays[0], arrays[1][:, 1])
    np.testing.assert_allclose(alone.matrices["importance"][:, 1], model.feature_importances_)
    accuracy = np.mean(model.predict(arrays[2]) == arrays[3][:, 1])
    np.testing.assert_allclose(alone.per_factor["informativeness"][1], accuracy)
    with pytest.raises(InputError, match="expected trees to be one of gbt, lightgbm"):
        dci(*arrays, trees="forest")


@pytest.mark.parametrize("name", ["beta_vae_score", "factor_vae_score"])
@pytest.mark.parametrize("number", ["num_train", "num_test"])
def test_points_of_every_factor_are_needed(small, name, number):
    with pytest.raises(InputError, match=f"expected {number} to be a whole number of at least 60"):
        score(name, small, **{number: 59})
    score(name, small, num_train=60, num_test=60)


@pytest.mark.parametrize("name", ["beta_vae_score", "dci", "sap", "modularity", "infomec"])
def test_an_absent_library_is_named(small, name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(InputError, match=r"expected .* to be installed .*betavae_jax\[metrics\]"):
        call(name, spoil(small))


def test_import_loads_no_heavy_library():
    code = (
        "import sys, betavae_jax.metrics\n"
        "print([m for m in ('sklearn', 'lightgbm', 'joblib', 'matplotlib') if m in sys.modules])\n"
        "import jax\n"
        "print(jax._src.xla_bridge.backends_are_initialized())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "False"]
