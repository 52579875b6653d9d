"""A sweep of one coefficient of an objective, and what becomes of what it weighs."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from betavae_jax.aggregate import measure_aggregate
from betavae_jax.checks import keyword_settings
from betavae_jax.codes import encode_rows, fixed_rows, make_bound
from betavae_jax.fit import Hooks, feed_of, fit, program_of
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.population import num_runs, replicate, take_runs
from betavae_jax.runs.settings import Experiment, Settings, build
from betavae_jax.training import Carry, Program
from betavae_jax.types import Posterior, Terms

_COLUMNS = ("distortion", "rate", "total_correlation", "mutual_information", "mmd_rbf")


class Sweep(NamedTuple):
    """A sweep of one coefficient, and what it should do."""

    swept: str  # the coefficient
    values: tuple[float, ...]
    measured: str  # its regulariser, among what is measured or the last terms
    sign: int  # of the correlation of the two; 0 where nothing is swept
    fixed: Mapping[str, float] = {}  # other coefficients
    schedules: Mapping[str, str] = {}


_BETAS = (1.0, 2.0, 4.0, 8.0, 16.0)

SWEEPS: dict[str, Sweep] = {
    "vae": Sweep("seed", (0, 1, 2, 3), "rate", 0),
    "beta_vae": Sweep("beta", _BETAS, "rate", -1),
    "capacity_vae": Sweep(
        "capacity", (2.0, 5.0, 10.0, 20.0), "rate", 1, schedules={"capacity": "constant"}
    ),
    "factor_vae": Sweep("gamma", (0.0, 10.0, 35.0, 100.0), "total_correlation", -1),
    "beta_tcvae": Sweep("beta", (1.0, 4.0, 8.0, 16.0), "total_correlation", -1),
    "dip_vae_i": Sweep(
        "lambda_od", (0.0, 1.0, 10.0, 100.0), "covariance_off_diagonal", -1, {"lambda_d": 10.0}
    ),
    "dip_vae_ii": Sweep(
        "lambda_od", (0.0, 1.0, 10.0, 100.0), "covariance_off_diagonal", -1, {"lambda_d": 10.0}
    ),
    "info_vae": Sweep("lambda_mmd", (1.0, 10.0, 100.0, 1000.0), "mmd_rbf", -1, {"alpha": 1.0}),
    "vae_gan": Sweep("gamma", (1e-3, 1e-2, 1e-1, 1.0), "feature_distortion", -1),
    "ada_gvae": Sweep("beta", _BETAS, "rate", -1),
    "ada_ml_vae": Sweep("beta", _BETAS, "rate", -1),
}


def experiment_of(base: Experiment, settings: Settings, name: str) -> Experiment:
    """The experiment of one objective on the data and with the model of another's."""
    sweep = SWEEPS[name]
    own = keyword_settings(OBJECTIVES[name])
    given = {k: v for k, v in settings.objective_settings.items() if k in own}
    swept = {} if sweep.swept == "seed" else {sweep.swept: list(sweep.values)}
    settings = settings._replace(
        objective=name,
        objective_settings=given,
        coefficients={**{k: [v] for k, v in sweep.fixed.items()}, **swept},
        schedules=sweep.schedules,
        seed=[int(v) for v in sweep.values] if sweep.swept == "seed" else settings.seed,
    )
    return build(settings, base.splits)


def verify(experiment: Experiment, sweep: Sweep) -> dict[str, Any]:
    """Trains one population and measures it."""
    program, num_steps = program_of(experiment), experiment.settings.num_steps
    last: list[Terms] = []  # means over the last tenth of the steps
    hooks = Hooks(on_log=lambda _step, means, _carry: last.append(means))
    feed = feed_of(experiment, program)
    began = time.monotonic()
    fitted = fit(
        program,
        experiment.runs,
        feed,
        num_steps=num_steps,
        log_every=max(1, num_steps // 10),
        checkpoint_every=num_steps,
        hooks=hooks,
    )
    seconds = time.monotonic() - began
    feed.close()
    rows = measure(experiment, program, fitted.carry, last[-1])
    weights = [row["seed" if sweep.swept == "seed" else sweep.swept] for row in rows]
    values = [row[sweep.measured] for row in rows]
    finite = bool(np.all(np.isfinite(values)))
    rho = float(spearmanr(weights, values).statistic) if finite and np.ptp(values) > 0 else None
    return {
        "swept": sweep.swept,
        "measured": sweep.measured,
        "expected_sign": sweep.sign,
        "spearman": rho,
        "as_expected": finite and (sweep.sign == 0 or (rho is not None and rho * sweep.sign > 0)),
        "num_steps": num_steps,
        "seconds": seconds,
        "device": program.devices[0].device_kind,
        "runs": rows,
    }


def measure(
    experiment: Experiment, program: Program, carry: Carry, last: Terms
) -> list[dict[str, Any]]:
    """What is known of each run: its settings, its last terms, and all that is measured alike."""
    runs = num_runs(experiment.runs)
    data, rows = fixed_rows(experiment.splits.test or experiment.splits.train)
    params = carry.state.params
    bound = make_bound(experiment.model, data, program, runs)(params)
    arrays = replicate(data.arrays, program.devices)
    codes = encode_rows(experiment.model, data, program, params, arrays, rows, runs)
    failed_at = take_runs(carry.state.failed_at, runs)
    described = {**experiment.runs.coefficients._asdict(), "seed": experiment.runs.seed}
    measured = []
    for run in range(runs):
        own = Posterior(codes.mean[run], codes.log_variance[run])
        measured.append(
            {
                **{name: float(str(values[run])) for name, values in described.items()},
                **{name: float(values[run]) for name, values in last.extras.items()},
                **measure_aggregate(own),
                "distortion": float(bound.distortion[run]),
                "rate": float(bound.rate[run]),
                "failed_at": None if failed_at[run] < 0 else int(failed_at[run]),
            }
        )
    return measured


def table(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table, a line a run."""
    heads = ("objective", "weight", "its regulariser", *_COLUMNS, "Spearman")
    lines = [heads, ("---",) * len(heads)]
    for name, result in results.items():
        swept, measured, rho = result["swept"], result["measured"], result["spearman"]
        for i, row in enumerate(result["runs"]):
            correlation = f"{rho:+.2f}" if i == 0 and rho is not None and swept != "seed" else ""
            lines.append(
                (
                    name if i == 0 else "",
                    f"{swept} = {row[swept]:g}",
                    f"{measured} {row[measured]:.4g}",
                    *(f"{row[column]:.4g}" for column in _COLUMNS),
                    correlation,
                )
            )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
