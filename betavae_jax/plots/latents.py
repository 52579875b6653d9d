"""The order in which latents are shown, and what is written beside them."""

from collections.abc import Sequence

import numpy as np


def order_latents(kl_per_latent: np.ndarray) -> np.ndarray:
    """The latents by falling KL, equal ones by number; those whose KL is not finite go last.

    Args:
      kl_per_latent: Mean KL of each latent `[D]`, nats.

    Returns:
      A permutation of the latents `[D]`.
    """
    kl = np.asarray(kl_per_latent, np.float64)
    return np.argsort(np.where(np.isfinite(kl), -kl, np.inf), kind="stable")


def label_latents(kl_per_latent: np.ndarray, names: Sequence[str] = ()) -> list[str]:
    """What is written beside each latent: its number, its KL and what it is known to follow.

    Args:
      kl_per_latent: Mean KL of each latent `[D]`, nats; what is not finite is left out.
      names: What each latent follows, `D` strings, empty where nothing is known.

    Returns:
      `D` labels in the order of the latents, such as `z3  1.74 nats  (pos_x)`.
    """
    names = names or [""] * len(kl_per_latent)
    numbers = [f"{kl:.2f} nats" if np.isfinite(kl) else "" for kl in kl_per_latent]
    parts = [[f"z{d}", numbers[d], names[d]] for d in range(len(numbers))]
    return ["  ".join(part for part in line if part) for line in parts]
