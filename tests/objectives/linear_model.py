"""A linear encoder and decoder with a Bernoulli likelihood, small enough to differentiate twice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax.types import Batch, Model, Posterior

X_SHAPE, D, B, N = (2, 4, 1), 3, 6, 40
PIXELS = 8
KEY = jax.random.key(11)


def init(key):
    keys = jax.random.split(key, 4)
    return {
        "encoder": {
            "kernel": 0.5 * jax.random.normal(keys[0], (PIXELS, 2 * D)),
            "bias": 0.3 * jax.random.normal(keys[1], (2 * D,)),
        },
        "decoder": {
            "kernel": jax.random.normal(keys[2], (D, PIXELS)),
            "bias": 0.3 * jax.random.normal(keys[3], (PIXELS,)),
        },
    }


def encode(params, x):
    encoder = params["encoder"]
    h = x.reshape(x.shape[0], -1) @ encoder["kernel"] + encoder["bias"][None]
    return Posterior(h[:, :D], h[:, D:])


def decode(params, z):
    decoder = params["decoder"]
    return (z @ decoder["kernel"] + decoder["bias"][None]).reshape(-1, *X_SHAPE)


def bernoulli(logits, x):
    return jnp.sum(x * logits - jnp.logaddexp(logits, 0.0), axis=(1, 2, 3))


MODEL = Model(init, encode, decode, bernoulli, jax.nn.sigmoid)
PARAMS = init(jax.random.key(2))


def make_batch(num_views=1):
    x = np.random.default_rng(4).random((num_views, B, *X_SHAPE))
    return Batch(jnp.asarray(x, jnp.float32), jnp.zeros((num_views, B, 0), jnp.int32), N)


def in_float64(tree):
    return jax.tree.map(lambda leaf: np.array(leaf, np.float64), tree)


def coefficients_of(objective, **values):
    given = objective.Coefficients(**values)
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), given)


@functools.cache
def compiled(objective, num_views):
    """The loss with its gradient; all but the batch is an argument, as in training."""
    batch = make_batch(num_views)

    def loss(params, critic, given, key):
        return objective.loss(params, critic, MODEL, batch, given, key)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def evaluate(objective, critic=(), *, params=PARAMS, num_views=1, key=KEY, **coefficients):
    """Loss, terms, evidence and gradient of an objective on the batch."""
    given = coefficients_of(objective, **coefficients)
    (value, (terms, evidence)), grads = compiled(objective, num_views)(params, critic, given, key)
    return value, terms, evidence, grads


def critic_gradient(objective, critic, evidence, **coefficients):
    """Loss, extras and gradient of an objective's critic."""
    loss = jax.jit(jax.value_and_grad(objective.critic_loss, has_aux=True))
    return loss(critic, evidence, coefficients_of(objective, **coefficients), KEY)


def twin_posterior(params, x):
    """Mean and log-variance of q(z|x) in float64."""
    flat = np.float64(x).reshape(len(x), -1)
    h = flat @ params["encoder"]["kernel"] + params["encoder"]["bias"]
    return h[:, :D], h[:, D:]


def twin_elbo(params, x, epsilon):
    """Distortion, KL per latent, mean, log-variance and z in float64, from the definitions."""
    mean, log_variance = twin_posterior(params, x)
    z = mean + np.exp(log_variance / 2) * epsilon
    return *twin_bound(params, x, mean, log_variance, z), mean, log_variance, z


def twin_bound(params, x, mean, log_variance, z):
    """Distortion and KL per latent of given posteriors and codes in float64."""
    logits = z @ params["decoder"]["kernel"] + params["decoder"]["bias"]
    flat = np.float64(x).reshape(len(x), -1)
    distortion = -np.mean(np.sum(flat * logits - np.logaddexp(logits, 0), axis=1))
    kl = np.mean(0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance), axis=0)
    return distortion, kl


def twin_gradient(function, params, step=1e-5):
    """Central differences of `function(params)`, entry by entry."""
    gradient = jax.tree.map(np.zeros_like, params)
    for leaf, into in zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True):
        for index in np.ndindex(leaf.shape):
            kept, ends = leaf[index], []
            for sign in (1, -1):
                leaf[index] = kept + sign * step
                ends.append(function(params))
            leaf[index] = kept
            into[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def assert_gradients_agree(got, expected, rtol=1e-3):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max() + 1e-6)


def normal_of(key, shape=(B, D)):
    return np.asarray(jax.random.normal(key, shape), np.float64)
