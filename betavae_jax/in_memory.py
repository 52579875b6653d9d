"""Training one run on arrays that are at hand: no file, no directory."""

import functools
import json
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np

from betavae_jax.data.resident import ImageArrays, gather_images, stored_factors, take_images
from betavae_jax.feed import resident
from betavae_jax.fit import fit, program_of
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.networks import NETWORKS
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.population import replicate, take_runs
from betavae_jax.runs.settings import Settings, build, grid_of
from betavae_jax.training import Carry, Program
from betavae_jax.types import Dataset, Shape, Splits

_PROGRAMS = 16  # that are kept

# What a program reads as an argument; all other settings are built into it.
_ARGUMENTS = ("coefficients", "learning_rate", "seed", "num_steps")

# What names stand for; a name may stand for another function later, as in a notebook.
_MAKERS: dict[str, Mapping[str, Any]] = {
    "objective": OBJECTIVES,
    "network": NETWORKS,
    "likelihood": LIKELIHOODS,
}


def train_arrays(
    settings: Settings,
    x: np.ndarray,
    num_steps: int,
    start: tuple[int, Carry] | None = None,
    *,
    show_progress: bool = False,
) -> tuple[int, Carry]:
    """Trains one run; a second call on arrays of the same shape compiles nothing.

    Args:
      settings: Of one run: no list holds two values. What they say of the data does not matter.
      x: Examples `[N, ...]` as the model sees them; or bytes, of which 255 is 1.
      num_steps: Further steps.
      start: (step, carry) to go on from; None for a new run.
      show_progress: Whether to draw a progress bar on standard error.

    Returns:
      (step, carry), NumPy leaves `[1, ...]`. A signal that came during training takes effect
      once the step it found is done, here.

    Raises:
      InputError: If the settings are not as expected, or not for such examples.
    """
    shared = settings._replace(**{name: getattr(Settings(), name) for name in _ARGUMENTS})
    makers = tuple(known.get(getattr(settings, kind)) for kind, known in _MAKERS.items())
    program = _program(json.dumps(shared._asdict(), sort_keys=True), makers, x.shape, x.dtype.name)
    fitted = fit(
        program,
        grid_of(settings),
        resident(replicate(_dataset(x).arrays, program.devices)),
        num_steps=num_steps + (start[0] if start else 0),
        start=start,
        show_progress=show_progress,
    )
    if fitted.signal:
        signal.raise_signal(fitted.signal)
    return fitted.step, take_runs(fitted.carry, 1)


@functools.lru_cache(_PROGRAMS)
def _program(settings: str, makers: tuple[Any, ...], shape: Shape, dtype: str) -> Program:
    """The program for examples `shape` of one run."""
    del makers  # tell one program from another
    nothing: Any = np.broadcast_to(np.zeros((), dtype), shape)  # no memory
    chosen = Settings(**json.loads(settings))
    return program_of(build(chosen, Splits(_dataset(nothing), None)))


def _dataset(x: np.ndarray) -> Dataset:
    factors = np.zeros((len(x), 0), np.int32)
    # Vectors are looked up as images are.
    return Dataset(
        ImageArrays(x, factors), gather_images, stored_factors, None, len(x), take=take_images
    )
