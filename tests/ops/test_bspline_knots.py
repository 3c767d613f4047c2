"""Grids of B-splines: where the knots go, and that functions are kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.ops.bspline import bspline_basis
from katops.ops.bspline_knots import (
    NARROWEST,
    inner_knots,
    insertion_matrix,
    quantile_knots,
    refined_inner_knots,
    refit,
    uniform_knots,
    with_ghost_knots,
)


def awkward_columns(rows=300):
    """Smooth, constant, one-hot with a single one, zero in most rows, two values, and clustered."""
    x = torch.randn(rows, 6, dtype=torch.float64)
    x[:, 1] = 7.0
    x[:, 2] = 0.0
    x[5, 2] = 1.0
    x[:, 3] = torch.relu(x[:, 3] - 1.5)
    x[:, 4] = (x[:, 4] > 0).double()
    x[: rows // 2, 5] = 1 + 1e-9 * x[: rows // 2, 5]
    return x


def splines(x, knots, coefficients, degree, extrapolation="linear"):
    return bspline_basis(x, knots, degree, extrapolation).transpose(0, 1) @ coefficients


@pytest.mark.parametrize("intervals", [1, 3, 10])
def test_knots_increase_and_span_the_samples_whatever_the_columns(intervals):
    x = awkward_columns()
    knots = quantile_knots(x, intervals, 3)
    assert knots.shape == (6, intervals + 7)
    inner = inner_knots(knots, 3)
    width = inner[:, -1] - inner[:, 0]
    assert (inner.diff() >= 0.999 * NARROWEST * width[:, None]).all()
    spread = x.amax(0) > x.amin(0)
    torch.testing.assert_close(inner[spread][:, 0], x.amin(0)[spread])
    torch.testing.assert_close(inner[spread][:, -1], x.amax(0)[spread])
    assert inner[1, 0] == 6.5
    assert inner[1, -1] == 7.5


def test_intervals_hold_equal_shares_of_the_samples_and_uniform_ones_are_equal():
    x = torch.randn(4000, 1, dtype=torch.float64)
    inner = inner_knots(quantile_knots(x, 8, 2, uniform_share=0.0), 2)[0]
    counts = torch.histc(torch.bucketize(x[:, 0], inner[1:-1]).double(), 8, 0, 7)
    assert (counts - 500).abs().max() <= 2
    even = inner_knots(quantile_knots(x, 8, 2, uniform_share=1.0), 2)[0].diff()
    torch.testing.assert_close(even, even.mean().expand(8))


def test_zeros_do_not_take_the_knots_of_a_column_that_is_zero_in_most_rows():
    inner = inner_knots(quantile_knots(awkward_columns()[:, 3:4], 4, 3), 3)[0]
    assert (inner > 0).sum() == 4


@settings(max_examples=20, deadline=None)
@given(degree=st.integers(1, 3), intervals=st.integers(1, 6), factor=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_knot_insertion_keeps_every_spline_on_the_range(degree, intervals, factor, seed):
    generator = torch.Generator().manual_seed(seed)
    gaps = 0.05 + torch.rand(2, intervals, generator=generator, dtype=torch.float64)
    inner = torch.cat([torch.zeros(2, 1, dtype=torch.float64), gaps.cumsum(1)], 1)
    knots = with_ghost_knots(inner, degree)
    finer = with_ghost_knots(refined_inner_knots(inner, factor * intervals), degree)
    coefficients = torch.randn(2, intervals + degree, 3, generator=generator, dtype=torch.float64)
    refined = insertion_matrix(knots, finer, degree) @ coefficients
    x = torch.lerp(inner[:, 0], inner[:, -1], torch.linspace(0, 1, 57, dtype=torch.float64)[:, None])
    expected = splines(x, knots, coefficients, degree)
    torch.testing.assert_close(splines(x, finer, refined, degree), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_least_squares_recover_a_spline_of_the_same_space(degree):
    low, high = torch.tensor([-1.0, 0.0]).double(), torch.tensor([1.0, 5.0]).double()
    knots = uniform_knots(low, high, 4, degree)
    coefficients = torch.randn(2, 4 + degree, 3, dtype=torch.float64)
    x = torch.lerp(low, high, torch.rand(40, 2, dtype=torch.float64))
    for samples in (None, x, x[:1]):
        torch.testing.assert_close(refit(knots, coefficients, knots, degree, "linear", samples), coefficients)


def test_refit_to_moved_knots_is_finite_and_near_for_awkward_columns():
    x = awkward_columns()
    knots = uniform_knots(x.amin(0) - 0.1, x.amax(0) + 0.1, 5, 3)
    coefficients = torch.randn(6, 8, 2, dtype=torch.float64)
    moved = quantile_knots(x, 5, 3)
    new = refit(knots, coefficients, moved, 3, "linear", x)
    assert new.isfinite().all()
    before, after = (splines(x, *pair, 3) for pair in ((knots, coefficients), (moved, new)))
    few_values = [1, 2, 4]
    torch.testing.assert_close(after[few_values], before[few_values], rtol=1e-2, atol=1e-2)
