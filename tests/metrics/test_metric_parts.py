"""The mathematics under the metrics against NumPy, SciPy, scikit-learn and closed forms."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import Lasso
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.svm import LinearSVC

from betavae_jax.checks import InputError
from betavae_jax.metrics import evaluate_metrics, irs, mig, modularity, sap, udr
from betavae_jax.metrics.classifiers import standardise
from betavae_jax.metrics.dci import dci_from_importance
from betavae_jax.metrics.infomec import mean_concentration, nearest_neighbour_information
from betavae_jax.metrics.information import (
    discretise,
    factor_entropies,
    mutual_information_matrix,
    pointwise_information,
)
from betavae_jax.metrics.modularity import mean_area, modularity_per_latent
from betavae_jax.metrics.results import Interval, Result, binomial_interval
from betavae_jax.metrics.sources import existing_rows, grid_simulator, simulator
from betavae_jax.metrics.udr import lasso_coefficients, rank_correlations
from betavae_jax.metrics.unsupervised import (
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
)
from betavae_jax.types import FactorSpace


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("bins", [2, 20])
def test_the_discretiser_is_the_conventions(dtype, bins):
    x = (100 * np.random.default_rng(0).normal(size=(2, 500, 3))).astype(dtype)
    x[0, :, 1] = 7
    got = discretise(x, bins)
    for run, latent in itertools.product(range(2), range(3)):
        column = x[run, :, latent]
        expected = np.digitize(column, np.histogram(column, bins)[1][:-1])
        np.testing.assert_array_equal(got[run, :, latent], expected)
    assert got.min() == 1
    assert got.max() == bins


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.1, 0.99, -1.0, 3e7])
def test_numbers_too_coarse_for_the_edges_are_cut_in_units_of_their_range(dtype, offset):
    place = np.arange(16) % 8
    column = dtype(offset) + place.astype(dtype) * np.spacing(np.abs(dtype(offset)))
    with pytest.raises(ValueError, match="Too many bins"):
        np.histogram(column, 20)
    expected = np.minimum(1 + 20 * place // 7, 20)
    np.testing.assert_array_equal(discretise(column[:, None])[:, 0], expected)
    assert set(discretise(np.full((9, 1), dtype(5e18))).ravel()) == {11}  # as of other constants


def test_information_and_entropy_against_scikit_learn(small):
    codes, factors = small.codes_train, small.factors_train * 7 - 3  # labels with gaps
    got = mutual_information_matrix(np.stack([codes, codes**3]), factors)
    for run, values in enumerate((codes, codes**3)):
        binned = discretise(values)
        expected = [[mutual_info_score(f, c) for f in factors.T] for c in binned.T]
        np.testing.assert_allclose(got[run], expected, atol=1e-12)
    entropies = [mutual_info_score(f, f) for f in factors.T]
    np.testing.assert_allclose(factor_entropies(factors), entropies, atol=1e-12)
    np.testing.assert_allclose(factor_entropies(factors), np.log([3, 4, 5]), atol=0.01)
    with pytest.raises(InputError, match=r"expected codes \[R, N, D\]"):
        mutual_information_matrix(codes, factors)


def test_pointwise_information_averages_to_the_information(small):
    binned, labels = discretise(small.codes_train), small.factors_train[:, 1]
    mean = pointwise_information(binned, labels, 20).mean(axis=0)
    expected = mutual_information_matrix(small.codes_train[None], small.factors_train)[0, :, 1]
    np.testing.assert_allclose(mean, expected, atol=1e-12)


@pytest.mark.parametrize("metric", [mig, modularity])
def test_intervals_are_as_wide_as_the_bootstraps(small, metric):
    """Aligned latents only: the bootstrap of a latent that knows nothing is biased."""
    codes, factors = small.codes_train[:, :3], small.factors_train
    codes = codes @ np.float32([[1, 0.4, 0], [0, 1, 0.4], [0.4, 0, 1]])
    test = (small.codes_test[:, :3], small.factors_test)
    settings = {} if metric is mig else {"explicitness": False}

    def value(rows):
        arrays = (codes[rows], factors[rows], *(() if metric is mig else test))
        return metric(*arrays, **settings)

    rng = np.random.default_rng(0)
    resampled = [value(rng.integers(2000, size=2000)).value for _ in range(200)]
    low, high, _ = value(slice(None)).interval
    np.testing.assert_allclose((high - low) / (2 * 1.96), np.std(resampled), rtol=0.2)


def test_the_interval_of_sap_is_that_of_a_mean_over_test_rows(small):
    ahead = []
    for y, y_test in zip(small.factors_train.T, small.factors_test.T, strict=True):
        right = []
        for x, x_test in zip(small.codes_train.T, small.codes_test.T, strict=True):
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
            right.append(machine.fit(x[:, None], y).predict(x_test[:, None]) == y_test)
        best, second = sorted(right, key=lambda r: -r.mean())[:2]
        ahead.append(best.astype(float) - second)
    rows = np.mean(ahead, axis=0)  # the score of each test row
    error = scipy.stats.sem(rows, ddof=0)
    expected = scipy.stats.norm.interval(0.95, loc=rows.mean(), scale=error)
    result = sap(small.codes_train, small.factors_train, small.codes_test, small.factors_test)
    np.testing.assert_allclose(result.interval[:2], expected, atol=1e-12)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_sap_refuses_ordered_factors_that_cannot_be_correlated(small, spoilt):
    def call(factors, rows=2000):
        arrays = (small.codes_train[:rows], factors, small.codes_test, small.factors_test)
        return sap(*arrays, continuous=True)

    factors = small.factors_train.astype(float)
    for other in (factors[1:], factors[:, 0], factors[:, :0], factors.astype(str), factors > 0):
        with pytest.raises(InputError, match=r"expected factors_train \[2000, K\], numbers"):
            call(other)
    for other in (np.where(factors == 2, spoilt, factors), factors * [1, 0, 1]):
        with pytest.raises(InputError, match="finite factors that vary over at least 10 rows"):
            call(other)
    with pytest.raises(InputError, match="at least 10 rows; got 9 rows"):
        call(factors[:9], 9)
    assert call(factors[:10], 10).sizes["train"] == 10


@pytest.mark.parametrize("quantile", [0.0, -0.5, 1.01, np.nan])
def test_irs_refuses_what_is_no_quantile(small, quantile):
    with pytest.raises(InputError, match=r"expected the quantile in \(0, 1\]"):
        irs(small.codes_train, small.factors_train, quantile=quantile)


def test_wilsons_interval():
    low, high, method = binomial_interval(0.9, 100)
    z = scipy.stats.norm.ppf(0.975)  # the ends are where (p - 0.9)² = z² p (1 - p) / 100
    expected = np.sort(np.roots([1 + z**2 / 100, -1.8 - z**2 / 100, 0.81]))
    np.testing.assert_allclose([low, high], expected, atol=1e-12)
    assert "Wilson" in method
    assert binomial_interval(1.0, 50).high == 1.0
    assert binomial_interval(0.0, 50).low == 0.0


def test_a_result_writes_non_finite_numbers_as_none():
    result = Result(
        metric="m", value=np.float64(0.5), scores={"a": float("nan")},
        per_factor={"b": np.asarray([1.0, np.inf])}, per_latent={"c": np.asarray([True, False])},
        matrices={"d": np.ones((2, 1), np.int32)}, interval=Interval(0.1, np.float32(0.5), "x"),
        convention="c", sizes={"rows": np.int64(3)}, seed=None, versions={},
    )  # fmt: skip
    assert result.to_json() == {
        "metric": "m", "value": 0.5, "scores": {"a": None}, "per_factor": {"b": [1.0, None]},
        "per_latent": {"c": [True, False]}, "matrices": {"d": [[1], [1]]},
        "interval": {"low": 0.1, "high": 0.5, "method": "x"}, "convention": "c",
        "sizes": {"rows": 3}, "seed": None, "versions": {},
    }  # fmt: skip


def test_modularity_in_closed_form():
    information = np.asarray([[2.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [2.0, 1.0, 0.0]])
    expected = [1.0, 0.0, 0.0, 1 - 1 / 8]
    np.testing.assert_allclose(modularity_per_latent(information), expected)


def test_the_area_is_scikit_learns(small):
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(4, size=300), rng.integers(5, size=(300, 4)) / 5.0
    expected = np.mean([roc_auc_score(labels == v, probabilities[:, v]) for v in range(4)])
    np.testing.assert_allclose(mean_area(probabilities, labels, np.arange(4)), expected)
    assert mean_area(np.ones((3, 2)), np.zeros(3, int), np.arange(2)) == 0.5


@pytest.mark.parametrize(
    ("importance", "disentanglement", "completeness"),
    [
        (np.eye(3), 1.0, 1.0),
        (np.eye(3)[::-1], 1.0, 1.0),
        (np.ones((4, 3)), 0.0, 0.0),
        (np.zeros((4, 3)), 0.0, 0.0),
        (np.repeat(np.eye(2), 2, axis=0), 1.0, 0.5),  # two latents a factor: log 2 / log 4
        ([[1.0, 1.0], [0.0, 0.0]], 0.0, 1.0),  # one latent holds both factors
    ],
)
def test_dci_in_closed_form(importance, disentanglement, completeness):
    scores = dci_from_importance(np.asarray(importance))
    np.testing.assert_allclose(scores[:2], [disentanglement, completeness], atol=1e-8)


@pytest.mark.parametrize("bad", [np.ones((1, 3)), np.ones(3), -np.eye(2), np.full((2, 2), np.nan)])
def test_dci_refuses_what_is_no_importance(bad):
    with pytest.raises(InputError, match="expected"):
        dci_from_importance(bad)


def test_gaussian_scores_in_closed_form():
    r = 0.6
    covariance = np.asarray([[1.0, r], [r, 1.0]])
    np.testing.assert_allclose(gaussian_total_correlation(covariance), -0.5 * np.log(1 - r**2))
    root = np.sqrt(1 + r) + np.sqrt(1 - r)
    np.testing.assert_allclose(gaussian_wasserstein_correlation(covariance), 4 - 2 * root)
    a = np.random.default_rng(0).normal(size=(5, 5))
    c = a @ a.T
    expected = 0.5 * (np.log(np.diag(c)).sum() - np.linalg.slogdet(c)[1])
    np.testing.assert_allclose(gaussian_total_correlation(c), expected)
    root = scipy.linalg.sqrtm(np.diag(np.diag(c)) @ c)
    expected = 2 * np.trace(c) - 2 * np.trace(root).real
    np.testing.assert_allclose(gaussian_wasserstein_correlation(c), expected)
    assert gaussian_total_correlation(np.empty((0, 0))) == 0.0


def test_codes_are_standardised_by_those_that_are_learnt_from():
    x, y = np.random.default_rng(0).normal([3, -40, 0], [2, 0.1, 5], size=(2, 50, 3))
    x[:, 2] = 0.1
    first, second = standardise(x, y)
    expected = scipy.stats.zscore(x[:, :2])
    np.testing.assert_allclose(first, np.column_stack([expected, np.zeros(50)]), atol=1e-12)
    np.testing.assert_allclose(second[:, :2], scipy.stats.zmap(y[:, :2], x[:, :2]), atol=1e-12)
    np.testing.assert_array_equal(second[:, 2], 0.0)


@pytest.mark.parametrize("neighbours", [1, 3, 10])
def test_nearest_neighbour_information_is_scikit_learns(small, neighbours):
    codes, factors = small.codes_train[:500], small.factors_train[:500]
    got = nearest_neighbour_information(codes, factors, neighbours)
    for k in range(3):
        expected = mutual_info_classif(
            codes, factors[:, k], discrete_features=False, n_neighbors=neighbours, random_state=0
        )
        np.testing.assert_allclose(got[:, k], expected, atol=1e-3)


def test_neighbours_are_counted_by_distance(small):
    """Ross 2014, by all distances; x + reach rounds to either side of the code at the edge."""
    codes, labels = small.codes_train[:300].astype(float), small.factors_train[:300, 0]
    distance = np.abs(codes[:, None] - codes[None])
    same = labels[:, None] == labels
    reach = np.sort(np.where(same[..., None], distance, np.inf), axis=1)[:, [3]]  # 0 is itself
    inside = np.sum(distance < reach, axis=1)
    terms = scipy.special.digamma(same.sum(axis=1))[:, None] + scipy.special.digamma(inside)
    expected = scipy.special.digamma(300) + scipy.special.digamma(3) - terms.mean(axis=0)
    got = nearest_neighbour_information(codes, labels[:, None], 3)[:, 0]
    np.testing.assert_allclose(got, np.maximum(expected, 0), atol=1e-12)


def test_concentration_in_closed_form():
    assert mean_concentration(np.eye(3)) == 1.0
    np.testing.assert_allclose(mean_concentration(np.ones((3, 4))), 0.0, atol=1e-12)
    np.testing.assert_allclose(mean_concentration(np.asarray([[2.0, 1.0, 0.0]])), 0.5)
    np.testing.assert_allclose(mean_concentration(np.asarray([[1.0, 0.0], [0.0, 0.0]])), 0.5)
    assert mean_concentration(np.ones((3, 1))) == 1.0
    assert mean_concentration(np.ones((0, 3))) == 0.0


@pytest.fixture(scope="module")
def population():
    """Four runs with the same two latents, mixed more and more, and one of noise."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(500, 2))
    runs = []
    for angle in (0.0, 0.1, 0.3, np.pi / 4):
        c, s = np.cos(angle), np.sin(angle)
        runs.append(np.c_[truth @ [[c, -s], [s, c]], rng.normal(size=500)])
    return np.stack(runs)


