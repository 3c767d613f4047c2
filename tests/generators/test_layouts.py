"""Files in published layouts are recognised by the readers of katops and read back to the bit."""

import json

import h5py
import numpy as np
import pytest
from scipy.io import loadmat

from katops.data.formats import describe
from katops.data.sample_blocks import SampleBlocks
from katops.data.writing import StoredField
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.generators import create_problem
from katops.generators.layouts import fno
from katops.generators.merge import merge
from katops.generators.parts import Part
from katops.generators.problem import Samples
from katops.generators.writer import is_complete, write

SAMPLES, FRAMES, SPACE = 5, 6, (8, 12)  # not square: a transposition cannot hide


class Numbers:
    """Random numbers in place of solutions, under the names of a real problem."""

    def __init__(
        self, name, *, moving=(), steady=(), constants=(), parameters=(), space=SPACE, frames=FRAMES, **recipe
    ):
        self.times = np.linspace(0.0, 1.0, frames) if moving else None
        boundary = recipe.pop("sides", ("periodic", "periodic"))
        names = [*moving, *steady]
        self.fields = {channel: StoredField("state", "", (frames, *space)) for channel in moving}
        self.fields |= {
            channel: StoredField("input" if channel == steady[0] else "output", "", space) for channel in steady
        }
        self.fields |= {channel: StoredField("constant", "", space) for channel in constants}
        self.meta = FieldMeta(
            name=name,
            inputs=tuple(map(Channel, moving or names[:1])),
            outputs=tuple(map(Channel, moving or names[1:])),
            constants=tuple(map(Channel, constants)),
            parameters=tuple(map(Channel, parameters)),
            axes=tuple(Axis(axis, boundary=boundary) for axis in "xyz"[: len(space)]),
            time_step=float(self.times[1]) if moving else None,
        )
        self.recipe = {"recipe": name, "variant": "numbers", "recipe_version": 1, "equation": "none", **recipe}

    def samples(self, seed, indices):
        rngs = [np.random.default_rng([seed, index]) for index in indices]
        fields = {
            name: np.stack([rng.uniform(1, 2, field.shape) for rng in rngs]).astype(np.float32)
            for name, field in self.fields.items()
        }
        parameters = {channel.name: np.array([rng.uniform() for rng in rngs]) for channel in self.meta.parameters}
        return Samples(fields, parameters, {"rejected": np.zeros(len(rngs))})


REACTION = {"diffusivity_u": 1e-3, "diffusivity_v": 5e-3, "k": 5e-3}
FLUID = ("density", "velocity_x", "velocity_y", "pressure")
CASES = {
    "pdebench darcy": (Numbers("darcy", steady=("coefficient", "pressure"), sides=("dirichlet",) * 2), "pdebench", {}),
    "pdebench advection": (Numbers("advection", moving=("u",), space=(16,), beta=0.4), "pdebench", {}),
    "pdebench burgers": (Numbers("burgers", moving=("u",), space=(16,), viscosity=0.01), "pdebench", {}),
    "pdebench euler": (Numbers("euler", moving=FLUID), "pdebench", {}),
    "pdebench reaction": (
        Numbers("diffusion_reaction", moving=("u", "v"), sides=("neumann",) * 2, **REACTION),
        "pdebench",
        {},
    ),
    "pdebench dam": (
        Numbers("shallow_water", moving=("height",), parameters=("dam_radius",), sides=("open",) * 2),
        "pdebench",
        {},
    ),
    "well euler": (Numbers("euler", moving=FLUID, parameters=("mach",)), "well", {}),
    "well wave": (
        Numbers("wave", moving=("displacement",), constants=("wave_speed",), sides=("open",) * 2),
        "well",
        {},
    ),
    "well line": (Numbers("burgers", moving=("u",), space=(16,)), "well", {}),
    "well darcy": (
        Numbers("darcy", steady=("coefficient", "pressure"), sides=("wall",) * 2),
        "well",
        {},
    ),
    "pdegym incompressible": (Numbers("navier_stokes", moving=FLUID[1:3]), "pdegym", {}),
    "pdegym tracer": (Numbers("navier_stokes", moving=(*FLUID[1:3], "tracer")), "pdegym", {}),
    "pdegym forced": (
        Numbers("navier_stokes", moving=FLUID[1:3], variant="kolmogorov"),
        "pdegym",
        {},
    ),
    "pdegym gas": (Numbers("euler", moving=FLUID, gamma=1.4), "pdegym", {}),
    "pdegym gas with tracer": (Numbers("euler", moving=(*FLUID, "tracer"), gamma=1.4), "pdegym", {}),
    "pdegym wave": (
        Numbers("wave", moving=("displacement",), constants=("wave_speed",), frames=16, sides=("open",) * 2),
        "pdegym",
        {},
    ),
    "pdegym allen-cahn": (Numbers("allen_cahn", moving=("u",), frames=20), "pdegym", {}),
    "pdegym poisson": (Numbers("poisson", steady=("source", "solution"), sides=("dirichlet",) * 2), "pdegym", {}),
    "pdegym helmholtz": (
        Numbers("helmholtz", steady=("coefficient", "solution"), parameters=("b",), sides=("dirichlet",) * 2),
        "pdegym",
        {},
    ),
    "fno darcy": (
        Numbers("darcy", steady=("coefficient", "pressure"), sides=("dirichlet",) * 2),
        "fno",
        {},
    ),
    "fno burgers": (Numbers("burgers", steady=("u0", "u1"), space=(16,)), "fno", {}),
    "fno vorticity": (Numbers("navier_stokes", moving=("vorticity",)), "fno", {}),
}


