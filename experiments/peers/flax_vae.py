"""A plain Flax VAE, as one would write it: `nn.Conv` and `nn.ConvTranspose`, one jitted step."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

Array = jax.Array

_WIDTHS = (32, 32, 64, 64)
_WIDTH = 256
_IMAGES = 1024


class Encoder(nn.Module):
    """`conv_locatello`'s encoder for 64×64 images."""

    num_latents: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Maps images to means and log-variances."""
        for i, width in enumerate(_WIDTHS):
            x = nn.relu(nn.Conv(width, (4, 4), (2, 2), name=f"conv_{i}")(x))
        x = nn.relu(nn.Dense(_WIDTH, name="dense_0")(x.reshape(x.shape[0], -1)))
        x = nn.Dense(2 * self.num_latents, name="posterior")(x)
        return x[:, : self.num_latents], x[:, self.num_latents :]


class Decoder(nn.Module):
    """`conv_locatello`'s decoder for 64×64 grey images."""

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps codes to logits."""
        z = nn.relu(nn.Dense(_WIDTH, name="dense_0")(z))
        z = nn.relu(nn.Dense(16 * _WIDTHS[-1], name="feature_map")(z))
        y = z.reshape(-1, 4, 4, _WIDTHS[-1])
        for i, width in enumerate((*_WIDTHS[-2::-1], 1)):
            y = nn.ConvTranspose(width, (4, 4), (2, 2), name=f"transposed_{i}")(y)
            y = nn.relu(y) if width > 1 else y
        return y


def negative_elbo(params: Any, x: Array, key: Array, num_latents: int, beta: float) -> Array:
    """The loss of a β-VAE with a Bernoulli likelihood, mean over the batch."""
    posterior: Any = Encoder(num_latents).apply({"params": params["encoder"]}, x)
    mean, log_variance = posterior
    noise = jax.random.normal(key, mean.shape)
    z = mean + jnp.exp(0.5 * log_variance) * noise
    logits: Any = Decoder().apply({"params": params["decoder"]}, z)
    bce = optax.sigmoid_binary_cross_entropy(logits, x).sum()
    kl = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance).sum()
    return (bce + beta * kl) / len(x)


def make_step(batch_size: int, num_latents: int, *, steps_a_call: int) -> Callable[[int], None]:
    """Makes a function that takes `count` Adam steps of a β-VAE on images held in memory.

    Args:
      batch_size: Examples in a batch.
      num_latents: D.
      steps_a_call: Steps of a jitted call, more than one a `lax.scan`; `count` is rounded up to
        a multiple of it.
    """
    image_key, key = jax.random.split(jax.random.key(0))
    images = jax.random.uniform(image_key, (_IMAGES, 64, 64, 1))
    x, z = jnp.zeros((1, 64, 64, 1)), jnp.zeros((1, num_latents))
    params = {
        "encoder": jax.jit(Encoder(num_latents).init)(key, x)["params"],
        "decoder": jax.jit(Decoder().init)(key, z)["params"],
    }
    optimizer = optax.adam(5e-4)
    state = (params, jax.jit(optimizer.init)(params), key)

    def step(state: Any, _: None = None) -> tuple[Any, Array]:
        params, opt_state, key = state
        key, index_key, sample_key = jax.random.split(key, 3)
        x = images[jax.random.randint(index_key, (batch_size,), 0, _IMAGES)]
        loss, grads = jax.value_and_grad(negative_elbo)(params, x, sample_key, num_latents, 4.0)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state, key), loss

    def steps(state: Any) -> tuple[Any, Array]:
        return jax.lax.scan(step, state, length=steps_a_call)

    advance_once = jax.jit(steps if steps_a_call > 1 else step, donate_argnums=0)

    def advance(count: int) -> None:
        nonlocal state
        for _ in range(-(-count // steps_a_call)):
            state, _ = advance_once(state)
        jax.block_until_ready(state)

    return advance
