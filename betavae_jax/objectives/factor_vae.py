"""FactorVAE: a critic estimates the total correlation of the codes (Kim & Mnih 2018)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from betavae_jax import gaussian
from betavae_jax.checks import check_name
from betavae_jax.critics import make_code_critic
from betavae_jax.divergences import permute_latents
from betavae_jax.objectives.elbo import adam, evaluate_elbo, make_draw, make_fixed_rate, terms_of
from betavae_jax.types import Array, Batch, Model, Objective, Params, Shape, Terms

_VIEWS = {"same_batch": 1, "second_batch": 2}  # V of each way to permute


class Coefficients(NamedTuple):
    """γ = 35 is the paper's value for dSprites, for a total correlation in nats."""

    gamma: Any = 35.0
    beta: Any = 1.0  # of the rate; 1 in the paper


class Evidence(NamedTuple):
    """What the critic tells apart."""

    z: Array  # [B, D], of q(z)
    permuted: Array  # [B, D], of Π_d q(z_d)


def factor_vae(
    *,
    permute: str = "second_batch",
    critic_width: int = 1000,
    critic_depth: int = 6,
    critic_learning_rate: float = 1e-4,
) -> Objective:
    """Makes the objective distortion + β · rate + γ · TC, with a critic's estimate of the TC.

    The critic tells codes from codes whose latents were permuted over a batch; the difference of
    its two logits estimates log q(z) / Π_d q(z_d). Model and critic take one step each in a
    training step, from the same parameters: the paper takes the critic's second, with the
    codes that the model gave before its step.

    Args:
      permute: `second_batch`, as in the paper: the permuted codes are of an independent batch;
        or `same_batch`, as in disentanglement_lib, which encodes half as many examples.
      critic_width: Outputs of each layer of the critic.
      critic_depth: Layers of the critic before its logits.
      critic_learning_rate: Of the critic's Adam, whose β₁ is 0.5; the model's rate leaves it alone.

    Returns:
      The objective; `total_correlation_critic`, `critic_loss` and `critic_accuracy` are among
      the terms.

    Raises:
      InputError: If a setting is not as above.

    References:
      Kim & Mnih 2018, equation 2, algorithm 2 and appendix A.
    """
    check_name("permute", permute, _VIEWS)
    apply = make_code_critic(1, width=critic_width, depth=critic_depth).apply

    def init_critic(key: Array, x_shape: Shape, num_latents: int) -> Params:
        del x_shape
        return make_code_critic(num_latents, width=critic_width, depth=critic_depth).init(key)

    def loss(
        params: Params,
        critic: Params,
        model: Model,
        batch: Batch,
        coefficients: Coefficients,
        key: Array,
    ) -> tuple[Array, tuple[Terms, Any]]:
        elbo_key, second_key, permute_key = jax.random.split(key, 3)
        elbo = evaluate_elbo(params, model, batch.x[0], elbo_key)
        logits = apply(critic, elbo.z)
        total_correlation = jnp.mean(logits[:, 0] - logits[:, 1])
        second = elbo.z
        if permute == "second_batch":
            frozen = jax.lax.stop_gradient(params)
            second = gaussian.sample(second_key, model.encode(frozen, batch.x[1]))
        value = (
            elbo.distortion + coefficients.beta * elbo.rate + coefficients.gamma * total_correlation
        )
        extras = {"total_correlation_critic": total_correlation}
        terms = terms_of(elbo, value, extras)
        return value, (terms, Evidence(elbo.z, permute_latents(permute_key, second)))

    return Objective(
        Coefficients,
        make_draw("factor_vae", _VIEWS[permute]),
        init_critic,
        loss,
        _make_critic_loss(apply),
        adam,
        make_fixed_rate(optax.adam, critic_learning_rate, b1=0.5, b2=0.9),
    )


def _make_critic_loss(apply: Callable[[Params, Array], Array]) -> Callable[..., Any]:
    def critic_loss(
        critic: Params, evidence: Evidence, coefficients: Coefficients, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        del coefficients, key
        real, permuted = (apply(critic, z) for z in evidence)
        real, permuted = real[:, 0] - real[:, 1], permuted[:, 0] - permuted[:, 1]
        # -log softmax of the right one of two logits, by their difference.
        value = 0.5 * jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(permuted))
        accuracy = 0.5 * (jnp.mean(real > 0) + jnp.mean(permuted < 0))
        return value, {"critic_loss": value, "critic_accuracy": accuracy}

    return critic_loss
