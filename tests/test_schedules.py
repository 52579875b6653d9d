"""Schedules: their text, their values against plain loops, their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.objectives import OBJECTIVES
from betavae_jax.schedules import (
    parse_schedule,
    repeat_schedule,
    scheduled_coefficients,
    scheduled_value,
)
from betavae_jax.types import Schedule


def at(text, value, step):
    schedule = jax.tree.map(lambda a: a[0], repeat_schedule(parse_schedule("beta", text), 1))
    return float(scheduled_value(schedule, jnp.float32(value), jnp.int32(step)))


@pytest.mark.parametrize("step", [0, 1, 37, 99, 100, 101, 10_000_000])
def test_linear(step):
    expected = 2.0 + (10.0 - 2.0) * min(step / 100, 1)
    assert at("linear:2:100", 10.0, step) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("step", [0, 1, 29, 30, 99, 100, 129, 130, 12_345])
def test_cyclical(step):
    expected = 4.0 * min((step % 100) / 30, 1)
    assert at("cyclical:0:30:100", 4.0, step) == pytest.approx(expected, rel=1e-6)


def test_the_coefficient_itself_from_the_end_of_the_rise():
    # A sum of start and difference would miss the value by its rounding.
    assert at("linear:0.1:7", 0.3, 7) == np.float32(0.3)


def test_a_falling_schedule():
    assert at("linear:10:4", 2.0, 1) == pytest.approx(8.0)


def test_constant_is_the_value_at_once():
    assert parse_schedule("beta", "constant") == Schedule(0.0, 0, 0)
    assert at("constant", 5.0, 0) == 5.0


def test_eager_is_jit_is_vmap():
    schedule = Schedule(jnp.float32([0, 1]), jnp.int32([10, 20]), jnp.int32([0, 25]))
    value, step = jnp.float32([4, 5]), jnp.int32([7, 33])
    mapped = jax.jit(jax.vmap(scheduled_value))(schedule, value, step)
    single = [
        scheduled_value(jax.tree.map(lambda a, r=r: a[r], schedule), value[r], step[r])
        for r in range(2)
    ]
    np.testing.assert_array_equal(mapped, single)
    assert mapped.dtype == jnp.float32


def test_only_the_named_coefficient_changes():
    capacity_vae = OBJECTIVES["capacity_vae"]()
    coefficients = capacity_vae.Coefficients(jnp.float32(1000), jnp.float32(25))
    schedules = {"capacity": Schedule(jnp.float32(0), jnp.int32(100), jnp.int32(0))}
    changed = scheduled_coefficients(coefficients, schedules, jnp.int32(50))
    assert (float(changed.gamma), float(changed.capacity)) == (1000.0, 12.5)
    assert scheduled_coefficients(coefficients, {}, jnp.int32(50)) == coefficients


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear:0", "linear:START:STEPS"),
        ("linear:0:1:2", "linear:START:STEPS"),
        ("cosine:0:10", "linear:START:STEPS"),
        ("linear:a:10", "expected numbers"),
        ("linear:0:1.5", "expected numbers"),
        ("linear:-1:10", "at least 0"),
        ("linear:nan:10", "at least 0"),
        ("linear:0:0", "at least 1"),
        ("linear:0:99999999999", "at most"),
        ("cyclical:0:100:50", "at least its 100 steps"),
    ],
)
def test_bad_texts(text, message):
    with pytest.raises(InputError, match=message):
        parse_schedule("beta", text)
