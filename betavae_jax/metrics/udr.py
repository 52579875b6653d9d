"""The unsupervised disentanglement ranking of Duan et al. (2020)."""

from collections.abc import Callable

import numpy as np

from betavae_jax.checks import InputError, check_at_least, check_name
from betavae_jax.metrics.results import Interval, Result, library_versions
from betavae_jax.metrics.rows import check_codes, check_enough

_MAX_SWEEPS = 1000
_CONVERGED = 1e-12
_ROWS_PER_LATENT = 10


def udr(
    population: np.ndarray,
    kl: np.ndarray,
    *,
    correlation: str = "lasso",
    min_kl: float = 0.01,
    filter_low_kl: bool = True,
) -> tuple[Result, ...]:
    """Scores each run by how far others found the same latents; it needs no labels.

    Args:
      population: Posterior means `[R, N, D]` of R ≥ 2 runs on the same rows, which differ in
        their seed alone where runs are to be chosen.
      kl: KL per latent `[R, D]`, in nats; latents not above `min_kl` are set aside.
      correlation: "lasso", |coefficients| of a lasso with penalty 0.1 from one run's latents to
        the other's, or "spearman", the absolute rank correlation.
      min_kl: In nats.
      filter_low_kl: Whether the latents set aside are left out of the means; otherwise they
        count as zeros.

    Returns:
      A result a run: the median over the other runs of the pair's score, with the quartiles as
      interval. A run without active latents has 0.

    Raises:
      InputError: If there is one run only, there are fewer than 10 rows a latent, shapes
        disagree or a value is not finite.

    References:
      Duan et al. (2020), "Unsupervised model selection for variational disentangled
      representation learning", on unsupervised disentanglement ranking; a pair's score as in
      disentanglement_lib, which weighs the mean over one run's latents and that over the other's
      alike.
    """
    check_name("correlation", correlation, _CORRELATIONS)
    check_at_least("min_kl", min_kl, 0.0)
    population, kl = _check_population(population, kl)
    x = _standardise(population) * (kl > min_kl)[:, None, :]
    active = (kl > min_kl) & (np.ptp(population, axis=1) > 0)
    matrices = _CORRELATIONS[correlation](x)  # [R, R, D, D], from the latents of one to another's
    kept = kl > min_kl if filter_low_kl else np.ones_like(active)
    pairs = _relative_strength(matrices, kept)
    return tuple(
        _result(run, pairs, active, population.shape, correlation, min_kl, filter_low_kl)
        for run in range(len(population))
    )


def _result(
    run: int,
    pairs: np.ndarray,
    active: np.ndarray,
    shape: tuple[int, ...],
    correlation: str,
    min_kl: float,
    filter_low_kl: bool,
) -> Result:
    others = np.delete(pairs[:, run], run)
    low, value, high = (float(v) for v in np.quantile(others, [0.25, 0.5, 0.75]))
    kind = {"lasso": "|lasso coefficients|, penalty 0.1", "spearman": "|Spearman correlation|"}
    dropped = "left out" if filter_low_kl else "count as zeros"
    return Result(
        metric="udr",
        value=value,
        scores={"udr": value, "num_active": int(active[run].sum())},
        per_factor={},
        per_latent={"active": active[run]},
        matrices={"pair_scores_by_run": pairs[:, run]},
        interval=Interval(low, high, "quartiles over the other runs"),
        convention=f"Duan 2020 as in disentanglement_lib: {kind[correlation]}; latents with KL ≤ "
        f"{min_kl} {dropped}; median over the other runs",
        sizes={"runs": shape[0], "rows": shape[1], "latents": shape[2]},
        seed=None,
        versions=library_versions("scipy"),
    )