def test_lasso_and_rank_correlations_are_the_libraries(population):
    x = population - population.mean(axis=1, keepdims=True)
    x /= x.std(axis=1, keepdims=True)
    lasso, ranks = lasso_coefficients(x), rank_correlations(population)
    for i, j in itertools.permutations(range(4), 2):
        expected = Lasso(alpha=0.1, tol=1e-12, max_iter=10_000).fit(x[i], x[j]).coef_
        np.testing.assert_allclose(lasso[i, j], np.abs(expected).T, atol=1e-9)
        expected = scipy.stats.spearmanr(population[i], population[j]).statistic[:3, 3:]
        np.testing.assert_allclose(ranks[i, j], np.abs(expected), atol=1e-12)


def test_lasso_goes_on_while_weights_fall():
    """Of two latents that nearly cancel, both weights for the opposite of their sum only fall."""
    x = np.random.default_rng(0).normal(size=(2, 400, 2))
    x[0, :, 1] = 0.3 * x[0, :, 1] - x[0, :, 0]
    x[1, :, 0] = -x[0].sum(axis=1)
    x -= x.mean(axis=1, keepdims=True)
    x /= x.std(axis=1, keepdims=True)
    expected = Lasso(alpha=0.1, tol=1e-12, max_iter=10_000).fit(x[0], x[1, :, 0]).coef_
    np.testing.assert_allclose(lasso_coefficients(x)[0, 1, :, 0], np.abs(expected), atol=1e-9)


