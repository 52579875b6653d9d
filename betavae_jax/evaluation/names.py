"""The names of what can be scored, and what each of them reads."""

from collections.abc import Sequence

from betavae_jax.checks import InputError, check_name, check_unique
from betavae_jax.downstream import DOWNSTREAM
from betavae_jax.metrics import METRICS, metric_inputs

DCI_LIGHTGBM = "dci_lightgbm"  # another number than dci, so under another name
BASELINES = ("downstream_pca", "downstream_pixels")  # the same for every run
_KNOWN = (*METRICS, DCI_LIGHTGBM, *DOWNSTREAM, *BASELINES)
LOWER_IS_BETTER = frozenset({"unsupervised", "fairness"})  # of all others more is better

# A row's nearest neighbours must not be itself, drawn again.
NEEDS_DISTINCT = frozenset({"infomec"})

_SLOW = ("dci", "strong_generalisation", "fairness")

# Each list of names that has a name of its own.
_LISTS: dict[str, tuple[str, ...]] = {
    "all": tuple(name for name in _KNOWN if name != DCI_LIGHTGBM),
    "fast": tuple(name for name in _KNOWN if name not in _SLOW),
    "downstream": ("downstream", *BASELINES),
}


def expand_names(names: Sequence[str], *, baselines: bool = True) -> list[str]:
    """Replaces the names of lists by what is on them.

    Args:
      names: Names of metrics and downstream scores; `all`; `fast`, without those that take
        many minutes a run; `downstream`, which brings its baselines.
      baselines: Whether pixels are scored too, which codes are compared with.

    Returns:
      Every name once, in the order given.

    Raises:
      InputError: If a name is unknown, or there is none, or it is that of a score of pixels
        where those are not scored.
    """
    names = [name.strip() for name in names]
    check_unique("metrics", names)
    for name in names:
        check_name("each of the metrics", name, {*_KNOWN, *_LISTS})
        if name in BASELINES and not baselines:
            raise InputError(f"expected metrics of codes; {name} needs the pixels of examples")
    found = dict.fromkeys(part for name in names for part in _LISTS.get(name, (name,)))
    return [name for name in found if baselines or name not in BASELINES]


def needs_factors(name: str) -> bool:
    """Whether a score reads factors of variation."""
    if name not in METRICS:
        return True
    return not {"factors", "factors_train", "source"}.isdisjoint(metric_inputs(name))
