"""How many levels a grid gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katops.fields import normalise_boundary
from katops.layers.grid_hierarchy import level_widths, levels_of_grid, smoothing_schedule


def sides(name, n_axes):
    return normalise_boundary(name, n_axes)


@pytest.mark.parametrize(
    ("grid", "boundary", "levels"),
    [
        ((64, 64), "dirichlet", 5),
        ((64, 64), "periodic", 5),
        ((211, 211), "dirichlet", 7),
        ((48, 80), "periodic", 5),  # 3 x 5 is odd: one level more would break the equivariance under shifts
        ((48, 80), "dirichlet", 6),
        ((101,), "periodic", 6),  # odd from the start: nothing to keep
        ((4,), "dirichlet", 1),
        ((1, 1, 1), "neumann", 1),
        ((8, 512), "neumann", 8),
    ],
)
def test_coarsening_goes_on_until_the_longest_axis_has_four_points(grid, boundary, levels):
    assert levels_of_grid(grid, sides(boundary, len(grid))) == levels


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=3), st.sampled_from(["dirichlet", "periodic"]))
def test_coarsest_grid_is_small_and_not_a_single_point_too_many(grid, boundary):
    levels = levels_of_grid(grid, sides(boundary, len(grid)))
    coarsest = max(-(-size // 2 ** (levels - 1)) for size in grid)
    assert coarsest <= 8
    assert levels == 1 or coarsest >= 3


def test_levels_and_smoothing_spell_a_schedule_out():
    axes = sides("dirichlet", 2)
    assert smoothing_schedule(None, 3, (1, 0), None, axes) == ((1, 0), (1, 0), (2, 0))
    assert smoothing_schedule(None, 3, (2, 2), (64, 64), axes) == ((2, 2), (2, 2), (4, 0))
    assert smoothing_schedule(None, None, (1, 0), (16, 16), axes) == ((1, 0), (1, 0), (2, 0))
    assert len(smoothing_schedule(None, None, (1, 0), None, axes)) == 5
    assert smoothing_schedule(None, 2, None, None, axes) == ((1, 1), (2, 0))
    assert smoothing_schedule([[2, 1], [0, 3]], None, None, (64, 64), axes) == ((2, 1), (0, 3))


def test_widths_grow_in_proportion_to_the_level():
    assert level_widths(20, 1.0, 5) == [20, 40, 60, 80, 100]
    assert level_widths(3, 0.5, 4) == [3, 4, 6, 8]
    assert level_widths(7, 0.0, 3) == [7, 7, 7]