@pytest.mark.parametrize("correlation", ["lasso", "spearman"])
def test_udr_prefers_the_runs_that_agree(population, correlation):
    kl = np.tile([1.0, 1.0, 0.0], (4, 1))
    results = udr(population, kl, correlation=correlation)
    values = [r.value for r in results]
    assert np.argmin(values) == 3
    assert np.argmax(values) == 1
    moved = udr(-3 * population[:, :, [2, 0, 1]] + 1, kl[:, [2, 0, 1]], correlation=correlation)
    np.testing.assert_allclose([r.value for r in moved], values, atol=1e-9)
    assert results[0].interval.low <= values[0] <= results[0].interval.high
    twins = udr(population[[0, 0, 0]], kl[:3], correlation="spearman")
    np.testing.assert_allclose([t.value for t in twins], (1 / (1 + 0)) * np.ones(3), atol=0.1)


def test_udr_of_a_collapsed_run_is_zero(population):
    kl = np.tile([1.0, 1.0, 0.0], (4, 1))
    kl[2] = 0.0
    values = [r.value for r in udr(population, kl)]
    assert values[2] == 0.0
    constant = population.copy()
    constant[1] = 0.3
    for correlation in ("lasso", "spearman"):
        results = udr(constant, np.ones((4, 3)), correlation=correlation)
        assert results[1].value == 0.0
        assert all(np.isfinite(r.value) for r in results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, kl: (c[:1], kl[:1]), "2 runs or more"),
        (lambda c, kl: (c, kl[:, :2]), "expected finite KL"),
        (lambda c, kl: (c, kl * np.nan), "expected finite KL"),
        (lambda c, kl: (c[:, :20], kl), "expected at least 30 rows.*10 are missing"),
        (lambda c, kl: (np.where(c > 2, np.inf, c), kl), "codes of run 0; got NaN or infinity"),
    ],
)
def test_udr_refuses(population, change, message):
    with pytest.raises(InputError, match=message):
        udr(*change(population, np.ones((4, 3))))


