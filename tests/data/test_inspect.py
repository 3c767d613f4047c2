"""``katops inspect``: true for files that describe themselves, useful for those that do not."""

import io

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import yaml
from rich.console import Console

from katops.data.formats import describe
from katops.data.inspection.glance import Glance
from katops.data.inspection.inspect import inspect, render
from katops.data.sources import describe_all
from katops.errors import UserError


def _text(inspection) -> str:
    console = Console(file=io.StringIO(), width=140)
    render(inspection, console)
    return console.file.getvalue()


def _describe(block: str):
    """What training does with the block."""
    data = yaml.safe_load(block)["data"]
    data.pop("window", None)
    return describe(data.pop("file"), **data)


def test_a_katops_file_is_shown_with_channels_units_axes_and_provenance(steady):
    text = _text(inspect(steady))
    for part in ("format katops", "9 samples, steady", "/fields/pressure", "9 x 12 x 20", "Pa", "contiguous"):
        assert part in text
    for part in ("cell_centres", "dirichlet / neumann", "seed", "inputs: [coefficient]", "outputs: [pressure]"):
        assert part in text


def test_the_block_of_a_katops_file_describes_it(moving):
    inspection = inspect(moving)
    assert _describe(inspection.yaml) == inspection.layout == describe(moving)
    assert "window: {n_in: 1, n_out: 1}" in inspection.yaml
    assert "7 frames, time step 0.5 s" in _text(inspection)


@pytest.mark.parametrize("name", ["darcy_train_16", "burgers_train_16"])
def test_the_block_of_real_plain_files_describes_them(shared, name):
    inspection = inspect(shared / f"data/pde/{name}.h5")
    layout = _describe(inspection.yaml)
    assert layout == inspection.layout
    assert [array.name for array in layout.inputs] == ["x"]
    assert [array.name for array in layout.outputs] == ["y"]
    assert layout.time_dependent == name.startswith("burgers")
    assert "# check" in inspection.yaml
    assert "guesses" in _text(inspection)


@pytest.mark.parametrize(
    ("shapes", "inputs", "outputs", "time"),
    [
        ({"nu": (4, 12, 20), "sol": (4, 12, 20)}, ["nu"], ["sol"], False),
        ({"first": (4, 12), "second": (4, 12)}, ["first"], ["second"], False),
        ({"whatever": (4, 7, 12, 20)}, ["whatever"], ["whatever"], True),
        ({"density": (4, 7, 12, 20), "Vx": (4, 7, 12, 20)}, ["Vx", "density"], ["Vx", "density"], True),
        ({"a": (4, 12, 20), "u": (4, 7, 12, 20), "grid": (12, 2)}, ["a"], ["u"], True),
        ({"group/in put": (4, 12, 20), "group/true": (4, 12, 20)}, ["group/in put"], ["group/true"], False),
    ],
)
def test_roles_and_axes_of_plain_files_are_guessed_and_the_block_is_valid(write_plain, shapes, inputs, outputs, time):
    path = write_plain(**{name: np.random.default_rng(0).normal(size=shape) for name, shape in shapes.items()})
    layout = _describe(inspect(path).yaml)
    assert [array.name for array in layout.inputs] == inputs
    assert [array.name for array in layout.outputs] == outputs
    assert layout.time_dependent == time


def test_statistics_are_those_of_the_samples_that_were_read(steady, fields):
    row = inspect(steady).statistics[1]
    which = np.unique(np.linspace(0, 8, 8).astype(int))
    values = fields["pressure"][which].astype(np.float64)
    assert (row.name, row.samples) == ("pressure", 8)
    assert (row.minimum, row.maximum) == (values.min(), values.max())
    assert (row.mean, row.std) == (pytest.approx(values.mean()), pytest.approx(values.std()))


def test_values_that_are_not_finite_and_constant_channels_are_warned_about(write_plain):
    values = np.random.default_rng(0).normal(size=(3, 12, 20))
    values[0, 0, :2] = np.nan
    inspection = inspect(write_plain(a=np.ones((3, 12, 20)), u=values))
    assert inspection.statistics[1].nonfinite == 2
    text = _text(inspection)
    assert "'u' holds 2 values that are not finite" in text
    assert "'a' is constant" in text


