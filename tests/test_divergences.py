"""Estimators of dependence and of distance from the prior, against float64 and closed forms."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from betavae_jax import divergences
from betavae_jax.checks import InputError
from betavae_jax.divergences import (
    ESTIMATORS,
    KERNELS,
    aggregate_log_density,
    covariance,
    decompose_kl,
    identity_penalties,
    kl_of_posteriors,
    maximum_mean_discrepancy,
    minibatch_stratified,
    permute_latents,
)
from betavae_jax.types import Posterior

CASES = ("broad", "middle", "sharp", "correlated", "mixed")


@pytest.fixture(scope="module")
def reference(reference_data):
    folder = reference_data / "metrics_reference"
    with np.load(folder / "total_correlation.npz") as arrays:
        arrays = dict(arrays)
    return arrays, json.loads((folder / "total_correlation.json").read_text())


def batch_of(arrays, case, batch=0):
    rows = arrays[f"{case}_batch_index"][batch]
    mean, log_variance, z = (arrays[f"{case}_{name}"][rows] for name in ("mu", "log_var", "z"))
    return jnp.asarray(z), Posterior(jnp.asarray(mean), jnp.asarray(log_variance))


@jax.jit
def both(z, posterior, log_weights):
    return aggregate_log_density(z, posterior, log_weights), decompose_kl(z, posterior, log_weights)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_estimates_are_the_references(reference, case, estimator):
    arrays, expected = reference
    z, posterior = batch_of(arrays, case)
    log_weights = ESTIMATORS[estimator](64, 2000)
    (log_q_z, log_q_zd), parts = both(z, posterior, log_weights)
    np.testing.assert_allclose(log_q_z, arrays[f"{case}_{estimator}_log_q_z"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(log_q_zd, arrays[f"{case}_{estimator}_log_q_zd"], rtol=0, atol=1e-4)
    listed = expected["cases"][case]["estimates"][estimator]
    batch0 = listed.get("batch0", listed)
    for name, part in parts._asdict().items():
        if name in batch0:
            np.testing.assert_allclose(part, batch0[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_the_exact_mixture_is_the_references(reference, case):
    arrays, expected = reference
    z, _ = batch_of(arrays, case)
    whole = Posterior(jnp.asarray(arrays[f"{case}_mu"]), jnp.asarray(arrays[f"{case}_log_var"]))
    log_weights = np.full((64, 2000), -np.log(2000))
    log_q_z, log_q_zd = aggregate_log_density(z, whole, log_weights)
    rows = arrays[f"{case}_batch_index"][0]
    exact = arrays[f"{case}_exact_log_q_z"][rows], arrays[f"{case}_exact_sum_log_q_zd"][rows]
    np.testing.assert_allclose(log_q_z, exact[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.sum(log_q_zd, axis=1), exact[1], rtol=0, atol=1e-4)
    value = float(np.mean(log_q_z - np.sum(log_q_zd, axis=1)))
    wanted = expected["cases"][case]["exact_batch0_samples"]["total_correlation"]
    assert abs(value - wanted) < 1e-4


def test_exact_is_the_mixture_over_the_set(reference):
    """With the batch as the set, against a mixture of SciPy's densities."""
    z, posterior = batch_of(reference[0], "mixed")
    z, posterior = z[:20], jax.tree.map(lambda a: a[:20], posterior)
    parts = decompose_kl(z, posterior, ESTIMATORS["exact"](20, 20))
    mean, sd = np.float64(posterior.mean), np.exp(np.float64(posterior.log_variance) / 2)
    density = scipy.stats.norm.pdf(np.float64(z)[:, None], mean[None], sd[None])  # [B, N, D]
    q_z, q_zd = density.prod(axis=2).mean(axis=1), density.mean(axis=1)
    q_zx = scipy.stats.norm.pdf(np.float64(z), mean, sd).prod(axis=1)
    p_zd = scipy.stats.norm.pdf(np.float64(z))
    expected = (
        np.log(q_zx / q_z).mean(),
        np.log(q_z / q_zd.prod(axis=1)).mean(),
        np.log(q_zd / p_zd).sum(axis=1).mean(),
    )
    np.testing.assert_allclose(parts, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("batch_size", "num_examples"), [(2, 2), (2, 1000), (7, 7), (64, 737_280)])
def test_stratified_weights(batch_size, num_examples):
    weights = np.exp(minibatch_stratified(batch_size, num_examples))
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.diag(weights), 1 / num_examples, rtol=1e-12)
    m = batch_size - 1
    others = [np.sort(np.delete(row, i)) for i, row in enumerate(weights)]
    expected = np.sort([(num_examples - m) / (num_examples * m), *[1 / m] * (m - 1)])
    np.testing.assert_allclose(others, np.tile(expected, (batch_size, 1)), rtol=1e-12)


