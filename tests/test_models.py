"""The model: its parts joined, and its precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS

X = jax.random.uniform(jax.random.key(1), (5, 8, 8, 1))
Z = jax.random.normal(jax.random.key(2), (5, 3))


@pytest.fixture(scope="module")
def network():
    return NETWORKS["conv"]((8, 8, 1), 3, channels="8", widths="16")


@pytest.fixture(scope="module")
def params(network):
    return jax.jit(make_model(network, LIKELIHOODS["bernoulli"]()).init)(jax.random.key(0))


def test_the_parts_are_the_networks(network, params):
    model = make_model(network, LIKELIHOODS["bernoulli"]())
    np.testing.assert_array_equal(
        model.encode(params, X).mean, network.encode(params["encoder"], X).mean
    )
    np.testing.assert_array_equal(
        model.decode(params, Z), network.decode(params["decoder"]["network"], Z)
    )


def test_bf16_keeps_parameters_and_results_in_float32(network):
    model = make_model(network, LIKELIHOODS["bernoulli"](), precision="bf16")
    params = jax.jit(model.init)(jax.random.key(0))

    def loss(params):
        posterior = model.encode(params, X)
        natural = model.decode(params, posterior.mean)
        assert posterior.mean.dtype == posterior.log_variance.dtype == natural.dtype == jnp.float32
        return -jnp.mean(model.log_likelihood(natural, X))

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert value.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((params, grads))} == {np.dtype(np.float32)}


def test_bf16_computes_in_bf16_and_comes_near(network, params):
    exact = make_model(network, LIKELIHOODS["bernoulli"]())
    rough = make_model(network, LIKELIHOODS["bernoulli"](), precision="bf16")
    a, b = (np.asarray(m.decode(params, Z)) for m in (exact, rough))
    error = np.linalg.norm(a - b) / np.linalg.norm(a)
    assert 1e-4 < error < 3e-2  # eight bits of mantissa, and really those
    text = jax.jit(rough.decode).lower(params, Z).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    assert all("bf16" in line and "f32" not in line for line in products)


def test_precision_is_one_of_two(network):
    with pytest.raises(InputError, match="expected precision to be one of bf16, float32"):
        make_model(network, LIKELIHOODS["bernoulli"](), precision="fp8")