def test_an_incomplete_katops_file_is_shown_with_what_is_wrong(steady):
    with h5py.File(steady, "r+") as file:
        del file.attrs["complete"]
    inspection = inspect(steady)
    assert inspection.layout is None
    assert inspection.yaml == ""
    assert "/fields/pressure" in _text(inspection)
    assert "incomplete" in _text(inspection)


def test_a_file_of_answers_only_is_shown_with_its_statistics_and_without_a_block(write_katops, fields):
    inspection = inspect(write_katops({"pressure": ("output", fields["pressure"])}))
    assert (inspection.statistics[0].name, inspection.yaml) == ("pressure", "")
    assert [array.role for array in inspection.arrays if array.path == "/fields/pressure"] == ["output"]
    assert "cannot be trained on" in _text(inspection)


def test_a_file_of_inputs_only_is_shown_without_a_block(write_katops, fields):
    inspection = inspect(write_katops({"coefficient": ("input", fields["coefficient"])}))
    assert (inspection.statistics[0].name, inspection.yaml) == ("coefficient", "")


def _nothing(file):
    pass


def _groups_only(file):
    file.create_group("a/b/c")


def _table(file):
    file["names"] = ["a", "b"]
    file["values"] = np.ones((5,))
    file["records"] = np.zeros(3, "f4,i4")
    file["picture"] = np.ones((12, 20), "u1")
    file["scalar"] = 3.0
    file["empty"] = h5py.Empty("f4")
    file.attrs["markup [bold]"] = "[red]not markup[/]"
    file.attrs["nothing"] = h5py.Empty("f4")


@pytest.mark.parametrize("fill", [_nothing, _groups_only, _table])
def test_files_without_fields_are_shown_as_they_are(tmp_path, fill):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        fill(file)
    inspection = inspect(path)
    assert inspection.layout is None
    text = _text(inspection)
    assert "no array in this file looks like a field" in text
    if fill is _table:
        assert "[red]not markup[/]" in text
        assert "12 x 20" in text


def test_storage_is_reported(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("packed", data=np.ones((4, 12, 20)), chunks=(1, 12, 20), compression="gzip", shuffle=True)
        file.create_dataset("never", (4, 12, 20), "f4")
    storage = {array.path: array.storage for array in inspect(path).arrays}
    assert storage == {"/packed": "chunks 1 x 12 x 20, shuffle + gzip", "/never": "never written"}


def test_a_file_with_a_group_per_sample_is_listed_up_to_a_bound(tmp_path):
    path = tmp_path / "seeds.h5"
    with h5py.File(path, "w") as file:
        for seed in range(2500):
            file[f"{seed:04d}/data"] = np.zeros(2)
    assert "and 2460 more" in _text(inspect(path))


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="of a kind that is not read"):
        inspect(path)


def test_the_way_each_array_is_read_is_told_with_what_it_costs(tmp_path):
    path = tmp_path / "data.h5"
    values = np.random.default_rng(0).normal(size=(4, 12, 20))
    with h5py.File(path, "w") as file:
        file["a"] = values
        file.create_dataset("u", data=values, chunks=(4, 12, 20), compression="gzip")
    arrays = {array.path: array for array in inspect(path).arrays}
    assert (arrays["/a"].reading, arrays["/u"].reading) == ("raw", "h5py")
    assert "a frame costs 4 times its bytes, katops convert makes a file without that" in arrays["/u"].why
    assert "array 'u' is read slowly" in _text(inspect(path))


def test_files_of_a_folder_are_summed_up(write_katops, fields, tmp_path):
    (tmp_path / "runs").mkdir()
    for number, frames in enumerate((5, 7)):
        channels = {"velocity": ("state", fields["velocity"][:, :frames])}
        parameters = {"viscosity": 0.1 * (1 + np.arange(9) + 9 * number)}
        write_katops(channels, times=0.5 * np.arange(frames), name=f"runs/{number}.h5", parameters=parameters)
    for where in (tmp_path / "runs", f"{tmp_path}/runs/*.h5"):
        inspection = inspect(where)
        text = _text(inspection)
        for part in ("2 files", "18 samples", "5 to 7 frames", "0.1    1.8   18"):
            assert part in text
        data = yaml.safe_load(inspection.yaml)["data"]
        assert data["file"] == str(where)
        assert len(describe_all(data["file"], inputs=data["inputs"], outputs=data["outputs"])) == 2


