"""PDEArena: wrong coordinates, staggered velocities, fields under other names, conditions per sample."""

import h5py
import numpy as np
import pytest

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.errors import UserError


class TestSmoke:
    def test_the_velocity_lies_half_a_cell_beside_the_smoke(self, write_arena, smoke_arrays, plane, read_all):
        layout = describe(write_arena(smoke_arrays))
        assert (layout.format, layout.meta.name) == ("pdearena", "pdearena_2d_navier_stokes")
        assert [(c.name, c.shift) for c in layout.meta.inputs] == [
            ("smoke", ()),
            ("velocity_x", (-0.5, 0.0)),
            ("velocity_y", (0.0, -0.5)),
        ]
        expected = np.stack([plane[name] for name in ("density", "velocity_x", "velocity_y")], axis=2)
        np.testing.assert_array_equal(np.stack(read_all(layout)), expected)

    def test_times_are_counted_in_dt_not_in_the_stored_step(self, write_arena, smoke_arrays):
        layout = describe(write_arena(smoke_arrays))
        np.testing.assert_allclose(layout.times, 18.0 + 6.0 * np.arange(6))
        assert layout.meta.time_step == pytest.approx(6.0)
        assert np.diff(smoke_arrays["t"][0]).mean() == pytest.approx(7.2)

    def test_the_grid_is_the_cells_of_the_box(self, write_arena, smoke_arrays):
        layout = describe(write_arena(smoke_arrays))
        assert [(a.grid, a.lower, a.upper) for a in layout.meta.axes] == [("cell_centres", 0.0, 32.0)] * 2
        assert layout.meta.axes[0].coordinates(12)[0] == pytest.approx(32 / 24)
        assert set(layout.meta.boundary) == {("wall", "wall")}

    def test_the_buoyancy_is_a_parameter_of_each_sample(self, write_arena, smoke_arrays):
        smoke_arrays["buo_y"] = np.array([0.2, 0.3, 0.4, 0.5])
        layout = describe(write_arena(smoke_arrays, split="valid"))
        assert [c.name for c in layout.meta.parameters] == ["buo_y"]
        np.testing.assert_array_equal(layout.parameters[:, 0], smoke_arrays["buo_y"])

    def test_a_box_that_differs_between_samples_is_told_and_becomes_a_parameter(self, write_arena, smoke_arrays):
        smoke_arrays["x"] = smoke_arrays["x"] * np.array([[1.0], [1.0], [2.0], [1.0]])
        smoke_arrays["dx"] = smoke_arrays["dx"] * np.array([1.0, 1.0, 2.0, 1.0])
        layout = describe(write_arena(smoke_arrays))
        assert [c.name for c in layout.meta.parameters] == ["buo_y", "dx"]
        assert layout.meta.axes[0].upper == 32.0
        assert any("length along x differs" in note for note in layout.notes)

    def test_fields_of_different_shape_are_refused(self, write_arena, smoke_arrays):
        smoke_arrays["vy"] = smoke_arrays["vy"][..., :-1]
        with pytest.raises(UserError, match=r"vx \(4, 6, 12, 20\), train/vy \(4, 6, 12, 19\)"):
            describe(write_arena(smoke_arrays))

    def test_conditions_of_the_wrong_length_are_refused(self, write_arena, smoke_arrays):
        smoke_arrays["buo_y"] = np.ones(3)
        with pytest.raises(UserError, match=r"buo_y has shape \(3,\)"):
            describe(write_arena(smoke_arrays))


class TestMaxwell:
    @pytest.fixture
    def fields(self, volume):
        components = np.stack([volume[f"velocity_{axis}"] for axis in "xyz"], axis=-1)
        return {"d_field": components, "h_field": 0.5 * components[..., ::-1]}

    def test_the_d_field_is_the_electric_field(self, write_arena, fields, read_all):
        layout = describe(write_arena(fields, split="test"))
        electric = [f"electric_field_{axis}" for axis in "xyz"]
        assert [c.name for c in layout.meta.inputs] == electric + [f"magnetic_field_{axis}" for axis in "xyz"]
        assert any("really holds the electric field" in note for note in layout.notes)
        expected = np.concatenate([fields["d_field"], fields["h_field"]], axis=-1)
        np.testing.assert_array_equal(np.stack(read_all(layout)), np.moveaxis(expected, -1, 2).astype(np.float32))
        by_its_stored_name = describe(write_arena(fields), inputs=["d_field"])
        assert [c.name for c in by_its_stored_name.meta.inputs] == electric

    def test_a_cut_out_has_no_boundary_and_no_times(self, write_arena, fields):
        path = write_arena(fields)
        layout = describe(path)
        assert set(layout.meta.boundary) == {("none", "none")}
        assert layout.space == (6, 8, 10)
        np.testing.assert_array_equal(layout.times, np.arange(5))
        stated = describe(path, time_step=0.5, domain=[[0, 3], [0, 4], [0, 5]])
        np.testing.assert_array_equal(stated.times, 0.5 * np.arange(5))
        assert [axis.upper for axis in stated.meta.axes] == [3.0, 4.0, 5.0]


