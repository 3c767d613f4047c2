"""Any file, with stated axes: what is stated is honoured, what is ambiguous is asked for."""

import itertools
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from katops.data.formats import describe
from katops.errors import UserError


def _refused(message: str, path: Path, **statement) -> None:
    with pytest.raises(UserError, match=message) as caught:
        describe(path, **statement)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text


def _refused_without_name(message: str, path: Path, **statement) -> None:
    with pytest.raises(UserError, match=message):
        describe(path, **statement)


def test_real_darcy_data_is_read_as_a_steady_plane(shared):
    layout = describe(
        shared / "data/pde/darcy_train_16.h5",
        inputs=["x"],
        outputs=["y"],
        axes=["sample", "x", "y"],
        grid="periodic_nodes",
    )
    assert (layout.format, layout.n_samples, layout.space) == ("plain", 1000, (16, 16))
    assert not layout.time_dependent
    assert layout.inputs[0].dtype == "|u1"
    np.testing.assert_allclose(layout.meta.axes[0].coordinates(16), np.arange(16) / 16)


def test_real_burgers_data_needs_its_axes_stated(shared):
    path = shared / "data/pde/burgers_train_16.h5"
    with pytest.raises(UserError, match=r"y \(800, 17, 16\).*data\.axes: \[sample, time, x\]"):
        describe(path, inputs=["x"], outputs=["y"])
    layout = describe(path, inputs=["x"], outputs=["y"], axes=["sample", "time", "x"], boundary="periodic")
    assert (layout.n_samples, set(layout.frames), layout.space) == (800, {17}, (16,))
    assert [array.has_time for array in (*layout.inputs, *layout.outputs)] == [False, True]


def test_plain_arrays_of_rank_two_are_steady_in_one_dimension(write_plain):
    layout = describe(write_plain(a=np.ones((4, 12)), b=np.ones((4, 12))), inputs=["a"], outputs=["b"])
    assert tuple(axis.name for axis in layout.meta.axes) == ("x",)
    assert (layout.n_samples, layout.space) == (4, (12,))
    assert not layout.time_dependent


@pytest.mark.parametrize(
    ("shape", "timed", "steady"),
    [
        ((4, 12, 20), ["sample", "time", "x"], ["sample", "x", "y"]),
        ((2, 3, 4, 5), ["sample", "time", "x", "y"], ["sample", "x", "y", "z"]),
    ],
)
def test_the_second_axis_of_rank_three_and_four_is_ambiguous_and_both_readings_are_offered(
    write_plain, shape, timed, steady
):
    path = write_plain(a=np.ones(shape), b=np.ones(shape))
    offers = f"data.axes: [{', '.join(timed)}] or data.axes: [{', '.join(steady)}]"
    _refused(re.escape(offers) + "$", path, inputs=["a"], outputs=["b"])
    for axes, frames, space in ((timed, shape[1], shape[2:]), (steady, 1, shape[1:])):
        layout = describe(path, inputs=["a"], outputs=["b"], axes=axes)
        assert (set(layout.frames), layout.space, layout.time_dependent) == ({frames}, space, "time" in axes)
        assert [axis.name for axis in layout.meta.axes] == axes[-len(space) :]


def test_a_steady_channel_cannot_be_predicted_from_itself(write_plain):
    path = write_plain(u=np.ones((2, 12, 20)))
    with pytest.raises(UserError, match="both input and output"):
        describe(path, inputs=["u"], outputs=["u"], axes=["sample", "x", "y"])
    assert describe(path, inputs=["u"], outputs=["u"], axes=["sample", "time", "x"]).frames[0] == 12


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i8", "f2", "f4", "f8", ">f4", ">i4"])
def test_real_element_types_are_accepted(write_plain, plane, dtype):
    path = write_plain(a=np.ones((2, 12, 20), dtype), b=np.ones((2, 12, 20), dtype))
    assert describe(path, **plane).n_samples == 2


def test_an_unknown_channel_is_named_with_the_nearest_one_and_all_others(steady, write_plain):
    _refused("no channel 'presure'; did you mean 'pressure'.*coefficient, pressure", steady, outputs=["presure"])
    plain = write_plain(permeability=np.ones((2, 12, 20)), pressure=np.ones((2, 12, 20)))
    _refused("no array 'presure'; did you mean 'pressure'", plain, inputs=["permeability"], outputs=["presure"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones((2, 12, 20)), "b": np.ones((3, 12, 20))}, r"'a' \(2, 12, 20\) and 'b' \(3, 12, 20\) disagree"),
        ({"a": np.ones((2, 12, 20)), "b": np.ones((2, 20, 12))}, "disagree"),
        ({"a": np.ones((0, 12, 20)), "b": np.ones((0, 12, 20))}, "no sample"),
        ({"a": np.ones((2, 12, 20), complex), "b": np.ones((2, 12, 20))}, "complex128"),
        ({"a": np.zeros((2, 12), "f4,f4"), "b": np.ones((2, 12))}, "only real numbers"),
    ],
)
def test_plain_arrays_that_do_not_fit_are_refused(write_plain, plane, arrays, message):
    _refused(message, write_plain(**arrays), **plane)


