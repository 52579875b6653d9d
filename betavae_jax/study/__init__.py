"""Studies: several objectives over their grids, cut into packs, and what came of them.

A study is a directory: `study.json` says what was asked, `plan.json` how it was cut, once;
`packs/NNN` is a run directory for each pack, and the results stand beside them.
"""

from betavae_jax.study.compose import compose
from betavae_jax.study.grid import STUDIES, Study, load_study_file, make_study
from betavae_jax.study.ledger import PackState, read_ledger
from betavae_jax.study.plan import Pack, Plan

__all__ = [
    "STUDIES",
    "Pack",
    "PackState",
    "Plan",
    "Study",
    "compose",
    "load_study_file",
    "make_study",
    "read_ledger",
]
