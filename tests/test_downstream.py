"""Few labels, factors held out, fairness: codes whose scores are known."""

import numpy as np
import pytest
import scipy.stats

from betavae_jax.checks import InputError
from betavae_jax.downstream import (
    DOWNSTREAM,
    downstream,
    fairness,
    principal_components,
    strong_generalisation,
)
from betavae_jax.downstream.fairness import total_variation
from betavae_jax.downstream.few_labels import _scores
from betavae_jax.downstream.predictors import fit_predictor

pytest.importorskip("sklearn")
pytest.importorskip("lightgbm")

SIZES = np.asarray([3, 4])
QUICK = {"labels": (10, 100), "jobs": 1}


def draw(rows, seed, sizes=SIZES):
    return np.random.default_rng(seed).integers(sizes, size=(rows, len(sizes)))


def one_hot(factors, sizes=SIZES):
    return np.concatenate([np.eye(s)[c] for s, c in zip(sizes, factors.T, strict=True)], axis=1)


FACTORS, FACTORS_TEST = draw(400, 1), draw(200, 2)
PERFECT = (one_hot(FACTORS), FACTORS, one_hot(FACTORS_TEST), FACTORS_TEST)
NOISE = tuple(np.random.default_rng(s).normal(size=(n, 3)) for s, n in ((3, 400), (4, 200)))


def bits(rows, seed):
    return draw(rows, seed, np.asarray([2, 2]))


BITS, BITS_TEST = bits(400, 5), bits(200, 6)


def of_bits(encode):
    return encode(BITS), BITS, encode(BITS_TEST), BITS_TEST


def exclusive_or(factors):
    """One latent: it tells either bit where the other is held, and neither otherwise."""
    return (factors[:, :1] ^ factors[:, 1:]).astype(np.float64)


def test_perfect_codes_need_few_labels():
    result = downstream(*PERFECT, **QUICK)
    assert result.value == 1.0
    assert result.scores["lightgbm:100:min_test_accuracy"] == 1.0
    assert 0.3 < result.scores["logistic:10:mean_test_accuracy"] <= 1.0
    np.testing.assert_array_equal(result.per_factor["logistic:100:test_accuracy"], [1.0, 1.0])
    assert result.interval.low <= 1.0 <= result.interval.high
    assert result.sizes == {"train": 400, "test": 200, "latents": 7, "factors": 2}
    assert {"scikit-learn", "lightgbm"} <= set(result.versions)


def test_noise_predicts_by_chance():
    result = downstream(NOISE[0], FACTORS, NOISE[1], FACTORS_TEST, labels=(10, 400), jobs=1)
    chance = np.mean(1 / SIZES)
    spread = 4 * np.sqrt(chance * (1 - chance) / 400)
    for name in ("logistic", "lightgbm"):
        assert abs(result.scores[f"{name}:400:mean_test_accuracy"] - chance) < spread
    assert result.value == result.scores["logistic:400:mean_test_accuracy"]  # of the first
    assert result.value != result.scores["lightgbm:400:mean_test_accuracy"]


def test_the_interval_of_one_factor_is_that_of_a_share():
    result = downstream(NOISE[0], FACTORS[:, :1], NOISE[1], FACTORS_TEST[:, :1], labels=(400,),
                        predictors=("logistic",), jobs=1)  # fmt: skip
    error = np.sqrt(result.value * (1 - result.value) / 200)
    expected = scipy.stats.norm.interval(0.95, loc=result.value, scale=error)
    np.testing.assert_allclose(result.interval[:2], expected)


def test_the_headline_is_the_accuracy_from_a_hundred_labels_or_from_the_most():
    both = downstream(*PERFECT, labels=(10, 100), predictors=("logistic",), jobs=1)
    assert both.value == both.scores["logistic:100:mean_test_accuracy"]
    few = downstream(*PERFECT, labels=(20, 10), predictors=("lightgbm",), jobs=1)
    assert few.value == few.scores["lightgbm:20:mean_test_accuracy"]
    assert not [name for name in both.scores if "efficiency" in name]


