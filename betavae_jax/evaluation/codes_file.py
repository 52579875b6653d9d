"""Codes made elsewhere, from a file."""

import pathlib

import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data.files import open_npz, read_member
from betavae_jax.metrics.rows import check_codes, check_factors

_TRAIN_SHARE = 2 / 3
_FOUR = ("codes_train", "factors_train", "codes_test", "factors_test")

Four = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def load_codes(path: pathlib.Path, *, factors: bool = True, seed: int = 0) -> Four:
    """Loads codes and factors to score.

    Args:
      path: A NumPy archive, `.npz`, with `codes_train [N, D]`, `factors_train [N, K]`,
        `codes_test [M, D]` and `factors_test [M, K]`; or with `codes` and `factors`, of which two
        thirds, chosen at random, become the training rows.
      factors: Whether factors are needed; otherwise they may be missing, of all rows.
      seed: Of the choice.

    Returns:
      The four arrays; factors are int64, with K = 0 where they are missing.

    Raises:
      InputError: If the file cannot be read, an array is missing, or it cannot be scored.
    """
    arrays = _read(path)
    split = "codes_train" in arrays or "codes" not in arrays
    names = _FOUR if split else ("codes", "factors")
    factors = factors or any(name in arrays for name in names[1::2])
    needed = [n for n in names if factors or n.startswith("codes")]
    missing = [n for n in needed if n not in arrays]
    if missing:
        raise InputError(
            f"expected the arrays {', '.join(_FOUR)}, or codes and factors, in {path}; "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, it holds "
            f"{', '.join(arrays) or 'none'}"
        )
    pairs = [_check_pair(arrays, *names[at : at + 2]) for at in range(0, len(names), 2)]
    if split:
        return (*pairs[0], *pairs[1])
    codes, labels = pairs[0]
    order = np.random.default_rng(seed).permutation(len(codes))
    cut = int(len(codes) * _TRAIN_SHARE)
    return codes[order[:cut]], labels[order[:cut]], codes[order[cut:]], labels[order[cut:]]


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise InputError(f"expected a file of codes; {path} is missing")
    with open_npz(path) as archive:
        return {name: read_member(path, archive, name) for name in archive}


def _check_pair(
    arrays: dict[str, np.ndarray], codes_name: str, factors_name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Codes, and factors as int64 `[N, K]`; a vector of factors is one factor."""
    for name in (codes_name, factors_name):
        if name in arrays and arrays[name].dtype.kind not in "biuf":
            raise InputError(f"expected {name} to be numbers; got {arrays[name].dtype}")
    codes = check_codes(arrays[codes_name], codes_name)
    if factors_name not in arrays:
        return codes, np.zeros((len(codes), 0), np.int64)
    factors = arrays[factors_name]
    factors = factors[:, None] if factors.ndim == 1 else factors
    if factors.dtype == bool:
        factors = factors.astype(np.int64)
    if factors.dtype.kind == "f":  # some tools save whole numbers so
        if not np.all(np.isfinite(factors)) or np.any(factors != np.round(factors)):
            raise InputError(f"expected {factors_name} to be whole numbers, class labels; got "
                             "others")  # fmt: skip
        factors = factors.astype(np.int64)
    return codes, check_factors(factors, len(codes), factors_name)
