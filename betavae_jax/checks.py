"""Plain values, and errors that say what was expected and what came."""

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

LARGEST_NUMBER = (2 - 2**-23) * 2.0**127  # of float32, in which programs compute
SMALLEST_NUMBER = 2.0**-126  # above 0, of float32 likewise: a smaller one counts as 0
LARGEST_COUNT = 2**31 - 1  # of int32, in which steps, rows and seeds are counted


class InputError(ValueError):
    """A setting or a file that the caller can correct; its text is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises InputError unless `name` is one of the `known` names of this `kind`."""
    known = sorted(known)
    if name not in known:
        raise InputError(f"expected {kind} to be one of {', '.join(known)}; got {name!r}")


def jsonable(value: Any) -> Any:
    """Plain JSON values, of NamedTuples by their names; numbers that are not finite are None."""
    if hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def is_number(value: Any) -> bool:
    """Whether a value is one of Python's numbers, true and false apart."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether a value is one of Python's whole numbers, true and false apart."""
    return isinstance(value, int) and is_number(value)


# Of a default: whether a value is of its kind, and how that is called.
_KINDS: dict[type, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (is_whole, "a whole number"),
    float: (is_number, "a number"),
    str: (lambda value: isinstance(value, str), "text"),
}


def keyword_settings(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only parameters of a function, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_belong(what: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raises InputError where `what`, such as "settings of a sweep", is given by a foreign name."""
    foreign = sorted(set(given) - set(known))
    if foreign:
        takes = ", ".join(sorted(known)) or "none"
        raise InputError(f"expected {what}, which takes {takes}; got {', '.join(foreign)}")


def check_shape(what: str, shape: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    """Raises InputError unless `shape` agrees with `expected`; None admits any size."""
    agrees = len(shape) == len(expected) and all(
        e is None or s == e for s, e in zip(shape, expected, strict=True)
    )
    if not agrees:
        wanted = ", ".join("any" if e is None else str(e) for e in expected)
        raise InputError(f"expected {what} of shape [{wanted}]; got {list(shape)}")


def check_at_least(
    what: str, value: Any, minimum: float, *, most: float = LARGEST_NUMBER, integer: bool = False
) -> None:
    """Raises InputError unless `value` is a number (a whole one) from `minimum` to `most`."""
    is_kind, kind = _KINDS[int if integer else float]
    if not is_kind(value) or not minimum <= value <= LARGEST_NUMBER:
        got = _with_range(value)
        raise InputError(f"expected {what} to be {kind} of at least {minimum}; got {got}")
    _check_most(what, value, most)


def check_positive(what: str, value: Any) -> None:
    """Raises InputError unless `value` is a number above zero that float32 has."""
    if not is_number(value) or not SMALLEST_NUMBER <= value <= LARGEST_NUMBER:
        raise InputError(f"expected {what} to be a number above 0; got {_with_range(value)}")


def _with_range(value: Any) -> str:
    """A value in words; the range, where it is a number outside float32's."""
    is_outside = is_number(value) and value > 0 and not SMALLEST_NUMBER <= value <= LARGEST_NUMBER
    of_float32 = f"{SMALLEST_NUMBER:.2g} to {LARGEST_NUMBER:.2g}"
    return f"{value!r}, outside float32's {of_float32}" if is_outside else repr(value)


def check_count(what: str, value: Any, minimum: int = 1) -> None:
    """Raises InputError unless `value` is a whole number from `minimum` to what int32 holds."""
    check_at_least(what, value, minimum, most=LARGEST_COUNT, integer=True)


def check_kind(what: str, value: Any, default: bool | int | float | str) -> None:
    """Raises InputError unless `value` is of the kind of its default; a count is an int32."""
    is_kind, kind = _KINDS[type(default)]
    if not is_kind(value):
        raise InputError(f"expected {what} to be {kind}; got {value!r}")
    if type(default) is int:
        _check_most(what, value, LARGEST_COUNT)


def _check_most(what: str, value: float, most: float) -> None:
    if value > most:
        raise InputError(f"expected {what} to be at most {most}; got {value}")


def check_texts(what: str, values: Any) -> None:
    """Raises InputError unless `values` is a list of texts."""
    is_list = isinstance(values, (list, tuple))
    if not is_list or not all(isinstance(value, str) for value in values):
        raise InputError(f"expected {what} to be a list of texts; got {values!r}")


def check_unique(what: str, values: Collection[Any]) -> None:
    """Raises InputError where a list is empty or holds a value twice."""
    if not values or len(set(values)) != len(values):
        raise InputError(f"expected {what} to be a list of distinct values; got {list(values)}")