def test_weighted_and_whole():
    np.testing.assert_allclose(ESTIMATORS["mws"](3, 40), -np.log(120) * np.ones((3, 3)))
    np.testing.assert_allclose(ESTIMATORS["exact"](4, 4), -np.log(4) * np.ones((4, 4)))


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_the_parts_add_up_to_the_sampled_kl(reference, estimator):
    z, posterior = batch_of(reference[0], "correlated")
    num_examples = 64 if estimator == "exact" else 2000
    parts = decompose_kl(z, posterior, ESTIMATORS[estimator](64, num_examples))
    scaled = (np.float64(z) - posterior.mean) / np.exp(np.float64(posterior.log_variance) / 2)
    log_ratio = 0.5 * (np.float64(z) ** 2 - scaled**2 - posterior.log_variance)
    np.testing.assert_allclose(np.sum(parts), log_ratio.sum(axis=1).mean(), rtol=1e-5)


def twin_total_correlation(mean, log_variance, epsilon, log_weights):
    z = mean + np.exp(log_variance / 2) * epsilon
    density = -0.5 * (
        np.log(2 * np.pi) + log_variance + (z[:, None] - mean) ** 2 / np.exp(log_variance)
    )
    log_q_z = scipy.special.logsumexp(log_weights + density.sum(axis=2), axis=1)
    log_q_zd = scipy.special.logsumexp(log_weights[..., None] + density, axis=1)
    return np.mean(log_q_z - log_q_zd.sum(axis=1))


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_gradient_of_the_total_correlation_is_the_twins(estimator):
    rng = np.random.default_rng(0)
    mean, log_variance, epsilon = (rng.normal(size=(5, 3)) for _ in range(3))
    log_weights = ESTIMATORS[estimator](5, 50)

    @jax.jit
    @jax.grad
    def gradient(posterior):
        z = posterior.mean + jnp.exp(0.5 * posterior.log_variance) * epsilon
        return decompose_kl(z, posterior, log_weights).total_correlation

    got = gradient(Posterior(jnp.asarray(mean), jnp.asarray(log_variance)))
    for which, grads in enumerate(got):
        expected = np.zeros((5, 3))
        for index in np.ndindex(5, 3):
            ends = []
            for step in (1e-5, -1e-5):
                leaves = [mean.copy(), log_variance.copy()]
                leaves[which][index] += step
                ends.append(twin_total_correlation(*leaves, epsilon, log_weights))
            expected[index] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(grads, expected, rtol=1e-3, atol=2e-6)


def test_decomposition_is_finite_at_extremes():
    z = jnp.asarray([[0.0, 50.0], [-50.0, 1e-3], [3.0, 4.0]])
    for log_variance in (-20.0, 20.0):
        posterior = Posterior(z + 1e-6, jnp.full((3, 2), log_variance))

        def total(posterior):
            return sum(decompose_kl(z, posterior, minibatch_stratified(3, 10)))

        value, grads = jax.jit(jax.value_and_grad(total))(posterior)
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(leaf)) for leaf in grads)


def test_eager_jit_and_vmap_agree(reference):
    batches = [batch_of(reference[0], "mixed", batch) for batch in range(3)]
    weights = ESTIMATORS["mss"](64, 2000)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    mapped = jax.jit(jax.vmap(lambda z, p: decompose_kl(z, p, weights)))(*stacked)
    for i, (z, posterior) in enumerate(batches):
        eager = decompose_kl(z, posterior, weights)
        np.testing.assert_allclose([part[i] for part in mapped], eager, rtol=1e-5, atol=1e-5)


def test_permuting_leaves_the_marginals():
    z = jax.random.normal(jax.random.key(0), (40, 6))
    permuted = np.asarray(permute_latents(jax.random.key(1), z))
    np.testing.assert_array_equal(np.sort(permuted, axis=0), np.sort(z, axis=0))
    # Latents go their own ways: the rows are not those of z in another order.
    place = np.argsort(np.argsort(permuted, axis=0), axis=0)
    assert len(np.unique(place, axis=1).T) == 6
    origin = np.stack([np.argsort(np.argsort(z[:, d]))[:, None] == place[:, d] for d in range(6)])
    assert np.all(origin.sum(axis=1) == 1)
    assert np.mean(np.argmax(origin, axis=1)[0] == np.argmax(origin, axis=1)[1]) < 0.3


def test_permuting_removes_the_dependence():
    x = jax.random.normal(jax.random.key(2), (20_000, 1))
    z = jnp.concatenate([x, x + 0.1 * jax.random.normal(jax.random.key(3), x.shape)], axis=1)
    assert np.corrcoef(np.asarray(z).T)[0, 1] > 0.99
    assert abs(np.corrcoef(np.asarray(permute_latents(jax.random.key(4), z)).T)[0, 1]) < 0.03