def read(layout):
    """Channel -> (N, T, *space) float32, as katops reads the file."""
    reader = SampleBlocks(layout, "float32")
    found = {}
    for group in reader.groups:
        values = reader.read(group, slice(0, layout.n_samples))
        found |= {array.name: values[:, :, place] for place, array in enumerate(group)}
    return found


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_recognised_and_read_back_to_the_bit(case, tmp_path):
    problem, layout, statement = CASES[case]
    path = write(problem, SAMPLES, seed=4, path=tmp_path / "data.out", layout=layout, shard_size=2)
    described = describe(path, **statement)
    expected = problem.samples(4, range(SAMPLES))
    assert described.format.startswith({"well": "the_well"}.get(layout, layout))
    assert described.n_samples == SAMPLES
    # The reader may call a channel, and name an axis order, as the published file does: values identify the channels.
    order = [[axis.name for axis in problem.meta.axes].index(axis.name) for axis in described.meta.axes]
    wanted = {}
    for name, values in expected.fields.items():
        moving = len(problem.fields[name].shape) > len(described.space)
        whole = values if moving else values[:, None]
        wanted[name] = whole.transpose(0, 1, *(2 + place for place in order))
    if case == "fno vorticity":
        wanted["vorticity"] = wanted["vorticity"][:, 1:]
    found = read(described)
    for name, values in wanted.items():
        assert any(np.array_equal(values, other) for other in found.values()), name
    for axis, ours in zip(described.meta.axes, (problem.meta.axes[place] for place in order), strict=True):
        assert axis == ours
    if described.times is not None:
        times = problem.times[1:] if case == "fno vorticity" else problem.times
        np.testing.assert_allclose(described.times, times, rtol=1e-12)
    for name, values in expected.parameters.items():
        stored = dict(zip([c.name for c in described.meta.parameters], described.parameters.T, strict=True))
        np.testing.assert_allclose(stored[{"b": "boundary_value"}.get(name, name)], values, rtol=1e-6)


REAL = [
    ("darcy", {"resolution": 16}, "fno"),
    ("darcy", {"resolution": 16}, "pdebench"),
    ("darcy", {"resolution": 16}, "well"),
    ("poisson", {"resolution": 16}, "pdegym"),
    ("helmholtz", {"resolution": 16}, "pdegym"),
    ("advection", {"resolution": 32}, "pdebench"),
    ("burgers", {"resolution": 32}, "fno"),
    ("allen_cahn", {"resolution": 32}, "pdegym"),
    ("wave", {"resolution": 32}, "pdegym"),
    ("wave", {"resolution": 32}, "well"),
    ("shallow_water", {"resolution": 16}, "pdebench"),
    ("navier_stokes", {"resolution": 32, "variant": "gaussians"}, "pdegym"),
    ("navier_stokes", {"resolution": 32, "variant": "fno_1e-3", "final_time": 5}, "fno"),
    ("euler", {"resolution": 16}, "pdegym"),
    ("euler", {"resolution": 16}, "pdebench"),
    ("euler", {"resolution": 16}, "well"),
]


