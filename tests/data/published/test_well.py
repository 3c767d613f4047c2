"""The Well: what its flags mean, its boundary masks, grids and scalars."""

import h5py
import numpy as np
import pytest

from katops.data.formats import describe
from katops.errors import UserError

NX, NY = 12, 20
TIMES = 0.25 * np.arange(6)
LEFT = np.zeros(NX, bool)
LEFT[0] = True


@pytest.fixture
def grids():
    """x periodic without its right end on [0, 4], y cell centres of [0, 1]."""
    return {"x": 4.0 * np.arange(NX) / NX, "y": (np.arange(NY) + 0.5) / NY}


@pytest.fixture
def velocity(plane):
    return np.stack([plane["velocity_x"], plane["velocity_y"]], axis=-1)


@pytest.fixture
def strain(plane):
    """A field of 2 x 2 tensors, (4, 6, 12, 20, 2, 2)."""
    rows = [[plane["density"], plane["pressure"]], [plane["velocity_x"], plane["velocity_y"]]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


@pytest.fixture
def flow(write_well, well_field, plane, velocity, grids):
    """``flow(**options)`` writes pressure and density, the vector velocity, and two boundary conditions."""
    scalars = {"pressure": well_field(plane["pressure"]), "density": well_field(plane["density"])}
    boundary = {
        "x_periodic": ("PERIODIC", ["x"], np.array([True, *[False] * (NX - 2), True])),
        "y_wall": ("wall", ["y"], np.array([True, *[False] * (NY - 2), True])),
    }

    usual = (scalars, {"velocity": well_field(velocity)})

    def write(orders=usual, grids=grids, times=TIMES, n_samples=4, **options):
        return write_well(orders, grids, times, n_samples, **{"boundary": boundary, **options})

    return write


def test_channels_come_in_canonical_order_with_their_place_in_the_vector(flow, plane, read_all):
    layout = describe(flow())
    assert layout.format == "the_well"
    assert [c.name for c in layout.meta.inputs] == ["density", "pressure", "velocity_x", "velocity_y"]
    assert [c.component for c in layout.meta.inputs] == [(), (), (0,), (1,)]
    names = ("density", "pressure", "velocity_x", "velocity_y")
    np.testing.assert_array_equal(np.stack(read_all(layout)), np.stack([plane[n] for n in names], axis=2))


def test_a_whole_vector_is_selected_by_its_name(flow):
    layout = describe(flow(), inputs=["velocity"], outputs=["pressure"])
    assert [c.name for c in layout.meta.inputs] == ["velocity_x", "velocity_y"]
    assert [c.name for c in layout.meta.outputs] == ["pressure"]


def test_grids_boundaries_times_and_licence(flow):
    meta = describe(flow()).meta
    assert [(a.name, a.grid, a.lower, a.upper, a.boundary) for a in meta.axes] == [
        ("x", "periodic_nodes", 0.0, 4.0, ("periodic", "periodic")),
        ("y", "cell_centres", 0.0, 1.0, ("wall", "wall")),
    ]
    assert (meta.time_step, meta.licence, meta.coordinates) == (pytest.approx(0.25), "CC BY 4.0", "cartesian")


def test_what_does_not_change_in_time_is_a_constant(flow, well_field, plane, read_all):
    fields = {
        "density": well_field(plane["density"][:, 0], time=False),
        "speed_of_sound": well_field(plane["pressure"][0, 0], sample=False, time=False),
        "depth": well_field(plane["pressure"][0, 0, :, 3], sample=False, time=False, dims=(True, False)),
        "pressure": well_field(plane["pressure"]),
    }
    layout = describe(flow((fields,)))
    assert [c.name for c in layout.meta.inputs] == ["pressure"]
    assert [c.name for c in layout.meta.constants] == ["density", "depth", "speed_of_sound"]
    constants = np.stack(read_all(layout, "constants"))[:, 0]
    np.testing.assert_array_equal(constants[:, 0], plane["density"][:, 0])
    np.testing.assert_array_equal(constants[2, 1], np.repeat(plane["pressure"][0, 0, :, 3:4], NY, axis=1))
    np.testing.assert_array_equal(constants[3, 2], plane["pressure"][0, 0])


def test_a_constant_that_is_stated_as_an_input_is_repeated_in_every_frame(flow, well_field, plane, read_all):
    fields = {"mask": well_field(plane["density"][:, 0], time=False), "pressure": well_field(plane["pressure"])}
    layout = describe(flow((fields,)), inputs=["pressure", "mask"])
    assert layout.meta.constants == ()
    np.testing.assert_array_equal(read_all(layout)[1][:, 1], np.broadcast_to(plane["density"][1, 0], (6, NX, NY)))


@pytest.mark.parametrize("flattened", [False, True])
def test_tensors_are_read_row_by_row_also_where_they_are_flattened(
    flow, well_field, strain, plane, read_all, flattened
):
    values = strain.reshape(*strain.shape[:-2], 4) if flattened else strain
    layout = describe(flow(({}, {}, {"D": well_field(values, symmetric=False, antisymmetric=False)})))
    assert [(c.name, c.component) for c in layout.meta.inputs] == [
        ("D_xx", (0, 0)),
        ("D_xy", (0, 1)),
        ("D_yx", (1, 0)),
        ("D_yy", (1, 1)),
    ]
    np.testing.assert_array_equal(np.stack(read_all(layout)), np.stack(list(plane.values()), axis=2))


def test_a_symmetric_tensor_says_so(flow, well_field, strain):
    layout = describe(flow(({}, {}, {"C": well_field(strain, symmetric=True, antisymmetric=False)})))
    assert any("C is symmetric" in note for note in layout.notes)


def test_scalars_of_every_published_shape(flow):
    per_sample, per_frame = np.arange(4.0), np.linspace(0, 1, 6)
    both = per_sample[:, None] + per_frame
    scalars = {
        "gamma": (1.4, False, False),
        "k": ([0.5], False, False),
        "F": (per_sample, True, False),
        "drive": (per_frame, False, True),
        "load": (both, True, True),
    }
    layout = describe(flow(scalars=scalars, parameters={"Rayleigh": 1e6, "F": 7.0}))
    table = {c.name: v for c, v in zip(layout.meta.parameters, layout.parameters.T, strict=True)}
    assert table.keys() == {"gamma", "k", "F", "Rayleigh"}
    np.testing.assert_allclose(table["gamma"], [1.4] * 4, rtol=1e-6)
    np.testing.assert_array_equal(table["F"], per_sample)
    np.testing.assert_array_equal(table["Rayleigh"], [1e6] * 4)
    assert [c.name for c in layout.meta.scalars] == ["drive", "load"]
    assert layout.scalars.shape == (4, 6, 2)
    np.testing.assert_allclose(layout.scalars[2, :, 0], per_frame, rtol=1e-6)
    np.testing.assert_allclose(layout.scalars[..., 1], both, rtol=1e-6)


def test_scalars_that_no_sample_varies_take_one_row(flow):
    assert describe(flow(scalars={"drive": (np.arange(6.0), False, True)})).scalars.shape == (1, 6, 1)


def test_a_scalar_of_an_impossible_shape_is_refused(flow):
    with pytest.raises(UserError, match=r"scalars/F has shape \(5,\)"):
        describe(flow(scalars={"F": (np.arange(5.0), True, False)}))


@pytest.mark.parametrize("rows", [1, 4])
def test_times_per_sample_are_kept_where_they_differ(flow, rows):
    times = TIMES * (1 + np.arange(4)[:, None] * (rows == 4))
    layout = describe(flow(times=times))
    assert layout.times.shape == ((6,) if rows == 1 else (4, 6))
    np.testing.assert_allclose(np.broadcast_to(layout.times, (4, 6)), times)
    assert layout.meta.time_step == (pytest.approx(0.25) if rows == 1 else None)


def test_an_empty_mask_holds_on_the_whole_axis_and_a_bare_name_is_a_list(flow):
    boundary = {"a": ("PERIODIC", "x", np.zeros(NX, bool)), "b": ("Open", "y", np.zeros(NY, bool))}
    layout = describe(flow(boundary=boundary))
    assert layout.meta.boundary == (("periodic", "periodic"), ("open", "open"))
    assert sum("is empty" in note for note in layout.notes) == 2


def test_a_mask_at_one_end_holds_there_only(flow):
    boundary = {
        "inlet": ("OPEN", ["x"], LEFT),
        "outlet": ("WALL", ["x"], LEFT[::-1]),
        "sides": ("WALL", ["y"], np.array([True, *[False] * (NY - 2), True])),
    }
    assert describe(flow(boundary=boundary)).meta.boundary == (("open", "wall"), ("wall", "wall"))


def test_a_mask_over_the_plane_and_an_obstacle_in_it(flow):
    edges = np.zeros((NX, NY), bool)
    edges[[0, -1], :] = True
    obstacle = np.zeros((NX, NY), bool)
    obstacle[4:6, 7:9] = True
    boundary = {
        "walls": ("WALL", ["x", "y"], edges),
        "y_open": ("OPEN", ["y"], np.ones(NY, bool)),
        "disc": ("WALL", ["x", "y"], obstacle),
    }
    layout = describe(flow(boundary=boundary))
    assert layout.meta.boundary == (("wall", "wall"), ("open", "open"))
    assert any("disc (wall) marks points inside" in note for note in layout.notes)


def test_no_boundary_condition_at_all_is_told(flow):
    layout = describe(flow(boundary={}))
    assert layout.meta.boundary == (("open", "open"),) * 2
    assert sum("taken for open" in note for note in layout.notes) == 2


def test_chebyshev_points_are_an_uneven_grid(flow, grids):
    points = 0.5 - 0.5 * np.cos(np.pi * (np.arange(NY) + 0.5) / NY)
    _, axis = describe(flow(grids={**grids, "y": points})).meta.axes
    assert axis.grid == "uneven"
    np.testing.assert_allclose(axis.coordinates(NY), points, atol=1e-7)


@pytest.mark.parametrize(
    ("dims", "coordinates"),
    [
        (("theta", "phi"), "spherical"),
        (("r", "theta"), "polar"),
        (("r", "theta", "phi"), "spherical"),
        (("log_r", "theta", "phi"), "log_spherical"),
        (("x", "y", "z"), "cartesian"),
    ],
)
def test_the_names_of_the_axes_tell_the_coordinates(write_well, well_field, volume, dims, coordinates):
    sizes = (6, 8, 10)[: len(dims)]
    grids = {name: np.linspace(0.1, 1.5, size) for name, size in zip(dims, sizes, strict=True)}
    values = volume["density"] if len(dims) == 3 else volume["density"][..., 0]
    vector = np.stack([values] * len(dims), axis=-1)
    field = well_field(vector, dims=(True,) * len(dims))
    layout = describe(write_well(({}, {"velocity": field}), grids, 0.1 * np.arange(5), 3))
    assert layout.meta.coordinates == coordinates
    assert [c.name for c in layout.meta.inputs] == [f"velocity_{name}" for name in dims]


def test_angles_end_at_multiples_of_pi(write_well, well_field, plane):
    grids = {"theta": np.pi * (np.arange(NX) + 0.5) / NX, "phi": 2 * np.pi * np.arange(NY) / NY}
    boundary = {"pole": ("OPEN", ["theta"], np.zeros(NX, bool)), "around": ("PERIODIC", ["phi"], np.ones(NY, bool))}
    path = write_well(({"height": well_field(plane["density"])},), grids, TIMES, 4, boundary, grid_type="equiangular")
    theta, phi = describe(path).meta.axes
    assert (theta.grid, theta.lower, theta.upper) == ("cell_centres", 0.0, pytest.approx(np.pi, abs=1e-15))
    assert (phi.grid, phi.lower, phi.upper) == ("periodic_nodes", 0.0, pytest.approx(2 * np.pi, abs=1e-15))


def test_paged_files_as_on_the_hub_are_read(flow, plane, read_all):
    path = flow(fs_strategy="page", fs_page_size=4096)
    np.testing.assert_array_equal(np.stack(read_all(describe(path, inputs=["pressure"])))[:, :, 0], plane["pressure"])


def test_additional_information_is_left_alone(flow):
    path = flow()
    with h5py.File(path, "r+") as file:
        file["additional_information/g_contravariant"] = np.zeros((4, 4, 5))
    assert [c.name for c in describe(path).meta.inputs] == ["density", "pressure", "velocity_x", "velocity_y"]


def test_a_field_that_its_group_does_not_list_is_read_nevertheless(flow):
    path = flow()
    with h5py.File(path, "r+") as file:
        file["t0_fields"].attrs["field_names"] = ["constant_field", "pressure"]
    assert [c.name for c in describe(path).meta.inputs[:2]] == ["density", "pressure"]


def test_a_scalar_field_with_an_axis_of_length_one_behind_is_read(flow, well_field, plane, read_all):
    path = flow(({"pressure": well_field(plane["pressure"][..., None])},))
    np.testing.assert_array_equal(np.stack(read_all(describe(path)))[:, :, 0], plane["pressure"])


def test_files_with_other_numbers_of_frames_are_described_each_by_itself(flow, well_field, plane):
    short = {"pressure": well_field(plane["pressure"][:3, :2])}
    layout = describe(flow((short,), times=TIMES[:2], n_samples=3))
    assert layout.frames.tolist() == [2, 2, 2]


def test_shapes_that_contradict_the_flags_are_refused(flow, well_field, plane):
    wrong = {"pressure": well_field(plane["pressure"], sample=False)}
    with pytest.raises(UserError, match=r"t0_fields/pressure has shape \(4, 6, 12, 20\)"):
        describe(flow((wrong,)))
    with pytest.raises(UserError, match="disagree on the length of the time axis"):
        describe(flow(times=TIMES[:5]))
    with pytest.raises(UserError, match="disagree on the length of the sample axis"):
        describe(flow(n_samples=7))


def test_grids_that_move_are_refused_and_those_that_differ_are_told(flow, grids):
    rows = grids["x"] * (1 + 0.5 * np.arange(4)[:, None])
    layout = describe(flow(grids={**grids, "x": rows}))
    assert any("along x differs between samples" in note for note in layout.notes)
    path = flow()
    with h5py.File(path, "r+") as file:
        file["dimensions/x"].attrs["time_varying"] = True
    with pytest.raises(UserError, match="grid along x moves in time"):
        describe(path)
