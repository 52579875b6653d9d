"""Ada-GVAE and Ada-ML-VAE against a float64 twin, and the pairs they learn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from linear_model import (
    KEY,
    MODEL,
    PARAMS,
    B,
    D,
    assert_gradients_agree,
    evaluate,
    in_float64,
    make_batch,
    normal_of,
    twin_bound,
    twin_gradient,
    twin_posterior,
)

from betavae_jax.checks import InputError
from betavae_jax.data.blobs import load_blobs
from betavae_jax.data.sampling import sample_splits, subset
from betavae_jax.data.shards import make_shards
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.objectives.ada_vae import average_densities, average_moments, share
from betavae_jax.objectives.pairs import PairArrays
from betavae_jax.types import Dataset, FactorSpace, Posterior, Splits

EPSILON = normal_of(KEY, (2 * B, D))


def twin_share(first, second, name):
    (m1, v1), (m2, v2) = ((m, np.exp(v)) for m, v in (first, second))
    kl = 0.5 * (np.log(v2 / v1) + (v1 + (m1 - m2) ** 2) / v2 - 1)
    shared = kl < 0.5 * (kl.max(axis=1, keepdims=True) + kl.min(axis=1, keepdims=True))
    if name == "ada_gvae":
        mean, variance = (m1 + m2) / 2, (v1 + v2) / 2
    else:
        variance = 1 / ((1 / v1 + 1 / v2) / 2)
        mean = variance * (m1 / v1 + m2 / v2) / 2
    means, variances = (
        np.concatenate([np.where(shared, c, a), np.where(shared, c, b)])
        for a, b, c in ((m1, m2, mean), (v1, v2, variance))
    )
    return means, np.log(variances), shared


@pytest.mark.parametrize("name", ["ada_gvae", "ada_ml_vae"])
def test_value_terms_and_gradient_are_the_twins(name):
    value, terms, _, grads = evaluate(OBJECTIVES[name](), num_views=2, beta=3.0)
    x = make_batch(2).x

    def twin_terms(params):
        mean, log_variance, shared = twin_share(*(twin_posterior(params, v) for v in x), name)
        z = mean + np.exp(log_variance / 2) * EPSILON
        both = np.concatenate(np.float64(x))
        return *twin_bound(params, both, mean, log_variance, z), shared

    def twin(params):
        distortion, kl, _ = twin_terms(params)
        return distortion + 3 * kl.sum()

    params = in_float64(PARAMS)
    distortion, kl, shared = twin_terms(params)
    np.testing.assert_allclose(value, twin(params), rtol=1e-5)
    np.testing.assert_allclose(terms.distortion, distortion, rtol=1e-5)
    np.testing.assert_allclose(terms.kl_per_latent, kl, rtol=1e-4)
    np.testing.assert_allclose(terms.extras["shared_latents"], shared.sum(axis=1).mean())
    assert 0 < shared.mean() < 1
    assert_gradients_agree(grads, twin_gradient(twin, params))


def test_averages():
    first = Posterior(jnp.asarray([[0.0, 1.0]]), jnp.log(jnp.asarray([[1.0, 4.0]])))
    second = Posterior(jnp.asarray([[2.0, 1.0]]), jnp.log(jnp.asarray([[3.0, 4.0]])))
    moments, densities = average_moments(first, second), average_densities(first, second)
    np.testing.assert_allclose(moments.mean, [[1.0, 1.0]])
    np.testing.assert_allclose(np.exp(moments.log_variance), [[2.0, 4.0]], rtol=1e-6)
    np.testing.assert_allclose(densities.mean, [[0.5, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(np.exp(densities.log_variance), [[1.5, 4.0]], rtol=1e-6)
    for average in (average_moments, average_densities):
        # An example paired with itself keeps its posterior; nothing overflows far out.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), average(first, first), first
        )
        for extreme in (-100.0, 100.0):
            far = Posterior(first.mean, jnp.full((1, 2), extreme))
            assert all(np.all(np.isfinite(leaf)) for leaf in average(far, first))


def test_equal_examples_share_to_no_effect():
    posterior = Posterior(jnp.ones((2, 3)), jnp.zeros((2, 3)))
    both, _ = share(posterior, posterior, average_moments)
    for leaf, single in zip(both, posterior, strict=True):
        np.testing.assert_allclose(leaf, np.stack([single, single]))


def test_with_equal_views_it_is_beta_vae():
    objective = OBJECTIVES["ada_gvae"]()
    given = objective.Coefficients(jnp.float32(4.0))
    batch = make_batch(1)
    twice = batch._replace(x=jnp.concatenate([batch.x, batch.x]))
    value, (terms, _) = objective.loss(PARAMS, (), MODEL, twice, given, KEY)
    _, of_beta_vae, _, _ = evaluate(OBJECTIVES["beta_vae"]())
    np.testing.assert_allclose(terms.rate, of_beta_vae.rate, rtol=1e-5)
    np.testing.assert_allclose(value, terms.distortion + 4 * terms.rate, rtol=1e-5)


# Pairs.


def make_grid(sizes=(4, 5, 6)):
    """A full grid whose examples are their own index."""
    count = int(np.prod(sizes))
    table = np.stack(np.unravel_index(np.arange(count), sizes), axis=-1).astype(np.int32)
    return Dataset(
        {"table": table},
        lambda arrays, index, key: jnp.asarray(arrays["table"])[index].astype(jnp.float32),
        lambda arrays, index: jnp.asarray(arrays["table"])[index],
        FactorSpace(tuple("abcdefg"[: len(sizes)]), sizes, full_grid=True),
        count,
        take=lambda arrays, rows: {"table": arrays["table"][rows]},
    )


def pairs_of(data, objective, batch_size=4000, key=KEY):
    prepared = objective.prepare(data)
    placed = prepared._replace(arrays=jax.tree.map(jnp.asarray, prepared.arrays))
    index = jax.jit(lambda key: objective.draw(key, batch_size, placed))(key)
    factors = np.asarray(placed.factors(placed.arrays, index.reshape(-1)))
    return np.asarray(index), factors.reshape(2, batch_size, -1)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("changed", [1, 2])
def test_pairs_share_all_but_some_factors(whole, changed):
    data = make_grid()
    if not whole:  # the same set, without the promise of being a grid
        data = subset(data, np.arange(data.num_examples))
        assert not data.space.full_grid
    _, (first, second) = pairs_of(data, OBJECTIVES["ada_gvae"](changed=changed))
    differ = first != second
    assert differ.sum(axis=1).max() == changed
    # Which factor changes is uniform, and so is its new value.
    for k, size in enumerate((4, 5, 6)):
        expected = changed / 3 * (1 - 1 / size)
        assert abs(differ[:, k].mean() - expected) < 4 * np.sqrt(expected / 4000)
        counts = np.bincount(second[:, k], minlength=size)
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    first_rows = np.ravel_multi_index(first.T, (4, 5, 6))
    assert scipy.stats.chisquare(np.bincount(first_rows, minlength=120)).pvalue > 1e-3


def test_a_random_number_of_factors_changes():
    _, (first, second) = pairs_of(make_grid((9, 9, 9)), OBJECTIVES["ada_ml_vae"](changed=0))
    counts = np.bincount((first != second).sum(axis=1), minlength=4) / 4000
    assert counts[3] == 0
    assert abs(counts[2] - 0.5 * (8 / 9) ** 2) < 0.04
    assert abs(counts[1] - 0.5 * (8 / 9 + 2 * 8 / 81)) < 0.04


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_factor_of_one_value_does_not_count(whole, changed):
    def draw(sizes):
        data = make_grid(sizes)
        data = data if whole else subset(data, np.arange(data.num_examples))
        return pairs_of(data, OBJECTIVES["ada_gvae"](changed=changed))[0]

    np.testing.assert_array_equal(draw((4, 1, 5, 6)), draw((4, 5, 6)))


def test_pairs_of_a_set_with_gaps():
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(120)[:50])
    rows = np.concatenate([rows, rows[:5]])  # some examples stand twice
    index, (first, second) = pairs_of(subset(make_grid(), rows), OBJECTIVES["ada_gvae"]())
    assert index.max() < 55
    assert (first != second).sum(axis=1).max() == 1
    assert (first != second).any(axis=1).mean() > 0.3
    # Every neighbour of a row is met, itself included.
    table = np.stack(np.unravel_index(rows, (4, 5, 6)), axis=-1)
    row = int(np.argmax([(np.sum(table != t, axis=1) == 1).sum() for t in table]))
    neighbours = set(np.flatnonzero(np.sum(table != table[row], axis=1) <= 1))
    assert set(index[1][index[0] == row]) == neighbours


def test_pairs_of_a_held_out_set_and_of_parts():
    splits = sample_splits(Splits(make_grid((10, 20)), None), held_out=["a:3"])
    objective = OBJECTIVES["ada_gvae"]()
    _, factors = pairs_of(splits.train, objective)
    assert not np.any(factors[:, :, 0] == 3)
    prepared = objective.prepare(splits.train)
    assert isinstance(prepared.arrays, PairArrays)
    key = jax.random.key(0)
    x = prepared.gather(prepared.arrays, jnp.arange(5), key)
    np.testing.assert_array_equal(x, splits.train.gather(splits.train.arrays, jnp.arange(5), key))
    # In parts, partners come from the same part.
    shards = make_shards(prepared, 6_000, 4)
    assert shards.num_parts > 1
    part = jax.tree.map(jnp.asarray, shards.load(1))
    data = shards.data._replace(arrays=part)
    index = objective.draw(KEY, 500, data)
    assert index.max() < part.order.shape[1]
    first, second = np.asarray(data.factors(part, index.reshape(-1))).reshape(2, 500, 2)
    assert (first != second).sum(axis=1).max() == 1


def test_a_part_of_a_grid_is_refused():
    objective, data = OBJECTIVES["ada_gvae"](), make_grid()
    shards = make_shards(objective.prepare(data), 800, 4)
    with pytest.raises(InputError, match="memory holds whole"):
        objective.draw(KEY, 4, shards.data)


def test_a_correlated_grid_keeps_its_law_for_the_first():
    splits = Splits(load_blobs(image_size=8, blob_grid=8, blob_margin=2.0).train, None)
    data = sample_splits(splits, correlated=["x:y:0.1"]).train
    _, (first, second) = pairs_of(data, OBJECTIVES["ada_gvae"]())
    assert np.corrcoef(first.T)[0, 1] > 0.8
    assert (first != second).sum(axis=1).max() == 1


@pytest.mark.parametrize(
    ("data", "changed", "message"),
    [
        (make_grid()._replace(space=None), 1, "known factors, to pair examples; it has none"),
        (make_grid((7,)), 1, "more factors than the 1 that change in a pair; in the set 1 vary: a"),
        (make_grid(), 3, "more factors than the 3 that change"),
        (make_grid((4, 1, 5)), 2, "more factors than the 2 .* in the set 2 vary: a, c"),
        (subset(make_grid((3, 3)), np.asarray([0, 4, 8])), 1, "share all factors but one"),
    ],
)
def test_sets_without_such_pairs_are_refused(data, changed, message):
    with pytest.raises(InputError, match=message):
        OBJECTIVES["ada_gvae"](changed=changed).prepare(data)
    with pytest.raises(InputError, match="changed"):
        OBJECTIVES["ada_gvae"](changed=-1)
