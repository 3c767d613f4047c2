"""Grids and steps are recognised from coordinates in single precision."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.data.formats.coordinates import axis_from_points, even_spacing, even_step
from katops.errors import UserError
from katops.fields import Axis

HERE = Path("data.h5")
ENDS = [(0.0, 1.0), (-1.0, 1.0), (-2.5, 2.5), (0.0, 32.0), (0.0, np.pi), (0.0, 2 * np.pi), (0.5, 4.0), (0.0, 3e-5)]
WALLS, PERIODIC = ("wall", "wall"), ("periodic", "periodic")


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(ENDS),
    st.sampled_from(["cell_centres", "nodes", "periodic_nodes"]),
    # With fewer points a half-cell shift of the ends may make other round numbers; 10 steps are round themselves.
    st.sampled_from([12, 17, 20, 33, 64, 96, 128, 256, 384, 512, 1024]),
)
def test_every_kind_of_grid_is_recovered_with_exact_ends(ends, grid, size):
    points = Axis("x", grid, *ends).coordinates(size).astype(np.float32)
    axis, note = axis_from_points("x", points, PERIODIC if grid == "periodic_nodes" else WALLS, path=HERE)
    assert (axis.grid, axis.lower, axis.upper, note) == (grid, *map(pytest.approx, ends), "")
    assert axis.lower in ends


def test_ends_that_are_not_round_are_kept_and_told():
    points = Axis("x", "cell_centres", 0.123457, 1.987653).coordinates(12)
    axis, note = axis_from_points("x", points, WALLS, path=HERE)
    assert "not round numbers" in note
    np.testing.assert_allclose(axis.coordinates(12), points, rtol=1e-12)


@pytest.mark.parametrize(
    "points", [np.geomspace(1, 9, 12), np.linspace(90, -90, 13), np.cos(np.pi * (np.arange(12) + 0.5) / 12)]
)
def test_stretched_and_decreasing_points_are_an_uneven_grid(points):
    axis, note = axis_from_points("lat", points, WALLS, path=HERE)
    assert (axis.grid, note) == ("uneven", "")
    np.testing.assert_array_equal(axis.coordinates(len(points)), points)


@pytest.mark.parametrize("points", [np.zeros(5), np.array([0.0, 1.0, 0.5]), np.array([1.0]), np.array([0, np.nan, 2])])
def test_coordinates_that_do_not_go_one_way_are_refused(points):
    with pytest.raises(UserError, match=r"data\.h5: the coordinates of axis 'x'"):
        axis_from_points("x", points, WALLS, path=HERE)


@pytest.mark.parametrize(("step", "frames"), [(0.01, 201), (0.005, 1000), (5.0, 101), (0.05, 21), (6.0, 14)])
def test_steps_are_recovered_from_times_in_single_precision(step, frames):
    times = (step * np.arange(frames)).astype(np.float32).astype(np.float64)
    assert even_step(times) == step


def test_a_step_that_is_no_round_number_is_kept():
    assert even_step(np.linspace(0, 1, 10)) == pytest.approx(1 / 9, rel=1e-12)


def test_uneven_times_have_no_step():
    assert even_step(np.array([0.0, 1.0, 2.5])) is None
    assert even_step(np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]])) is None
    assert even_step(np.array([2.0, 1.0, 0.0])) is None
    assert even_spacing(np.array([3.0, 2.0, 1.0])) == -1.0


def test_rows_of_shorter_trajectories_do_not_count_behind_their_end():
    assert even_step(np.array([[0.0, 0.5, 1.0], [3.0, 3.5, np.nan], [0.0, np.nan, np.nan]])) == 0.5