def test_sample_efficiency_is_a_ratio():
    rows = np.random.default_rng(0).integers(2, size=(10_000, 1))
    noisy = rows + 0.8 * np.random.default_rng(1).normal(size=(10_000, 1))
    result = downstream(noisy, rows, noisy[:500], rows[:500], predictors=("logistic",),
                        labels=(100, 10_000), jobs=1)  # fmt: skip
    few, many = (result.scores[f"logistic:{n}:mean_test_accuracy"] for n in (100, 10_000))
    assert result.scores["logistic:sample_efficiency"] == pytest.approx(few / many)
    assert 0.9 < few / many < 1.1
    right = {("p", 100): np.eye(4)[:, :2], ("p", 10_000): np.ones((4, 2))}
    assert _scores(right, ["p"])["p:sample_efficiency"] == pytest.approx(0.25)
    assert "p:sample_efficiency" not in _scores({**right, ("p", 10_000): np.zeros((4, 2))}, ["p"])


def test_class_labels_are_one_factor():
    x, y, x_test, y_test = PERFECT
    result = downstream(x, y[:, :1], x_test, y_test[:, :1], **QUICK)
    assert result.value == 1.0
    assert result.per_factor["logistic:10:test_accuracy"].shape == (1,)


def test_constant_codes_predict_the_commonest_label():
    constant = np.ones((400, 2)), FACTORS, np.ones((200, 2)), FACTORS_TEST
    result = downstream(*constant, labels=(400,), jobs=1)
    for k, column in enumerate(FACTORS.T):
        share = np.mean(FACTORS_TEST[:, k] == np.bincount(column).argmax())
        assert result.per_factor["lightgbm:400:test_accuracy"][k] == pytest.approx(share)


def test_one_label_is_predicted_everywhere():
    x, y = np.arange(4.0)[:, None], np.full(4, 7)
    for name in ("logistic", "gbt", "lightgbm"):
        np.testing.assert_array_equal(fit_predictor(name, x, y, 0)(x), y)


def test_the_penalty_is_chosen_by_cross_validation():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, KFold

    rng = np.random.default_rng(0)
    y = rng.integers(3, size=60)
    x = np.concatenate([y[:, None] + 0.7 * rng.normal(size=(60, 1)), rng.normal(size=(60, 9))], 1)
    order = np.random.default_rng(5).permutation(60)
    grid = {"C": np.logspace(-4, 4, 10)}
    search = GridSearchCV(LogisticRegression(max_iter=1000), grid, cv=KFold(10))
    best = search.fit(x[order], y[order]).best_params_["C"]
    expected = LogisticRegression(C=best, max_iter=1000).fit(x, y)
    np.testing.assert_array_equal(fit_predictor("logistic", x, y, 5)(x), expected.predict(x))


def test_a_class_that_is_not_among_those_chosen_on_is_learnt():
    x, y = np.random.default_rng(0).normal(size=(3000, 3)), np.zeros(3000, int)
    rare = np.setdiff1d(np.arange(3000), np.random.default_rng(0).permutation(3000)[:1000])[::700]
    x[rare], y[rare] = 8.0, 1
    np.testing.assert_array_equal(fit_predictor("logistic", x, y, 0)(x), y)


def test_trees_are_scikit_learns():
    from sklearn.ensemble import GradientBoostingClassifier

    codes = PERFECT[0] + 0.5 * np.random.default_rng(7).normal(size=PERFECT[0].shape)
    x, y = codes[:40], FACTORS[:40, 0]
    expected = GradientBoostingClassifier(random_state=3).fit(x, y).predict(codes)
    np.testing.assert_array_equal(fit_predictor("gbt", x, y, 3)(codes), expected)


def predict_noisily(**settings):
    codes = PERFECT[0] + np.random.default_rng(8).normal(size=PERFECT[0].shape)
    arrays = (codes, FACTORS, *PERFECT[2:])
    return downstream(*arrays, labels=(20,), predictors=("lightgbm",), **settings).to_json()


def test_the_seed_decides():
    assert predict_noisily(jobs=1) == predict_noisily(jobs=1)
    assert predict_noisily(jobs=1)["scores"] != predict_noisily(jobs=1, seed=1)["scores"]


