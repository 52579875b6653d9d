"""The table of seconds: every case can be called, and the sums are sums."""

import pytest

from betavae_jax.metrics import METRICS, metric_settings
from experiments import benchmark_metrics
from experiments.peers.metric_cases import CASES, Case, draw_codes, measure


def test_every_case_is_a_metric_with_its_settings():
    for case in CASES.values():
        assert case.name in METRICS
        assert set(case.settings) <= set(metric_settings(case.name))
        assert case.original > 0


def test_the_arrays_are_those_of_the_originals():
    train, factors, test, test_factors = draw_codes()
    assert (train.shape, factors.shape) == ((10_000, 10), (10_000, 5))
    assert (test.shape, test_factors.shape) == ((5_000, 10), (5_000, 5))
    assert (factors.max(axis=0) + 1).tolist() == [3, 6, 40, 32, 32]


@pytest.mark.parametrize("name", ["mig", "irs", "udr"])
def test_seconds_are_measured(name):
    seconds = measure(Case(name, {}, 1.0, 1), draw_codes())
    assert 0 < seconds["again"] <= 10
    assert 0 < seconds["first"] <= 10
    once = measure(Case(name, {}, 1.0, 0), draw_codes())
    assert once["first"] == once["again"]


def test_lines_and_their_total():
    measured = [{"original": 1.0, "first": 2.0, "again": 0.5},
                {"original": 3.0, "first": 1.0, "again": 0.5}]  # fmt: skip
    total = benchmark_metrics._total(measured)
    assert total == {"original": 4.0, "first": 3.0, "again": 1.0}
    assert benchmark_metrics._line("all", **total).split() == ["all", "4.000", "3.000", "1.000",
                                                               "4.0"]  # fmt: skip
