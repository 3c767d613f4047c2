"""``katops inspect``: true for files that describe themselves, useful for those that do not."""

import io

import h5py
import numpy as np
import pytest
import yaml
from rich.console import Console

from katops.data.formats import describe
from katops.data.inspect import inspect, render
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
    assert storage == {"/packed": "chunks 1 x 12 x 20, gzip + shuffle", "/never": "never written"}


def test_a_file_with_a_group_per_sample_is_listed_up_to_a_bound(tmp_path):
    path = tmp_path / "seeds.h5"
    with h5py.File(path, "w") as file:
        for seed in range(2500):
            file[f"{seed:04d}/data"] = np.zeros(2)
    inspection = inspect(path)
    assert inspection.more
    assert "and 1960 more" in _text(inspection)


def test_a_file_that_is_not_hdf5_is_refused(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not an HDF5 file"):
        inspect(path)
