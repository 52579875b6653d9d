"""Schedules of coefficients: constant, linear and cyclical, one formula over arrays.

A schedule is given as text, `linear:START:STEPS` or `cyclical:START:STEPS:PERIOD`, and becomes
arrays, so that programs with different schedules of the same coefficients are one program. A
coefficient without a schedule is constant.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError, check_at_least, check_count, check_kind
from betavae_jax.types import Array, Schedule

_FORMS = "linear:START:STEPS or cyclical:START:STEPS:PERIOD"


def parse_schedule(name: str, text: str) -> Schedule:
    """Reads the specification of a schedule.

    Args:
      name: The coefficient, for messages.
      text: `linear:START:STEPS`: from START to the coefficient's value over STEPS steps, then
        constant; `cyclical:START:STEPS:PERIOD`: the same again every PERIOD steps (Fu et al.
        2019); `constant`.

    Returns:
      Python numbers.

    Raises:
      InputError: If the text is none of these, or a number is out of range.
    """
    check_kind(f"the schedule of {name}", text, "")
    kind, *numbers = text.split(":")
    if (kind, len(numbers)) not in (("linear", 2), ("cyclical", 3), ("constant", 0)):
        raise InputError(f"expected the schedule of {name} to be {_FORMS}; got {text!r}")
    if kind == "constant":
        return Schedule(0.0, 0, 0)
    try:
        start, steps = float(numbers[0]), [int(number) for number in numbers[1:]]
    except ValueError:
        raise InputError(f"expected numbers in the schedule of {name}; got {text!r}") from None
    check_at_least(f"the start of the schedule of {name}", start, 0)
    for count in steps:
        check_count(f"steps in the schedule of {name}", count)
    period = steps[1] if kind == "cyclical" else 0
    if period and period < steps[0]:
        raise InputError(
            f"expected the period of the schedule of {name} to be at least its {steps[0]} steps; "
            f"got {period}"
        )
    return Schedule(start, steps[0], period)


def repeat_schedule(schedule: Schedule, runs: int) -> Schedule:
    """Gives each of `runs` runs the same schedule: NumPy leaves `[R]`."""
    return Schedule(
        np.full(runs, schedule.start, np.float32),
        np.full(runs, schedule.rise, np.int32),
        np.full(runs, schedule.period, np.int32),
    )


def scheduled_value(schedule: Schedule, value: Array, step: Array) -> Array:
    """The value of a coefficient at a step.

    Args:
      schedule: Leaves `[]`.
      value: The coefficient itself `[]`, reached at the end of each rise.
      step: Updates done before this one `[]`, int32.

    Returns:
      `[]` float32: `start + (value - start) * min(1, phase / rise)`, where the phase is the step
      within the period; exactly `value` from the end of the rise on.

    References:
      Fu et al. 2019, Cyclical Annealing Schedule, equations 6 and 7.
    """
    phase = jnp.where(schedule.period > 0, step % jnp.maximum(schedule.period, 1), step)
    fraction = phase.astype(jnp.float32) / jnp.maximum(schedule.rise, 1)
    rising = schedule.start + (value - schedule.start) * fraction
    return jnp.where(phase < schedule.rise, rising, value)


def scheduled_coefficients(
    coefficients: Any, schedules: Mapping[str, Schedule], step: Array
) -> Any:
    """The coefficients of one run at a step, those without a schedule as they are."""
    values = {
        name: scheduled_value(schedule, getattr(coefficients, name), step)
        for name, schedule in schedules.items()
    }
    return coefficients._replace(**values)


def last_change(schedule: Schedule) -> int:
    """The step from which the coefficient stays at its value; of a cyclical one, its first rise."""
    return int(np.max(schedule.rise))
