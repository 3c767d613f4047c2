"""``katops convert``: the same numbers in the layout that is read fastest, whatever ends the process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from katops.data import convert_file as convert_module
from katops.data import sample_blocks
from katops.data.convert_file import convert_file
from katops.data.formats import describe
from katops.data.reading.reader import FieldReader, Request
from katops.data.sources import describe_all
from katops.data.unfinished import UnfinishedFile
from katops.data.writing import StoredField, create_layout, layout_file
from katops.errors import UserError
from katops.fields import Axis, Channel


def everything(layouts, kind: str, dtype: str = "float32") -> list[np.ndarray]:
    """Every sample of some files, read as training reads."""
    layouts = [layouts] if not isinstance(layouts, list | tuple) else layouts
    reader = FieldReader(layouts, dtype=dtype)
    found = []
    for number, layout in enumerate(layouts):
        moving = any(array.has_time for array in getattr(layout, kind))
        for sample in range(layout.n_samples):
            steps = int(layout.frames[sample]) if moving else 1
            out = np.empty((1, steps, len(getattr(layout, kind)), *layout.space), dtype)
            place = (np.array([number]), np.array([sample]), np.array([0]))
            reader.read(Request(kind, *place, steps=steps, out=out))
            found.append(out[0])
    return found


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert len(one) == len(other)
    for ours, theirs in zip(one, other, strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.fixture
def numbers() -> dict[str, np.ndarray]:
    """A coefficient and a solution that moves, in double precision."""
    rng = np.random.default_rng(3)
    return {"a": rng.normal(size=(9, 12, 20)), "u": rng.normal(size=(9, 7, 12, 20))}


def _sample_last_hdf5(path, numbers, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.moveaxis(numbers["a"], 0, -1), **options)
        file.create_dataset("u", data=np.moveaxis(numbers["u"], 0, -1), **options)
    return {"axes": {"a": ["x", "y", "sample"], "u": ["time", "x", "y", "sample"]}}


def _chunked_sample_last_hdf5(path, numbers):
    return _sample_last_hdf5(path, numbers, chunks=True, compression="gzip", shuffle=True)


def _matlab5(path, numbers):
    scipy.io.savemat(path, numbers)
    return {"axes": ["sample", "time", "x", "y"]}


def _compressed_matlab5(path, numbers):
    scipy.io.savemat(path, numbers, do_compression=True)
    return {"axes": ["sample", "time", "x", "y"]}


def _npz(path, numbers):
    with path.open("wb") as file:
        np.savez_compressed(file, a=np.moveaxis(numbers["a"], 0, -1), u=np.moveaxis(numbers["u"], 0, 1))
    return {"axes": {"a": ["x", "y", "sample"], "u": ["time", "sample", "x", "y"]}}


def _torch(path, numbers):
    # As published: the samples lie fastest in memory.
    tensors = {name: torch.from_numpy(np.moveaxis(values, 0, -1).copy()) for name, values in numbers.items()}
    torch.save({name: tensor.movedim(-1, 0) for name, tensor in tensors.items()}, path)
    return {"axes": ["sample", "time", "x", "y"]}


def _interleaved_components(path, numbers):
    with h5py.File(path, "w") as file:
        both = np.stack([numbers["u"], 2 * numbers["u"]], axis=-1)
        file.create_dataset("u", data=np.moveaxis(both, 0, 2))
        file["a"] = numbers["a"]
    return {
        "axes": {"a": ["sample", "x", "y"], "u": ["time", "x", "sample", "y", "channel"]},
        "channels": {"u": ["u", "twice"]},
    }


WRITERS = [_sample_last_hdf5, _chunked_sample_last_hdf5, _matlab5, _compressed_matlab5, _npz, _torch]


@pytest.mark.parametrize("write", [*WRITERS, _interleaved_components], ids=lambda write: write.__name__)
@pytest.mark.parametrize("block_bytes", [1, 3 * 7 * 12 * 20 * 4, 2**28])
def test_samples_are_the_same_bits_wherever_they_were_stored(tmp_path, numbers, write, block_bytes):
    statement = {"format": "plain", "inputs": ["a"], "outputs": ["u"], **write(tmp_path / "source", numbers)}
    statement |= {"boundary": ["periodic", "neumann"], "grid": ["periodic_nodes", "nodes"], "time_step": 0.25}
    output = convert_file(tmp_path / "source", tmp_path / "out.h5", block_bytes=block_bytes, **statement)
    layout, source = describe(output), describe(tmp_path / "source", **statement)
    assert (layout.format, layout.n_samples, layout.space) == ("katops", 9, source.space)
    for kind in ("inputs", "outputs"):
        assert_same(everything(layout, kind), everything(source, kind))
    # Column-major files have their axes the other way round.
    order = [[axis.name for axis in layout.meta.axes].index(name) for name in "xy"]
    for kind, name in (("inputs", "a"), ("outputs", "u")):
        found = np.stack(everything(layout, kind))[:, :, 0].transpose(0, 1, 2 + order[0], 2 + order[1])
        np.testing.assert_array_equal(np.squeeze(found), numbers[name].astype("f4"))
    assert layout.meta.axes == source.meta.axes
    assert layout.meta.time_step == 0.25
    assert all(stored.offset is not None and not stored.filters for stored in layout.storage.values())
    assert not (tmp_path / "out.h5.partial").exists()


def test_short_and_long_pieces_of_rows_are_read_alike(tmp_path, monkeypatch, numbers):
    statement = {"inputs": ["a"], "outputs": ["u"], **_sample_last_hdf5(tmp_path / "source", numbers)}
    files = []
    for worth in (0, 2**30):
        monkeypatch.setattr("katops.data.sample_blocks._WORTH_A_CALL", worth)
        monkeypatch.setattr("katops.data.sample_blocks._SLAB", 5 * 9 * 8)
        files.append(convert_file(tmp_path / "source", tmp_path / f"{worth}.h5", block_bytes=20_000, **statement))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_double_precision_is_kept_where_it_is_asked_for(tmp_path, numbers):
    statement = {"inputs": ["a"], "outputs": ["u"], **_sample_last_hdf5(tmp_path / "source", numbers)}
    layout = describe(convert_file(tmp_path / "source", tmp_path / "out.h5", dtype="float64", **statement))
    assert layout.inputs[0].dtype == "<f8"
    assert_same(everything(layout, "outputs", "float64"), list(numbers["u"][:, :, None]))


@pytest.fixture
def rich_files(tmp_path) -> list[Path]:
    """Two files with everything the layout can say: ragged trajectories, constants, scalars, an uneven grid."""
    rng = np.random.default_rng(8)
    axes = [
        Axis("theta", "uneven", 0.0, 3.2, ("open", "open"), "rad", tuple(np.linspace(0.1, 3.0, 12) ** 1.1)),
        Axis("phi", "periodic_nodes", 0.0, 6.4, ("periodic", "periodic"), "rad"),
    ]
    paths = []
    for number, longest in enumerate((5, 7)):
        path = tmp_path / "rich" / f"part_{number}.h5"
        path.parent.mkdir(exist_ok=True)
        frames = rng.integers(3, longest + 1, 4)
        frames[1] = longest
        times = 0.1 * np.arange(longest) ** 1.5 + rng.uniform(0, 1, (4, 1))
        beyond = np.arange(longest) >= frames[:, None]
        times[beyond] = np.nan
        fields = {
            "pressure": StoredField("state", "Pa", (longest, 12, 20)),
            "velocity_theta": StoredField("state", "m/s", (longest, 12, 20), True, "velocity", (0,), (0.5, 0.0)),
            "height": StoredField("output", "m", (longest, 12, 20)),
            "force": StoredField("constant", "N", (12, 20)),
            "mask": StoredField("constant", "", (12, 20), per_sample=False),
        }
        with layout_file(path) as file:
            arrays = create_layout(
                file.hdf5,
                name="planet",
                samples=4,
                fields=fields,
                axes=axes,
                parameters=[Channel("viscosity", "m^2/s"), Channel("rotation", "1/s")],
                times=times,
                time_unit="h",
                frames=frames,
                scalars=[Channel("forcing", "W")],
                scalar_values=np.where(beyond, np.nan, rng.normal(size=(4, longest)))[..., None],
                coordinates="spherical",
                licence="CC BY 4.0",
                citation="somebody 2024",
                attributes={"seed": 3, "part": number, "solver": "spectral"},
            )
            for name, dataset in arrays.items():
                values = rng.normal(size=dataset.shape)
                if name.startswith("fields") and dataset.ndim == 4:
                    values[beyond] = np.nan
                dataset[...] = values
        paths.append(path)
    return paths


def test_everything_that_is_known_about_the_samples_is_kept(rich_files, tmp_path):
    sources = describe_all(rich_files[0].parent)
    layout = describe(convert_file(rich_files[0].parent, tmp_path / "out.h5"))
    for name in (
        "inputs",
        "outputs",
        "constants",
        "axes",
        "parameters",
        "scalars",
        "coordinates",
        "licence",
        "citation",
    ):
        assert getattr(layout.meta, name) == getattr(sources[0].meta, name), name
    assert (layout.meta.name, layout.meta.time_unit, layout.meta.time_step) == ("planet", "h", None)
    np.testing.assert_array_equal(layout.frames, np.concatenate([source.frames for source in sources]))
    np.testing.assert_array_equal(layout.parameters, np.concatenate([source.parameters for source in sources]))
    for kind in ("inputs", "outputs", "constants"):
        assert_same(everything(layout, kind), everything(sources, kind))
    for number, frames in enumerate(layout.frames):
        source, sample = sources[number // 4], number % 4
        np.testing.assert_array_equal(layout.times[number, :frames], source.times[sample, :frames])
        np.testing.assert_array_equal(layout.scalars[number, :frames], source.scalars[sample, :frames])
    assert (layout.attributes["seed"], layout.attributes["solver"]) == (3, "spectral")
    assert "part" not in layout.attributes
    assert layout.attributes["converted_from"] == ["part_0.h5", "part_1.h5"]
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["source/file"][()].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
        assert file["source/sample"][()].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_attributes_of_another_format_do_not_make_the_new_file_look_like_it(tmp_path, numbers):
    statement = {"inputs": ["a"], "outputs": ["u"], **_sample_last_hdf5(tmp_path / "source", numbers)}
    with h5py.File(tmp_path / "source", "r+") as file:
        file.attrs.update(beta=0.5, author="somebody")
    layout = describe(convert_file(tmp_path / "source", tmp_path / "out.h5", **statement))
    assert "beta" not in layout.attributes
    with h5py.File(layout.path) as file:
        assert dict(file["source"].attrs) == {"beta": 0.5, "author": "somebody"}


def test_one_file_converted_is_described_as_it_was(rich_files, tmp_path):
    source, layout = describe(rich_files[0]), describe(convert_file(rich_files[0], tmp_path / "out.h5"))
    assert layout.meta == source.meta
    assert layout.arrays == source.arrays  # a mask that all samples share is still stored once
    np.testing.assert_array_equal(layout.times, source.times)
    np.testing.assert_array_equal(layout.scalars, source.scalars)


def test_channels_can_be_chosen(rich_files, tmp_path):
    layout = describe(
        convert_file(rich_files, tmp_path / "out.h5", inputs=["pressure"], outputs=["height"], constants=["mask"])
    )
    assert [[array.name for array in arrays] for arrays in (layout.inputs, layout.outputs, layout.constants)] == [
        ["pressure"],
        ["height"],
        ["mask"],
    ]


def test_a_plain_problem_is_written_as_version_1(steady, tmp_path):
    path = convert_file(steady, tmp_path / "out.h5")
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 1
    assert describe(path).meta == describe(steady).meta


def test_progress_counts_to_the_end(rich_files, tmp_path):
    calls = []
    convert_file(rich_files, tmp_path / "out.h5", block_bytes=1, progress=lambda *done: calls.append(done))
    assert calls == sorted(calls)
    assert len({total for _, total in calls}) == 1
    assert calls[-1][0] == calls[-1][1]


def test_what_was_copied_before_an_interruption_is_not_read_again(tmp_path, numbers, monkeypatch):
    statement = {"inputs": ["a"], "outputs": ["u"], **_sample_last_hdf5(tmp_path / "source", numbers)}
    whole = convert_file(tmp_path / "source", tmp_path / "whole.h5", block_bytes=15_000, **statement).read_bytes()
    read, original = [], convert_module.ConversionPlan.values

    def values(plan, block):
        if len(read) == 3:
            read.append("interrupted")
            raise KeyboardInterrupt
        read.append((block.group[0].name, block.samples.start))
        return original(plan, block)

    monkeypatch.setattr(convert_module.ConversionPlan, "values", values)
    with pytest.raises(KeyboardInterrupt):
        convert_file(tmp_path / "source", tmp_path / "out.h5", block_bytes=15_000, **statement)
    assert not (tmp_path / "out.h5").exists()
    output = convert_file(tmp_path / "source", tmp_path / "out.h5", block_bytes=15_000, **statement)
    read.remove("interrupted")
    assert len(read) == len(set(read)) > 4
    assert output.read_bytes() == whole
    assert not (tmp_path / "out.h5.partial").exists()


def test_an_unfinished_conversion_of_other_data_is_begun_anew(tmp_path, numbers, monkeypatch):
    statement = {"inputs": ["a"], "outputs": ["u"], **_sample_last_hdf5(tmp_path / "source", numbers)}

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(convert_module, "_verify", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert_file(tmp_path / "source", tmp_path / "out.h5", **statement)
    numbers["u"] += 1.0
    _sample_last_hdf5(tmp_path / "source", numbers)
    layout = describe(convert_file(tmp_path / "source", tmp_path / "out.h5", **statement))
    assert_same(everything(layout, "outputs"), list(numbers["u"].astype("f4")[:, :, None]))


def test_a_killed_conversion_goes_on(tmp_path):
    """The real thing: another process, killed at a moment of its own choice, several times."""
    values = np.random.default_rng(0).normal(size=(40, 30, 300))
    np.save(tmp_path / "field.npy", values)
    script = (
        "import sys; sys.argv[0] = 'katops'; from katops.data.convert_file import convert_file\n"
        "convert_file(sys.argv[1], sys.argv[2], block_bytes=80_000, axes=['x', 'y', 'sample'], inputs=['data'],"
        " outputs=[], format='plain')"
    )
    name = describe(tmp_path / "field.npy", format="plain", axes=["x", "y", "sample"], inputs=["data"], outputs=[])
    assert name.n_samples == 300
    command = [sys.executable, "-c", script, str(tmp_path / "field.npy"), str(tmp_path / "out.h5")]
    journal = tmp_path / "out.h5.partial" / "journal.json"
    process = subprocess.Popen(command)
    while process.poll() is None and not _copied(journal):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.h5").exists() or process.returncode == 0
    subprocess.run(command, check=process.returncode != 0, capture_output=True)
    layout = describe(tmp_path / "out.h5", outputs=[])
    assert_same(everything(layout, "inputs"), list(np.moveaxis(values, -1, 0).astype("f4")[:, None, None]))


def _copied(journal: Path) -> bool:
    try:
        return bool(json.loads(journal.read_text())["checksums"])
    except (OSError, ValueError):
        return False


def test_a_byte_that_changes_on_the_disk_is_noticed(tmp_path, numbers, monkeypatch):
    statement = {"inputs": ["a"], "outputs": ["u"], **_sample_last_hdf5(tmp_path / "source", numbers)}
    original = convert_module._verify

    def spoil(plan, blocks, unfinished, journal, advance):
        with unfinished.path.open("r+b") as file:
            file.seek(journal.offsets["u"] + 12345)
            file.write(b"\xff")
        original(plan, blocks, unfinished, journal, advance)

    monkeypatch.setattr(convert_module, "_verify", spoil)
    with pytest.raises(UserError, match="field 'u' from sample 0 on is not what was written"):
        convert_file(tmp_path / "source", tmp_path / "out.h5", **statement)
    assert not (tmp_path / "out.h5").exists()


def test_a_transposed_copy_is_noticed(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=(12, 12, 9))
    np.save(tmp_path / "a.npy", values)
    original = sample_blocks.SampleBlocks.read
    monkeypatch.setattr(
        sample_blocks.SampleBlocks, "read", lambda *a: np.ascontiguousarray(original(*a).swapaxes(-1, -2))
    )
    statement = {"format": "plain", "inputs": ["data"], "outputs": [], "axes": ["x", "y", "sample"]}
    with pytest.raises(UserError, match="was written; please report this as a defect"):
        convert_file(tmp_path / "a.npy", tmp_path / "out.h5", **statement)


def test_a_full_disk_is_told_before_anything_is_written(steady, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(UserError, match=r"out.h5' needs .* GB and the disk has 1e-07 GB left"):
        convert_file(steady, tmp_path / "out.h5")
    assert not list(tmp_path.glob("out.h5*"))


def test_a_disk_that_fills_up_keeps_what_was_finished(tmp_path, numbers, monkeypatch):
    statement = {"inputs": ["a"], "outputs": ["u"], **_sample_last_hdf5(tmp_path / "source", numbers)}
    calls, original = [], os.pwrite

    def pwrite(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    with monkeypatch.context() as context:
        context.setattr(os, "pwrite", pwrite)
        with pytest.raises(UserError, match=r"No space left on device; what was finished is kept"):
            convert_file(tmp_path / "source", tmp_path / "out.h5", block_bytes=15_000, **statement)
    layout = describe(convert_file(tmp_path / "source", tmp_path / "out.h5", block_bytes=15_000, **statement))
    assert_same(everything(layout, "outputs"), list(numbers["u"].astype("f4")[:, :, None]))


def test_two_processes_do_not_write_the_same_file(steady, tmp_path):
    other = UnfinishedFile(tmp_path / "out.h5").begun("x", 1, layout_with_one_field)
    with other, pytest.raises(UserError, match="another process is writing"):
        convert_file(steady, tmp_path / "out.h5")


def layout_with_one_field(path: Path) -> None:
    with layout_file(path, complete=False) as file:
        create_layout(file.hdf5, name="one", samples=1, fields={"a": StoredField("input", "", (3,))}, axes=[Axis("x")])


def test_an_output_that_is_there_is_replaced_only_on_demand(steady, moving, tmp_path):
    output = tmp_path / "out.h5"
    output.write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        convert_file(steady, output)
    assert output.read_text() == "precious"
    convert_file(steady, output, overwrite=True)
    with pytest.raises(UserError, match="is one of the files to convert"):
        convert_file(output, output, overwrite=True)
    with pytest.raises(UserError, match="is a folder"):
        convert_file(steady, tmp_path)
    with pytest.raises(UserError, match="did you mean 'float64'"):
        convert_file(steady, tmp_path / "other.h5", dtype="float6")


def test_the_memory_that_is_taken_does_not_grow_with_the_file(tmp_path):
    """A sparse file of 240 MB with the samples last, converted in blocks of 16 MiB."""
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        file.create_dataset("u", (30, 100, 20000), "f4", dcpl=properties)
    script = (
        "import resource, sys; sys.argv[0] = 'katops'; from katops.data.convert_file import convert_file\n"
        "import katops.data.formats, katops.data.reading.reader\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "statement = {'axes': ['x', 'y', 'sample'], 'inputs': ['u'], 'outputs': []}\n"
        "convert_file(sys.argv[1], sys.argv[2], block_bytes=2**24, **statement)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "out.h5")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 120_000  # kB


def test_what_generators_measured_and_remarked_is_carried(steady, tmp_path):
    with h5py.File(steady, "a") as file:
        file["quality/residual"] = np.linspace(0.0, 1e-9, 9)
        file["quality/residual"].attrs["unit"] = "Pa"
        file.attrs["notes"] = ["the coefficient is rounded"]
    other = tmp_path / "other.h5"
    other.write_bytes(steady.read_bytes())
    with h5py.File(other, "a") as file:
        del file["quality"]
    one = convert_file(steady, tmp_path / "one.h5")
    assert describe(one).notes == ("the coefficient is rounded",)
    both = convert_file([steady, other], tmp_path / "both.h5")
    with h5py.File(one) as file, h5py.File(both) as joined:
        np.testing.assert_array_equal(file["quality/residual"], np.linspace(0.0, 1e-9, 9))
        assert file["quality/residual"].attrs["unit"] == "Pa"
        assert np.isnan(joined["quality/residual"][9:]).all()
        np.testing.assert_array_equal(joined["quality/residual"][:9], file["quality/residual"])
