"""The three families of PDEBench, each with its traps."""

import math
import shutil

import h5py
import numpy as np
import pytest

from katops.data.formats import describe
from katops.errors import UserError

SORPTION = """
work_dir: /run
data_dir: data
name: 1d_diff-sorp
sim:
  D: 0.0005
  por: 0.29
  rho_s: 2880
  k_f: 0.00035
  n_f: 0.874
  sol: 1.0
  t: 500
  tdim: 501
  x_left: 0.0
  x_right: 1.0
  xdim: 1024
  n: 1
  seed: {seed}
plot:
  t_idx: 1.0
dataverse:
  lib_name: pyDaRUS
  metadatablocks:
    process:
      method_parameters:
      - name: cell length
        symbol: dx
        unit: m
        value: 0.0009765625
"""
REACTION = (
    "name: 2d_diff-react\nsim:\n  Du: 1E-3\n  Dv: 5E-3\n  k: 5E-3\n  t: 5\n  n: 1\n  seed: {seed}\nplot:\n  dim: 2\n"
)
DAM = """name: 2d_rdb
sim:
  T_end: 1.0
  n_time_steps: 100
  gravity: 1.0
  dam_radius: {radius}
  inner_height: 2.0
  seed: {seed}
"""


def _instants(frames, step, extra=1):
    return step * np.arange(frames + extra)


def _stack(fields, *names):
    return np.stack([fields[name] for name in names], axis=2)


