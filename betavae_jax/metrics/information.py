"""Mutual information between codes and factors, from histograms, in nats."""

import numpy as np
from scipy.special import xlogy

from betavae_jax.checks import InputError

_BINS = 20
_ROUNDING = 1e-12  # nats; less than this is rounding, and means independence


def discretise(values: np.ndarray, bins: int = _BINS) -> np.ndarray:
    """Cuts every column into equal bins between its own minimum and maximum.

    Args:
      values: Columns `[..., N, D]`; a float32 column has float32 edges.
      bins: Number of bins.

    Returns:
      Bin numbers from 1 to `bins`, int64, of the same shape. A constant column is one bin. Where
      its numbers are too coarse for so many edges, a column is cut in units of its range.

    References:
      Locatello et al. (2019), whose discretiser this is, edge for edge.
    """
    values = np.asarray(values)
    binned = np.empty(values.shape, np.int64)
    for at in np.ndindex(*values.shape[:-2], values.shape[-1]):
        column = (*at[:-1], slice(None), at[-1])
        binned[column] = _discretise_column(values[column], bins)
    return binned


def _discretise_column(column: np.ndarray, bins: int) -> np.ndarray:
    try:
        edges = np.histogram_bin_edges(column, bins)
    except ValueError:  # edges would coincide: a collapsed latent of a few neighbouring numbers
        column = column.astype(np.float64) - np.float64(column.min())
        column /= np.ptp(column) or 1.0
        edges = np.histogram_bin_edges(column, bins)
    return np.digitize(column, edges[:-1])


def joint_counts(binned: np.ndarray, labels: np.ndarray, bins: int) -> np.ndarray:
    """Counts how often each bin of each code meets each label.

    Args:
      binned: Bin numbers `[N, D]` from 1 to `bins`.
      labels: `[N]` from 0, without gaps.
      bins: Number of bins.

    Returns:
      Counts `[D, bins, S]`, S the number of labels.
    """
    latents, values = binned.shape[1], int(labels.max()) + 1
    cell = (np.arange(latents) * bins + binned - 1) * values + labels[:, None]
    counts = np.bincount(cell.ravel(), minlength=latents * bins * values)
    return counts.reshape(latents, bins, values)


def information_of_counts(counts: np.ndarray) -> np.ndarray:
    """Mutual information of contingency tables `[..., A, B]`, in nats."""
    p = counts / counts.sum(axis=(-2, -1), keepdims=True)
    both = xlogy(p, p).sum(axis=(-2, -1))
    rows, columns = p.sum(axis=-1), p.sum(axis=-2)
    information = both - xlogy(rows, rows).sum(axis=-1) - xlogy(columns, columns).sum(axis=-1)
    return np.where(information < _ROUNDING, 0.0, information)


def label_factors(factors: np.ndarray) -> np.ndarray:
    """Numbers the distinct values of each factor `[N, K]` from 0, without gaps."""
    return np.stack([np.unique(c, return_inverse=True)[1] for c in factors.T], axis=1)


def information_of_bins(binned: np.ndarray, labels: np.ndarray, bins: int) -> np.ndarray:
    """Mutual information `[D, K]` of bin numbers `[N, D]` and labels `[N, K]`, in nats."""
    tables = (joint_counts(binned, column, bins) for column in labels.T)
    return np.stack([information_of_counts(table) for table in tables], axis=1)


def mutual_information_matrix(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Mutual information of each code with each factor, for a whole population.

    Args:
      codes: `[R, N, D]`.
      factors: Class labels `[N, K]`, the same rows for every run; they are not binned.

    Returns:
      `[R, D, K]`, in nats.

    Raises:
      InputError: If the shapes do not fit each other.
    """
    codes, factors = np.asarray(codes), np.asarray(factors)
    if codes.ndim != 3 or factors.ndim != 2 or codes.shape[1] != len(factors):
        raise InputError(
            f"expected codes [R, N, D] and factors [N, K]; got {codes.shape} and {factors.shape}"
        )
    labels = label_factors(factors)
    return np.stack([information_of_bins(discretise(run), labels, _BINS) for run in codes])


def factor_entropies(factors: np.ndarray) -> np.ndarray:
    """Entropy `[K]` of the empirical distribution of each factor `[N, K]`, in nats."""
    counts = [np.unique(column, return_counts=True)[1] / len(factors) for column in factors.T]
    return np.asarray([-xlogy(p, p).sum() for p in counts])


def pointwise_information(binned: np.ndarray, labels: np.ndarray, bins: int) -> np.ndarray:
    """Returns log p(bin, label) / (p(bin) p(label)) of each row `[N, D]`: information, averaged.

    Args:
      binned: Bin numbers `[N, D]` from 1 to `bins`.
      labels: `[N]` from 0, without gaps.
      bins: Number of bins.
    """
    p = joint_counts(binned, labels, bins) / len(binned)
    independent = p.sum(axis=2, keepdims=True) * p.sum(axis=1, keepdims=True)
    ratio = np.divide(p, independent, out=np.ones_like(p), where=p > 0)
    latent = np.arange(binned.shape[1])
    return np.log(ratio[latent, binned - 1, labels[:, None]])
