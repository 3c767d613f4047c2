"""The classic MATLAB, NumPy and torch files: recognised by variables and shapes, transposed never, guessed seldom."""

import shutil

import h5py
import numpy as np
import pytest

from katops.data.formats import describe
from katops.errors import UserError

N, T, SPACE = 6, 7, (12, 20)


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


@pytest.fixture(params=["five", "five compressed", "seven", "seven contiguous"])
def write_matlab(request, write_matlab5, write_matlab73):
    """Every form in which MATLAB stores arrays."""
    write = write_matlab5 if request.param.startswith("five") else write_matlab73
    return lambda **arrays: write(compressed=request.param in ("five compressed", "seven"), **arrays)


def test_burgers_pairs_are_periodic_with_the_right_end_left_out(read_channel, write_matlab):
    a, u, smooth = _numbers(N, 20), _numbers(N, 20) + 1, _numbers(N, 20) + 2
    layout = describe(write_matlab(a=a, u=u, a_smooth=smooth))
    assert (layout.format, layout.n_samples, layout.space, layout.time_dependent) == ("fno_burgers", N, (20,), False)
    np.testing.assert_array_equal(read_channel(layout, "a"), a)
    np.testing.assert_array_equal(read_channel(layout, "u"), u)
    np.testing.assert_allclose(layout.meta.axes[0].coordinates(20), np.arange(20) / 20)
    assert layout.meta.boundary == (("periodic", "periodic"),)
    assert any("Burgers set of FNO" in note for note in layout.notes)
    chosen = describe(layout.path, inputs=["a_smooth"])
    np.testing.assert_array_equal(read_channel(chosen, "a_smooth"), smooth)


def test_darcy_pairs_have_nodes_with_both_ends(read_channel, write_matlab):
    coefficient, pressure = np.where(_numbers(N, *SPACE) > 0, 12.0, 3.0), _numbers(N, *SPACE)
    layout = describe(write_matlab(coeff=coefficient, sol=pressure, Kcoeff=coefficient + 1))
    assert (layout.format, layout.space) == ("fno_darcy", SPACE)
    np.testing.assert_array_equal(read_channel(layout, "coefficient"), coefficient)
    np.testing.assert_array_equal(read_channel(layout, "pressure"), pressure)
    np.testing.assert_allclose(layout.meta.axes[1].coordinates(20), np.linspace(0, 1, 20))
    assert layout.meta.boundary == (("dirichlet", "dirichlet"),) * 2
    by_their_own_names = describe(layout.path, inputs=["coeff"], outputs=["sol"])
    assert by_their_own_names == layout


def test_navier_stokes_trajectories_with_time_last_are_states(read_channel, write_matlab):
    u, a = _numbers(N, *SPACE, T), _numbers(N, *SPACE)
    layout = describe(write_matlab(u=u, a=a, t=np.arange(1.0, T + 1)))
    assert (layout.format, layout.space, set(layout.frames)) == ("fno_navier_stokes", SPACE, {T})
    np.testing.assert_array_equal(read_channel(layout, "vorticity"), np.moveaxis(u, -1, 1))
    np.testing.assert_array_equal(layout.times, np.arange(1.0, T + 1))
    assert (layout.meta.time_step, layout.inputs) == (1.0, layout.outputs)
    assert any("one step before the first frame" in note for note in layout.notes)
    assert describe(layout.path, time_step=0.5).meta.time_step == 0.5


def test_navier_stokes_trajectories_with_time_second_are_read_as_such(read_channel, write_matlab):
    u = _numbers(N, T, *SPACE)
    layout = describe(write_matlab(u=u, a=_numbers(N, *SPACE)))
    np.testing.assert_array_equal(read_channel(layout, "vorticity"), u)
    assert set(layout.frames) == {T}