@pytest.mark.parametrize(("name", "options", "layout"), REAL, ids=[f"{row[0]}-{row[2]}" for row in REAL])
def test_exported_files_keep_the_grid_the_boundary_and_the_times_of_their_problem(name, options, layout, tmp_path):
    problem = create_problem(name, **options)
    described = describe(write(problem, 2, seed=0, path=tmp_path / "data.out", layout=layout))
    assert {axis.name: axis for axis in described.meta.axes} == {axis.name: axis for axis in problem.meta.axes}
    assert described.meta.licence == ""
    assert described.meta.time_unit == problem.meta.time_unit
    if problem.times is not None:
        np.testing.assert_allclose(described.times, problem.times[len(problem.times) - len(described.times) :])


def test_what_the_configuration_states_is_preferred_to_the_provenance(tmp_path):
    problem = create_problem("euler", resolution=16)
    path = write(problem, 2, seed=0, path=tmp_path / "gas.nc", layout="pdegym")
    described = describe(path, boundary="open", grid="periodic_nodes", domain=((0, 2), (0, 2)), time_step=0.5)
    assert described.meta.axes[0] == Axis("x", "periodic_nodes", 0.0, 2.0, ("open", "open"))
    np.testing.assert_allclose(np.diff(described.times), 0.5)


def test_damaged_provenance_is_refused(tmp_path):
    path = write(CASES["pdegym gas"][0], 2, 0, tmp_path / "gas.nc", layout="pdegym")
    for damaged in ("{", '{"axes": [{"name": "x", "grid": "sphere"}]}', '{"axes": 3}'):
        with h5py.File(path, "r+") as file:
            file.attrs["katops_provenance"] = damaged
        with pytest.raises(UserError, match="katops_provenance is damaged"):
            describe(path)


@pytest.mark.parametrize("case", CASES)
def test_the_recipe_is_kept_and_tells_that_the_file_is_there(case, tmp_path):
    problem, layout, _ = CASES[case]
    path = write(problem, 3, seed=4, path=tmp_path / "data.out", layout=layout)
    before, calls = path.stat().st_mtime_ns, []
    write(problem, 3, seed=4, path=path, layout=layout, progress=lambda *call: calls.append(call))
    assert (path.stat().st_mtime_ns, calls) == (before, [(3, 3)])
    assert is_complete(problem, 3, 4, path, layout)
    assert not is_complete(problem, 3, 4, path)
    with pytest.raises(UserError, match="seed 4 instead of 5"):
        write(problem, 3, seed=5, path=path, layout=layout)


JOINED = (
    "pdebench euler",
    "pdebench dam",
    "well euler",
    "well wave",
    "pdegym gas",
    "pdegym helmholtz",
    "fno vorticity",
)


@pytest.mark.parametrize("case", JOINED)
def test_joined_shards_are_the_file_of_one_call_to_the_bit(case, tmp_path, contents, monkeypatch):
    monkeypatch.setattr(fno, "MATLAB5_BYTES", 1)
    problem, layout, _ = CASES[case]
    whole = write(problem, SAMPLES, 4, tmp_path / "whole.out", layout=layout)
    shards = [write(problem, SAMPLES, 4, tmp_path / "data.out", part=Part(k, 2), layout=layout) for k in (1, 2)]
    joined = merge(tmp_path / "data.out")
    assert joined.read_bytes()[:8] == whole.read_bytes()[:8]
    assert {**contents(joined), "/": None} == {**contents(whole), "/": None}
    assert is_complete(problem, SAMPLES, 4, joined, layout)
    ours, theirs = describe(joined), describe(whole)
    assert (ours.meta, ours.format, ours.container) == (theirs.meta, theirs.format, theirs.container)
    np.testing.assert_array_equal(ours.parameters, theirs.parameters)
    assert [path for path, _, _ in ours.parts] == [str(shard) for shard in shards]
    for name, values in read(theirs).items():
        np.testing.assert_array_equal(read(ours)[name], values)