SPACE = FactorSpace(("a", "b"), (4, 5), full_grid=True)


def codes_of(factors):
    return np.concatenate([factors, factors.sum(axis=1, keepdims=True)], axis=1).astype(np.float32)


def grid():
    return np.stack(np.meshgrid(np.arange(4), np.arange(5), indexing="ij"), -1).reshape(-1, 2)


@pytest.mark.parametrize("kind", ["simulator", "grid", "rows"])
def test_sources_hold_one_factor(kind):
    rows = np.tile(grid(), (20, 1))
    source = {
        "simulator": lambda: simulator(codes_of, SPACE),
        "grid": lambda: grid_simulator(codes_of(grid()), SPACE),
        "rows": lambda: existing_rows(codes_of(rows), rows),
    }[kind]()
    rng = np.random.default_rng(0)
    codes, factors = source.draw(rng, 50)
    np.testing.assert_array_equal(codes, codes_of(factors))
    factor, codes = source.draw_fixed(rng, 300, 8)
    assert codes.shape == (300, 8, 3)
    held = np.take_along_axis(codes, factor[:, None, None], axis=2)
    assert np.all(held == held[:, :1])
    assert np.ptp(codes[factor == 0, :, 1], axis=1).mean() > 2  # the other one varies
    factor, first, second = source.draw_pairs(rng, 300, 8)
    pick = factor[:, None, None]
    same = np.take_along_axis(first, pick, 2) == np.take_along_axis(second, pick, 2)
    assert same.all()
    assert 0.1 < np.mean(first[factor == 0, :, 1] == second[factor == 0, :, 1]) < 0.3
    np.testing.assert_allclose(np.bincount(factor) / 300, 0.5, atol=0.15)