def _check_population(population: np.ndarray, kl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    population, kl = np.asarray(population), np.asarray(kl, np.float64)
    if population.ndim != 3 or len(population) < 2:
        raise InputError(f"expected codes [R, N, D] of 2 runs or more; got {population.shape}")
    runs, rows, latents = population.shape
    if kl.shape != (runs, latents) or not np.isfinite(kl).all():
        raise InputError(f"expected finite KL [{runs}, {latents}]; got shape {list(kl.shape)}")
    codes = [check_codes(run, f"codes of run {r}") for r, run in enumerate(population)]
    check_enough("rows", rows, _ROWS_PER_LATENT * latents, f"there are {latents} latents")
    return np.stack(codes), kl


def _standardise(population: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 in each run and latent, float64; a constant is 0."""
    x = population.astype(np.float64)
    x -= x.mean(axis=1, keepdims=True)
    varies = np.ptp(population, axis=1, keepdims=True) > 0
    return x / np.where(varies, x.std(axis=1, keepdims=True), np.inf)


def lasso_coefficients(x: np.ndarray, penalty: float = 0.1) -> np.ndarray:
    """Absolute lasso coefficients between the latents of every two runs, by coordinate descent.

    Args:
      x: `[R, N, D]`, each column with mean 0.
      penalty: λ of ‖y − Xw‖²/(2N) + λ‖w‖₁.

    Returns:
      `[R, R, D, D]`: entry (i, j, a, b) is the weight of latent a of run i in the prediction of
      latent b of run j. A column of zeros has weight 0.

    References:
      Friedman et al. (2010), "Regularization paths for generalized linear models via coordinate
      descent", equation 5.
    """
    runs, rows, latents = x.shape
    flat = np.moveaxis(x, 1, 0).reshape(rows, runs * latents)
    product = (flat.T @ flat / rows).reshape(runs, latents, runs, latents)
    cross = np.moveaxis(product, 2, 1)  # [R, R, D, D]
    gram = np.stack([cross[i, i] for i in range(runs)])  # [R, D, D]
    size = np.einsum("idd->id", gram)
    weights = np.zeros_like(cross)
    for _ in range(_MAX_SWEEPS):
        change = 0.0
        for a in range(latents):
            others = gram[:, a].copy()
            others[:, a] = 0.0
            residual = cross[:, :, a] - np.einsum("ie,ijeb->ijb", others, weights)
            shrunk = np.sign(residual) * np.maximum(np.abs(residual) - penalty, 0.0)
            norm = np.where(size[:, a] > 0, size[:, a], np.inf)[:, None, None]
            change = max(change, float(np.abs(shrunk / norm - weights[:, :, a]).max()))
            weights[:, :, a] = shrunk / norm
        if change < _CONVERGED:
            break
    return np.abs(weights)


def rank_correlations(x: np.ndarray) -> np.ndarray:
    """Absolute Spearman correlations between the latents of every two runs.

    Args:
      x: `[R, N, D]`.

    Returns:
      `[R, R, D, D]`; a constant column is correlated with nothing.
    """
    from scipy.stats import rankdata  # a second to import

    runs, rows, latents = x.shape
    ranks = _standardise(rankdata(x, axis=1))
    flat = np.moveaxis(ranks, 1, 0).reshape(rows, runs * latents)
    product = (flat.T @ flat / rows).reshape(runs, latents, runs, latents)
    return np.abs(np.moveaxis(product, 2, 1))


_CORRELATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "lasso": lasso_coefficients,
    "spearman": rank_correlations,
}


def _relative_strength(matrices: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Mean of max² / sum over the rows and over the columns of each pair's matrix.

    Args:
      matrices: `[R, R, D, D]`, not negative.
      kept: `[R, D]`, which rows and columns count.

    Returns:
      `[R, R]`, zero on the diagonal and where nothing is kept.
    """
    masked = matrices * kept[:, None, :, None] * kept[None, :, None, :]
    counts = np.maximum(kept.sum(axis=1), 1)
    score = np.zeros(matrices.shape[:2])
    for axis, number in ((2, counts[None, :]), (3, counts[:, None])):
        best, total = masked.max(axis=axis), masked.sum(axis=axis)
        strength = np.divide(best**2, total, out=np.zeros_like(best), where=total > 0)
        score += strength.sum(axis=-1) / number / 2
    np.fill_diagonal(score, 0.0)
    return score
