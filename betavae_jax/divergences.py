"""How far an aggregate of codes is from a factorised one, or from the prior.

The aggregate posterior is q(z) = 1/N Σ_j q(z|x_j) over all N examples. Most estimators here see a
batch of B of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax import gaussian
from betavae_jax.checks import InputError, check_at_least, check_name, check_shape
from betavae_jax.types import Array, Posterior


class Decomposition(NamedTuple):
    """The sampled KL(q(z|x) ‖ p(z)) in three parts, means over the samples, nats."""

    mutual_information: Array  # [], E log q(z|x) / q(z)
    total_correlation: Array  # [], E log q(z) / Π_d q(z_d)
    dimensionwise_kl: Array  # [], E Σ_d log q(z_d) / p(z_d)


def minibatch_weighted(batch_size: int, num_examples: int) -> np.ndarray:
    """Log-weights of minibatch-weighted sampling: 1/(B N) everywhere.

    They sum to 1/N: log q(z) and each log q(z_d) come out too low by about log N, so the total
    correlation comes out too high by about (D - 1) log N. That constant has no gradient.

    Args:
      batch_size: B.
      num_examples: N.

    Returns:
      Float64 `[B, B]`; row i weighs the components of q(z_i).

    References:
      Chen et al. 2018, section 3.1 and appendix C.1.
    """
    return np.full((batch_size, batch_size), -np.log(float(batch_size) * num_examples))


def minibatch_stratified(batch_size: int, num_examples: int) -> np.ndarray:
    """Log-weights of minibatch-stratified sampling, an unbiased q(z) at a sample of one of its x.

    With M = B - 1, row i weighs its own component, the column i, by 1/N, one other by
    (N - M)/(N M) and the rest by 1/M. The first stands for the one component among N that z_i was
    drawn from, so it lies on the diagonal.

    Args:
      batch_size: B, at least 2 and no more than N.
      num_examples: N.

    Returns:
      Float64 `[B, B]`; the exponentials of each row sum to one.

    Raises:
      InputError: If B is out of range.

    References:
      Chen et al. 2018, appendix C.2.
    """
    check_at_least("batch_size for minibatch-stratified sampling", batch_size, 2, integer=True)
    if batch_size > num_examples:
        raise InputError(
            "expected batch_size of no more than the number of examples, "
            f"{num_examples}, for minibatch-stratified sampling; got {batch_size}"
        )
    m, n = batch_size - 1, float(num_examples)
    weights = np.full((batch_size, batch_size), 1 / m)
    rows = np.arange(batch_size)
    weights[rows, (rows + 1) % batch_size] = (n - m) / (n * m)
    weights[rows, rows] = 1 / n
    return np.log(weights)


def whole_set(batch_size: int, num_examples: int) -> np.ndarray:
    """Log-weights of the aggregate posterior itself, where the batch is the whole set: 1/N.

    Args:
      batch_size: B = N.
      num_examples: N.

    Returns:
      Float64 `[N, N]`.

    Raises:
      InputError: If the batch is not as large as the set.
    """
    if batch_size != num_examples:
        raise InputError(
            "expected batch_size to be the number of examples, "
            f"{num_examples}, for the exact mixture; got {batch_size}"
        )
    return np.full((batch_size, batch_size), -np.log(float(num_examples)))


# (B, N) -> log-weights [B, B]
ESTIMATORS: dict[str, Callable[[int, int], np.ndarray]] = {
    "exact": whole_set,
    "mss": minibatch_stratified,
    "mws": minibatch_weighted,
}


def aggregate_log_density(
    z: Array, posterior: Posterior, log_weights: Array | np.ndarray
) -> tuple[Array, Array]:
    """Log q(z) and log q(z_d) of a weighed mixture of posteriors.

    The weight of a component enters once in log q(z) and once in the log q(z_d) of each latent.

    Args:
      z: Codes `[B, D]`.
      posterior: The components, leaves `[M, D]`.
      log_weights: Of the components at each code, `[B, M]`.

    Returns:
      Nats: log q(z) `[B]` and log q(z_d) `[B, D]`.
    """
    check_shape("z", z.shape, (None, posterior.mean.shape[-1]))
    check_shape("log_weights", log_weights.shape, (z.shape[0], posterior.mean.shape[0]))
    weights = jnp.asarray(log_weights, z.dtype)
    # log q(z_i,d | x_j), [B, M, D]
    log_density = gaussian.log_density(
        z[:, None], posterior.mean[None], posterior.log_variance[None]
    )
    log_q_z = jax.nn.logsumexp(weights + jnp.sum(log_density, axis=2), axis=1)
    log_q_zd = jax.nn.logsumexp(weights[..., None] + log_density, axis=1)
    return log_q_z, log_q_zd


def decompose_kl(z: Array, posterior: Posterior, log_weights: Array | np.ndarray) -> Decomposition:
    """Splits the sampled KL divergence from the prior into three parts.

    Whatever the weights, the three add up to the mean of log q(z|x) - log p(z).

    Args:
      z: One sample of each posterior, `[B, D]`.
      posterior: q(z|x), leaves `[B, D]`.
      log_weights: `[B, B]`, from one of `ESTIMATORS`.

    Returns:
      The parts, in nats.

    References:
      Chen et al. 2018, equation 2.
    """
    return decompose_log_densities(z, posterior, *aggregate_log_density(z, posterior, log_weights))


def decompose_log_densities(
    z: Array, posterior: Posterior, log_q_z: Array, log_q_zd: Array
) -> Decomposition:
    """Splits the sampled KL divergence as `decompose_kl` does, given the aggregate's densities.

    Args:
      z: One sample of each posterior, `[B, D]`.
      posterior: q(z|x), leaves `[B, D]`.
      log_q_z: `[B]`, nats.
      log_q_zd: `[B, D]`, nats.

    Returns:
      The parts, in nats.
    """
    log_q_zx = jnp.sum(gaussian.log_density(z, posterior.mean, posterior.log_variance), axis=1)
    log_p_zd = gaussian.log_density(z, jnp.zeros_like(z), jnp.zeros_like(z))
    return Decomposition(
        jnp.mean(log_q_zx - log_q_z),
        jnp.mean(log_q_z - jnp.sum(log_q_zd, axis=1)),
        jnp.mean(jnp.sum(log_q_zd - log_p_zd, axis=1)),
    )


def permute_latents(key: Array, z: Array) -> Array:
    """Permutes each latent over the batch, independently: a sample of Π_d q(z_d).

    Args:
      key: A PRNG key.
      z: Codes `[B, D]`.

    Returns:
      Codes `[B, D]`; each column holds what it held, in another order.

    References:
      Kim & Mnih 2018, algorithm 1.
    """
    check_shape("z", z.shape, (None, None))
    return jax.random.permutation(key, z, axis=0, independent=True)


def rbf(squared_distance: Array, scale: float) -> Array:
    """The Gaussian kernel exp(-r²/scale), elementwise."""
    return jnp.exp(-squared_distance / scale)


def inverse_multiquadric(squared_distance: Array, scale: float) -> Array:
    """The kernel scale / (scale + r²), elementwise; its tails reach codes far off."""
    return scale / (scale + squared_distance)


# (r², scale) -> k(x, y)
KERNELS: dict[str, Callable[[Array, float], Array]] = {
    "imq": inverse_multiquadric,
    "rbf": rbf,
}


def maximum_mean_discrepancy(x: Array, y: Array, kernel: str, scale: float) -> Array:
    """The squared MMD of two samples, without bias: it may be negative.

    Args:
      x: A sample `[B, D]`, B ≥ 2.
      y: Another `[M, D]`, M ≥ 2.
      kernel: A name in `KERNELS`.
      scale: In the kernel, in squared units of x.

    Returns:
      `[]`.

    Raises:
      InputError: If a sample has fewer than two members, or the kernel is not known.

    References:
      Gretton et al. 2012, A Kernel Two-Sample Test, equation 3.
    """
    check_name("kernel", kernel, KERNELS)
    check_shape("y", y.shape, (None, x.shape[-1]))
    for count in (x.shape[0], y.shape[0]):
        check_at_least("examples for a maximum mean discrepancy", count, 2, integer=True)

    def mean_kernel(a: Array, b: Array) -> Array:
        return jnp.mean(KERNELS[kernel](squared_distances(a, b), scale))

    def mean_of_pairs(a: Array) -> Array:
        # k(a, a) = 1: the mean over distinct pairs, from that over all.
        count = a.shape[0]
        return (mean_kernel(a, a) * count - 1.0) / (count - 1)

    return mean_of_pairs(x) + mean_of_pairs(y) - 2.0 * mean_kernel(x, y)


def squared_distances(x: Array, y: Array) -> Array:
    """Squared Euclidean distances `[B, M]` of the rows of `x [B, D]` and `y [M, D]`."""
    # From differences: the expansion into products would cancel for neighbours.
    return jnp.sum(jnp.square(x[:, None] - y[None]), axis=2)


def covariance(x: Array) -> Array:
    """The covariance `[D, D]` over the rows of `x [B, D]`, divided by B."""
    check_shape("x", x.shape, (None, None))
    centred = x - jnp.mean(x, axis=0, keepdims=True)
    return centred.T @ centred / x.shape[0]


def covariance_of_codes(posterior: Posterior) -> Array:
    """Cov over the batch of z ~ q(z|x), `[D, D]`: that of the means, and the mean variances.

    Each latent's own mean variance is added on the diagonal.
    """
    return covariance(posterior.mean) + jnp.diag(jnp.mean(jnp.exp(posterior.log_variance), axis=0))


def identity_penalties(matrix: Array) -> tuple[Array, Array]:
    """How far a matrix is from the identity, off its diagonal and on it.

    Args:
      matrix: `[D, D]`.

    Returns:
      Σ_{i≠j} m_ij² and Σ_i (m_ii - 1)², both `[]`.

    References:
      Kumar et al. 2018, equations 6 and 7.
    """
    diagonal = jnp.diagonal(matrix)
    off_diagonal = matrix - jnp.diag(diagonal)
    return jnp.sum(jnp.square(off_diagonal)), jnp.sum(jnp.square(diagonal - 1.0))


def kl_of_posteriors(first: Posterior, second: Posterior) -> Array:
    """KL(first ‖ second) of diagonal Gaussians, for each latent.

    Args:
      first: Leaves `[B, D]`.
      second: Leaves `[B, D]`.

    Returns:
      Nats `[B, D]`, never negative.
    """
    # Scaled to the second's units it is the divergence from the prior.
    scaled = (first.mean - second.mean) * jnp.exp(-0.5 * second.log_variance)
    return gaussian.kl_per_latent(Posterior(scaled, first.log_variance - second.log_variance))
