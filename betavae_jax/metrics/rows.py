"""The rows a metric is given: what is refused, and how many are missing."""

import numpy as np

from betavae_jax.checks import InputError

_TRAIN_ROWS_PER_VALUE = 10
_TEST_ROWS_PER_VALUE = 5


def check_codes(codes: np.ndarray, what: str = "codes", latents: int = 1) -> np.ndarray:
    """Returns codes `[N, D]` as float32 or float64, having refused what cannot be scored.

    Args:
      codes: Posterior means `[N, D]`.
      what: The name of the argument.
      latents: The fewest latents that the metric is defined for.

    Raises:
      InputError: If the shape is wrong, there are too few latents, or a value is not finite.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or not codes.size:
        raise InputError(f"expected {what} [N, D]; got shape {list(codes.shape)}")
    if codes.shape[1] < latents:
        raise InputError(f"expected at least {latents} latents in {what}; got {codes.shape[1]}")
    if codes.dtype not in (np.float32, np.float64):
        codes = codes.astype(np.float64)
    bad = len(codes) - int(np.count_nonzero(np.isfinite(codes).all(axis=1)))
    if bad:
        raise InputError(
            f"expected finite {what}; got NaN or infinity in {bad} of {len(codes)} rows"
        )
    return codes


def check_factors(factors: np.ndarray, rows: int, what: str = "factors") -> np.ndarray:
    """Returns factors `[N, K]` as int64, having refused what cannot be scored.

    Args:
      factors: Class labels `[N, K]`, integers.
      rows: N of the codes they belong to.
      what: The name of the argument.

    Raises:
      InputError: If the shape is wrong or the labels are not integers.
    """
    factors = np.asarray(factors)
    if factors.ndim != 2 or not factors.size or len(factors) != rows:
        raise InputError(f"expected {what} [{rows}, K]; got shape {list(factors.shape)}")
    if not np.issubdtype(factors.dtype, np.integer):
        raise InputError(f"expected {what} to be integer labels; got {factors.dtype}")
    return factors.astype(np.int64)


def check_labels(factors: np.ndarray, rows: int, what: str = "factors") -> np.ndarray:
    """As `check_factors`; every factor must also take at least two values."""
    factors = check_factors(factors, rows, what)
    for k, column in enumerate(factors.T):
        if column.min() == column.max():
            raise InputError(
                f"expected every factor to take at least 2 values; got 1 value of factor {k} "
                f"in {rows} rows of {what}"
            )
    return factors


def check_train_and_test(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    latents: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the four arrays of a metric that fits classifiers, checked.

    Args:
      codes_train: `[N, D]`.
      factors_train: Class labels `[N, K]`.
      codes_test: `[M, D]`.
      factors_test: Class labels `[M, K]`.
      latents: The fewest latents that the metric is defined for.

    Raises:
      InputError: If one of them cannot be scored, they disagree in D or K, there are fewer than
        10 training or 5 test rows for each value of a factor, on average, or the test rows hold
        a value that the training rows lack.
    """
    codes_train = check_codes(codes_train, "codes_train", latents)
    codes_test = check_codes(codes_test, "codes_test", latents)
    factors_train = check_labels(factors_train, len(codes_train), "factors_train")
    factors_test = check_factors(factors_test, len(codes_test), "factors_test")
    widths = [(c.shape[1], f.shape[1]) for c, f in
              ((codes_train, factors_train), (codes_test, factors_test))]  # fmt: skip
    if widths[0] != widths[1]:
        raise InputError(
            f"expected training and test rows of one width; got (D, K) = {widths[0]} "
            f"and {widths[1]}"
        )
    values = max_values(factors_train)
    why = f"a factor takes {values} values"
    check_enough("training rows", len(codes_train), _TRAIN_ROWS_PER_VALUE * values, why)
    check_enough("test rows", len(codes_test), _TEST_ROWS_PER_VALUE * values, why)
    for k in range(factors_train.shape[1]):
        new = np.setdiff1d(factors_test[:, k], factors_train[:, k])
        if len(new):
            raise InputError(
                f"expected the training rows to hold every value of factor {k}; got {len(new)} "
                f"in the test rows only, the first is {new[0]}"
            )
    return codes_train, factors_train, codes_test, factors_test


def sizes_of(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> dict[str, int]:
    """The sizes of a result, of the four arrays that `check_train_and_test` returns."""
    codes_train, factors_train, codes_test, _ = arrays
    return {"train": len(codes_train), "test": len(codes_test),
            "latents": codes_train.shape[1], "factors": factors_train.shape[1]}  # fmt: skip


def check_num_factors(number: int) -> None:
    """Raises InputError where one factor alone is known, of what compares factors."""
    if number < 2:
        raise InputError(f"expected at least 2 factors; got {number}")


def max_values(factors: np.ndarray) -> int:
    """The number of distinct values of the factor `[N, K]` that takes the most."""
    return max(len(np.unique(column)) for column in factors.T)


def check_enough(what: str, rows: int, needed: int, why: str) -> None:
    """Raises InputError where there are fewer than `needed` rows, with how many are missing."""
    if rows < needed:
        raise InputError(
            f"expected at least {needed} {what}, because {why}; got {rows}: "
            f"{needed - rows} are missing"
        )


def check_every_value(factors: np.ndarray, needed: int, why: str) -> None:
    """Raises InputError where a value of a factor `[N, K]` has fewer than `needed` rows."""
    for k, column in enumerate(factors.T):
        values, counts = np.unique(column, return_counts=True)
        short = counts < needed
        if short.any():
            worst = int(np.argmin(counts))
            raise InputError(
                f"expected at least {needed} rows for every value of a factor, because {why}; "
                f"got {counts[worst]} for value {values[worst]} of factor {k}, and too few for "
                f"{short.sum()} of its {len(values)} values: "
                f"{int((needed - counts[short]).sum())} rows are missing"
            )