@pytest.mark.slow  # processes start
def test_the_number_of_processes_does_not_matter():
    assert predict_noisily(jobs=1) == predict_noisily(jobs=2)


def test_principal_components_are_those_of_the_singular_values():
    rng = np.random.default_rng(9)
    x, x_test = (rng.normal(size=(n, 6)) * np.arange(1, 7) for n in (60, 20))
    codes, codes_test = principal_components(x, x_test, 3)
    axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:3]
    for mine, rows in ((codes, x), (codes_test, x_test)):
        np.testing.assert_allclose(np.abs(mine), np.abs((rows - x.mean(0)) @ axes.T), atol=1e-10)
    np.testing.assert_allclose(np.cov(codes.T) - np.diag(codes.var(0, ddof=1)), 0, atol=1e-10)


@pytest.mark.parametrize("encode_fn", [None, exclusive_or], ids=["rows", "set"])
def test_an_entangled_code_generalises_to_nothing(encode_fn):
    result = strong_generalisation(*of_bits(exclusive_or), encode_fn=encode_fn, experiments=2,
                                   jobs=1)  # fmt: skip
    assert result.value == 0.0
    assert result.scores["strong_generalisation_gap"] == 1.0
    assert abs(result.scores["mean_test_accuracy"] - 0.5) < 0.15
    np.testing.assert_array_equal(
        result.matrices["factor_held_by_target_and_experiment"], [[1, 1], [0, 0]]
    )


@pytest.mark.parametrize("encode_fn", [None, one_hot], ids=["rows", "set"])
@pytest.mark.parametrize("predictor", ["logistic", "lightgbm"])
def test_a_code_of_separate_factors_generalises(encode_fn, predictor):
    result = strong_generalisation(*PERFECT, encode_fn=encode_fn, predictor=predictor,
                                   experiments=1, jobs=1)  # fmt: skip
    assert result.scores == {
        "mean_strong_test_accuracy": 1.0,
        "mean_test_accuracy": 1.0,
        "strong_generalisation_gap": 0.0,
    }


def test_a_value_of_few_rows_serves_where_it_is_set_in_all():
    test = np.minimum(FACTORS_TEST, 1)
    arrays = one_hot(SELDOM), SELDOM, one_hot(test), test
    result = strong_generalisation(*arrays, encode_fn=one_hot, predictor="logistic",
                                   experiments=1, jobs=1)  # fmt: skip
    assert result.per_factor["strong_test_accuracy"][0] == 1.0


def published_unfairness(counts):
    """The loop that the paper's section 4 describes, over counts [predictions, groups]."""
    overall = counts.sum(axis=1) / counts.sum()
    distances = [0.5 * sum(abs(column / column.sum() - overall)) for column in counts.T]
    return np.average(distances, weights=counts.sum(axis=0)), max(distances)


def test_total_variation_is_the_published_one():
    rng = np.random.default_rng(10)
    predicted, groups = rng.integers(5, size=300), rng.integers(3, size=300)
    counts = np.zeros((5, 3))
    np.add.at(counts, (predicted, groups), 1)
    np.testing.assert_allclose(total_variation(predicted, groups), published_unfairness(counts))


def test_total_variation_of_independence_and_of_equality():
    a, b = np.repeat([0, 1, 2], 4), np.tile([0, 1, 2, 3], 3)
    assert total_variation(a, b) == (0.0, 0.0)
    np.testing.assert_allclose(total_variation(a, a), (2 / 3, 2 / 3))
    # The last group has none of the last prediction.
    few = total_variation(np.asarray([0, 0, 1]), np.asarray([0, 1, 0]))
    np.testing.assert_allclose(few, published_unfairness(np.asarray([[1, 1], [1, 0]])))
    np.testing.assert_allclose(total_variation(np.asarray([0, 0, 0, 1]), np.asarray([0, 0, 0, 1])),
                               (0.75 * 0.25 + 0.25 * 0.75, 0.75))  # fmt: skip