@pytest.mark.parametrize("shape", [(12,), (2, 3, 4, 5, 6, 7)])
def test_plain_arrays_of_a_rank_without_a_reading_are_refused(write_plain, shape):
    path = write_plain(a=np.ones(shape), b=np.ones(shape))
    _refused(r"must be \(sample, \*space\)", path, inputs=["a"], outputs=["b"])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["sample", "time"], "1 to 3 spatial axes"),
        (["sample", "x", "x"], "cannot be read"),
        (["sample", "time", "x", "y"], "states time, but no array has 4 axes"),
        (["sample", "x"], "does not fit"),
    ],
)
def test_stated_axes_that_cannot_be_meant_are_refused(write_plain, axes, message):
    path = write_plain(a=np.ones((2, 12, 20)), b=np.ones((2, 12, 20)))
    _refused(message, path, inputs=["a"], outputs=["b"], axes=axes)


def _axes_in_any_order() -> list[tuple[str, ...]]:
    return list(itertools.permutations(("sample", "time", "channel", "x", "y")))[::7]


@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize("axes", _axes_in_any_order())
def test_plain_axes_may_be_in_any_order_as_the_author_counts_them(
    write_plain, write_matlab73, read_channel, axes, column_major
):
    sizes = {"sample": 4, "time": 7, "channel": 2, "x": 12, "y": 20}
    values = np.random.default_rng(0).normal(size=[sizes[axis] for axis in axes])
    path = (write_matlab73 if column_major else write_plain)(data=values)
    layout = describe(path, inputs=["u", "v"], outputs=["v"], channels={"data": ["u", "v"]}, axes=axes)
    names = [name for name in axes if name in "xy"]
    assert [axis.name for axis in layout.meta.axes] == names
    assert (layout.n_samples, set(layout.frames), layout.space) == (4, {7}, tuple(sizes[name] for name in names))
    wanted = values.transpose([axes.index(axis) for axis in ("channel", "sample", "time", *names)])
    np.testing.assert_array_equal(read_channel(layout, "u"), wanted[0])
    np.testing.assert_array_equal(read_channel(layout, "v"), wanted[1])


def test_components_without_names_are_numbered_and_an_array_stands_for_all_of_them(write_plain):
    path = write_plain(data=np.ones((4, 7, 3, 12, 20)), group_a=np.ones((4, 7, 12, 20)))
    axes = {"data": ["sample", "time", "channel", "x", "y"], "group_a": ["sample", "time", "x", "y"]}
    layout = describe(path, inputs=["data", "group_a"], outputs=["data[2]", "data[0]"], axes=axes)
    assert [array.name for array in layout.inputs] == ["data[0]", "data[1]", "data[2]", "group_a"]
    assert [array.component for array in layout.outputs] == [(2,), (0,)]
    common = describe(path, inputs=["data", "group_a"], outputs=["data"], axes=axes["data"])
    assert common.inputs == layout.inputs
    unclear = write_plain("unclear.h5", data=np.ones((4, 3, 3, 12, 20)), group_a=np.ones((4, 3, 12, 20)))
    _refused(
        r"may have the axes \[sample, channel, x, y\] or \[sample, time, x, y\]",
        unclear,
        inputs=["group_a"],
        outputs=["data"],
        axes=axes["data"],
    )


def test_an_array_without_samples_is_the_same_for_all_and_one_without_time_in_all_frames(write_plain):
    path = write_plain(u=np.ones((4, 7, 12, 20)), a=np.ones((4, 12, 20)), mask=np.ones((12, 20), bool))
    layout = describe(path, inputs=["u", "a"], outputs=["u"], constants=["mask"], axes=["sample", "time", "x", "y"])
    assert [array.axes for array in layout.inputs] == [("sample", "time", "x", "y"), ("sample", "x", "y")]
    assert [array.axes for array in layout.constants] == [("x", "y")]
    alone = describe(path, inputs=["mask"], outputs=[], axes=["x", "y"])
    assert alone.n_samples == 1


