"""Settings from several sources, one before the other: presets, files, flags."""

from collections.abc import Mapping
from typing import Any

from betavae_jax.runs.settings import NESTED

# Whose the settings of a table are.
_OWNERS = {
    "data": "dataset",
    "network_settings": "network",
    "likelihood_settings": "likelihood",
}


def lay_over(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Puts settings before others, by the fields of `Settings`; tables of both are joined.

    Where they name different data sets, networks or likelihoods, the settings of the first's are
    left out: the widths of one network are not those of another.

    Args:
      first: What gives way.
      second: What goes before it.

    Returns:
      The settings of both.
    """
    merged = {**first, **second}
    for name in NESTED:
        owner = _OWNERS.get(name, "")
        other = owner in first and owner in second and first[owner] != second[owner]
        if name in first:
            merged[name] = {**({} if other else first[name]), **second.get(name, {})}
    return merged
