"""Fewer grid points: what is handed out is the field at the coordinates that are handed out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from katops.data.resample import Resample
from katops.errors import UserError
from katops.fields import Axis, Channel

bounded = settings(max_examples=60, deadline=None)
PERIODIC = ("periodic", "periodic")


def _axis(grid: str, name: str = "x", **options) -> Axis:
    return Axis(name, grid=grid, lower=-1.0, upper=2.0, **options)


def _waves(axes: list[Axis], sizes: tuple[int, ...], modes: list[tuple[int, ...]]) -> np.ndarray:
    """A sum of waves with random phases; mode k makes k waves along an axis."""
    rng = np.random.default_rng(3)
    points = np.meshgrid(*(axis.coordinates(n) for axis, n in zip(axes, sizes, strict=True)), indexing="ij")
    values = np.zeros(sizes)
    for mode in modes:
        phase = rng.uniform(0, 2 * np.pi)
        for k, axis, x in zip(mode, axes, points, strict=True):
            phase = phase + 2 * np.pi * k * x / (axis.upper - axis.lower)
        values += rng.normal() * np.cos(phase)
    return values


@pytest.mark.parametrize("grid", ["cell_centres", "nodes", "periodic_nodes"])
@pytest.mark.parametrize(("size", "step"), [(12, 2), (13, 4), (20, 3), (9, 1), (7, 3)])
@pytest.mark.parametrize("crop", [None, (2, 7), (1, 6)])
def test_strides_and_crops_hand_out_the_points_at_the_coordinates_of_the_axis(grid, size, step, crop):
    resample = Resample(step, "stride", None if crop is None else (crop,))
    axis = _axis(grid)
    points = axis.coordinates(size)
    (kept,) = resample.axes([axis], [size])
    (count,) = resample.space([size])
    np.testing.assert_allclose(kept.coordinates(count), resample.apply(points, 1), atol=1e-12)
    first, stop = crop or (0, size)
    np.testing.assert_array_equal(resample.apply(points, 1), points[first:stop][::step])


@pytest.mark.parametrize("turn", [1, -1])
def test_uneven_points_are_strided_and_cropped_from_either_end(turn):
    points = np.cos(np.pi * (np.arange(20) + 0.5) / 20)[::turn]
    axis = Axis("y", "uneven", -1.0, 1.0, ("wall", "open"), points=tuple(points))
    resample = Resample(3, crop=((4, 20),))
    (kept,) = resample.axes([axis], [20])
    np.testing.assert_array_equal(kept.coordinates(6), points[4::3])
    # The first points lie at the upper end where the numbering runs downwards.
    assert kept.boundary == (("none", "open") if turn < 0 else ("wall", "none"))
    assert kept.lower < kept.upper
    with pytest.raises(UserError, match="axis 'y' are uneven; use stride"):
        Resample(2, "block_mean").axes([axis], [20])
    with pytest.raises(UserError, match="axis 'y' is wall/open with uneven"):
        Resample(2, "spectral").axes([axis], [20])


def test_a_stride_of_nodes_keeps_both_ends_where_it_divides():
    assert Resample(5).axes([_axis("nodes")], [421]) == (_axis("nodes"),)
    assert Resample(5).space([421]) == (85,)


def test_a_period_is_never_cut():
    axis = _axis("periodic_nodes", boundary=PERIODIC)
    assert Resample(3).axes([axis], [12]) == (axis,)
    with pytest.raises(UserError, match="3 does not divide the 13 points of the periodic axis 'x'; choose 1"):
        Resample(3).axes([axis], [13])
    closed = _axis("nodes", boundary=PERIODIC)
    assert Resample(3).axes([closed], [13]) == (closed,)
    with pytest.raises(UserError, match=r"12 points of the periodic axis 'x' \(both ends included\); choose 1"):
        Resample(3).axes([closed], [12])


def test_a_crop_is_no_longer_periodic_and_keeps_the_sides_that_were_not_cut():
    periodic, walls = _axis("cell_centres", boundary=PERIODIC), _axis("nodes", "y", boundary=("wall", "open"))
    cropped = Resample(crop=[[0, 8], [3, 20]]).axes([periodic, walls], [12, 20])
    assert [axis.boundary for axis in cropped] == [("none", "none"), ("none", "open")]
    assert cropped[0].grid == "cell_centres"
    assert (cropped[0].lower, cropped[0].upper) == (-1.0, 1.0)
    assert cropped[1].upper == pytest.approx(2.0)


def test_a_crop_of_everything_is_no_crop():
    axes = [_axis("cell_centres", boundary=PERIODIC), _axis("nodes", "y")]
    resample = Resample(crop=((0, 12), None)).on(axes, [12, 20])
    assert resample.identity
    assert resample.axes(axes, [12, 20]) == tuple(axes)
    values = np.arange(240.0).reshape(12, 20)
    assert np.shares_memory(resample.apply(values, 2), values)


def test_a_stride_of_a_crop_has_a_period_no_more():
    axis = _axis("periodic_nodes", boundary=PERIODIC)
    (kept,) = Resample(2, crop=((1, 8),)).axes([axis], [12])
    np.testing.assert_allclose(kept.coordinates(4), axis.coordinates(12)[1:8:2], atol=1e-12)


def test_block_means_of_cells_are_the_cells_of_the_coarse_grid():
    axes = [_axis("cell_centres"), _axis("cell_centres", "y")]
    resample = Resample((4, 2), "block_mean").on(axes, (12, 20))
    assert resample.axes(axes, (12, 20)) == tuple(axes)
    values = np.random.default_rng(0).normal(size=(3, 2, 12, 20)).astype(np.float32)
    coarse = resample.apply(values, 2)
    assert coarse.shape == (3, 2, 3, 10)
    assert coarse.dtype == np.float32
    np.testing.assert_allclose(coarse[1, 0, 2, 7], values[1, 0, 8:12, 14:16].mean(), rtol=1e-6)


def test_a_linear_field_keeps_its_values_at_the_coarse_centres_under_block_mean_but_not_under_a_stride():
    axis = _axis("cell_centres")
    fine = axis.coordinates(512)
    mean = Resample(4, "block_mean").apply(fine, 1)
    np.testing.assert_allclose(mean, axis.coordinates(128), atol=1e-12)
    # Every fourth cell lies 1.5 fine cells to the left of the coarse centre; the strided axis says so.
    stride = Resample(4)
    np.testing.assert_allclose(axis.coordinates(128) - stride.apply(fine, 1), 1.5 * 3 / 512, atol=1e-12)
    np.testing.assert_allclose(stride.axes([axis], [512])[0].coordinates(128), fine[::4], atol=1e-12)


@pytest.mark.parametrize("method", ["block_mean", "spectral"])
def test_pdebench_at_512_becomes_pdebench_at_128_with_second_order_or_better(method):
    # Cell-centred grids on (0, 1)^2: coarse values are the field at the coarse centres up to O(h^2).
    axes = [Axis(name, "cell_centres", boundary=PERIODIC) for name in "xy"]
    errors = []
    for coarse in (32, 64, 128):
        fine = _waves(axes, (4 * coarse, 4 * coarse), [(1, 2), (3, -1)])
        resample = Resample(4, method).on(axes, fine.shape)
        errors.append(np.abs(resample.apply(fine, 2) - _waves(axes, (coarse, coarse), [(1, 2), (3, -1)])).max())
    if method == "spectral":
        assert max(errors) < 1e-12
    else:
        np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2.0, atol=0.1)


def test_block_mean_of_periodic_nodes_moves_the_axis_to_the_means():
    axis = _axis("periodic_nodes", boundary=PERIODIC)
    (moved,) = Resample(3, "block_mean").axes([axis], [12])
    np.testing.assert_allclose(moved.coordinates(4), axis.coordinates(12).reshape(4, 3).mean(1), atol=1e-12)
    assert moved.boundary == PERIODIC


@bounded
@given(
    st.sampled_from(["cell_centres", "periodic_nodes"]),
    st.sampled_from([(12, 20, 2, 4), (12, 20, 3, 1), (18, 10, 3, 2), (15, 21, 5, 3), (12, 20, 4, 10)]),
    st.sampled_from([np.float32, np.float64]),
)
def test_spectral_resampling_is_exact_up_to_the_highest_mode_of_the_coarse_grid(grid, case, dtype):
    *sizes, r, q = case
    axes = [_axis(grid, boundary=PERIODIC), _axis(grid, "y", boundary=PERIODIC)]
    resample = Resample((r, q), "spectral").on(axes, sizes)
    coarse = resample.space(sizes)
    # The highest mode, n / 2, is included: its sign on the coarse points is that of the field.
    highest = [size // 2 for size in coarse]
    modes = [(0, 0), (1, -1), (highest[0], highest[1]), (-highest[0], 1), (0, highest[1])]
    assert resample.axes(axes, sizes) == tuple(axes)
    handed_out = resample.apply(_waves(axes, sizes, modes).astype(dtype), 2)
    assert handed_out.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(handed_out, _waves(axes, coarse, modes), atol=tolerance)


@bounded
@given(st.sampled_from([(12, 2), (12, 3), (20, 4), (15, 3)]), st.sampled_from(["cell_centres", "periodic_nodes"]))
def test_modes_that_the_coarse_grid_cannot_hold_leave_no_trace(case, grid):
    size, factor = case
    axis = _axis(grid, boundary=PERIODIC)
    resample = Resample(factor, "spectral").on([axis], [size])
    above = [(k,) for k in range(size // factor // 2 + 1, size // 2 + 1)]
    assert np.abs(resample.apply(_waves([axis], (size,), above), 1)).max() < 1e-12
    # A stride folds them back.
    assert np.abs(Resample(factor).apply(_waves([axis], (size,), above), 1)).max() > 1e-3


def test_spectral_resampling_of_nodes_agrees_with_scipy():
    values = np.random.default_rng(1).normal(size=(2, 24))
    axis = _axis("periodic_nodes", boundary=PERIODIC)
    ours = Resample(2, "spectral").on([axis], [24]).apply(values, 1)
    np.testing.assert_allclose(ours, signal.resample(values, 12, axis=1), atol=1e-12)


@pytest.mark.parametrize("method", ["stride", "block_mean", "spectral"])
def test_axes_are_resampled_each_on_its_own_and_a_crop_comes_first(method):
    axes = [_axis("cell_centres", boundary=PERIODIC), _axis("cell_centres", "y", boundary=PERIODIC)]
    values = np.random.default_rng(2).normal(size=(3, 12, 20))
    both = Resample((1, 2), method, ((2, 11), None)).on(axes, (12, 20))
    expected = Resample((1, 2), method).on(axes, (12, 20)).apply(values, 2)[:, 2:11]
    np.testing.assert_allclose(both.apply(values, 2), expected, atol=1e-12)
    assert both.space((12, 20)) == expected.shape[1:]


def test_the_places_of_staggered_channels_are_told_in_coarse_spacings():
    staggered = Channel("velocity_x", quantity="velocity", component=(0,), shift=(0.5, 0.0))
    assert Resample((2, 4)).channel(staggered).shift == (0.25, 0.0)
    assert Resample(3).channel(Channel("pressure")) == Channel("pressure")


@pytest.mark.parametrize(
    ("resample", "message"),
    [
        (Resample(12), "12 leaves 1 of the 12 points of axis 'x'"),
        (Resample((1, 2, 3)), "3 entries.*each of the 2 axes"),
        (Resample(3, "block_mean"), r"3 \(block_mean\) does not divide the 20 points of axis 'y'; choose one of 2, 4"),
        (Resample((5, 1), "spectral"), r"5 \(spectral\) does not divide the 12 points of axis 'x'"),
        (Resample((1, 2), "spectral", (None, (0, 10))), "axis 'y' is none with cell_centres"),
        (Resample(crop=((0, 13), None)), r"\[0, 13\] of axis 'x' goes beyond its 12 points"),
        (Resample(crop=((3, 4), None)), "leaves one point of axis 'x'"),
        (Resample(crop=((3, 9),)), "1 entries"),
    ],
)
def test_what_does_not_fit_the_axes_is_refused_with_what_would(resample, message):
    axes = [_axis("cell_centres", boundary=PERIODIC), _axis("cell_centres", "y", boundary=PERIODIC)]
    with pytest.raises(UserError, match=message):
        resample.on(axes, (12, 20))


def test_the_mean_of_nodes_is_refused():
    with pytest.raises(UserError, match="nodes with both ends included"):
        Resample(2, "block_mean").on([_axis("nodes")], [12])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": 0}, "at least 1.*given: 0"),
        ({"factors": (2, 1.5)}, "given: 1.5"),
        ({"factors": True}, "given: True"),
        ({"method": "block-mean"}, "did you mean 'block_mean'"),
        ({"crop": ((4, 2),)}, "first < stop"),
        ({"crop": ((-1, 2),)}, "first < stop"),
        ({"crop": ((1, 2, 3),)}, "pair of integers"),
    ],
)
def test_impossible_resampling_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Resample(**options)