class TestFlat:
    @pytest.fixture
    def burgers(self, write_flat, line, centres):
        return write_flat({"tensor": line}, {"x": centres(16), "t": _instants(17, 0.01)}, Nu=0.1)

    def test_burgers_is_periodic_and_its_viscosity_is_nu_over_pi(self, burgers):
        layout = describe(burgers)
        assert (layout.format, layout.meta.name) == ("pdebench", "pdebench_1d_burgers")
        assert layout.meta.boundary == (("periodic", "periodic"),)
        parameters = {c.name: v for c, v in zip(layout.meta.parameters, layout.parameters.T, strict=True)}
        np.testing.assert_allclose(parameters["Nu"], [0.1] * 5)
        np.testing.assert_allclose(parameters["nu_effective"], [0.1 / math.pi] * 5)

    def test_the_time_too_many_is_cut_off_and_told(self, burgers):
        layout = describe(burgers)
        assert layout.times.shape == (17,)
        assert layout.meta.time_step == pytest.approx(0.01)
        assert any("18 entries for 17 frames" in note for note in layout.notes)

    def test_the_numbers_are_those_of_the_trajectories(self, burgers, line, read_all):
        np.testing.assert_array_equal(np.stack(read_all(describe(burgers))), line[:, :, None])

    @pytest.mark.parametrize(("samples", "boundary"), [((5,), "periodic"), ((), "none")])
    def test_only_training_files_in_the_plane_are_taken_for_periodic(self, write_flat, centres, samples, boundary):
        arrays = {name: np.ones((*samples, 7, 12, 20)) for name in ("density", "pressure", "Vx", "Vy")}
        path = write_flat(arrays, {"x": centres(12), "y": centres(20), "t": _instants(7, 0.05)}, M=0.1)
        assert describe(path).meta.boundary == ((boundary, boundary),) * 2

    def test_the_grid_is_cell_centred_with_exact_ends(self, burgers):
        (axis,) = describe(burgers).meta.axes
        assert (axis.grid, axis.lower, axis.upper) == ("cell_centres", 0.0, 1.0)

    def test_the_name_of_the_file_does_not_matter(self, burgers, tmp_path):
        other = shutil.copy(burgers, tmp_path / "2D_DarcyFlow_beta1.0_Train.h5")
        assert describe(other) == describe(burgers)

    @pytest.mark.parametrize(
        ("attributes", "name"),
        [
            ({"beta": 0.4}, "pdebench_1d_advection"),
            ({"Nu": 0.5, "rho": 2.0}, "pdebench_1d_reaction_diffusion"),
        ],
    )
    def test_the_attributes_tell_the_one_dimensional_problems_apart(self, write_flat, line, centres, attributes, name):
        path = write_flat({"tensor": line}, {"x": centres(16), "t": _instants(17, 0.01)}, **attributes)
        layout = describe(path)
        assert layout.meta.name == name
        assert [c.name for c in layout.meta.parameters] == list(attributes)
        assert layout.meta.boundary == (("periodic", "periodic"),)

    def test_a_file_without_attributes_asks_for_the_boundary(self, write_flat, line, centres):
        path = write_flat({"tensor": line}, {"x": centres(16), "t": _instants(17, 0.01)})
        layout = describe(path)
        assert layout.meta.boundary == (("none", "none"),)
        assert any("state data.boundary" in note for note in layout.notes)
        stated = describe(path, boundary="open")
        assert stated.meta.boundary == (("open", "open"),)
        assert not any("data.boundary" in note for note in stated.notes)

    def test_a_self_generated_file_of_rank_four_is_still_one_dimensional(self, write_flat, line, centres, read_all):
        path = write_flat({"tensor": line[None]}, {"x": centres(16), "t": _instants(17, 0.01)}, beta=0.1)
        layout = describe(path)
        assert (layout.space, layout.n_samples, set(layout.frames)) == ((16,), 5, {17})
        np.testing.assert_array_equal(np.stack(read_all(layout)), line[:, :, None])

    def test_a_test_file_without_samples_is_one_sample(self, write_flat, line, centres, read_all):
        path = write_flat({"tensor": line[0]}, {"x": centres(16), "t": _instants(17, 0.01)}, Nu=0.1)
        layout = describe(path)
        assert (layout.n_samples, layout.space) == (1, (16,))
        np.testing.assert_array_equal(read_all(layout)[0], line[0][:, None])

    def test_unused_dimensions_behind_are_passed_over(self, write_flat, line, centres, read_all):
        grid = {"x": centres(16), "y": [0.5], "z": [0.5], "t": _instants(17, 0.01)}
        layout = describe(write_flat({"density": line[..., None, None]}, grid, eta=1e-8, zeta=1e-8))
        assert layout.space == (16,)
        np.testing.assert_array_equal(np.stack(read_all(layout)), line[:, :, None])

    def test_compressible_flow_has_canonical_names_in_canonical_order(self, write_flat, plane, centres, read_all):
        stored = {"Vx": "velocity_x", "Vy": "velocity_y", "density": "density", "pressure": "pressure"}
        grid = {"x": centres(12), "y": centres(20), "t": _instants(6, 0.05)}
        path = write_flat({key: plane[name] for key, name in stored.items()}, grid, eta=1e-8, zeta=1e-8, M=0.1)
        layout = describe(path)
        assert [c.name for c in layout.meta.inputs] == ["density", "pressure", "velocity_x", "velocity_y"]
        assert layout.meta.inputs == layout.meta.outputs
        assert [(c.quantity, c.component) for c in layout.meta.inputs[2:]] == [("velocity", (0,)), ("velocity", (1,))]
        assert [axis.name for axis in layout.meta.axes] == ["x", "y"]
        assert [c.name for c in layout.meta.parameters] == ["M", "eta", "zeta"]
        expected = _stack(plane, "density", "pressure", "velocity_x", "velocity_y")
        np.testing.assert_array_equal(np.stack(read_all(layout)), expected)

    def test_channels_are_selected_by_name_in_any_spelling(self, write_flat, plane, centres):
        grid = {"x": centres(12), "y": centres(20), "t": _instants(6, 0.05)}
        arrays = {"density": plane["density"], "Vx": plane["velocity_x"], "Vy": plane["velocity_y"]}
        path = write_flat(arrays, grid, M=0.1)
        layout = describe(path, inputs=["velocity", "rho"], outputs=["Vy"])
        assert [c.name for c in layout.meta.inputs] == ["velocity_x", "velocity_y", "density"]
        assert [c.name for c in layout.meta.outputs] == ["velocity_y"]
        with pytest.raises(UserError, match="did you mean 'density'"):
            describe(path, inputs=["densty"])

    def test_three_dimensional_flow(self, write_flat, volume, centres, read_all):
        stored = dict(zip(("density", "pressure", "Vx", "Vy", "Vz"), volume.values(), strict=True))
        grid = {axis: centres(size) for axis, size in zip("xyz", (6, 8, 10), strict=True)}
        layout = describe(write_flat(stored, {**grid, "t": _instants(5, 0.05)}, eta=1e-8, zeta=1e-8, M=1.0))
        assert (layout.space, layout.meta.name) == ((6, 8, 10), "pdebench_3d_compressible_navier_stokes")
        assert set(layout.meta.boundary) == {("periodic", "periodic")}
        np.testing.assert_array_equal(np.stack(read_all(layout)), _stack(volume, *volume))

    def test_darcy_is_steady_although_it_stores_ten_times(self, write_flat, plane, centres, read_all):
        nu = np.where(plane["density"][:, 0] > 1, 1.0, 0.1).astype(np.float32)
        solution = plane["pressure"][:, :1]
        grid = {"x": centres(12), "y": centres(20), "t": np.arange(10) * 0.2}
        layout = describe(write_flat({"nu": nu, "tensor": solution}, grid, beta=0.1))
        assert (layout.meta.name, layout.times, set(layout.frames)) == ("pdebench_2d_darcy", None, {1})
        assert [c.name for c in layout.meta.inputs] == ["coefficient"]
        assert [c.name for c in layout.meta.outputs] == ["solution"]
        assert layout.meta.boundary == (("dirichlet", "dirichlet"),) * 2
        assert [(c.name, *column) for c, column in zip(layout.meta.parameters, layout.parameters.T, strict=True)] == [
            ("beta", *[0.1] * 4)
        ]
        np.testing.assert_array_equal(np.stack(read_all(layout))[:, 0, 0], nu)
        np.testing.assert_array_equal(np.stack(read_all(layout, "outputs"))[:, 0], solution)

    def test_coordinates_that_do_not_fit_are_refused(self, write_flat, line, centres):
        path = write_flat({"tensor": line}, {"x": centres(15), "t": _instants(17, 0.01)}, Nu=0.1)
        with pytest.raises(UserError, match=r"tensor has shape \(5, 17, 16\).*x-coordinate 15"):
            describe(path)

    def test_times_that_do_not_fit_are_refused_until_a_step_is_stated(self, write_flat, line, centres):
        path = write_flat({"tensor": line}, {"x": centres(16), "t": _instants(23, 0.01)}, Nu=0.1)
        with pytest.raises(UserError, match=r"24 entries for 17 frames; state data\.time_step"):
            describe(path)
        np.testing.assert_allclose(describe(path, time_step=0.5).times, 0.5 * np.arange(17))

    def test_nodes_instead_of_cell_centres_are_told(self, write_flat, line):
        path = write_flat({"tensor": line}, {"x": np.linspace(0, 1, 16), "t": _instants(17, 0.01)}, Nu=0.1)
        layout = describe(path)
        assert layout.meta.axes[0].grid == "nodes"
        assert any("nodes of [0, 1]" in note for note in layout.notes)

    def test_arrays_with_different_numbers_of_samples_are_refused(self, write_flat, line, centres):
        arrays = {"density": line, "pressure": line[:4]}
        path = write_flat(arrays, {"x": centres(16), "t": _instants(17, 0.01)}, eta=1e-8, zeta=1e-8)
        with pytest.raises(UserError, match="disagree on the length of the sample axis: /density 5, /pressure 4"):
            describe(path)


