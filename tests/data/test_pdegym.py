"""PDEgym's files say nothing but their arrays: channels, times and boundaries come from which arrays there are."""

import h5py
import numpy as np
import pytest

from katops.data.formats import FORMATS, describe
from katops.errors import UserError

N, SPACE = 3, (12, 20)


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("array", "count", "frames", "end", "names"),
    [
        ("velocity", 2, 21, 1.0, "velocity_x velocity_y"),
        ("velocity", 3, 21, 1.0, "velocity_x velocity_y tracer"),
        ("data", 5, 21, 1.0, "density velocity_x velocity_y pressure energy"),
        ("solution", 2, 21, 1.0, "velocity_x velocity_y"),
        ("solution", 5, 21, 2.0, "density velocity_x velocity_y pressure tracer"),
        ("solution", 6, 11, 5.0, "density velocity_x velocity_y pressure tracer potential"),
    ],
)
def test_fluids_have_named_channels_and_the_published_times(
    write_pdegym, read_channel, array, count, frames, end, names
):
    values = _numbers(N, frames, count, *SPACE)
    layout = describe(write_pdegym(**{array: values}))
    assert (layout.format, layout.n_samples, layout.space) == ("pdegym", N, SPACE)
    assert [channel.name for channel in layout.meta.inputs] == names.split()
    assert layout.meta.inputs == layout.meta.outputs
    np.testing.assert_allclose(layout.times, np.linspace(0, end, frames))
    for place, name in enumerate(names.split()):
        np.testing.assert_array_equal(read_channel(layout, name), values[:, :, place])
    assert layout.meta.licence == FORMATS["pdegym"].licence == "CC-BY-NC-4.0"
    assert any(f"taken for {layout.meta.name} of Poseidon" in note for note in layout.notes)


def test_channels_are_chosen_by_their_names_by_those_of_the_paper_and_by_the_vector(write_pdegym):
    path = write_pdegym(data=_numbers(N, 21, 5, *SPACE))
    layout = describe(path, inputs=["rho", "velocity"], outputs=["p", "v"])
    assert [array.name for array in layout.inputs] == ["density", "velocity_x", "velocity_y"]
    assert [array.component for array in layout.outputs] == [(3,), (2,)]


def test_frames_of_an_unpublished_number_count_as_one_apart(write_pdegym):
    path = write_pdegym(velocity=_numbers(N, 7, 3, *SPACE))
    layout = describe(path)
    assert layout.meta.time_step == 1.0
    assert any("7 frames, published are 21" in note for note in layout.notes)
    assert describe(path, time_step=0.05).meta.time_step == 0.05


def test_the_axes_of_ns_sl_can_be_swapped_as_poseidon_does(write_pdegym, read_channel):
    values = _numbers(N, 21, 2, *SPACE)
    path = write_pdegym(velocity=values)
    swapped = describe(path, axes=["sample", "time", "channel", "y", "x"])
    assert swapped.space == SPACE[::-1]
    assert [axis.name for axis in swapped.meta.axes] == ["x", "y"]
    np.testing.assert_array_equal(read_channel(swapped, "velocity_x"), values[:, :, 0].swapaxes(-1, -2))
    assert any("(y, x)" in note for note in describe(path).notes)


def test_waves_have_their_speed_as_a_constant(write_pdegym, read_channel):
    u, c = _numbers(N, 16, *SPACE), _numbers(N, *SPACE)
    layout = describe(write_pdegym(solution=u, c=c))
    assert [array.name for array in layout.constants] == ["wave_speed"]
    assert layout.meta.boundary == (("open", "open"),) * 2
    np.testing.assert_allclose(layout.times, np.linspace(0, 1, 16))
    np.testing.assert_array_equal(read_channel(layout, "wave_speed"), c)
    as_input = describe(layout.path, inputs=["solution", "c"])
    assert [array.name for array in as_input.inputs] == ["solution", "wave_speed"]
    assert as_input.constants == ()


def test_a_speed_of_other_points_than_the_waves_is_refused(write_pdegym):
    path = write_pdegym(solution=_numbers(N, 16, *SPACE))
    with h5py.File(path, "r+") as file:
        file["c"] = _numbers(N, *SPACE[::-1])
    with pytest.raises(UserError, match=r"'solution' \(3, 16, 12, 20\) and 'c' \(3, 20, 12\) disagree"):
        describe(path)


def test_allen_cahn_is_a_trajectory_and_the_airfoil_is_not(write_pdegym, read_channel):
    allen_cahn = describe(write_pdegym("ace.nc", solution=_numbers(N, 20, *SPACE)))
    assert (allen_cahn.meta.name, set(allen_cahn.frames)) == ("pdegym_allen_cahn", {20})
    assert allen_cahn.times[-1] == pytest.approx(2e-4)
    values = _numbers(N, 2, *SPACE)
    airfoil = describe(write_pdegym("af.nc", solution=values))
    assert not airfoil.time_dependent
    np.testing.assert_array_equal(read_channel(airfoil, "airfoil"), values[:, 0])
    np.testing.assert_array_equal(read_channel(airfoil, "density"), values[:, 1])


def test_poisson_maps_source_to_solution(write_pdegym):
    layout = describe(write_pdegym(source=_numbers(N, *SPACE), solution=_numbers(N, *SPACE)))
    assert [array.name for array in (*layout.inputs, *layout.outputs)] == ["source", "solution"]
    assert layout.meta.boundary == (("dirichlet", "dirichlet"),) * 2


def test_helmholtz_groups_are_samples_in_the_order_of_their_numbers(tmp_path):
    path = tmp_path / "helmholtz.h5"
    numbers = [0, 1, 2, 10, 11, 100]
    with h5py.File(path, "w") as file:
        for number in numbers:
            group = file.create_group(f"Sample_{number}")
            group["a"], group["u"], group["bc"] = np.full(SPACE, number), np.full(SPACE, -number), 0.5 * number
    layout = describe(path)
    assert (layout.format, layout.n_samples, layout.space) == ("pdegym", 6, SPACE)
    assert layout.inputs[0].datasets == tuple(f"/Sample_{number}/a" for number in numbers)
    assert layout.inputs[0].axes == ("x", "y")
    np.testing.assert_array_equal(layout.parameters[:, 0], 0.5 * np.array(numbers))
    with h5py.File(path, "r+") as file:
        del file["Sample_10/u"]
        file["Sample_10/u"] = np.ones(SPACE[::-1])
    with pytest.raises(UserError, match=r"Sample_10/u has shape \(20, 12\).*Sample_0/u has \(12, 20\)"):
        describe(path)


@pytest.mark.parametrize(
    "shapes",
    [
        {"velocity": (N, 21, 4, *SPACE)},
        {"data": (N, 21, 3, *SPACE)},
        {"solution": (N, 64, *SPACE)},
        {"solution": (N, *SPACE), "source": (N, 20, 12)},
        {"velocity": (N, 21, 3, *SPACE), "pressure": (N, 21, *SPACE)},
    ],
)
def test_other_arrays_of_the_same_names_are_not_taken_for_pdegym(write_plain, shapes):
    path = write_plain(**{name: _numbers(*shape) for name, shape in shapes.items()})
    with pytest.raises(UserError, match=r"is plain HDF5, so data\.inputs and data\.outputs must say"):
        describe(path)
