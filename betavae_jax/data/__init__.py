"""Data sets: where the examples of a study come from.

A data set is one file with one loader and one line in `DATASETS`. A loader's
keyword-only parameters are its settings; a parameter before them, where there is
one, is what follows the colon in a name such as `tfds:fashion_mnist`.
"""

import inspect
from collections.abc import Callable
from typing import Any

from betavae_jax.checks import InputError, check_belong, keyword_settings
from betavae_jax.data.arrays import load_arrays
from betavae_jax.data.blobs import load_blobs
from betavae_jax.data.digits import load_digits
from betavae_jax.data.dsprites import (
    load_dsprites,
    load_dsprites_color,
    load_dsprites_noisy,
    load_dsprites_scream,
)
from betavae_jax.data.folder import load_folder
from betavae_jax.data.tfds import load_tfds
from betavae_jax.types import Splits

DATASETS: dict[str, Callable[..., Splits]] = {
    "arrays": load_arrays,
    "blobs": load_blobs,
    "digits": load_digits,
    "dsprites": load_dsprites,
    "dsprites_color": load_dsprites_color,
    "dsprites_noisy": load_dsprites_noisy,
    "dsprites_scream": load_dsprites_scream,
    "folder": load_folder,
    "tfds": load_tfds,
}


def load_dataset(name: str, /, **settings: Any) -> Splits:
    """Loads a data set by its name; its arrays are still on the host.

    Args:
      name: a name in `DATASETS`; one that reads a collection is followed by a colon
        and the member, as in `tfds:fashion_mnist`.
      **settings: settings of that data set; `dataset_settings` lists them.

    Returns:
      The splits. Their `arrays` are NumPy arrays: place them on the devices once.

    Raises:
      InputError: the name or a setting is unknown, or the loader refused its input.
    """
    kind, member = _parse(name)
    takes_member = _member_parameter(DATASETS[kind]) is not None
    if takes_member != bool(member):
        raise InputError(f"expected the data set to be one of {_known_names()}; got {name!r}")
    check_belong(f"settings of data set {kind}", settings, dataset_settings(kind))
    return DATASETS[kind](*([member] if member else []), **settings)


def dataset_settings(name: str) -> dict[str, Any]:
    """Returns the settings that a data set takes, with their defaults.

    Args:
      name: as for `load_dataset`; what follows a colon does not matter.

    Raises:
      InputError: the name is unknown.
    """
    return keyword_settings(DATASETS[_parse(name)[0]])


def _parse(name: str) -> tuple[str, str]:
    """Splits `tfds:fashion_mnist` into the key of `DATASETS` and the member of a collection."""
    kind, _, member = str(name).partition(":")
    if kind not in DATASETS:
        raise InputError(f"expected the data set to be one of {_known_names()}; got {name!r}")
    return kind, member


def _known_names() -> str:
    members = {kind: _member_parameter(loader) for kind, loader in sorted(DATASETS.items())}
    return ", ".join(kind if m is None else f"{kind}:<{m}>" for kind, m in members.items())


def _member_parameter(loader: Callable[..., Splits]) -> str | None:
    """Names the loader's parameter that takes what follows the colon, if it has one."""
    parameters = inspect.signature(loader).parameters.values()
    return next((p.name for p in parameters if p.kind is not p.KEYWORD_ONLY), None)
