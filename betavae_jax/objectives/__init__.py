"""What a run minimises: one file a paper, one entry an objective."""

from betavae_jax.objectives.beta_vae import beta_vae
from betavae_jax.objectives.vae import vae
from betavae_jax.types import Objective

OBJECTIVES: dict[str, Objective] = {
    "beta_vae": beta_vae,
    "vae": vae,
}
