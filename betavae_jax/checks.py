"""Errors that say what was expected and what came."""

import math
from collections.abc import Collection, Iterable
from typing import Any


class InputError(ValueError):
    """A setting or a file that the caller can correct; its text is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises InputError unless `name` is one of the `known` names of this `kind`."""
    known = sorted(known)
    if name not in known:
        raise InputError(f"expected {kind} to be one of {', '.join(known)}; got {name!r}")


def check_shape(what: str, shape: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    """Raises InputError unless `shape` agrees with `expected`; None admits any size."""
    agrees = len(shape) == len(expected) and all(
        e is None or s == e for s, e in zip(shape, expected, strict=True)
    )
    if not agrees:
        wanted = ", ".join("any" if e is None else str(e) for e in expected)
        raise InputError(f"expected {what} of shape [{wanted}]; got {list(shape)}")


def check_at_least(what: str, value: Any, minimum: float, *, integer: bool = False) -> None:
    """Raises InputError unless `value` is a finite number (a whole one) not below `minimum`."""
    kind = "a whole number" if integer else "a number"
    right_type = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if not right_type or not math.isfinite(value) or value < minimum:
        raise InputError(f"expected {what} to be {kind} of at least {minimum}; got {value!r}")


def check_positive(what: str, value: Any) -> None:
    """Raises InputError unless `value` is a finite number above zero."""
    right_type = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not right_type or not math.isfinite(value) or value <= 0:
        raise InputError(f"expected {what} to be a number above 0; got {value!r}")


def check_unique(what: str, values: Collection[Any]) -> None:
    """Raises InputError where a list is empty or holds a value twice."""
    if not values or len(set(values)) != len(values):
        raise InputError(f"expected {what} to be a list of distinct values; got {list(values)}")