class TestSeeds:
    @pytest.fixture
    def sorption(self, write_seeds, line, centres):
        """Seeds 0, 2 and 7; the last trajectory is shorter."""
        frames = {0: 17, 2: 17, 7: 11}
        return write_seeds(
            {
                seed: (line[i, :n, :, None], {"x": centres(16), "t": _instants(n, 5.0, 0)}, SORPTION.format(seed=seed))
                for i, (seed, n) in enumerate(frames.items())
            }
        )

    def test_missing_seeds_and_ragged_trajectories_are_read(self, sorption, line, read_all):
        layout = describe(sorption)
        assert (layout.format, layout.meta.name) == ("pdebench_seeds", "pdebench_1d_diffusion_sorption")
        assert layout.frames.tolist() == [17, 17, 11]
        np.testing.assert_array_equal(layout.times, 5.0 * np.arange(17))
        for values, expected in zip(read_all(layout), (line[0], line[1], line[2, :11]), strict=True):
            np.testing.assert_array_equal(values[:, 0], expected)

    def test_the_physical_numbers_of_the_config_are_parameters(self, sorption):
        layout = describe(sorption)
        names = [c.name for c in layout.meta.parameters]
        assert names == ["D", "por", "rho_s", "k_f", "n_f", "sol"]
        np.testing.assert_allclose(layout.parameters, [[5e-4, 0.29, 2880, 3.5e-4, 0.874, 1.0]] * 3)

    def test_times_that_differ_between_seeds_are_kept(self, write_seeds, line, centres):
        seeds = {
            seed: (line[seed, :n, :, None], {"x": centres(16), "t": _instants(n, step, 0)}, SORPTION.format(seed=seed))
            for seed, n, step in ((0, 17, 5.0), (1, 9, 2.5))
        }
        layout = describe(write_seeds(seeds))
        np.testing.assert_array_equal(layout.times[0], 5.0 * np.arange(17))
        np.testing.assert_array_equal(layout.times[1, :9], 2.5 * np.arange(9))
        assert np.isnan(layout.times[1, 9:]).all()
        assert layout.meta.time_step is None

    def test_diffusion_reaction_stores_y_before_x(self, write_seeds, plane, centres, read_all):
        data = np.stack([plane["density"], plane["pressure"]], axis=-1)
        grid = {"x": centres(20, -1, 1), "y": centres(12, -1, 1), "t": _instants(6, 0.05, 0)}
        layout = describe(write_seeds({s: (data[s], grid, REACTION.format(seed=s)) for s in range(4)}))
        assert layout.meta.name == "pdebench_2d_diffusion_reaction"
        assert [axis.name for axis in layout.meta.axes] == ["y", "x"]
        assert [c.name for c in layout.meta.inputs] == ["u", "v"]
        assert set(layout.meta.boundary) == {("neumann", "neumann")}
        assert (layout.meta.axes[0].lower, layout.meta.axes[0].upper) == (-1.0, 1.0)
        np.testing.assert_allclose(layout.parameters, [[1e-3, 5e-3, 5e-3]] * 4)
        np.testing.assert_array_equal(np.stack(read_all(layout)), _stack(plane, "density", "pressure"))

    def test_the_dam_break_stores_x_before_y_and_its_radius_per_seed(self, write_seeds, plane, centres, read_all):
        radii = [0.31, 0.62, 0.45, 0.7]
        grid = {"x": centres(12, -2.5, 2.5), "y": centres(20, -2.5, 2.5), "t": _instants(6, 0.01, 0)}
        seeds = {s: (plane["density"][s][..., None], grid, DAM.format(seed=s, radius=radii[s])) for s in range(4)}
        layout = describe(write_seeds(seeds, lzf=False))
        assert layout.meta.name == "pdebench_2d_radial_dam_break"
        assert [axis.name for axis in layout.meta.axes] == ["x", "y"]
        names = [c.name for c in layout.meta.parameters]
        np.testing.assert_allclose(layout.parameters[:, names.index("dam_radius")], radii)
        np.testing.assert_array_equal(np.stack(read_all(layout))[:, :, 0], plane["density"])

    def test_without_a_config_the_shape_decides_and_says_so(self, write_seeds, plane, centres):
        grid = {"x": centres(12), "y": centres(20), "t": _instants(6, 0.01, 0)}
        layout = describe(write_seeds({0: (plane["density"][0][..., None], grid, None)}))
        assert layout.meta.name == "pdebench_2d_radial_dam_break"
        assert any("by its shape" in note for note in layout.notes)

    def test_unknown_channels_are_numbered_and_can_be_named(self, write_seeds, plane, centres):
        data = np.stack([plane[name][0] for name in ("density", "velocity_x", "velocity_y")], axis=-1)
        path = write_seeds({0: (data, {"x": centres(12), "y": centres(20), "t": _instants(6, 0.01, 0)}, None)})
        layout = describe(path)
        assert [c.name for c in layout.meta.inputs] == ["data[0]", "data[1]", "data[2]"]
        assert layout.meta.boundary == (("none", "none"),) * 2
        named = describe(path, channels={"data": ["rho", "Vx", "Vy"]}, inputs=["density"])
        assert [c.name for c in named.meta.inputs] == ["rho"]
        with pytest.raises(UserError, match="names 2 channels of data, which has 3"):
            describe(path, channels={"data": ["rho", "Vx"]})

    def test_a_seed_of_another_shape_is_refused(self, write_seeds, line, centres):
        grid = {"x": centres(16), "t": _instants(17, 5.0, 0)}
        seeds = {0: (line[0, ..., None], grid, None), 1: (line[0, :, :8, None], grid, None)}
        with pytest.raises(UserError, match=r"0001/data has shape \(17, 8, 1\).*0000/data has \(17, 16, 1\)"):
            describe(write_seeds(seeds))

    @pytest.mark.parametrize("config", ["sim: [", "sim: 3", "- a\n- b", "!!python/object:os.system {}", "sim: &a [*a]"])
    def test_a_config_that_is_no_settings_costs_the_parameters_only(self, write_seeds, line, centres, config):
        grid = {"x": centres(16), "t": _instants(17, 5.0, 0)}
        layout = describe(write_seeds({0: (line[0, ..., None], grid, config)}))
        assert layout.parameters.shape == (1, 0)
        assert any("config" in note for note in layout.notes)

    def test_a_parameter_that_a_seed_lacks_is_left_out_and_told(self, write_seeds, plane, centres):
        grid = {"x": centres(12), "y": centres(20), "t": _instants(6, 0.01, 0)}
        configs = [DAM.format(seed=0, radius=0.5), DAM.format(seed=1, radius=0.5).replace("gravity", "weight")]
        seeds = {s: (plane["density"][s][..., None], grid, configs[s]) for s in range(2)}
        layout = describe(write_seeds(seeds))
        assert [c.name for c in layout.meta.parameters] == ["dam_radius", "inner_height"]
        assert any("gravity is missing in 1 of 2 seeds" in note for note in layout.notes)