def test_an_undecidable_time_axis_is_asked_for(read_channel, write_matlab):
    u = _numbers(N, T, 12, T)
    path = write_matlab(u=u, t=np.arange(T))
    both = r"data\.axes: \[sample, x, y, time\] or data\.axes: \[sample, time, x, y\]"
    with pytest.raises(UserError, match=both):
        describe(path)
    last, second = (describe(path, axes=axes.split()) for axes in ("sample x y time", "sample time x y"))
    assert (last.space, second.space) == ((T, 12), (12, T))
    np.testing.assert_array_equal(read_channel(last, "vorticity"), np.moveaxis(u, -1, 1))
    np.testing.assert_array_equal(read_channel(second, "vorticity"), u)
    with pytest.raises(UserError, match="does not fit the arrays"):
        describe(path, axes=["sample", "x", "time", "y"])


def test_navier_stokes_arrays_that_do_not_fit_one_another_are_refused(write_matlab):
    with pytest.raises(UserError, match=r"u \(6, 12, 20, 7\), a \(6, 20, 12\)"):
        describe(write_matlab(u=_numbers(N, *SPACE, T), a=_numbers(N, *SPACE[::-1])))


def test_plasticity_maps_a_line_to_trajectories_of_a_mesh(read_channel, write_matlab):
    given, sought = _numbers(N, 12), _numbers(N, *SPACE, T, 4)
    layout = describe(write_matlab(input=given, output=sought))
    assert (layout.format, layout.space, set(layout.frames)) == ("geo_fno_plasticity", SPACE, {T})
    np.testing.assert_array_equal(read_channel(layout, "input"), given)
    np.testing.assert_array_equal(read_channel(layout, "output[3]"), np.moveaxis(sought[..., 3], -1, 1))
    assert [array.name for array in describe(layout.path, outputs=["output[3]", "output[0]"]).outputs] == [
        "output[3]",
        "output[0]",
    ]


def test_other_matlab_arrays_offer_time_in_last_place_too(write_matlab):
    path = write_matlab(w=_numbers(N, *SPACE, T))
    with pytest.raises(UserError, match=r"data\.axes: \[sample, time, x, y\] or data\.axes: \[sample, x, y, time\] or"):
        describe(path, inputs=["w"], outputs=["w"])
    layout = describe(path, inputs=["w"], outputs=["w"], axes=["sample", "x", "y", "time"])
    assert (layout.n_samples, layout.space, set(layout.frames)) == (N, SPACE, {T})
    assert layout.meta.axes[0].name == "x"


def test_logical_arrays_of_matlab_are_numbers(write_matlab73):
    path = write_matlab73(coeff=_numbers(N, *SPACE) > 0, sol=_numbers(N, *SPACE))
    assert describe(path).inputs[0].dtype in ("|b1", "|u1")


def test_a_sparse_matrix_of_matlab_is_no_field(write_matlab73):
    path = write_matlab73(sol=_numbers(N, *SPACE))
    with h5py.File(path, "r+") as file:
        sparse = file.create_group("coeff")
        sparse.attrs["MATLAB_sparse"] = np.uint64(12)
        sparse["data"], sparse["ir"], sparse["jc"] = np.ones(3), np.arange(3), np.arange(4)
    with pytest.raises(UserError, match="'coeff' is a group"):
        describe(path, inputs=["coeff"], outputs=["sol"], axes=["sample", "x", "y"])


@pytest.mark.parametrize("sample_fastest", [False, True])
def test_neuraloperator_darcy_has_left_closed_nodes(read_channel, write_torch, sample_fastest):
    x, y = _numbers(N, *SPACE) > 0, _numbers(N, *SPACE).astype(np.float32)
    layout = describe(write_torch(sample_fastest=sample_fastest, x=x, y=y))
    assert (layout.format, layout.n_samples, layout.space) == ("neuraloperator_darcy", N, SPACE)
    np.testing.assert_array_equal(read_channel(layout, "coefficient"), x)
    np.testing.assert_array_equal(read_channel(layout, "pressure"), y)
    np.testing.assert_allclose(layout.meta.axes[0].coordinates(12), np.arange(12) / 12)
    assert layout.meta.boundary == (("dirichlet", "dirichlet"),) * 2


