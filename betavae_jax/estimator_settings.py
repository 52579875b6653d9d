"""The settings of a run, from the parameters of the scikit-learn estimator."""

from collections.abc import Mapping
from typing import Any

from betavae_jax.checks import InputError
from betavae_jax.examples import plain
from betavae_jax.runs.records import differences
from betavae_jax.runs.settings import AUTO, Settings, resolve
from betavae_jax.types import Shape

_VECTOR_WIDTHS = {"widths": "256,256", "decoder_widths": "256,256"}  # of network="auto"

# Parameters that are settings under the same name.
_NUMBERS = ("num_steps", "batch_size", "clip_norm", "num_latents")
_MAPPINGS = ("objective_settings", "schedules", "network_settings", "likelihood_settings")
_NAMES = ("objective", "network", "likelihood", "precision")

# What may differ from one call of `partial_fit` to the next.
_CHANGEABLE = ("coefficients", "schedules", "learning_rate", "clip_norm", "num_steps", "batch_size")


def run_settings(
    parameters: Mapping[str, Any], x_shape: Shape, seed: int, *, standardized: bool
) -> Settings:
    """The settings that an estimator's parameters ask for.

    Args:
      parameters: By name.
      x_shape: The shape of an example.
      seed: Of the run.
      standardized: Whether examples are standardised, and so no longer in [0, 1].

    Returns:
      Settings of one run, resolved.

    Raises:
      InputError: If a parameter is unknown to what was chosen, or out of range.
    """
    # A search over parameters passes NumPy scalars.
    numbers = {name: plain(parameters[name]) for name in _NUMBERS}
    mappings: dict[str, Any] = {name: _mapping(parameters, name) for name in _MAPPINGS}
    names = {name: parameters[name] for name in _NAMES}
    if names["network"] == AUTO and len(x_shape) == 1:
        names["network"] = "mlp"
        mappings["network_settings"] = {**_VECTOR_WIDTHS, **mappings["network_settings"]}
    if names["likelihood"] == AUTO and standardized:
        names["likelihood"] = "gaussian"
    settings = Settings(
        dataset="arrays",
        learning_rate=[plain(parameters["learning_rate"])],
        seed=[seed],
        tensorboard=False,
        **numbers,
        **mappings,
        **names,
    )
    return resolve(settings._replace(coefficients=_coefficients(parameters)), x_shape)


def _coefficients(parameters: Mapping[str, Any]) -> dict[str, list[float]]:
    given = {k: plain(value) for k, value in _mapping(parameters, "coefficients").items()}
    if "beta" in given:
        raise InputError("expected beta as a parameter of its own; got it in coefficients")
    if parameters["beta"] is not None:
        given["beta"] = plain(parameters["beta"])
    return {name: [value] for name, value in given.items()}


def _mapping(parameters: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = parameters[name]
    if value is not None and not isinstance(value, Mapping):
        raise InputError(f"expected {name} to be a mapping by name, or None; got {value!r}")
    return dict(value or {})


def check_same(settings: Settings, fitted: Settings) -> None:
    """Raises InputError where training cannot go on with other settings."""
    different = differences(fitted._asdict(), settings._asdict(), but=_CHANGEABLE)
    if different:
        raise InputError(
            f"expected partial_fit with the parameters of the first call; {'; '.join(different)}"
        )
