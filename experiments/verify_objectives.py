"""Trains every objective at several weights and tables its regulariser against them.

Each objective is one population, so one program. What a weight regularises is measured after
training over fixed rows, with one ruler for all objectives; Spearman's correlation with the
weight must have the sign that the formula says.

  python -m experiments.verify_objectives --num_steps=3000 --output=verification
  python -m experiments.verify_objectives --objectives=beta_tcvae,factor_vae --seed=0,1
  python -m experiments.verify_objectives --dataset=blobs --num_steps=30 --network=mlp
"""

from typing import Any

from absl import flags

from betavae_jax.checks import InputError, check_name
from betavae_jax.runs.records import write_json
from betavae_jax.runs.settings import build
from experiments import cli, settings_flags
from experiments.objective_sweeps import SWEEPS, experiment_of, table, verify
from experiments.path_flags import define_path, new_file
from experiments.settings_flags import define_settings, read_settings

define_settings()
flags.adopt_module_key_flags(settings_flags)
flags.FLAGS.set_default("dataset", "dsprites")
flags.FLAGS.set_default("num_steps", 1_000)
_OBJECTIVES = flags.DEFINE_list("objectives", list(SWEEPS), f"Some of {', '.join(SWEEPS)}.")
_OUTPUT = define_path("output", "verification", "Writes OUTPUT.json and OUTPUT.md.")


def main() -> int:
    """Trains, measures, writes both files and prints the table."""
    settings = read_settings()
    if settings.coefficients or settings.schedules:
        raise InputError("expected no coefficients or schedules: the table has its own")
    for name in _OBJECTIVES.value:
        check_name("objectives", name, SWEEPS)
    as_json, as_table = new_file(_OUTPUT, ".json"), new_file(_OUTPUT, ".md")
    base = build(settings._replace(objective="vae", objective_settings={}))
    results: dict[str, Any] = {}
    for name in _OBJECTIVES.value:
        results[name] = verify(experiment_of(base, settings, name), SWEEPS[name])
        if as_json and as_table:
            write_json(as_json, results)
            as_table.write_text(table(results), encoding="utf-8")
    print(table(results))
    wrong = [name for name, result in results.items() if not result["as_expected"]]
    if wrong:
        print(f"not as the formula says: {', '.join(wrong)}")
    return cli.EXIT_TROUBLE if wrong else 0


if __name__ == "__main__":
    cli.run(main)