class TestKuramotoSivashinsky:
    @pytest.fixture
    def arrays(self, line):
        rng = np.random.default_rng(2)
        return {
            "pde_17-16": line,
            "dt": rng.uniform(0.15, 0.25, 5),
            "dx": rng.uniform(0.2, 0.3, 5),
            "v": rng.uniform(0.5, 1.5, 5),
        }

    def test_step_spacing_and_viscosity_are_conditions_of_each_sample(self, write_arena, arrays, line, read_all):
        layout = describe(write_arena(arrays))
        assert [c.name for c in layout.meta.parameters] == ["dt", "dx", "v"]
        np.testing.assert_array_equal(layout.parameters, np.stack([arrays[n] for n in ("dt", "dx", "v")], axis=1))
        np.testing.assert_allclose(layout.times, arrays["dt"][:, None] * np.arange(17))
        assert layout.meta.time_step is None
        assert any("grid spacing differs" in note for note in layout.notes)
        np.testing.assert_array_equal(np.stack(read_all(layout))[:, :, 0], line)

    def test_the_domain_is_periodic_and_as_long_as_the_first_sample(self, write_arena, arrays):
        (axis,) = describe(write_arena(arrays)).meta.axes
        assert (axis.grid, axis.boundary) == ("periodic_nodes", ("periodic", "periodic"))
        assert axis.upper == pytest.approx(16 * arrays["dx"][0])

    def test_several_files_are_one_data_set_whatever_their_first_spacing(self, write_arena, arrays):
        other = {**arrays, "dx": arrays["dx"][::-1] * 1.1, "dt": arrays["dt"] * 0.9}
        layouts = [describe(write_arena(values, name=f"{name}.h5")) for name, values in (("a", arrays), ("b", other))]
        dataset = FieldDataset(layouts)
        batch = dataset.read(dataset.of_samples([1, 7]))
        expected = np.stack([[arrays["dt"][1], arrays["dx"][1]], [other["dt"][2], other["dx"][2]]])
        np.testing.assert_allclose(batch.parameters[::16, :2], expected, rtol=1e-6)
        np.testing.assert_allclose(batch.time[::16], expected[:, 0], rtol=1e-5)
        reflecting = [describe(path, boundary="dirichlet") for path in (layout.path for layout in layouts)]
        with pytest.raises(UserError, match=r"b\.h5 and .*a\.h5 cannot be read as one data set: axis 0 is"):
            FieldDataset([layouts[0], reflecting[1]])

    def test_the_viscosity_is_optional(self, write_arena, arrays):
        del arrays["v"]
        assert [c.name for c in describe(write_arena(arrays)).meta.parameters] == ["dt", "dx"]

    def test_one_step_for_all_gives_one_row_of_times(self, write_arena, arrays):
        layout = describe(write_arena({**arrays, "dt": np.full(5, 0.2)}))
        assert layout.times.shape == (17,)
        assert layout.meta.time_step == pytest.approx(0.2)

    def test_two_resolutions_in_one_file_are_refused(self, write_arena, arrays, line):
        with pytest.raises(UserError, match="expected one array pde_"):
            describe(write_arena({**arrays, "pde_9-8": line[:, ::2, ::2]}))


def test_a_file_with_two_splits_is_refused(write_arena, smoke_arrays):
    path = write_arena(smoke_arrays)
    with h5py.File(path, "r+") as file:
        file.copy(file["train"], "valid")
    with pytest.raises(UserError, match=r"several splits \(train, valid\)"):
        describe(path)
