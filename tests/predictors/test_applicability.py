"""Rows like those of the training are inside, others are not."""

import numpy as np
import pytest

from katops.data.table_preprocessing import TablePreprocessor
from katops.errors import UserError
from katops.predictors.applicability import ApplicabilityDomain


@pytest.fixture
def grid() -> np.ndarray:
    """The points of a 5 x 5 grid, each twice."""
    points = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    return np.concatenate([points, points])


@pytest.fixture
def domain(grid: np.ndarray) -> ApplicabilityDomain:
    return ApplicabilityDomain(TablePreprocessor.fit(grid, "minmax")).fit(grid)


def test_the_threshold_is_the_distance_of_distinct_neighbours(domain):
    assert domain.threshold == pytest.approx(0.5)  # one step of four, in inputs from -1 to 1
    assert len(domain.rows) == 25


def test_training_rows_are_inside_and_distances_are_in_units_of_the_threshold(domain, grid):
    assert domain.assess(grid).inside.all()
    found = domain.assess(np.array([[2.5, 2.5], [2.0, 2.0]]))
    assert found.distance.tolist() == pytest.approx([np.sqrt(0.5), 0])


def test_a_row_between_rows_that_are_far_apart_is_outside(grid):
    hollow = grid[np.hypot(*(grid - 2).T) > 1.5]
    found = ApplicabilityDomain(TablePreprocessor.fit(hollow)).fit(hollow).assess(np.array([[2.0, 2.0]]))
    assert found.out_of_range.tolist() == [0]
    assert not found.inside[0]


def test_a_row_beyond_the_range_of_a_column_is_outside(domain):
    found = domain.assess(np.array([[4.1, 2.0]]))
    assert found.out_of_range.tolist() == [1]
    assert found.distance[0] < 1
    assert not found.inside[0]


def test_one_row_makes_no_domain():
    with pytest.raises(UserError, match="at least two rows"):
        ApplicabilityDomain(TablePreprocessor.fit(np.ones((3, 1)))).fit(np.ones((3, 1)))
    with pytest.raises(UserError, match="quantile=0 must be above 0"):
        ApplicabilityDomain(TablePreprocessor.fit(np.ones((3, 1))), quantile=0)
