"""What a run minimises: one file a paper, one entry an objective.

Each entry of `OBJECTIVES` is a function of keyword settings, those that change the program; what
is swept is a coefficient.
"""

from collections.abc import Callable

from betavae_jax.objectives.ada_vae import ada_gvae, ada_ml_vae
from betavae_jax.objectives.beta_tcvae import beta_tcvae
from betavae_jax.objectives.beta_vae import beta_vae
from betavae_jax.objectives.capacity_vae import capacity_vae
from betavae_jax.objectives.dip_vae import dip_vae_i, dip_vae_ii
from betavae_jax.objectives.factor_vae import factor_vae
from betavae_jax.objectives.info_vae import info_vae
from betavae_jax.objectives.vae import vae
from betavae_jax.objectives.vae_gan import vae_gan
from betavae_jax.types import Objective

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "ada_gvae": ada_gvae,
    "ada_ml_vae": ada_ml_vae,
    "beta_tcvae": beta_tcvae,
    "beta_vae": beta_vae,
    "capacity_vae": capacity_vae,
    "dip_vae_i": dip_vae_i,
    "dip_vae_ii": dip_vae_ii,
    "factor_vae": factor_vae,
    "info_vae": info_vae,
    "vae": vae,
    "vae_gan": vae_gan,
}
