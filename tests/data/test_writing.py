"""Files that katops writes: whole or not there, readable by every HDF5, described as what they are."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.predictions import write_predictions
from katops.data.windows import Window
from katops.data.writing import StoredField, array_names, create_layout, layout_file, mark_complete, storable
from katops.errors import UserError
from katops.fields import Axis, Channel

AXES = (Axis("x"), Axis("y", "nodes", 0.0, 2.0, ("periodic", "periodic"), "m"))


def write(path, fields=None, axes=AXES, complete=True, **options):
    """A file with random numbers in its fields."""
    fields = fields or {"u": StoredField("state", "m", (7, 12, 20))}
    options.setdefault("times", np.arange(7) * 0.5)
    with layout_file(path, complete=complete) as file:
        for dataset in create_layout(file.hdf5, name="test", samples=3, fields=fields, axes=axes, **options).values():
            dataset[...] = np.random.default_rng(0).normal(size=dataset.shape)
    return path


def version(path) -> int:
    with h5py.File(path) as file:
        return int(file.attrs["format_version"])


def test_plain_problems_are_written_as_version_1(tmp_path):
    assert version(write(tmp_path / "a.h5")) == 1
    assert (
        version(write(tmp_path / "b.h5", times=np.array([0.0]), fields={"u": StoredField("state", "", (1, 12, 20))}))
        == 1
    )


@pytest.mark.parametrize(
    "options",
    [
        {"times": np.arange(7) ** 2.0},
        {"times": np.arange(21.0).reshape(3, 7)},
        {"frames": np.array([7, 5, 2])},
        {"scalars": [Channel("power", "W")], "scalar_values": np.ones((1, 7, 1))},
        {"coordinates": "polar"},
        {"licence": "CC0"},
        {"axes": (Axis("x", boundary=("wall", "open")), AXES[1])},
        {"axes": (Axis("x", "uneven", points=np.linspace(0, 1, 12) ** 2), AXES[1])},
        {"fields": {"u": StoredField("state", "", (7, 12, 20)), "c": StoredField("constant", "", (12, 20))}},
        {"fields": {"u_x": StoredField.of(Channel("u_x", "", "u", (0,)), "state", (7, 12, 20))}},
        {"fields": {"u": StoredField.of(Channel("u", shift=(0.5, 0.0)), "state", (7, 12, 20))}},
    ],
)
def test_what_version_1_cannot_say_is_written_as_version_2_and_read_back(tmp_path, options):
    path = write(tmp_path / "a.h5", **options)
    assert version(path) == 2
    layout = describe(path)
    for name, given in options.items():
        if name in ("coordinates", "licence", "axes"):
            assert getattr(layout.meta, name) == given
        elif name == "scalars":
            assert layout.meta.scalars == tuple(given)
        elif name == "fields":
            channels = {array.name: array.channel for array in layout.arrays}
            assert channels == {
                key: Channel(key, entry.unit, entry.quantity, entry.component, entry.shift)
                for key, entry in given.items()
            }
        elif name != "scalar_values":
            np.testing.assert_array_equal(getattr(layout, name), given)


def test_an_interrupted_file_is_refused(tmp_path):
    def interrupted() -> None:
        with layout_file(tmp_path / "a.h5") as file:
            fields = {"u": StoredField("input", "", (12, 20))}
            create_layout(file.hdf5, name="test", samples=3, fields=fields, axes=AXES)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    with pytest.raises(UserError, match="incomplete"):
        describe(tmp_path / "a.h5")


def test_a_file_whose_fields_are_filled_later_is_refused_until_it_is_marked(tmp_path):
    path = write(tmp_path / "a.h5", complete=False)
    with pytest.raises(UserError, match="incomplete"):
        describe(path)
    mark_complete(path)
    assert describe(path).n_samples == 3


def test_the_place_of_every_field_is_known_before_it_is_written(tmp_path):
    path = tmp_path / "a.h5"
    fields = {"u": StoredField("input", "", (12, 20)), "v": StoredField("output", "", (12, 20))}
    with layout_file(path) as file:
        create_layout(file.hdf5, name="test", samples=3, fields=fields, axes=AXES, allocate=True)
    values = np.random.default_rng(0).normal(size=(3, 12, 20)).astype("<f4")
    with h5py.File(path) as file:
        offset = file["fields/v"].id.get_offset()
    assert path.stat().st_size >= offset + values.nbytes
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(values.tobytes())
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["fields/v"][()], values)


def test_attributes_of_any_kind_are_kept_in_some_form(tmp_path):
    given = {
        "text": "µ" * 40_000,
        "number": 3.5,
        "flag": True,
        "list": [1, 2.5],
        "words": ["a", "b"],
        "mixed": [1, "a"],
        "nested": {"a": [1, None]},
        "empty": [],
        "long": list(range(10_000)),
        "nothing": None,
        "complete": False,
        "format": "other",
    }
    kept = storable(given)
    assert set(kept) == set(given) - {"nothing", "complete", "format"}
    assert (kept["mixed"], kept["nested"], kept["empty"]) == ('[1, "a"]', '{"a": [1, null]}', "[]")
    assert kept["text"].endswith("(cut)")
    with h5py.File(tmp_path / "a.h5", "w", libver="earliest") as file:
        file.attrs.update(kept)


def test_names_that_mean_the_same_array_are_refused():
    assert array_names([Channel("/group/a"), Channel("b")]) == ["group_a", "b"]
    with pytest.raises(UserError, match="'a/b', 'a_b' cannot be told apart"):
        array_names([Channel("a/b"), Channel("a_b")])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_error_and_no_crash():
    script = """
