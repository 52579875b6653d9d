"""Factors against NumPy and itertools: grids, declarations, values that become indices."""

import itertools
import re

import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.data.factors import (
    declare_grid,
    factor_space,
    grid_factors,
    is_grid,
    parse_declared,
    rank_values,
)


def refuse(expected, function, *arguments):
    with pytest.raises(InputError, match=expected) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sizes", [(1,), (5,), (3, 2), (2, 1, 4), (1, 1), (4, 3, 2, 2)])
def test_grids_are_those_of_itertools(sizes):
    expected = list(itertools.product(*(range(size) for size in sizes)))
    grid = grid_factors(sizes)
    assert grid.dtype == np.int32
    np.testing.assert_array_equal(grid, expected)
    assert is_grid(grid, sizes)


def test_what_is_no_grid():
    grid = grid_factors((3, 4))
    assert not is_grid(grid[:, ::-1], (4, 3))  # the first factor varies fastest
    assert not is_grid(grid[::-1], (3, 4))
    assert not is_grid(grid[:-1], (3, 4))
    assert not is_grid(grid, (3, 5))
    assert not is_grid(np.concatenate([grid, grid]), (3, 4))
    assert not is_grid(grid[np.r_[0, 0, 2:12]], (3, 4))


@pytest.mark.parametrize(
    ("sizes", "names", "expected"),
    [
        ("", "", ((), ())),
        ("10", "hue", ((10,), ("hue",))),
        (" 10, 8,1 ", "", ((10, 8, 1), ())),
        ("", "a, b c", ((), ("a", "b c"))),
    ],
)
def test_declarations_are_parsed(sizes, names, expected):
    assert parse_declared(sizes, names) == expected


@pytest.mark.parametrize(
    ("sizes", "names", "expected"),
    [
        ("10,x", "", "whole numbers from 1, such as 10,10,8; got '10,x'"),
        ("10,0", "", "from 1"),
        ("10,-2", "", "from 1"),
        ("10,", "", "from 1"),
        ("2.0", "", "from 1"),
        ("²", "", "from 1"),
        ((10, 8), "", r"a text with commas between; got \(10, 8\)"),
        ("2,2", "a", "as many factor_names as factor_sizes, 2; got 1"),
        ("", "a,a", "distinct"),
        ("", "a,,b", "without an empty one"),
    ],
)
def test_declarations_that_say_nothing_are_refused(sizes, names, expected):
    refuse(expected, parse_declared, sizes, names)


def test_a_declared_grid_agrees_with_the_file():
    none = np.zeros((6, 0), np.int32)
    grid = grid_factors((3, 2))
    np.testing.assert_array_equal(declare_grid("f", none, 6, (3, 2)), grid)
    np.testing.assert_array_equal(declare_grid("f", grid, 6, (3, 2)), grid)
    refuse(re.escape("examples in f, 6; got 3 x 3 = 9"), declare_grid, "f", none, 6, (3, 3))
    for labels in (grid[::-1], grid[:, :1]):
        refuse("labels in f to be those", declare_grid, "f", labels, 6, (3, 2))


def test_spaces_are_sized_over_all_splits():
    train, test = np.array([[0, 2], [1, 0]]), np.array([[4, 0]])
    names = ("factor_0", "factor_1")
    assert factor_space(["a", "b"], [train, test], ()) == (names, (5, 3), False)
    assert factor_space(["a"], [train[:, :1]], ()) == (("label",), (2,), False)
    assert factor_space(["a"], [train], ("x", "y")).names == ("x", "y")
    assert factor_space(["a"], [train[:, :0]], ()) is None
    refuse("as a has factors, 2; got 1: x", factor_space, ["a"], [train], ("x",))
    refuse("as a has factors, 0; got 1: x", factor_space, ["a"], [train[:, :0]], ("x",))
    refuse("in b as in a, 2; got 1", factor_space, ["a", "b"], [train, test[:, :1]], ())


def test_values_become_ranks_over_all_splits():
    train, test = np.array([[-30.0, 7], [30.0, 7]]), np.array([[0.0, 9]])
    first, second = rank_values("f", [train, test])
    assert first.dtype == np.int32
    np.testing.assert_array_equal(first, [[0, 0], [2, 0]])
    np.testing.assert_array_equal(second, [[1, 1]])
    [texts] = rank_values("f", [np.array(["b", "a", "b"])])
    np.testing.assert_array_equal(texts, [1, 0, 1])


def test_values_that_are_no_factor_are_refused():
    refuse("finite labels in f; got NaN", rank_values, "f", [np.array([0.5, np.nan])])
    refuse(r"at most 1000 .* got 1001 in column 0", rank_values, "f", [np.arange(1001.0)])
    refuse("in all splits of f; got 1 and 2", rank_values, "f", [np.ones(3), np.ones((3, 2))])