def test_files_that_do_not_belong_together_are_told_apart_and_get_no_block(steady, moving):
    inspection = inspect(steady.parent)
    assert "cannot be read as one data set" in _text(inspection)
    assert inspection.yaml == ""


@pytest.mark.parametrize("dtype", [np.complex128, [("real", "f8"), ("imag", "f8")]])
def test_complex_arrays_are_not_passed_over_in_silence(tmp_path, dtype):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.random.default_rng(0).normal(size=(1, 12, 20))
        file["u"] = np.zeros((1, 12, 20), dtype)
    text = _text(inspect(path))
    assert "array 'u' holds complex values, which are not read" in text
    assert "2 arrays, 1 sample, " in text


def test_a_folder_of_very_many_files_is_looked_at_in_part(write_katops, fields, tmp_path, monkeypatch):
    monkeypatch.setattr("katops.data.inspection.inspect._MOST_FILES", 3)
    (tmp_path / "runs").mkdir()
    for number in range(7):
        write_katops({"velocity": ("state", fields["velocity"])}, times=np.arange(7), name=f"runs/{number}.h5")
    inspection = inspect(tmp_path / "runs")
    assert [layout.path.name for layout in inspection.layouts] == ["0.h5", "3.h5", "6.h5"]
    assert "27 samples in 3 of the files" in _text(inspection)


@pytest.mark.parametrize("kind", ["npy", "npz", "mat", "pt", "nc"])
def test_files_of_other_kinds_are_shown_with_a_block_that_describes_them(tmp_path, kind):
    values = np.random.default_rng(0).normal(size=(9, 12, 20))
    path = tmp_path / f"data.{kind}"
    if kind == "npy":
        np.save(path, np.stack([values, values], axis=1))
    elif kind == "npz":
        np.savez(path, a=values, u=values)
    elif kind == "mat":
        scipy.io.savemat(path, {"coeff": values, "sol": values})
    elif kind == "pt":
        torch.save({"x": torch.from_numpy(values), "y": torch.from_numpy(values)}, path)
    else:
        with scipy.io.netcdf_file(path, "w") as file:
            for name, size in (("sample", 9), ("north", 12), ("east", 20)):
                file.createDimension(name, size)
            file.createVariable("a", "f8", ("sample", "north", "east"))[:] = values
            file.createVariable("u", "f8", ("sample", "north", "east"))[:] = values
    inspection = inspect(path)
    layout = _describe(inspection.yaml)
    assert layout == inspection.layout
    assert layout.n_samples == 9
    assert inspection.statistics[0].samples >= 1


def test_an_enormous_file_with_the_samples_last_is_looked_at_without_reading_it(tmp_path):
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, {"descr": "<f8", "fortran_order": False, "shape": (400, 500, 20000)})
        file.truncate(file.tell() + 400 * 500 * 20000 * 8)
    layout = describe(path, inputs=["data"], outputs=[], axes=["x", "y", "sample"])
    values, samples = Glance(layout).share(layout.inputs[0])
    assert values.size < 2**22
    assert samples > 1
    assert Glance(layout).field(layout.inputs[0], 7).shape == (400, 500)


