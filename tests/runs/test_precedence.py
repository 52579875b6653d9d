"""Which settings go before which."""

import pytest

from betavae_jax.runs.precedence import lay_over
from betavae_jax.runs.settings import NESTED, Settings


def test_tables_are_joined_and_the_second_goes_first():
    first = {"num_steps": 10, "coefficients": {"beta": [1.0], "gamma": [3.0]}, "seed": [0]}
    second = {"num_steps": 20, "coefficients": {"beta": [2.0]}, "schedules": {"beta": "constant"}}
    assert lay_over(first, second) == {
        "num_steps": 20,
        "coefficients": {"beta": [2.0], "gamma": [3.0]},
        "seed": [0],
        "schedules": {"beta": "constant"},
    }
    assert first["coefficients"] == {"beta": [1.0], "gamma": [3.0]}
    assert lay_over({}, second) == lay_over(second, {}) == second


@pytest.mark.parametrize(
    ("owner", "table"),
    [
        ("dataset", "data"),
        ("network", "network_settings"),
        ("likelihood", "likelihood_settings"),
    ],
)
def test_settings_go_with_whom_they_are_of(owner, table):
    first = {owner: "one", table: {"a": 1, "b": 2}}
    own = {table: {"a": 3}}
    assert lay_over(first, {owner: "other", **own}) == {owner: "other", **own}
    assert lay_over(first, {owner: "other"}) == {owner: "other", table: {}}
    for second in ({owner: "one", **own}, own):  # the same, or none is named
        assert lay_over(first, second) == {owner: "one", table: {"a": 3, "b": 2}}
    assert lay_over({table: {"b": 2}}, {owner: "other", **own})[table] == {"a": 3, "b": 2}


def test_every_table_of_the_settings_is_joined():
    assert set(NESTED) == {k for k, v in Settings()._asdict().items() if isinstance(v, dict)}
    for name in NESTED:
        assert lay_over({name: {"a": 1}}, {name: {"b": 2}}) == {name: {"a": 1, "b": 2}}