def test_predictions_from_the_sensitive_factor_are_unfair():
    tied = np.repeat(BITS[:, :1], 2, axis=1)  # in training the two bits agree

    def second(factors):
        return factors[:, 1:].astype(np.float64)

    arrays = second(tied), tied, second(BITS_TEST), BITS_TEST
    result = fairness(*arrays, encode_fn=second, jobs=1)
    matrix = result.matrices["mean_by_target_and_sensitive"]
    np.testing.assert_array_equal(matrix, [[np.nan, 0.5], [0.0, np.nan]])
    assert result.value == 0.25
    assert result.scores["max_fairness:max_pred:max_sens"] == 0.5
    assert "mean_fairness:shuffled" not in result.scores
    assert result.to_json()["matrices"]["max_by_target_and_sensitive"][0] == [None, 0.5]


def test_predictions_of_separate_factors_are_fair():
    assert fairness(*PERFECT, encode_fn=one_hot, jobs=1).value == 0.0
    rows = fairness(*PERFECT, jobs=1)
    assert 0 < rows.value < 0.15  # what 50 to 67 rows a value amount to
    assert 0.05 < rows.scores["mean_fairness:shuffled"] < 0.1
    np.testing.assert_array_equal(rows.per_factor["test_accuracy"], [1.0, 1.0])


ONE_FACTOR = (PERFECT[0], FACTORS[:, :1], PERFECT[2], FACTORS_TEST[:, :1])
NAN = (np.where(PERFECT[0] > 0, np.nan, 0), *PERFECT[1:])
SELDOM = np.concatenate([FACTORS[:, :1], np.arange(400)[:, None] // 395], axis=1)
ONE_VALUE = (*PERFECT[:3], FACTORS_TEST * [1, 0])
RARE = (PERFECT[0], SELDOM, PERFECT[2], np.minimum(FACTORS_TEST, 1))
REFUSALS = [
    (downstream, PERFECT, {"predictors": ("svm",)}, "one of gbt, lightgbm, logistic; got 'svm'"),
    (downstream, PERFECT, {"labels": (10, 10_000)}, "got 400: 9600 are missing"),
    (downstream, PERFECT, {"labels": (1,)}, "a whole number of at least 2; got 1"),
    (downstream, PERFECT, {"labels": ()}, "distinct values"),
    (downstream, PERFECT, {"predictors": ()}, "distinct values"),
    (downstream, NAN, {}, "NaN or infinity in 400 of 400 rows"),
    (downstream, (*PERFECT[:3], FACTORS_TEST + 0.5), {}, "integer labels; got float64"),
    (strong_generalisation, ONE_FACTOR, {}, "at least 2 factors; got 1"),
    (strong_generalisation, PERFECT, {"experiments": 0}, "at least 1; got 0"),
    (strong_generalisation, RARE, {}, "a classifier learns from one value"),
    (strong_generalisation, ONE_VALUE, {}, "1 value of factor 1 in 200 rows of factors_test"),
    (fairness, ONE_FACTOR, {}, "at least 2 factors; got 1"),
    (fairness, PERFECT, {"points": 0}, "at least 1; got 0"),
    (fairness, PERFECT, {"predictor": "svm"}, "got 'svm'"),
]


@pytest.mark.parametrize(("function", "arrays", "settings", "says"), REFUSALS)
def test_refusals(function, arrays, settings, says):
    with pytest.raises(InputError) as refusal:
        function(*arrays, **settings)
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("x", "x_test", "width", "says"),
    [
        (np.ones((5, 3)), np.ones((5, 2)), 1, "one width; got 3 and 2"),
        (np.ones((5, 3)), np.ones((5, 3)), 4, "1 are missing"),
        (np.ones((5, 3)), np.ones((5, 3)), 0, "at least 1; got 0"),
    ],
)
def test_components_are_refused(x, x_test, width, says):
    with pytest.raises(InputError, match=says):
        principal_components(x, x_test, width)


def test_the_table_names_every_function():
    assert {name: f.__name__ for name, f in DOWNSTREAM.items()} == {n: n for n in DOWNSTREAM}