@pytest.mark.parametrize(
    "order", [("sample", "time", "x", "y"), ("time", "x", "y", "sample"), ("y", "sample", "x", "time")]
)
@pytest.mark.parametrize("packed", [False, True])
def test_single_fields_are_the_right_ones_in_any_order_of_axes(tmp_path, order, packed):
    values = np.random.default_rng(0).normal(size=(5, 7, 12, 20))
    stored = values.transpose([("sample", "time", "x", "y").index(axis) for axis in order])
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.create_dataset("u", data=stored, compression="gzip" if packed else None)
    layout = describe(tmp_path / "data.h5", inputs=["u"], outputs=["u"], axes=order)
    expected = values if layout.space == (12, 20) else values.swapaxes(2, 3)
    glance = Glance(layout)
    for points in (None, (slice(None, None, 3), slice(None, None, 2)), (slice(2, 9), 4)):
        found = glance.field(layout.inputs[0], 3, 5, points)
        np.testing.assert_array_equal(found, expected[3, 5] if points is None else expected[3, 5][points])
    part, _ = glance.share(layout.inputs[0])
    assert np.isin(part, values).all()


@pytest.fixture
def published(write_katops, fields, tmp_path):
    """A folder with training, validation and test data in folders of their own."""
    channels = {"coefficient": ("input", fields["coefficient"]), "pressure": ("output", fields["pressure"])}
    for name in ("train/a", "train/b", "valid/c", "test/d"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        write_katops(channels, name=f"root/{name}.h5")
    return tmp_path / "root"


def test_a_published_root_gives_a_block_with_all_its_parts(published):
    inspection = inspect(published)
    data = yaml.safe_load(inspection.yaml)["data"]
    assert data["file"] == str(published / "train")
    assert data["validation_files"] == str(published / "valid")
    assert data["test_files"] == str(published / "test")
    assert len(inspection.files) == 2


def test_a_training_folder_alone_hints_at_those_beside_it(published):
    text = _text(inspect(published / "train"))
    assert f"beside it lie {published / 'valid'} and {published / 'test'}; inspect {published}" in text
    assert "beside it" not in _text(inspect(published / "test"))


def test_parts_of_a_published_root_that_do_not_fit_are_told(published, write_katops, fields):
    write_katops({"coefficient": ("input", fields["coefficient"]), "p": ("output", fields["pressure"])}, name="o.h5")
    (published / "test/d.h5").write_bytes((published.parent / "o.h5").read_bytes())
    assert any("cannot be read as one data set" in warning for warning in inspect(published).warnings)


def test_a_published_root_cannot_be_read_as_one_file(published):
    with pytest.raises(UserError, match=r"name one of them .*file: .*train"):
        describe_all(published)


def test_a_lone_array_hints_at_how_to_put_two_together(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((9, 12, 20)))
    with pytest.raises(UserError, match=r"np\.savez\('both\.npz', perm=np\.load\('perm\.npy'\), head=np\.load"):
        describe(tmp_path / "a.npy", inputs=["perm"], outputs=["head"])


def test_channels_that_are_called_otherwise_than_their_arrays_are_shown(tmp_path):
    with h5py.File(tmp_path / "cfd.h5", "w") as file:
        for name in ("Vx", "Vy", "density", "pressure"):
            file[name] = np.random.default_rng(0).normal(size=(4, 7, 12, 20)).astype("f4")
        for name, size in (("x-coordinate", 12), ("y-coordinate", 20)):
            file[name] = (np.arange(size, dtype="f4") + 0.5) / size
        file["t-coordinate"] = np.arange(8, dtype="f4")
    inspection = inspect(tmp_path / "cfd.h5")
    assert {array.path: array.channels for array in inspection.arrays if array.channels} == {
        "/Vx": ("velocity_x",),
        "/Vy": ("velocity_y",),
    }
    assert "velocity_y" in _text(inspection)


def test_boundaries_that_no_stencil_knows_are_said_to_count_as_neumann(write_plain):
    values = np.random.default_rng(0).normal(size=(4, 12, 20))
    path = write_plain(a=values, u=values)
    text = _text(inspect(path, {"boundary": ["wall", "open"]}))
    assert "treat the boundary wall and open as neumann" in text
    assert "as neumann" not in _text(inspect(path))


def test_predictions_say_what_they_are(steady):
    with h5py.File(steady, "a") as file:
        del file["fields/coefficient"]
        file.attrs.update(model="mgno of run small", predicted_from="in.h5")
    text = _text(inspect(steady))
    assert "these are predictions of mgno of run small from in.h5, one sample per window: pressure" in text
    assert "cannot be trained on" not in text