def test_the_arrays_of_pdebench_have_their_published_names_and_shapes(tmp_path):
    euler, advection, dam = (CASES[f"pdebench {name}"][0] for name in ("euler", "advection", "dam"))
    with h5py.File(write(euler, 2, 0, tmp_path / "euler.hdf5", layout="pdebench")) as file:
        assert {file[name].shape for name in ("density", "Vx", "Vy", "pressure")} == {(2, FRAMES, *SPACE)}
        assert file["t-coordinate"].shape == (FRAMES + 1,)
        assert file["x-coordinate"].dtype == np.dtype("<f4")
    with h5py.File(write(advection, 2, 0, tmp_path / "advection.hdf5", layout="pdebench")) as file:
        assert file["tensor"].shape == (2, FRAMES, 16)
        assert file.attrs["beta"] == 0.4
    with h5py.File(write(dam, 2, 0, tmp_path / "dam.h5", layout="pdebench")) as file:
        assert list(file) == ["0000", "0001"]
        assert file["0001/data"].shape == (FRAMES, *SPACE, 1)
        assert set(file["0001/grid"]) == {"t", "x", "y"}


def test_the_viscosity_of_pdebench_is_told_over_pi(tmp_path):
    path = write(CASES["pdebench burgers"][0], 2, 0, tmp_path / "burgers.hdf5", layout="pdebench")
    layout = describe(path)
    place = [channel.name for channel in layout.meta.parameters].index("nu_effective")
    np.testing.assert_allclose(layout.parameters[:, place], 0.01)


def test_the_energy_of_a_gas_belongs_to_its_pressure(tmp_path):
    problem = CASES["pdegym gas"][0]
    path = write(problem, 2, 0, tmp_path / "gas.nc", layout="pdegym")
    found = {name: values.astype(float) for name, values in read(describe(path)).items()}
    kinetic = found["density"] * (found["velocity_x"] ** 2 + found["velocity_y"] ** 2) / 2
    np.testing.assert_allclose(found["energy"], found["pressure"] / 0.4 + kinetic, rtol=1e-6)


def test_small_matlab_files_are_version_5_and_large_ones_version_7_3(tmp_path, monkeypatch):
    problem = CASES["fno vorticity"][0]
    expected = problem.samples(0, range(3)).fields["vorticity"].transpose(0, 2, 3, 1)
    small = loadmat(write(problem, 3, 0, tmp_path / "small.mat", layout="fno"))
    np.testing.assert_array_equal(small["a"], expected[..., 0])
    np.testing.assert_array_equal(small["u"], expected[..., 1:])
    np.testing.assert_allclose(small["t"], np.linspace(0, 1, FRAMES)[None, 1:])
    assert json.loads(small["katops_provenance"].tobytes())["seed"] == 0
    monkeypatch.setattr(fno, "MATLAB5_BYTES", 1)
    large = write(problem, 3, 0, tmp_path / "large.mat", layout="fno")
    assert large.read_bytes()[:10] == b"MATLAB 7.3"
    with h5py.File(large) as file:
        np.testing.assert_array_equal(file["u"][()].T, expected[..., 1:])
        assert file["u"].attrs["MATLAB_class"] == b"single"
    np.testing.assert_array_equal(read(describe(large))["vorticity"].transpose(0, 2, 3, 1), expected[..., 1:])
    assert is_complete(problem, 3, 0, large, "fno")


def test_exported_files_are_the_same_bytes_however_often_they_are_made(tmp_path):
    problem = CASES["fno darcy"][0]
    files = [write(problem, 3, 0, tmp_path / name, layout="fno").read_bytes() for name in ("one.mat", "two.mat")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("layout", "message"),
    [("pdebnch", "unknown layout 'pdebnch'; did you mean 'pdebench'"), ("fno", "the layout fno has no place for wave")],
)
def test_a_layout_that_does_not_fit_is_told_before_anything_is_made(layout, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write(CASES["well wave"][0], 3, 0, tmp_path / "x", layout=layout)
    assert not list(tmp_path.iterdir())


def test_pdegym_has_no_richtmyer_meshkov_instability_without_a_tracer(tmp_path):
    """The published array is another one, from time 0 to 2; under the name of the others it would end at 1."""
    bare = Numbers("euler", moving=FLUID, gamma=1.4, variant="richtmyer_meshkov")
    with pytest.raises(UserError, match=r"no place for euler \(richtmyer_meshkov: density"):
        write(bare, 2, 0, tmp_path / "x", layout="pdegym")
    traced = Numbers("euler", moving=(*FLUID, "tracer"), gamma=1.4, variant="richtmyer_meshkov")
    assert describe(write(traced, 2, 0, tmp_path / "x.nc", layout="pdegym")).meta.name == "pdegym_richtmyer_meshkov"