def test_real_darcy_data_saved_as_neuraloperator_does_is_read_bit_by_bit(read_channel, shared, write_torch):
    with h5py.File(shared / "data/pde/darcy_test_32.h5") as file:
        x, y = file["x"][()].astype(bool), file["y"][()]
    layout = describe(write_torch(sample_fastest=True, x=x, y=y))
    np.testing.assert_array_equal(read_channel(layout, "coefficient"), x)
    np.testing.assert_array_equal(read_channel(layout, "pressure"), y)


def test_real_burgers_data_saved_as_neuraloperator_does_has_its_viscosity(read_channel, shared, write_torch):
    with h5py.File(shared / "data/pde/burgers_test_16.h5") as file:
        x, y, viscosity = (file[name][()] for name in ("x", "y", "visc"))
    layout = describe(write_torch(sample_fastest=True, x=x, y=y, visc=viscosity))
    assert (layout.format, layout.n_samples, set(layout.frames)) == ("neuraloperator_burgers", 400, {17})
    assert [channel.name for channel in layout.meta.parameters] == ["viscosity"]
    np.testing.assert_array_equal(layout.parameters, np.full((400, 1), 0.01))
    np.testing.assert_array_equal(read_channel(layout, "velocity"), y)
    pair = describe(layout.path, inputs=["initial_velocity"])
    np.testing.assert_array_equal(read_channel(pair, "initial_velocity"), read_channel(layout, "velocity")[:, 0])


def test_float_pairs_in_a_torch_file_are_ambiguous_and_the_candidates_are_listed(write_torch):
    path = write_torch(x=_numbers(N, *SPACE), y=_numbers(N, *SPACE))
    names = ("neuraloperator_darcy", "neuraloperator_navier_stokes")
    with pytest.raises(UserError, match=rf"data\.format: NAME.*{', '.join(names)}, or plain"):
        describe(path)
    assert [describe(path, format=name).format for name in names] == list(names)
    assert describe(path, format=names[1]).meta.boundary == (("periodic", "periodic"),) * 2
    plain = describe(path, format="plain", inputs=["x"], outputs=["y"], axes=["sample", "x", "y"])
    assert (plain.format, plain.space) == ("plain", SPACE)


def test_a_single_array_with_the_samples_last_is_read_with_stated_axes(read_channel, write_numpy):
    values = _numbers(*SPACE, N)
    for array in (values, np.asfortranarray(values), values.astype(">f4")):
        path = write_numpy(array)
        layout = describe(path, inputs=["data"], outputs=[], axes=["x", "y", "sample"])
        assert (layout.n_samples, layout.space) == (N, SPACE)
        np.testing.assert_array_equal(read_channel(layout, "data"), np.moveaxis(array, -1, 0))


def test_several_arrays_of_a_numpy_archive_are_read_with_stated_axes(read_channel, write_numpy):
    a, b = _numbers(N, *SPACE), _numbers(N, *SPACE)
    layout = describe(
        write_numpy(name="pair.npz", a=a, b=b), inputs=["a"], outputs=["b"], axes=["sample", "x", "y"], grid="nodes"
    )
    np.testing.assert_array_equal(read_channel(layout, "a"), a)
    np.testing.assert_array_equal(read_channel(layout, "b"), b)


def test_the_name_of_a_classic_file_changes_nothing(write_matlab, tmp_path):
    path = write_matlab(coeff=_numbers(N, *SPACE), sol=_numbers(N, *SPACE))
    copies = [tmp_path / name for name in ("2D_DarcyFlow.hdf5", "train.pt", "no_extension")]
    for copy in copies:
        shutil.copy(path, copy)
    assert all(describe(copy) == describe(path) for copy in copies)
