"""The katops layout describes itself: roles, axes, times, parameters; contradictions are refused."""

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


def test_a_katops_file_describes_itself(steady):
    layout = describe(steady)
    assert layout.format == "katops"
    assert (layout.n_samples, set(layout.frames), layout.space) == (9, {1}, (12, 20))
    assert [channel.name for channel in layout.meta.inputs] == ["coefficient"]
    assert [(channel.name, channel.unit) for channel in layout.meta.outputs] == [("pressure", "Pa")]
    assert layout.meta.boundary == (("dirichlet", "dirichlet"), ("dirichlet", "neumann"))
    assert [(axis.name, axis.upper, axis.unit) for axis in layout.meta.axes] == [("x", 1.0, "m"), ("y", 2.0, "m")]
    assert layout.meta.name == "example"
    assert layout.attributes["seed"] == 3
    assert not layout.time_dependent
    assert layout.meta.time_step is None


def test_a_state_is_input_and_output_and_has_the_time_step_of_the_file(moving):
    layout = describe(moving)
    assert [array.name for array in layout.inputs] == ["coefficient", "velocity"]
    assert [array.name for array in layout.outputs] == ["velocity"]
    assert [array.has_time for array in layout.inputs] == [False, True]
    assert set(layout.frames) == {7}
    np.testing.assert_allclose(layout.times, 1.0 + 0.5 * np.arange(7))
    assert (layout.meta.time_step, layout.meta.time_unit) == (pytest.approx(0.5), "s")
    assert [parameter.name for parameter in layout.meta.parameters] == ["viscosity"]


def test_arguments_select_channels_and_override_the_file(moving):
    layout = describe(moving, inputs=["velocity"], boundary=["periodic", "neumann"], grid="nodes", time_step=0.1)
    assert [array.name for array in layout.inputs] == ["velocity"]
    assert layout.meta.boundary == (("periodic", "periodic"), ("neumann", "neumann"))
    assert {axis.grid for axis in layout.meta.axes} == {"nodes"}
    assert layout.meta.time_step == 0.1


def _change(path: Path, change) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def _replace(file: h5py.File, name: str, values: np.ndarray) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    file[name].attrs.update(attributes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.__delitem__("complete"), "incomplete"),
        (lambda f: f.attrs.__setitem__("format_version", 7), "format_version 7"),
        (lambda f: _replace(f, "fields/velocity", np.ones((8, 7, 12, 20))), "8 samples.*9"),
        (lambda f: _replace(f, "fields/velocity", np.ones((9, 7, 20, 12))), r"\(9, 7, 20, 12\).*\(12, 20\)"),
        (lambda f: _replace(f, "fields/velocity", np.ones((9, 6, 12, 20))), r"/time has shape \(7,\).*6 frames"),
        (lambda f: _replace(f, "fields/velocity", np.ones((9, 7, 12, 20), complex)), "complex128"),
        (lambda f: _replace(f, "time", np.array([0.0, 1, 2, 3, 4, 5, 5])), "/time do not increase.*smallest step is 0"),
        (lambda f: _replace(f, "time", np.array([0.0, 1, np.nan, 3, 4, 5, 6])), "/time do not increase"),
        (lambda f: f.__setitem__("frames", np.arange(9)), "/frames has shape .* values from 0 to 8.*from 1 to 7"),
        (
            lambda f: f.__setitem__("scalars/force", np.ones(6)),
            r"force has shape \(6,\); it should be \(7,\) or \(9, 7\)",
        ),
        (lambda f: _replace(f, "parameters/viscosity", np.ones(8)), r"viscosity has shape \(8,\)"),
        (lambda f: _replace(f, "axes/x", np.linspace(0, 1, 12)), "coordinates in /axes/x"),
        (lambda f: f["axes/x"].attrs.__delitem__("grid"), "/axes/x lacks the attribute 'grid'"),
        (lambda f: f["axes/x"].attrs.__setitem__("position", 1), "positions"),
        (lambda f: f["fields/velocity"].attrs.__setitem__("role", "both"), "role 'both'"),
        (lambda f: f.__delitem__("time"), "no array /time"),
        (lambda f: f.__delitem__("fields"), "/fields holds no channel"),
        (lambda f: f.__delitem__("axes"), "/axes must hold"),
        (lambda f: f["fields"].__setitem__("lost", h5py.SoftLink("/nowhere")), "cannot be read"),
    ],
)
def test_a_katops_file_that_contradicts_itself_is_refused(moving, change, message):
    _refused(message, _change(moving, change))


