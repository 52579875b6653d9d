"""What the bits of a run depend on beside its settings."""

import jax
import pytest

from betavae_jax.runs.machine import describe_machine


def test_options_that_change_numbers_are_told_where_they_are_unusual():
    assert "jax_config" not in describe_machine()
    with jax.threefry_partitionable(False), jax.default_matmul_precision("highest"):
        told = describe_machine()["jax_config"]
    assert told == {"jax_threefry_partitionable": False, "jax_default_matmul_precision": "highest"}


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_other_random_numbers_are_told(implementation):
    with jax.default_prng_impl(implementation):
        told = describe_machine()["jax_config"]
    assert told == {"jax_default_prng_impl": implementation}
