"""What is measured of a trained population, and of codes made elsewhere."""

from betavae_jax.evaluation.codes_file import load_codes
from betavae_jax.evaluation.names import LOWER_IS_BETTER, expand_names, needs_factors
from betavae_jax.evaluation.population_scores import encode_drawn, score_population
from betavae_jax.evaluation.ranking import rank_runs
from betavae_jax.evaluation.results import check_evaluation, evaluate
from betavae_jax.evaluation.scores import (
    GRID_LIMIT,
    Effort,
    Score,
    outcome_of,
    say,
    score_codes,
    with_score,
)

__all__ = [
    "GRID_LIMIT",
    "LOWER_IS_BETTER",
    "Effort",
    "Score",
    "check_evaluation",
    "encode_drawn",
    "evaluate",
    "expand_names",
    "load_codes",
    "needs_factors",
    "outcome_of",
    "rank_runs",
    "say",
    "score_codes",
    "score_population",
    "with_score",
]
