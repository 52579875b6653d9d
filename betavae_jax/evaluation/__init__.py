"""What is measured of a trained population, and of codes made elsewhere."""

from betavae_jax.evaluation.codes_file import load_codes
from betavae_jax.evaluation.names import expand_names, needs_factors
from betavae_jax.evaluation.population_scores import score_population
from betavae_jax.evaluation.results import evaluate
from betavae_jax.evaluation.scores import GRID_LIMIT, Effort, Score, score_codes

__all__ = [
    "GRID_LIMIT",
    "Effort",
    "Score",
    "evaluate",
    "expand_names",
    "load_codes",
    "needs_factors",
    "score_codes",
    "score_population",
]
