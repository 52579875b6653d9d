"""What a representation is good for: few labels, factors held out, fairness of predictions.

Like the metrics these see plain arrays, codes `[N, D]` and factors `[N, K]`, and return a
`Result`; codes may as well be pixels, or principal components of them.
"""

from collections.abc import Callable

from betavae_jax.downstream.fairness import fairness
from betavae_jax.downstream.few_labels import downstream, principal_components
from betavae_jax.downstream.strong_generalisation import strong_generalisation
from betavae_jax.metrics.results import Result

DOWNSTREAM: dict[str, Callable[..., Result]] = {
    "downstream": downstream,
    "strong_generalisation": strong_generalisation,
    "fairness": fairness,
}

__all__ = [
    "DOWNSTREAM",
    "downstream",
    "fairness",
    "principal_components",
    "strong_generalisation",
]