def test_uneven_times_are_kept_and_a_stated_time_step_counts_frames_instead(moving):
    times = np.array([0.0, 1, 2, 3, 4, 5, 7])
    _change(moving, lambda file: _replace(file, "time", times))
    layout = describe(moving)
    assert layout.meta.time_step is None
    np.testing.assert_array_equal(layout.times, times)
    stated = describe(moving, time_step=2.0)
    assert stated.meta.time_step == 2.0
    np.testing.assert_array_equal(stated.times, 2.0 * np.arange(7))


def test_each_trajectory_may_have_its_own_times_and_its_own_length(moving):
    frames = np.array([7, 3, 7, 1, 2, 7, 4, 5, 6])
    times = np.where(np.arange(7) < frames[:, None], np.arange(7) * 0.5 + np.arange(9)[:, None], np.nan)
    _change(moving, lambda file: (_replace(file, "time", times), file.__setitem__("frames", frames)))
    layout = describe(moving)
    np.testing.assert_array_equal(layout.frames, frames)
    np.testing.assert_array_equal(layout.times, times)
    assert layout.meta.time_step == 0.5


def _version_2(file: h5py.File) -> None:
    file.attrs.update(format_version=2, coordinates="polar", licence="CC BY 4.0", citation="Somebody, 2024")
    file["fields/mask"] = np.ones((12, 20), bool)
    file["fields/force"] = np.ones((9, 12, 20))
    file["fields/mask"].attrs.update(role="constant", unit="")
    file["fields/force"].attrs.update(role="constant", unit="N")
    file["fields/velocity"].attrs.update(quantity="velocity", component=[1], shift=[0.0, 0.5])
    file["scalars/inflow"] = np.arange(7.0)
    file["scalars/inflow"].attrs["unit"] = "m/s"
    _replace(file, "axes/x", np.linspace(1, 0, 12) ** 2)
    file["axes/x"].attrs["grid"] = "uneven"


def test_version_2_knows_constants_uneven_grids_vectors_scalars_and_licences(moving):
    layout = describe(_change(moving, _version_2))
    assert [(array.name, array.axes) for array in layout.constants] == [
        ("mask", ("x", "y")),
        ("force", ("sample", "x", "y")),
    ]
    assert [(channel.name, channel.unit) for channel in layout.meta.constants] == [("mask", ""), ("force", "N")]
    assert [array.name for array in layout.inputs] == ["coefficient", "velocity"]
    velocity = layout.meta.outputs[0]
    assert (velocity.quantity, velocity.component, velocity.shift) == ("velocity", (1,), (0.0, 0.5))
    np.testing.assert_array_equal(layout.meta.axes[0].coordinates(12), np.linspace(1, 0, 12) ** 2)
    assert (layout.meta.coordinates, layout.meta.licence, layout.meta.citation) == (
        "polar",
        "CC BY 4.0",
        "Somebody, 2024",
    )
    assert [(channel.name, channel.unit) for channel in layout.meta.scalars] == [("inflow", "m/s")]
    np.testing.assert_array_equal(layout.scalars, np.arange(7.0).reshape(1, 7, 1))


def test_constants_are_chosen_by_name_and_leave_when_they_are_inputs(moving):
    _change(moving, _version_2)
    assert describe(moving, constants=["mask"]).meta.constants[0].name == "mask"
    assert describe(moving, constants=[]).meta.constants == ()
    layout = describe(moving, inputs=["velocity", "mask"])
    assert [array.name for array in layout.inputs] == ["velocity", "mask"]
    assert [array.name for array in layout.constants] == ["force"]
    _refused("data.constants names 'velocity', which changes in time|is an input", moving, constants=["velocity"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: _replace(f, "fields/mask", np.ones((20, 12))), r"constant is \(\*space\) or \(N, \*space\)"),
        (lambda f: _replace(f, "fields/force", np.ones((8, 12, 20))), "8 samples.*9|9 samples.*8"),
        (lambda f: _replace(f, "axes/x", np.array([0.0, 0.5, 0.2, *np.linspace(0.6, 1, 9)])), "neither increase nor"),
        (lambda f: f.attrs.__setitem__("coordinates", "bipolar"), "coordinates 'bipolar'"),
    ],
)
def test_a_version_2_file_that_contradicts_itself_is_refused(moving, change, message):
    _refused(message, _change(_change(moving, _version_2), change))


def test_parameters_are_chosen_by_name(moving):
    assert describe(moving, parameters=[]).parameters.shape == (9, 0)
    _refused("no parameter 'viscosty'; did you mean 'viscosity'", moving, parameters=["viscosty"])
