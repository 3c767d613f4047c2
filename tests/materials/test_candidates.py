"""Alloys to choose from."""

import itertools

import numpy as np
import pytest

from katops.errors import UserError
from katops.materials import composition_grid, composition_table, pareto_front

pytest.importorskip("pandas")


def test_a_grid_holds_every_composition_within_the_bounds_once():
    bounds = {"Al": (0.0, 0.3), "Co": (0.1, 0.5), "Ni": (0.05, 1.0)}
    grid = composition_grid(bounds, step=0.05)
    expected = [
        (a, b, 20 - a - b)
        for a, b in itertools.product(range(21), repeat=2)
        if a <= 6 and 2 <= b <= 10 and 20 - a - b >= 1
    ]
    assert [tuple(row) for row in (grid[list(bounds)] * 20).round().astype(int).to_numpy()] == expected
    assert np.allclose(grid[list(bounds)].sum(axis=1), 1)


def test_formulas_of_a_grid_say_its_fractions():
    grid = composition_grid(["Al", "Ti", "V"], step=0.25)
    assert "Al1" in list(grid["formula"])
    read = composition_table(grid["formula"], ["Al", "Ti", "V"])
    assert np.allclose(read, grid[["Al", "Ti", "V"]])


@pytest.mark.parametrize(
    ("elements", "step", "told"),
    [
        (["Al", "Ni"], 0.3, "must divide 1"),
        ({"Al": (0.0, 0.2), "Ni": (0.0, 0.2)}, 0.1, "no composition"),
        ({"Al": (0.5, 0.2)}, 0.1, "bounds of Al"),
        (["Al", "Xx"], 0.1, "Xx"),
        (["Al", "Co", "Cr", "Cu", "Fe", "Mn", "Ni", "Ti"], 0.02, "more than a million"),
    ],
)
def test_a_grid_that_cannot_be_is_told(elements, step, told):
    with pytest.raises(UserError, match=told):
        composition_grid(elements, step=step)


def test_nothing_is_lighter_and_stiffer_than_the_front():
    density, stiffness = np.random.default_rng(0).integers(0, 12, (2, 60)).astype(float)
    density[0] = np.nan
    beaten = [
        any(
            d <= density[row] and s >= stiffness[row] and (d < density[row] or s > stiffness[row])
            for d, s in zip(density, stiffness, strict=True)
        )
        for row in range(60)
    ]
    front = pareto_front(density, stiffness)
    assert not front[0]
    assert list(front[1:]) == [not one for one in beaten[1:]]


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(UserError, match="equal length"):
        pareto_front([1.0, 2.0], [1.0])
