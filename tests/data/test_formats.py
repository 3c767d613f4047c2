"""Layouts are recognised by content, stated layouts are honoured, and what is wrong is said in one sentence."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from katops.data.formats import describe
from katops.errors import UserError


def test_a_katops_file_describes_itself(steady):
    layout = describe(steady)
    assert layout.format == "katops"
    assert (layout.n_samples, layout.n_frames, layout.space) == (9, 1, (12, 20))
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
    assert (layout.n_frames, layout.first_time) == (7, 1.0)
    assert (layout.meta.time_step, layout.meta.time_unit) == (pytest.approx(0.5), "s")
    assert [parameter.name for parameter in layout.meta.parameters] == ["viscosity"]


def test_arguments_select_channels_and_override_the_file(moving):
    layout = describe(moving, inputs=["velocity"], boundary=["periodic", "neumann"], grid="nodes", time_step=0.1)
    assert [array.name for array in layout.inputs] == ["velocity"]
    assert layout.meta.boundary == (("periodic", "periodic"), ("neumann", "neumann"))
    assert {axis.grid for axis in layout.meta.axes} == {"nodes"}
    assert layout.meta.time_step == 0.1


def test_a_file_without_outputs_can_be_described_for_prediction(steady):
    layout = describe(steady, outputs=[])
    assert layout.outputs == ()
    assert layout.meta.outputs == ()


def test_the_name_of_a_file_changes_nothing(steady, tmp_path):
    copies = [tmp_path / name for name in ("2D_CFD.hdf5", "train.mat", "no_extension")]
    for copy in copies:
        shutil.copy(steady, copy)
    assert all(describe(copy) == describe(steady) for copy in copies)


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
    assert (layout.n_samples, layout.n_frames, layout.space) == (800, 17, (16,))
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
        assert (layout.n_frames, layout.space, layout.time_dependent) == (frames, space, "time" in axes)
        assert [axis.name for axis in layout.meta.axes] == axes[-len(space) :]


def test_a_steady_channel_cannot_be_predicted_from_itself(write_plain):
    path = write_plain(u=np.ones((2, 12, 20)))
    with pytest.raises(UserError, match="both input and output"):
        describe(path, inputs=["u"], outputs=["u"], axes=["sample", "x", "y"])
    assert describe(path, inputs=["u"], outputs=["u"], axes=["sample", "time", "x"]).n_frames == 12


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i8", "f2", "f4", "f8", ">f4", ">i4"])
def test_real_element_types_are_accepted(write_plain, plane, dtype):
    path = write_plain(a=np.ones((2, 12, 20), dtype), b=np.ones((2, 12, 20), dtype))
    assert describe(path, **plane).n_samples == 2


def _refused(message: str, path: Path, **statement) -> None:
    with pytest.raises(UserError, match=message) as caught:
        describe(path, **statement)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text


def test_an_unknown_channel_is_named_with_the_nearest_one_and_all_others(steady, write_plain):
    _refused("no channel 'presure'; did you mean 'pressure'.*coefficient, pressure", steady, outputs=["presure"])
    plain = write_plain(permeability=np.ones((2, 12, 20)), pressure=np.ones((2, 12, 20)))
    _refused("no array 'presure'; did you mean 'pressure'", plain, inputs=["permeability"], outputs=["presure"])


def test_a_missing_file_is_named_with_its_neighbour(steady, tmp_path):
    _refused("no file .*did you mean 'data.h5'", tmp_path / "dta.h5")
    _refused("folder .* does not exist", tmp_path / "nowhere" / "data.h5")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is empty"),
        (b"time,x\n0,1\n", "is not an HDF5 file"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + b" " * 100, "MATLAB 5"),
        (b"\x93NUMPY\x01\x00" + b" " * 100, "NumPy array"),
        (b"PK\x03\x04" + b"\0" * 100, "zip archive"),
    ],
)
def test_other_containers_are_told_apart(tmp_path, contents, message):
    path = tmp_path / "data.h5"
    path.write_bytes(contents)
    _refused(message, path)


def test_a_folder_is_not_a_file(tmp_path):
    _refused("is a folder", tmp_path)


def test_a_user_block_before_the_data_is_skipped(tmp_path, plane):
    path = tmp_path / "matlab73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["a"], file["b"] = np.ones((2, 12, 20)), np.ones((2, 12, 20))
    assert describe(path, **plane).n_samples == 2


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(steady, share):
    os.truncate(steady, int(share * steady.stat().st_size))
    _refused("is truncated", steady)


def test_damaged_metadata_is_refused(steady):
    contents = bytearray(steady.read_bytes())
    contents[40:400] = b"\xff" * 360
    steady.write_bytes(contents)
    _refused("damaged", steady)


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
        (lambda f: _replace(f, "time", np.array([0.0, 1, 2, 3, 4, 5, 7])), "not evenly spaced"),
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


def test_frames_that_are_unevenly_spaced_are_read_with_a_stated_time_step(moving):
    _change(moving, lambda file: _replace(file, "time", np.array([0.0, 1, 2, 3, 4, 5, 7])))
    assert describe(moving, time_step=2.0).meta.time_step == 2.0


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
        (["time", "sample", "x"], "sample, then time"),
        (["sample", "x", "time"], "sample, then time"),
        (["sample", "channel", "x"], "one array per channel"),
        (["sample", "time"], "1 to 3 spatial axes"),
        (["sample", "x", "x"], "cannot be read"),
        (["sample", "time", "x", "y"], "states time, but no array has 4 axes"),
        (["sample", "x"], "does not fit"),
    ],
)
def test_stated_axes_that_cannot_be_meant_are_refused(write_plain, axes, message):
    path = write_plain(a=np.ones((2, 12, 20)), b=np.ones((2, 12, 20)))
    _refused(message, path, inputs=["a"], outputs=["b"], axes=axes)


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


def test_describing_and_inspecting_need_no_torch(repository):
    code = (
        "import sys; sys.argv = ['katops']\n"
        "import katops.data.formats, katops.data.inspect, katops.data.windows, katops.data.fingerprints\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
