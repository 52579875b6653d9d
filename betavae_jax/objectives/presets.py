"""Settings as published, by study and objective.

A preset holds what its source states and what is a setting here; the rest keeps its default. A
list is a sweep.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from betavae_jax.checks import check_name
from betavae_jax.objectives import OBJECTIVES


class Preset(NamedTuple):
    """Settings of an experiment, by the names of their fields, and where they stand."""

    reference: str
    settings: Mapping[str, Any]


# Locatello et al. 2019, appendix, tables 2 and 3.
_STUDY: dict[str, Any] = {
    "network": "conv_locatello",
    "likelihood": "bernoulli",
    "num_latents": 10,
    "batch_size": 64,
    "learning_rate": [1e-4],
    "num_steps": 300_000,
}
_BETAS = [1.0, 2.0, 4.0, 6.0, 8.0, 16.0]
_LAMBDAS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
_LOCATELLO_2019 = "Locatello et al. 2019, Challenging Common Assumptions"
_LOCATELLO_2020 = "Locatello et al. 2020, Weakly-Supervised Disentanglement"
_UNTREATED = f"the conditions of {_LOCATELLO_2019}, which does not treat this objective"


def _study(reference: str = _LOCATELLO_2019, /, **settings: Any) -> Preset:
    return Preset(reference, {**_STUDY, **settings})


PRESETS: dict[str, dict[str, Preset]] = {
    "locatello": {
        "ada_gvae": _study(_LOCATELLO_2020, coefficients={"beta": _BETAS}),
        "ada_ml_vae": _study(_LOCATELLO_2020, coefficients={"beta": _BETAS}),
        "beta_tcvae": _study(
            coefficients={"beta": [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]},
            objective_settings={"estimator": "mws"},
        ),
        "beta_vae": _study(coefficients={"beta": _BETAS}),
        "capacity_vae": _study(
            coefficients={"gamma": [1000.0], "capacity": [5.0, 10.0, 25.0, 50.0, 75.0, 100.0]},
            schedules={"capacity": "linear:0:100000"},
        ),
        "dip_vae_i": _study(
            coefficients={"lambda_od": _LAMBDAS}, objective_settings={"lambda_d_factor": 10.0}
        ),
        "dip_vae_ii": _study(
            coefficients={"lambda_od": _LAMBDAS}, objective_settings={"lambda_d_factor": 1.0}
        ),
        "factor_vae": _study(
            f"{_LOCATELLO_2019}; its 300,000 steps count the critic's apart",
            coefficients={"gamma": [10.0, 20.0, 30.0, 40.0, 50.0, 100.0]},
            objective_settings={"permute": "same_batch"},
            num_steps=150_000,
        ),
        "info_vae": _study(_UNTREATED),
        "vae": _study(_UNTREATED),
        "vae_gan": _study(_UNTREATED),
    },
    "paper": {
        "ada_gvae": _study(_LOCATELLO_2020, coefficients={"beta": [1.0]}),
        "ada_ml_vae": _study(_LOCATELLO_2020, coefficients={"beta": [1.0]}),
        "beta_tcvae": Preset(
            "Chen et al. 2018, for dSprites",
            {
                "coefficients": {"alpha": [1.0], "beta": [6.0], "gamma": [1.0]},
                "objective_settings": {"estimator": "mws"},
                "network": "mlp",
                "likelihood": "bernoulli",
                "num_latents": 10,
                "batch_size": 2048,
                "learning_rate": [1e-3],
            },
        ),
        "beta_vae": Preset(
            "Higgins et al. 2017, for dSprites",
            {
                "coefficients": {"beta": [4.0]},
                "objective_settings": {"optimizer": "adagrad"},
                "network": "mlp",
                "likelihood": "bernoulli",
                "num_latents": 10,
                "learning_rate": [1e-2],
            },
        ),
        "capacity_vae": Preset(
            "Burgess et al. 2018, for dSprites",
            {
                "coefficients": {"gamma": [1000.0], "capacity": [25.0]},
                "schedules": {"capacity": "linear:0:100000"},
                "network": "conv",
                "likelihood": "bernoulli",
                "num_latents": 10,
                "learning_rate": [5e-4],
            },
        ),
        "dip_vae_i": Preset(
            "Kumar et al. 2018, the ratio of its two weights",
            {
                "coefficients": {"lambda_od": [10.0]},
                "objective_settings": {"lambda_d_factor": 10.0},
            },
        ),
        "dip_vae_ii": Preset(
            "Kumar et al. 2018, the ratio of its two weights",
            {
                "coefficients": {"lambda_od": [10.0]},
                "objective_settings": {"lambda_d_factor": 1.0},
            },
        ),
        "factor_vae": Preset(
            "Kim & Mnih 2018, for dSprites",
            {
                "coefficients": {"gamma": [35.0]},
                "objective_settings": {"permute": "second_batch"},
                "network": "conv_locatello",
                "network_settings": {"widths": "128"},
                "likelihood": "bernoulli",
                "num_latents": 10,
                "batch_size": 64,
                "learning_rate": [1e-4],
                "num_steps": 300_000,
            },
        ),
        "info_vae": Preset(
            "Zhao et al. 2017, for MNIST",
            {"coefficients": {"alpha": [0.0], "lambda_mmd": [1000.0]}},
        ),
        "vae_gan": Preset(
            "Larsen et al. 2016",
            {
                "objective_settings": {"critic_channels": 32},
                "batch_size": 64,
                "learning_rate": [3e-4],
            },
        ),
    },
}


def preset(name: str, objective: str) -> Mapping[str, Any]:
    """The settings of a preset, by the fields of an experiment's settings.

    Args:
      name: A name in `PRESETS`.
      objective: An objective that has one of that name.

    Returns:
      Values of some fields. Those of nested ones, such as `coefficients`, are mappings.

    Raises:
      InputError: If there is no such preset, or the source does not treat the objective.
    """
    check_name("preset", name, PRESETS)
    check_name("objective", objective, OBJECTIVES)
    check_name(f"objective of preset {name}", objective, PRESETS[name])
    return PRESETS[name][objective].settings


def describe_presets() -> str:
    """What each preset sets, and its source: one line a preset and objective."""
    lines = []
    for name, of_objectives in PRESETS.items():
        for objective, (reference, settings) in of_objectives.items():
            flat: dict[str, Any] = {}
            for field, value in settings.items():
                if field == "schedules":
                    flat["schedule"] = [f"{k}:{text}" for k, text in value.items()]
                else:
                    flat |= value if isinstance(value, Mapping) else {field: value}
            parts = [f"{key}={_short(value)}" for key, value in flat.items()]
            lines.append(f"{name} {objective}: {' '.join(parts)} ({reference})")
    return "\n".join(lines)


def _short(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