class TestIncompressible:
    @pytest.fixture
    def arrays(self, plane):
        velocity = np.stack([plane["velocity_x"], plane["velocity_y"]], axis=-1)
        times = np.tile((0.005 * np.arange(6)).astype(np.float32), (4, 1))
        return plane["density"][..., None], velocity, velocity[:, 3] * 0.5, times

    def test_the_force_is_a_constant_and_particles_are_smoke(self, write_incompressible, arrays, plane, read_all):
        layout = describe(write_incompressible(*arrays))
        assert layout.format == "pdebench_ns"
        assert [c.name for c in layout.meta.inputs] == ["smoke", "velocity_x", "velocity_y"]
        assert [c.name for c in layout.meta.constants] == ["force_x", "force_y"]
        np.testing.assert_array_equal(np.stack(read_all(layout)), _stack(plane, "density", "velocity_x", "velocity_y"))
        constants = np.stack(read_all(layout, "constants"))[:, 0]
        np.testing.assert_array_equal(constants, np.moveaxis(arrays[2], -1, 1))

    def test_the_box_is_as_long_as_it_has_cells(self, write_incompressible, arrays):
        layout = describe(write_incompressible(*arrays))
        assert [(a.name, a.lower, a.upper, a.boundary) for a in layout.meta.axes] == [
            ("x", 0.0, 12.0, ("wall", "wall")),
            ("y", 0.0, 20.0, ("wall", "wall")),
        ]
        assert layout.meta.time_step == pytest.approx(0.005)
        assert layout.parameters.tolist() == [[0.01]] * 4

    def test_frames_that_an_aborted_run_never_wrote_are_left_out(self, write_incompressible, arrays, read_all):
        layout = describe(write_incompressible(*arrays, latest=3))
        assert layout.frames.tolist() == [4] * 4
        assert any("frames 0 to 3 of 6" in note for note in layout.notes)
        assert np.ptp(np.stack(read_all(layout))[:, -1]) > 0

    def test_a_run_without_any_frame_is_refused(self, write_incompressible, arrays):
        with pytest.raises(UserError, match="aborted before its first frame"):
            describe(write_incompressible(*arrays, latest=-1))

    def test_an_impossible_latest_index_is_refused(self, write_incompressible, arrays):
        path = write_incompressible(*arrays)
        with h5py.File(path, "r+") as file:
            file.attrs["latestIndex"] = 17
        with pytest.raises(UserError, match="latestIndex is 17, but velocity has 6 frames"):
            describe(path)


def test_configs_that_differ_in_the_seed_only_are_parsed_once(write_seeds, line, centres):
    from katops.data.containers.probe import probe
    from katops.data.formats import pdebench_seeds as format_pdebench_seeds
    from katops.data.layout import Statement

    grid = {"x": centres(16), "t": _instants(17, 5.0, 0)}
    tree = probe(write_seeds({s: (line[0, ..., None], grid, SORPTION.format(seed=s)) for s in range(300)}))
    calls, parse = [], format_pdebench_seeds._parse

    def counted(text):
        calls.append(text)
        return parse(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(format_pdebench_seeds, "_parse", counted)
        layout = format_pdebench_seeds.describe(tree, Statement())
    assert layout.n_samples == 300
    assert len(calls) == 1