def twin_mmd(x, y, kernel, scale):
    """Gretton's sums, pair by pair."""

    def k(a, b):
        squared = np.sum((a - b) ** 2)
        return np.exp(-squared / scale) if kernel == "rbf" else scale / (scale + squared)

    m, n = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (m * n)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_mmd_is_the_twins(kernel):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(7, 3)), 0.5 + 2 * rng.normal(size=(5, 3))
    got = maximum_mean_discrepancy(jnp.asarray(x), jnp.asarray(y), kernel, 6.0)
    np.testing.assert_allclose(got, twin_mmd(x, y, kernel, 6.0), rtol=1e-5, atol=1e-6)
    grads = jax.grad(lambda x: maximum_mean_discrepancy(x, jnp.asarray(y), kernel, 6.0))(
        jnp.asarray(x)
    )
    for index in [(0, 0), (3, 1), (6, 2)]:
        step = np.zeros_like(x)
        step[index] = 1e-5
        ends = [twin_mmd(x + s * step, y, kernel, 6.0) for s in (1, -1)]
        np.testing.assert_allclose(grads[index], (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_mmd_of_one_law_is_zero_on_average(kernel):
    @jax.jit
    @jax.vmap
    def one_law(key):
        x, y = jax.random.normal(key, (2, 8, 4))
        return maximum_mean_discrepancy(x, y, kernel, 8.0)

    values = np.asarray(one_law(jax.random.split(jax.random.key(0), 4000)), np.float64)
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(4000)
    assert (values < 0).mean() > 0.3  # a biased estimate is never negative
    shifted = maximum_mean_discrepancy(
        *(jax.random.normal(jax.random.key(1), (2, 100, 4)) + jnp.asarray([[[0.0]], [[2.0]]])),
        kernel,
        8.0,
    )
    assert shifted > 0.2


def test_mmd_of_gaussians_has_its_closed_form():
    """E MMD² of N(0, I) and N(m, I) under the Gaussian kernel."""
    scale, shift, d = 4.0, 1.5, 2
    x, y = jax.random.normal(jax.random.key(5), (2, 2000, d))
    ratio = (scale / (scale + 4)) ** (d / 2)
    expected = 2 * ratio * (1 - np.exp(-d * shift**2 / (scale + 4)))
    got = maximum_mean_discrepancy(x, y + shift, "rbf", scale)
    np.testing.assert_allclose(got, expected, rtol=0.05)


def test_covariance_is_numpys():
    x = np.random.default_rng(2).normal(size=(30, 4)) @ np.diag([1, 2, 3, 4]) + 5
    got = covariance(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, np.cov(x, rowvar=False, ddof=0), rtol=1e-4, atol=1e-4)
    off_diagonal, diagonal = identity_penalties(jnp.asarray([[3.0, 2.0], [1.0, 0.5]]))
    assert (off_diagonal, diagonal) == (5.0, 4.25)
    assert identity_penalties(jnp.eye(3)) == (0.0, 0.0)


def test_kl_of_posteriors_has_its_closed_form():
    rng = np.random.default_rng(3)
    m1, v1, m2, v2 = (rng.normal(size=(4, 3)) for _ in range(4))
    expected = 0.5 * (v2 - v1 + (np.exp(v1) + (m1 - m2) ** 2) / np.exp(v2) - 1)
    first, second = (Posterior(jnp.asarray(m), jnp.asarray(v)) for m, v in ((m1, v1), (m2, v2)))
    np.testing.assert_allclose(kl_of_posteriors(first, second), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(kl_of_posteriors(first, first), np.zeros((4, 3)))
    for extreme in (-20.0, 20.0):
        flat = Posterior(jnp.zeros((4, 3)), jnp.full((4, 3), extreme))
        assert np.all(np.isfinite(kl_of_posteriors(flat, second)))


FLAT = Posterior(np.zeros((5, 2), np.float32), np.zeros((5, 2), np.float32))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ESTIMATORS["mss"](1, 10), "at least 2"),
        (lambda: ESTIMATORS["mss"](11, 10), "no more than the number of examples, 10"),
        (lambda: ESTIMATORS["exact"](9, 10), "number of examples, 10"),
        (
            lambda: maximum_mean_discrepancy(jnp.ones((1, 2)), jnp.ones((3, 2)), "rbf", 1.0),
            "at least 2",
        ),
        (lambda: maximum_mean_discrepancy(jnp.ones((2, 2)), jnp.ones((2, 2)), "x", 1.0), "imq"),
        (lambda: divergences.covariance(jnp.ones(3)), "of shape"),
        *(
            (lambda z=z, w=w: aggregate_log_density(jnp.ones(z), FLAT, jnp.zeros(w)), message)
            for z, w, message in [
                ((4, 3), (4, 5), "expected z of shape"),
                ((4, 2), (1, 5), "expected log_weights of shape"),  # one row would serve all
                ((4, 2), (4, 1), "expected log_weights of shape"),
            ]
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