import sys
sys.argv[0] = "katops"
from katops.data.writing import StoredField, create_layout, layout_file
from katops.fields import Axis
try:
    with layout_file("/dev/full") as file:
        fields = {"u": StoredField("input", "", (64, 64))}
        arrays = create_layout(file.hdf5, name="test", samples=100, fields=fields, axes=(Axis("x"), Axis("y")))
        arrays["fields/u"][...] = 1.0
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "28\n"), done.stderr


def _predict(tmp_path, dataset, steps: int):
    """Predictions of an imaginary model: the number of the window everywhere."""
    meta = dataset.meta
    batches = [dataset.read(part) for part in np.array_split(np.arange(len(dataset)), 4) if len(part)]
    start = np.cumsum([0, *(len(batch.x) for batch in batches)])
    predictions = (
        (
            np.broadcast_to(
                np.arange(first, first + len(batch.x))[:, None, None, None, None],
                (len(batch.x), steps, len(meta.outputs), *dataset.space),
            ),
            batch.index.numpy(),
        )
        for first, batch in zip(start, batches, strict=False)
    )
    path = write_predictions(tmp_path / "predicted.h5", dataset, meta, predictions, {"model": "none"})
    with h5py.File(path) as file:
        source = {name: file[f"source/{name}"][()].tolist() for name in ("file", "sample", "first_frame")}
        times = file["time"][()] if "time" in file else None
    return path, source, times


def test_predictions_tell_file_sample_and_frame_that_they_come_from(moving, tmp_path):
    # The same file twice, under two names.
    copy = tmp_path / "copy.h5"
    copy.write_bytes(moving.read_bytes())
    dataset = FieldDataset([describe(moving), describe(copy)], window=Window(n_in=2, n_out=2, stride=2))
    path, source, times = _predict(tmp_path, dataset, 2)
    files, samples, starts = dataset.locate(np.arange(len(dataset)))
    assert source == {"file": files.tolist(), "sample": samples.tolist(), "first_frame": starts.tolist()}
    assert times.tolist() == [0.5, 1.0]
    layout = describe(path, inputs=["velocity"], outputs=[])
    assert (layout.n_samples, layout.space) == (len(dataset), (12, 20))


def test_predictions_on_an_uneven_grid_at_uneven_times_are_readable(tmp_path):
    axes = (Axis("x", "uneven", points=np.linspace(0, 1, 12) ** 2), AXES[1])
    times = np.cumsum(np.random.default_rng(0).uniform(0.1, 1.0, (3, 7)), axis=1)
    fields = {"u": StoredField("state", "m", (7, 12, 20)), "mask": StoredField("constant", "", (12, 20), False)}
    source = write(tmp_path / "a.h5", fields=fields, axes=axes, times=times)
    dataset = FieldDataset(describe(source), window=Window(n_in=2, n_out=2, every=2), dtype=torch.float64)
    path, _, leads = _predict(tmp_path, dataset, 2)
    batch = dataset.read(np.arange(len(dataset)))
    np.testing.assert_allclose(leads, batch.times_out - batch.times_in[:, -1:], rtol=1e-12)
    assert describe(path, inputs=["u"], outputs=[]).meta.axes == axes


def test_frames_are_counted_where_the_file_does_not_tell_their_times(tmp_path):
    source = write(tmp_path / "a.h5", times=np.arange(7) ** 2.0)
    dataset = FieldDataset(describe(source, outputs=[]), window=Window(n_in=6, n_out=3))
    complete = FieldDataset(describe(source), window=Window(n_in=2, n_out=3))
    assert len(dataset) == 3 * 2
    batches = [(np.zeros((6, 3, 1, 12, 20)), dataset.read(np.arange(6)).index.numpy())]
    path = write_predictions(tmp_path / "predicted.h5", dataset, complete.meta, batches, {})
    with h5py.File(path) as file:
        assert (file["time"][()].tolist(), file["time"].attrs["unit"]) == ([1.0, 2.0, 3.0], "frames")


def test_steady_predictions_have_no_time(steady, tmp_path):
    path, source, times = _predict(tmp_path, FieldDataset(describe(steady)), 1)
    assert times is None
    assert source["first_frame"] == [0] * 9
    with h5py.File(path) as file:
        assert file["fields/pressure"][8].tolist() == np.full((12, 20), 8.0).tolist()
