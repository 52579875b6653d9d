"""The score of Kim & Mnih (2018): which latent stands still when a factor is held?"""

import numpy as np

from betavae_jax.checks import check_at_least
from betavae_jax.metrics.results import Result, binomial_interval, library_versions
from betavae_jax.metrics.sources import Generator, Source, check_points, in_parts


def factor_vae_score(
    source: Source,
    *,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_test: int = 5_000,
    num_variance: int = 10_000,
    min_std: float = 0.05,
    seed: int = 0,
) -> Result:
    """Scores a representation by majority vote: the latent that varies least tells the factor.

    Args:
      source: Where codes come from; at least two factors.
      batch_size: Examples behind one vote, all with one value of the factor.
      num_train: Votes that decide which factor a latent stands for.
      num_test: Votes that test it.
      num_variance: Examples for the variance of each latent.
      min_std: Latents whose standard deviation is below do not vote, in units of the codes.
      seed: Of the draws.

    Returns:
      The test accuracy in [0, 1]; 0 where no latent is active.

    Raises:
      InputError: If there is one factor only, a setting is too small, or the source refuses.

    References:
      Kim & Mnih (2018), "Disentangling by factorising", section 4; pruning at 0.05 as in
      Locatello et al. (2019).
    """
    check_points(source, num_train, num_test)
    check_at_least("batch_size", batch_size, 2, integer=True)
    check_at_least("num_variance", num_variance, 100, integer=True)
    check_at_least("min_std", min_std, 0.0)
    rng = np.random.default_rng(seed)
    codes, _ = source.draw(rng, num_variance)
    variance = np.where(np.ptp(codes, axis=0) > 0, codes.var(axis=0, ddof=1, dtype=np.float64), 0.0)
    active = (np.sqrt(variance) >= min_std) & (variance > 0)
    train = test = np.zeros((source.num_factors, len(variance)), np.int64)
    if active.any():
        train = draw_votes(source, rng, num_train, batch_size, variance, active)
        test = draw_votes(source, rng, num_test, batch_size, variance, active)
    chosen = train.argmax(axis=0)  # [D], the factor each latent stands for
    right = test[chosen, np.arange(len(variance))]
    accuracy = float(right.sum() / num_test)
    voted = test.sum(axis=1)
    hits = np.bincount(chosen, weights=right, minlength=source.num_factors)
    return Result(
        metric="factor_vae_score",
        value=accuracy,
        scores={
            "eval_accuracy": accuracy,
            "train_accuracy": float(train.max(axis=0).sum() / num_train),
            "num_active": int(active.sum()),
        },
        per_factor={"eval_accuracy": hits / np.maximum(voted, 1)},
        per_latent={"std": np.sqrt(variance), "active": active, "factor": chosen},
        matrices={"votes": test.T},
        interval=binomial_interval(accuracy, num_test) if active.any() else None,
        convention=f"Kim & Mnih 2018 as in Locatello 2019: {source.description}, batch "
        f"{batch_size}, latents with std < {min_std} pruned, majority vote",
        sizes={"train": num_train, "test": num_test, "variance": num_variance,
               "batch": batch_size, "latents": len(variance), "factors": source.num_factors},
        seed=seed,
        versions=library_versions("scipy"),
    )  # fmt: skip


def draw_votes(
    source: Source,
    rng: Generator,
    num_points: int,
    batch_size: int,
    variance: np.ndarray,
    active: np.ndarray,
) -> np.ndarray:
    """Counts which latent varies least when each factor is held.

    Args:
      source: Where codes come from.
      rng: Of the draws.
      num_points: Votes.
      batch_size: Examples behind one vote.
      variance: `[D]`, of the latents with all factors free.
      active: `[D]`, whether a latent votes.

    Returns:
      Votes `[K, D]`, int64.
    """
    votes = np.zeros((source.num_factors, len(variance)), np.int64)
    latents = np.flatnonzero(active)
    for points in in_parts(num_points):
        factor, codes = source.draw_fixed(rng, points, batch_size)
        local = codes[..., latents].var(axis=1, ddof=1)  # [P, D]
        stillest = latents[np.argmin(local / variance[latents], axis=1)]
        np.add.at(votes, (factor, stillest), 1)
    return votes
