"""β-VAE studies in JAX and Flax: any number of runs is one compiled program.

`load` gives a trained run as functions of arrays, `load_exported` an export of one; `BetaVAE`
trains one on arrays as scikit-learn does. The registries name what can be chosen; `Settings` and
`build` make an experiment of a choice, for `betavae_jax.fit` to train. What is named here stays;
modules may move.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from betavae_jax.checks import InputError
from betavae_jax.data import DATASETS
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.networks import NETWORKS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.representation import Representation, load
from betavae_jax.runs.settings import Settings, build
from betavae_jax.types import Posterior

if TYPE_CHECKING:
    from betavae_jax.estimator import BetaVAE
    from betavae_jax.evaluation import score_codes
    from betavae_jax.export import load_exported
    from betavae_jax.metrics import METRICS

__version__ = "0.1.0"

__all__ = [
    "DATASETS",
    "LIKELIHOODS",
    "METRICS",
    "NETWORKS",
    "OBJECTIVES",
    "BetaVAE",
    "InputError",
    "Posterior",
    "Representation",
    "Settings",
    "build",
    "load",
    "load_exported",
    "score_codes",
]
if importlib.util.find_spec("sklearn") is None:
    __all__.remove("BetaVAE")  # which would refuse `import *`; by its name it says what it needs

# Names that load more than JAX and Flax, each with its module: scikit-learn, which is optional,
# and SciPy's statistics, which take longer to import than all the rest.
_LAZY = {
    "BetaVAE": "betavae_jax.estimator",
    "METRICS": "betavae_jax.metrics",
    "load_exported": "betavae_jax.export",
    "score_codes": "betavae_jax.evaluation",
}


def __getattr__(name: str) -> Any:
    """Loads a lazy name at its first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
