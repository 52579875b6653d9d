"""The white dot: a plain VAE beside a β-VAE, over seeds (Burgess et al. 2018, figure 2).

  python -m experiments.whitedot                  # 32×32, β 1 and 4, C → log(1024): minutes
  python -m experiments.whitedot --num_seeds=10   # the README's table
  python -m experiments.whitedot --classic        # 64×64, β 1 and 150, C → 25: an accelerator

One population a setting: β = 1 and a large β; controlled capacity, whose C rises to the log of the
number of positions; and a dot whose radius varies too. `make report WORKDIR=runs/whitedot/beta`
makes the page of one. Writes `whitedot.png`, `widths.png`,
`whitedot.md` and `whitedot.json`; the same command again goes on where it was stopped.
"""

import json
import math
import pathlib
from typing import Any

import numpy as np
from absl import flags

from betavae_jax.checks import InputError
from betavae_jax.runs.directory import RESULTS
from betavae_jax.runs.records import write_json
from betavae_jax.runs.settings import Settings, build
from experiments import cli
from experiments.directory import train_directory
from experiments.dots import (
    Measured,
    draw_figures,
    measure,
    measure_radius,
    table_of,
    widths_table_of,
)

flags.adopt_module_key_flags(cli)  # so that --help shows them
_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Runs of each setting.", lower_bound=2)
_STEPS = flags.DEFINE_integer("num_steps", None, "Training steps of each run.", lower_bound=10)
_BETA = flags.DEFINE_float("beta", None, "The large β.", lower_bound=0)
_CLASSIC = flags.DEFINE_boolean("classic", False, "The paper's size, β and capacity.")

_RADII = 8


def _populations() -> dict[str, Settings]:
    """The settings of each population by its name."""
    classic = _CLASSIC.value
    data: dict[str, Any] = {}
    if classic:
        data = {"image_size": 64, "blob_sigma": 4.0, "blob_margin": 10.0}
    steps = _STEPS.value or (50_000 if classic else 2_000)
    beta = _BETA.value or (150.0 if classic else 4.0)
    capacity = 25.0 if classic else math.log(32 * 32)
    common = Settings(
        data=data,
        seed=tuple(range(_SEEDS.value)),
        num_steps=steps,
        learning_rate=[5e-4 if classic else 1e-3],
    )
    return {
        "beta": common._replace(coefficients={"beta": [1.0, beta]}),
        "capacity": common._replace(
            objective="capacity_vae",
            coefficients={"capacity": [capacity]},
            schedules={"capacity": f"linear:0:{_fewer(steps) * 4 // 5}"},
            num_steps=_fewer(steps),
        ),
        "radius": common._replace(
            data={**data, "blob_radii": _RADII},
            coefficients={"beta": [beta]},
            seed=tuple(range(min(2, _SEEDS.value))),
        ),
    }


def _fewer(steps: int) -> int:
    """Controlled capacity sets each latent to work early on, and needs three quarters."""
    return steps * 3 // 4


def main() -> int:
    """Trains the populations, measures them and draws the figure."""
    cli.exclude_nondeterministic_operations()
    workdir = pathlib.Path(cli.WORKDIR.value or "runs/whitedot")
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"expected workdir to be a directory; got {workdir}, a file")
    measured: dict[str, Measured] = {}
    for name, settings in _populations().items():
        experiment = build(settings)
        print(f"{name}: {len(experiment.runs.seed)} runs of {settings.num_steps} steps")
        trained = train_directory(
            experiment,
            workdir / name,
            allow_inexact_resume=cli.INEXACT.value,
            deterministic=cli.DETERMINISTIC.value,
            report=False,
        )
        if trained.fitted.signal:
            return cli.stopped_by(trained.fitted.signal, trained.fitted.step)
        results = json.loads((workdir / name / RESULTS).read_text())
        measured[name] = measure(experiment, trained.program, trained.fitted.carry, results["runs"])
    rows = measured["beta"].rows + measured["capacity"].rows
    widths = measure_radius(measured["radius"])
    draw_figures(workdir, measured["beta"], widths)
    text = table_of(rows) + "\n" + widths_table_of(widths)
    (workdir / "whitedot.md").write_text(text, encoding="utf-8")
    write_json(workdir / "whitedot.json", rows)
    print(text)
    print(f"figure: {workdir / 'whitedot.png'}")
    return 0 if np.isfinite([row["elbo"] for row in rows]).all() else cli.EXIT_TROUBLE


if __name__ == "__main__":
    cli.run(main)
