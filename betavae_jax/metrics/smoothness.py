"""Smoothness of a code over a grid of factors, and what a linear read-out recovers."""

import numpy as np

from betavae_jax.checks import InputError, check_shape

_JUMP = 5.0  # times the median edge


def grid_jumps(codes: np.ndarray, sizes: tuple[int, ...]) -> int:
    """Counts the edges of a grid of factors along which the code jumps.

    An edge joins two examples that differ by one step in one factor; its length is the
    Euclidean distance of their codes. It is a jump where that exceeds five times the median
    over all edges.

    Args:
      codes: Posterior means `[N, D]`, in row-major order of the factors.
      sizes: Sizes of the factors, with product N.

    Returns:
      The number of jumps; 0 where the code is constant.

    Raises:
      InputError: If the sizes do not give N, or a code is not finite.
    """
    check_shape("codes", codes.shape, (int(np.prod(sizes)), None))
    if not np.all(np.isfinite(codes)):
        raise InputError("expected finite codes; got NaN or infinity")
    grid = codes.astype(np.float64).reshape(*sizes, codes.shape[1])
    steps = [np.diff(grid, axis=axis) for axis in range(len(sizes))]
    lengths = np.concatenate([np.linalg.norm(step, axis=-1).ravel() for step in steps])
    return int(np.sum(lengths > _JUMP * np.median(lengths)))


def linear_r_squared(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The share of each factor's variance that a linear function of the code explains.

    Args:
      codes: Posterior means `[N, D]`.
      factors: Values of ordered factors `[N, K]`.

    Returns:
      R² `[K]`, from least squares on the same rows; 0 for a constant factor.

    Raises:
      InputError: If the rows differ in number, or a value is not finite.
    """
    check_shape("factors", factors.shape, (len(codes), None))
    if not np.all(np.isfinite(codes)) or not np.all(np.isfinite(factors)):
        raise InputError("expected finite codes and factors; got NaN or infinity")
    design = np.column_stack([np.ones(len(codes)), codes.astype(np.float64)])
    target = factors.astype(np.float64)
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    residual = np.square(target - fitted).sum(axis=0)
    total = np.square(target - target.mean(axis=0)).sum(axis=0)
    # Not where the total is 0, which the rounding of the mean can miss.
    varies = np.ptp(target, axis=0) > 0
    return 1 - np.divide(residual, total, out=np.ones_like(total), where=varies)