def test_a_file_may_hold_one_trajectory(write_plain):
    layout = describe(write_plain(u=np.ones((7, 12, 20))), inputs=["u"], outputs=["u"], axes=["time", "x", "y"])
    assert (layout.n_samples, list(layout.frames), layout.space) == (1, [7], (12, 20))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (4,), (4, 1), (1, 4)])
def test_parameters_of_plain_files_are_numbers_or_one_number_per_sample(write_plain, plane, shape):
    values = np.arange(1.0, 1.0 + np.prod(shape, dtype=int)).reshape(shape)
    path = write_plain(a=np.ones((4, 12, 20)), b=np.ones((4, 12, 20)), nu=values)
    layout = describe(path, **plane, parameters=["nu"])
    assert [channel.name for channel in layout.meta.parameters] == ["nu"]
    np.testing.assert_array_equal(layout.parameters[:, 0], np.broadcast_to(values.ravel(), 4))


def test_parameters_of_another_number_are_refused(write_plain, plane):
    path = write_plain(a=np.ones((4, 12, 20)), b=np.ones((4, 12, 20)), nu=np.ones(5))
    _refused(r"'nu' has shape \(5,\).*parameter is one real number, or \(4,\)", path, **plane, parameters=["nu"])
    _refused("no array 'mu'", path, **plane, parameters=["mu"])


def test_the_domain_of_a_plain_file_is_the_unit_square_or_what_is_stated(write_plain, plane):
    path = write_plain(a=np.ones((4, 12, 20)), b=np.ones((4, 12, 20)))
    assert [(axis.lower, axis.upper) for axis in describe(path, **plane).meta.axes] == [(0, 1), (0, 1)]
    stated = describe(path, **plane, domain=[[0, 1], [-1, 2]])
    assert [(axis.lower, axis.upper) for axis in stated.meta.axes] == [(0, 1), (-1, 2)]
    _refused_without_name("data.domain has 1 entries", path, **plane, domain=[[0, 1]])
    _refused_without_name(r"must hold \[lower, upper\]", path, **plane, domain=[0, 1])


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ({"axes": {"a": ["sample", "x", "y"]}}, r"data.axes says nothing about the array 'b' of shape \(2, 12, 20\)"),
        ({"axes": {"a": ["sample", "x", "y"], "b": ["sample", "x"]}}, "'b' has shape .* does not fit"),
        ({"axes": {"a": ["sample", "x", "y"], "b": ["sample", "x", "z"]}}, "no array has all of them"),
        ({"axes": {"a": ["sample", "x", "y"], "c": ["x"]}}, "no array 'c'"),
        ({"axes": {"a": ["sample", "x", "y"], "b": ["sample", "y", "x"]}}, "disagree along 'y' \\(20 and 12\\)"),
        ({"axes": ["sample", "x", "y"], "channels": {"a": ["u", "v"]}}, "states no channel axis for it"),
        (
            {"axes": ["sample", "channel", "x"], "channels": {"a": ["u", "v"]}},
            "names 2 components of 'a'.*has 12 along",
        ),
        ({"axes": ["sample", "x", "y"], "constants": ["missing"]}, "no array 'missing'"),
    ],
)
def test_statements_that_do_not_fit_a_plain_file_are_refused(write_plain, statement, message):
    path = write_plain(a=np.ones((2, 12, 20)), b=np.ones((2, 12, 20)))
    _refused(message, path, inputs=["a"], outputs=["b"], **statement)


def test_components_of_two_arrays_cannot_have_the_same_name(write_plain):
    path = write_plain(a=np.ones((2, 2, 12)), b=np.ones((2, 2, 12)))
    names = {"a": ["u", "v"], "b": ["u", "w"]}
    _refused(
        "two components the name 'u'",
        path,
        inputs=["a"],
        outputs=["b"],
        axes=["sample", "channel", "x"],
        channels=names,
    )


def test_a_list_is_a_list(write_plain):
    path = write_plain(a=np.ones((2, 12)))
    _refused_without_name(r"data.inputs must be a list of names, e.g. \[a\]", path, inputs="a", outputs=[])


def test_a_plain_file_without_a_statement_lists_its_arrays_and_the_lines_to_add(write_plain):
    path = write_plain(a=np.ones((2, 12, 20)), b=np.ones((2, 12, 20)), grid=np.ones(12))
    with pytest.raises(UserError, match=re.escape("'inputs: [a]' and 'outputs: [b]'; arrays in the file: a (2, 12")):
        describe(path)


def test_an_array_that_was_created_but_never_written_is_not_taken_for_zeros(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.ones((2, 12, 20))
        file.create_dataset("b", (2, 12, 20), "f4")
    _refused("'b' was created but never written", path, inputs=["a"], outputs=["b"])