def test_existing_rows_never_pair_a_row_with_itself():
    rows = np.repeat(np.arange(6), 2)[:, None]
    codes = np.arange(12.0)[:, None]
    _, first, second = existing_rows(codes, rows).draw_pairs(np.random.default_rng(0), 50, 16)
    np.testing.assert_array_equal(np.abs(first - second), 1.0)


def test_sources_refuse():
    lone = np.asarray([[0], [0], [1], [1], [2]])
    source = existing_rows(np.arange(5.0)[:, None], lone)
    with pytest.raises(InputError, match=r"at least 2 rows .* got 1 for value 2 of factor 0, and "
                       "too few for 1 of its 3 values: 1 rows are missing"):  # fmt: skip
        source.draw_pairs(np.random.default_rng(0), 3, 4)
    with pytest.raises(InputError, match="too few for 3 of its 3 values: 7 rows are missing"):
        source.draw_fixed(np.random.default_rng(0), 3, 4)
    with pytest.raises(InputError, match="expected a full grid"):
        simulator(codes_of, SPACE._replace(full_grid=False))
    with pytest.raises(InputError, match="2 values or more; got sizes"):
        simulator(codes_of, SPACE._replace(sizes=(4, 1)))
    with pytest.raises(InputError, match="all 20 factor combinations; got 19"):
        grid_simulator(codes_of(grid())[:-1], SPACE)
    broken = simulator(lambda f: np.full((len(f), 2), np.nan), SPACE)
    with pytest.raises(InputError, match="expected finite codes of the simulator"):
        broken.draw(np.random.default_rng(0), 3)


def test_a_population_is_scored_run_by_run(small):
    failed = np.full_like(small.codes_train, np.nan)
    train = np.stack([small.codes_train, failed, small.codes_train[:, ::-1]])
    test = np.stack([small.codes_test] * 3)
    kl = np.ones((3, 5))
    kl[1] = np.nan
    quick = {"factor_vae_score": {"num_train": 200, "num_test": 100}}
    scored = evaluate_metrics(
        ["mig", "factor_vae_score", "udr"], train, small.factors_train, test, small.factors_test,
        kl=kl, settings=quick,
    )  # fmt: skip
    expected = mig(small.codes_train, small.factors_train)
    assert scored[0].results["mig"].to_json() == expected.to_json()
    assert [sorted(s.results) for s in scored] == [["factor_vae_score", "mig", "udr"], [],
                                                   ["factor_vae_score", "mig", "udr"]]  # fmt: skip
    assert "NaN" in scored[1].refused["mig"]
    assert set(scored[1].refused) == {"mig", "factor_vae_score", "udr"}
    assert scored[2].results["udr"].sizes["runs"] == 2


def test_a_population_that_is_none_is_refused(small):
    train, test = small.codes_train[None], small.codes_test[None]
    for codes in ((train[0], test), (train, test[0]), (train[[0, 0]], test)):
        with pytest.raises(InputError, match=r"expected codes \[R, N, D\] and \[R, M, D\]; got"):
            evaluate_metrics(["mig"], codes[0], small.factors_train, codes[1], small.factors_test)


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["mgi"], {}, "expected the metric to be one of"),
        (["mig"], {"mgi": {}}, "expected the metric to be one of"),
        (["mig"], {"mig": {"bin": 3}}, "settings of metric mig, which takes bins; got bin"),
        (["udr"], {}, "expected the KL per latent"),
    ],
)
def test_a_population_with_unknown_names_is_refused(small, names, settings, message):
    with pytest.raises(InputError, match=message):
        evaluate_metrics(
            names, small.codes_train[None], small.factors_train, small.codes_test[None],
            small.factors_test, settings=settings,
        )  # fmt: skip
