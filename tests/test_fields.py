"""Axes, channels, boundaries: what a FieldMeta says is consistent and survives JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.errors import UserError
from katops.fields import BOUNDARIES, COORDINATES, GRIDS, Axis, Channel, FieldMeta, FieldSample, normalise_boundary

side = st.sampled_from([name for name in BOUNDARIES if name != "periodic"])
boundary = st.one_of(st.just(("periodic", "periodic")), st.tuples(side, side))
even = {"name": st.sampled_from("xyz"), "lower": st.floats(-10, 0), "upper": st.floats(0.5, 10), "boundary": boundary}
even_axis = st.builds(
    Axis, grid=st.sampled_from([name for name in GRIDS if name != "uneven"]), unit=st.sampled_from(["", "m"]), **even
)
points = st.lists(st.floats(0, 0.5), min_size=2, max_size=5, unique=True).map(sorted)
uneven_axis = st.builds(Axis, grid=st.just("uneven"), points=points, **even)
names = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4, unique=True)
component = st.lists(st.integers(0, 2), max_size=2)
channels = st.builds(
    lambda names, component, shift: tuple(Channel(name, "Pa", "v", component, shift) for name in names),
    names,
    component,
    st.lists(st.sampled_from([0.0, 0.5]), max_size=2),
)


@settings(deadline=None, max_examples=50)
@given(
    st.builds(
        FieldMeta,
        name=st.just("set"),
        inputs=channels,
        outputs=channels,
        axes=st.lists(even_axis | uneven_axis, min_size=1, max_size=3).map(tuple),
        steps_in=st.integers(1, 4),
        steps_out=st.integers(1, 4),
        time_step=st.none() | st.floats(1e-3, 1.0),
        constants=st.just(()) | st.just((Channel("a name that is not drawn"),)),
        scalars=channels,
        coordinates=st.sampled_from(COORDINATES),
        licence=st.sampled_from(["", "CC BY 4.0"]),
    )
)
def test_a_meta_survives_json(meta: FieldMeta) -> None:
    assert FieldMeta.from_dict(json.loads(json.dumps(meta.to_dict()))) == meta
    assert meta.in_channels == meta.steps_in * len(meta.inputs) + len(meta.constants)
    assert meta.out_channels == meta.steps_out * len(meta.outputs)


@settings(deadline=None, max_examples=50)
@given(even_axis, st.integers(2, 50))
def test_grid_points_are_equidistant_and_inside(axis: Axis, size: int) -> None:
    points = axis.coordinates(size)
    step = (axis.upper - axis.lower) / (size - 1 if axis.grid == "nodes" else size)
    np.testing.assert_allclose(np.diff(points), step, rtol=1e-9)
    first, last = {
        "cell_centres": (axis.lower + step / 2, axis.upper - step / 2),
        "nodes": (axis.lower, axis.upper),
        "periodic_nodes": (axis.lower, axis.upper - step),
    }[axis.grid]
    np.testing.assert_allclose([points[0], points[-1]], [first, last], atol=1e-9)


def test_one_name_stands_for_every_side() -> None:
    assert normalise_boundary("neumann", 2) == (("neumann", "neumann"), ("neumann", "neumann"))


def test_sides_can_differ_per_axis_and_per_side() -> None:
    assert normalise_boundary(["periodic", ["dirichlet", "neumann"]], 2) == (
        ("periodic", "periodic"),
        ("dirichlet", "neumann"),
    )


@pytest.mark.parametrize(
    ("boundary", "n_axes", "message"),
    [
        ("perodic", 2, "did you mean 'periodic'"),
        (["periodic"], 2, "1 entries; give one for each of the 2 axes"),
        ([["periodic", "neumann"]], 1, "periodic on both sides or on neither"),
        ([["neumann"]], 1, "not a .lower side, upper side. pair"),
    ],
)
def test_a_bad_boundary_is_told_in_one_sentence(boundary: object, n_axes: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        normalise_boundary(boundary, n_axes)


def test_an_empty_axis_and_an_unknown_grid_are_refused() -> None:
    with pytest.raises(UserError, match=r"lower end 1\.0 is not below upper end 1\.0"):
        Axis("x", lower=1.0, upper=1.0)
    with pytest.raises(UserError, match="did you mean 'cell_centres'"):
        Axis("x", grid="cell_centers")


def test_channels_are_named_once() -> None:
    with pytest.raises(UserError, match="each once"):
        FieldMeta("set", (Channel("u"), Channel("u")), (Channel("v"),), (Axis("x"),))
    with pytest.raises(UserError, match="1 to 3 spatial axes"):
        FieldMeta("set", (Channel("u"),), (Channel("v"),), ())


def test_an_uneven_axis_has_its_points_and_no_others() -> None:
    axis = Axis("r", grid="uneven", points=(0.0, 0.1, 1.0))
    np.testing.assert_array_equal(axis.coordinates(3), [0.0, 0.1, 1.0])
    with pytest.raises(UserError, match="axis 'r' has 3 uneven points; asked for: 4"):
        axis.coordinates(4)


@pytest.mark.parametrize("options", [{"grid": "uneven"}, {"grid": "nodes", "points": (0.0, 1.0)}])
def test_points_belong_to_uneven_grids_and_to_no_others(options: dict) -> None:
    with pytest.raises(UserError, match="grid 'uneven' needs points, and the other grids have none"):
        Axis("r", **options)


def test_unknown_coordinates_are_refused() -> None:
    with pytest.raises(UserError, match="unknown coordinates 'spheric'; did you mean 'spherical'"):
        FieldMeta("set", (Channel("u"),), (), (Axis("x"),), coordinates="spheric")


def test_a_stencil_sees_zero_normal_derivatives_where_the_data_name_no_condition() -> None:
    axes = (Axis("x", boundary=("wall", "open")), Axis("y", boundary=("none", "dirichlet")))
    meta = FieldMeta("set", (Channel("u"),), (), axes)
    assert meta.boundary == (("wall", "open"), ("none", "dirichlet"))
    assert meta.stencil_boundary == (("neumann", "neumann"), ("neumann", "dirichlet"))


def test_a_description_from_before_constants_were_known_is_read() -> None:
    meta = FieldMeta("set", (Channel("u"),), (Channel("u"),), (Axis("x"),))
    old = {key: value for key, value in meta.to_dict().items() if key not in ("constants", "scalars", "coordinates")}
    old["inputs"] = [{"name": "u", "unit": ""}]
    assert FieldMeta.from_dict(old) == meta


def test_a_function_reaches_every_tensor_of_a_sample() -> None:
    sample = FieldSample(x=1, time=2, constants=3, scalars_out=4)
    assert sample.map(lambda value: 10 * value) == FieldSample(x=10, time=20, constants=30, scalars_out=40)


def test_a_boundary_may_name_the_axes_in_any_order() -> None:
    expected = (("periodic", "periodic"), ("dirichlet", "neumann"))
    assert normalise_boundary({"y": ["dirichlet", "neumann"], "x": "periodic"}, 2) == expected
    assert normalise_boundary({"r": "neumann"}, 1, names=["r"]) == (("neumann", "neumann"),)


@pytest.mark.parametrize("boundary", [{"x": "periodic"}, {"x": "periodic", "z": "neumann"}, {}])
def test_a_boundary_that_names_other_axes_is_refused(boundary: dict[str, str]) -> None:
    with pytest.raises(UserError, match="must have one entry for each of the axes x, y"):
        normalise_boundary(boundary, 2)
