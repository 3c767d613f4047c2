"""The reader: the same numbers on every path, and never numbers of another file, another process or of nobody."""

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from katops.data.containers.probe import probe
from katops.data.formats import describe
from katops.data.layout import ChannelArray, FileLayout
from katops.data.reading.reader import FieldReader, Request
from katops.data.resample import Resample
from katops.data.sample_blocks import SampleBlocks
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta

SPACE, SAMPLES, FRAMES = (12, 20), 5, 7
ALL = ("sample", "time", "x", "y")


@pytest.fixture
def lay_out() -> Callable[..., FileLayout]:
    """Describe a file by hand: ``lay_out(path, {channel: (arrays, axes, component, further attributes)})``."""

    def describe_by_hand(path: Path, channels: dict, frames: list[int] | None = None, **kinds) -> FileLayout:
        tree = probe(path)
        arrays = {}
        for name, (datasets, axes, *rest) in channels.items():
            datasets = (datasets,) if isinstance(datasets, str) else tuple(datasets)
            stored = tree.array(datasets[0])
            component, further = rest[0] if rest else (), rest[1] if len(rest) > 1 else {}
            paths = tuple(tree.array(dataset).path for dataset in datasets)
            arrays[name] = ChannelArray(name, paths, stored.dtype, axes, stored.shape, component, **further)
        names = {kind: kinds.get(kind, ()) for kind in ("inputs", "outputs", "constants")}
        if not kinds:
            names["inputs"] = tuple(arrays)
        meta = FieldMeta(
            "by hand", axes=(Axis("x"), Axis("y")), **{kind: tuple(map(Channel, names[kind])) for kind in names}
        )
        return FileLayout(
            tree.path, tree.container, "by hand", meta, frames=np.array(frames or [FRAMES] * SAMPLES), space=SPACE,
            parameters=np.zeros((SAMPLES, 0)), storage=dict(tree.arrays), stamp=tree.stamp,
            **{kind: tuple(arrays[name] for name in names[kind]) for kind in names},
        )  # fmt: skip

    return describe_by_hand


@pytest.fixture
def values() -> np.ndarray:
    """(sample, time, x, y, component), every value another."""
    shape = (SAMPLES, FRAMES, *SPACE, 3)
    return np.random.default_rng(3).permutation(np.prod(shape)).reshape(shape).astype(np.float32)


def read(reader: FieldReader, pairs, steps: int = 1, every: int = 1, kind: str = "inputs", files=None) -> np.ndarray:
    """Windows that begin at (sample, start); the memory holds rubbish before."""
    samples, starts = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    files = np.zeros(len(samples), np.int64) if files is None else np.array(files)
    shape = (len(samples), steps, len(reader.channels(kind)), *reader.space)
    out = np.full(shape, -77.0, reader.dtype)
    reader.read(Request(kind, files, samples, starts, steps, every, out))
    return out


def expected(values: np.ndarray, pairs, steps: int = 1, every: int = 1) -> np.ndarray:
    """The same windows of (sample, time, \\*space)."""
    samples, starts = np.array(pairs).T
    return values[samples[:, None], starts[:, None] + every * np.arange(steps)]


STORAGE = {
    "contiguous": {},
    "one frame": {"chunks": 1},
    "parts of frames": {"chunks": 5},
    "gzip": {"chunks": 4, "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": 100, "compression": "lzf"},
    "checksum": {"chunks": 6, "fletcher32": True},
}


def _store(path: Path, values: np.ndarray, axes: tuple[str, ...], storage: str) -> None:
    options = dict(STORAGE[storage])
    if "chunks" in options:
        least = options["chunks"] if options["chunks"] > 1 else 0
        single = ("sample", "time") if least == 0 else ()
        options["chunks"] = tuple(
            1 if axis in single else min(size, least or size) for axis, size in zip(axes, values.shape, strict=True)
        )
    with h5py.File(path, "w") as file:
        file["before"] = np.arange(3.0)
        file.create_dataset("u", data=values, **options)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_storage_order_and_element_type_gives_the_same_numbers(tmp_path, lay_out, values, monkeypatch, data):
    # Small batches are shared among the threads too, in small tasks.
    monkeypatch.setattr("katops.data.reading.workers._WORTH_SHARING", 0)
    monkeypatch.setattr("katops.data.reading.plan._LEAST_TASK", 2000)
    monkeypatch.setattr("katops.data.reading.raw._SCRATCH", 5000)
    axes = tuple(data.draw(st.permutations(("sample", "time", "x", "y", "channel")), label="axes"))
    storage = data.draw(st.sampled_from(list(STORAGE)), label="storage")
    dtype = data.draw(st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<f2", "<i4", ">i8", "u1", "?"]), label="dtype")
    names = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True), label="components")
    steps, every = data.draw(st.integers(1, 3), label="steps"), data.draw(st.integers(1, 3), label="every")
    last = FRAMES - (steps - 1) * every - 1
    window = st.tuples(st.integers(0, SAMPLES - 1), st.integers(0, last))
    pairs = data.draw(st.lists(window, min_size=1, max_size=9), label="windows")
    resample = data.draw(st.sampled_from([None, Resample((2, 3)), Resample(2, "block_mean")]), label="resample")
    memory = data.draw(st.sampled_from(["auto", "ram"]), label="memory")
    wanted = data.draw(st.sampled_from(["float32", "float64"]), label="wanted")

    stored = (values % 100).astype(dtype)
    place = [("sample", "time", "x", "y", "channel").index(axis) for axis in axes]
    _store(tmp_path / "u.h5", stored.transpose(place), axes, storage)
    layout = lay_out(tmp_path / "u.h5", {f"u{k}": ("u", axes, (k,)) for k in names})
    reader = FieldReader([layout], resample=resample, dtype=wanted, memory=memory, frames=steps, threads=3)
    found = read(reader, pairs, steps, every)
    truth = np.stack([expected(stored[..., k], pairs, steps, every) for k in names], axis=2).astype(wanted)
    if resample is not None:
        truth = resample.apply(truth, 2)
    np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize(
    ("axes", "storage", "path"),
    [
        (ALL, "contiguous", "raw"),
        (("time", "sample", "y", "x"), "contiguous", "raw"),
        (("sample", "x", "y", "time"), "contiguous", "raw"),
        (("x", "y", "time", "sample"), "contiguous", "ram"),
        (ALL, "one frame", "chunk-map"),
        (ALL, "parts of frames", "chunk-map"),
        (("x", "y", "sample", "time"), "one frame", "chunk-map"),
        (("sample", "x", "y", "time"), "parts of frames", "h5py"),
        (ALL, "gzip", "h5py"),
        (("x", "y", "time", "sample"), "gzip", "ram"),
    ],
)
def test_each_array_has_the_fastest_path_that_its_storage_allows(tmp_path, lay_out, values, axes, storage, path):
    order = [ALL.index(axis) for axis in axes]
    _store(tmp_path / "u.h5", values[..., 0].transpose(order), axes, storage)
    reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", axes)})])
    (entry,) = reader.report()
    assert (entry.array, entry.path) == ("u", path)
    assert entry.why
    assert reader.paths == {(0, "u"): path}
    pairs = [(4, 3), (0, 0), (4, 2)]
    np.testing.assert_array_equal(read(reader, pairs, 3)[:, :, 0], expected(values[..., 0], pairs, 3))


def test_no_hdf5_library_is_used_where_the_bytes_can_be_found(tmp_path, lay_out, values, monkeypatch):
    _store(tmp_path / "u.h5", values[..., 0], ALL, "contiguous")
    _store(tmp_path / "v.h5", values[..., 1], ALL, "parts of frames")
    layouts = [lay_out(tmp_path / name, {"u": ("u", ALL)}) for name in ("u.h5", "v.h5")]
    FieldReader(layouts[1:]).read(Request("inputs", *np.zeros((3, 1), np.int64), out=np.empty((1, 1, 1, *SPACE), "f4")))
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("HDF5's library was used"))
    found = read(FieldReader(layouts), [(1, 2), (3, 4)], 2, files=[0, 1])
    np.testing.assert_array_equal(found[0, :, 0], values[1, 2:4, ..., 0])
    np.testing.assert_array_equal(found[1, :, 0], values[3, 4:6, ..., 1])


def test_samples_in_groups_of_their_own_may_have_different_numbers_of_frames(tmp_path, lay_out, values):
    frames = [7, 3, 5, 7, 2]
    path = tmp_path / "seeds.h5"
    with h5py.File(path, "w") as file:
        for sample, count in enumerate(frames):
            file[f"{sample:04d}/data"] = values[sample, :count]
    names = [f"{sample:04d}/data" for sample in range(SAMPLES)]
    axes = ("time", "x", "y", "channel")
    layout = lay_out(path, {"a": (names, axes, (0,)), "c": (names, axes, (2,))}, frames)
    pairs = [(4, 0), (2, 3), (0, 5), (4, 0), (1, 1)]
    for memory, way in (("auto", "raw"), ("ram", "ram")):
        reader = FieldReader([layout], memory=memory)
        assert reader.paths == {(0, "a"): way, (0, "c"): way}
        found = read(reader, pairs, 2)
        np.testing.assert_array_equal(found[:, :, 0], expected(values[..., 0], pairs, 2))
        np.testing.assert_array_equal(found[:, :, 1], expected(values[..., 2], pairs, 2))
        with pytest.raises(IndexError, match=r"seeds\.h5: a window ends at frame 3"):
            read(reader, [(1, 2)], 2)


def test_channels_that_lack_axes_are_repeated_along_them(tmp_path, lay_out, values):
    path = tmp_path / "still.h5"
    with h5py.File(path, "w") as file:
        file["moving"] = values[..., 0]
        file["still"] = values[:, 0, ..., 1]
        file["mask"] = values[0, 0, ..., 2].astype("f8")
        file["profile"] = values[:, :, 0, :, 2]
        file["ramp"] = values[0, 0, :, 0, 0]
    channels = {
        "moving": ("moving", ALL),
        "still": ("still", ("sample", "x", "y")),
        "mask": ("mask", ("x", "y")),
        "profile": ("profile", ("sample", "time", "y")),
        "ramp": ("ramp", ("x",)),
    }
    for memory in ("auto", "ram"):
        reader = FieldReader([lay_out(path, channels)], memory=memory)
        pairs = [(3, 1), (0, 0)]
        found = read(reader, pairs, 3, 2)
        shape = (2, 3, *SPACE)
        truth = [
            expected(values[..., 0], pairs, 3, 2),
            np.broadcast_to(values[[3, 0], 0, ..., 1][:, None], shape),
            np.broadcast_to(values[0, 0, ..., 2], shape),
            np.broadcast_to(expected(values[:, :, 0, :, 2], pairs, 3, 2)[:, :, None], shape),
            np.broadcast_to(values[0, 0, :, 0, 0][:, None], shape),
        ]
        np.testing.assert_array_equal(found, np.stack(truth, axis=2))


def test_inputs_outputs_and_constants_of_several_files_are_filled_by_one_call(tmp_path, lay_out, values):
    layouts = []
    for number, storage in enumerate(["contiguous", "one frame", "gzip"]):
        path = tmp_path / f"{number}.h5"
        _store(path, values[..., number], ALL, storage)
        with h5py.File(path, "a") as file:
            file["mask"] = values[:, 0, ..., number]
        channels = {"u": ("u", ALL), "mask": ("mask", ("sample", "x", "y"))}
        layouts.append(lay_out(path, channels, inputs=("u",), outputs=("u",), constants=("mask",)))
    reader = FieldReader(layouts)
    files, samples, starts = np.array([2, 0, 1, 1, 0]), np.array([4, 0, 3, 2, 4]), np.array([1, 2, 0, 3, 3])
    x, y, mask = (np.full((5, steps, 1, *SPACE), np.nan, "f4") for steps in (2, 1, 1))
    reader.read(
        Request("inputs", files, samples, starts, 2, 1, x),
        Request("outputs", files, samples, starts + 2, 1, 1, y),
        Request("constants", files, samples, starts, out=mask),
    )
    for item, (file, sample, start) in enumerate(zip(files, samples, starts, strict=True)):
        np.testing.assert_array_equal(x[item, :, 0], values[sample, start : start + 2, ..., file])
        np.testing.assert_array_equal(y[item, 0, 0], values[sample, start + 2, ..., file])
        np.testing.assert_array_equal(mask[item, 0, 0], values[sample, 0, ..., file])


def test_packed_numbers_are_unpacked_and_missing_ones_become_nan(tmp_path, lay_out):
    packed = np.random.default_rng(0).integers(-99, 99, (SAMPLES, FRAMES, *SPACE)).astype(">i2")
    packed[2, 3, 4, 5] = -999
    for storage in ("contiguous", "parts of frames", "gzip"):
        _store(tmp_path / "u.h5", packed, ALL, storage)
        attributes = {"scale": 0.25, "offset": 3.0, "missing": -999.0}
        reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", ALL, (), attributes)})])
        found = read(reader, [(2, 3), (1, 0)])[:, 0, 0]
        truth = packed[[2, 1], [3, 0]] * 0.25 + 3.0
        truth[0, 4, 5] = np.nan
        np.testing.assert_array_equal(found, truth.astype(np.float32))


@pytest.mark.parametrize("bad", ["<f4", "<f8"])
def test_the_missing_value_is_compared_as_it_is_stored(tmp_path, lay_out, bad):
    values = np.ones((SAMPLES, FRAMES, *SPACE), bad)
    values[0, 0, 1, 2] = 1e20
    _store(tmp_path / "u.h5", values, ALL, "contiguous")
    reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", ALL, (), {"missing": 1e20})})])
    assert np.isnan(read(reader, [(0, 0)])[0, 0, 0, 1, 2])


def test_files_that_are_not_hdf5_are_read_on_the_same_paths(
    tmp_path, lay_out, values, write_numpy, write_matlab5, write_matlab73, write_torch
):
    u = values[..., 0].astype("f8")
    files = {
        "raw": [
            (write_numpy(u), "array", ALL),
            (write_numpy(np.asfortranarray(u), "fortran.npy"), "array", ALL[::-1]),
        ],
        "any": [
            (write_matlab5(u=u), "u", None),
            (write_matlab5("packed.mat", compressed=True, u=u), "u", None),
            (write_matlab73(u=u), "u", None),
            (write_matlab73("plain.mat", compressed=False, u=u), "u", None),
            (write_torch(u=u), "u", None),
            (write_torch("fast.pt", sample_fastest=True, u=u), "u", None),
            (write_numpy(None, "many.npz", u=u), "u", None),
        ],
    }
    for path, _, _ in (*files["raw"], *files["any"]):
        (stored,) = probe(path).arrays.values()
        axes = ALL[::-1] if stored.shape != u.shape else ALL
        reader = FieldReader([lay_out(path, {"u": (stored.path, axes)})])
        pairs = [(4, 3), (1, 0)]
        np.testing.assert_array_equal(read(reader, pairs, 2)[:, :, 0], expected(values[..., 0], pairs, 2))


def test_what_must_be_held_in_memory_has_a_budget_and_names_the_way_out(tmp_path, lay_out, values):
    axes = ("x", "y", "time", "sample")
    _store(tmp_path / "u.h5", values[..., 0].transpose(2, 3, 1, 0), axes, "contiguous")
    layout = lay_out(tmp_path / "u.h5", {"u": ("u", axes)})
    need = SAMPLES * FRAMES * 240 * 4
    FieldReader([layout], memory_budget=need)
    with pytest.raises(UserError, match=r"u\.h5 must be held in memory.*axes \(x, y, time, sample\).*katops convert"):
        FieldReader([layout], memory_budget=need - 1)
    with pytest.raises(UserError, match=r"can be read whole only.*memory: file forbids.*katops convert"):
        FieldReader([layout], memory="file")
    with pytest.raises(UserError, match=r"unknown data\.memory .rum.; did you mean .ram."):
        FieldReader([layout], memory="rum")


def test_an_array_in_memory_is_read_once_for_all_of_its_channels(tmp_path, lay_out, values, monkeypatch):
    axes = ("x", "y", "channel", "time", "sample")
    _store(tmp_path / "u.h5", values.transpose(2, 3, 4, 1, 0), axes, "contiguous")
    reader = FieldReader([lay_out(tmp_path / "u.h5", {f"u{k}": ("u", axes, (k,)) for k in (2, 0)})])
    reader.load()
    os.utime(tmp_path / "u.h5", ns=(1, 1))
    monkeypatch.setattr(reader._handles, "check_unchanged", lambda files: None)
    monkeypatch.setattr(reader._handles, "descriptor", lambda number: pytest.fail("the file was read again"))
    found = read(reader, [(3, 1)], 2)
    np.testing.assert_array_equal(found[0], values[3, 1:3][..., [2, 0]].transpose(0, 3, 1, 2))


def test_the_chunk_cache_holds_what_one_window_touches(tmp_path, lay_out):
    path = tmp_path / "u.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("u", (2, 40, 256, 300), "f4", chunks=(1, 20, 256, 300), compression="gzip")
        file["u"][:] = 0.0
    layout = replace(lay_out(path, {"u": ("u", ALL)}), space=(256, 300), frames=np.array([40, 40]))
    reader = FieldReader([layout], frames=4)
    read(reader, [(0, 18)], 4)
    dataset = reader._handles.hdf5(0).dataset("/u", 1)
    assert dataset.id.get_access_plist().get_chunk_cache()[1] >= 2 * 20 * 256 * 300 * 4


@pytest.mark.parametrize("storage", ["contiguous", "one frame", "gzip"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda reader: pickle.loads(pickle.dumps(reader))])
def test_a_used_reader_can_be_copied_and_the_copy_opens_the_file_itself(tmp_path, lay_out, values, storage, duplicate):
    _store(tmp_path / "u.h5", values[..., 0], ALL, storage)
    for memory in ("auto", "ram"):
        reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", ALL)})], memory=memory)
        before = read(reader, [(0, 0), (4, 2)], 2)
        twin = duplicate(reader)
        assert not twin._handles._entries
        assert len(pickle.dumps(twin)) < len(pickle.dumps(reader.layouts)) + 10_000
        np.testing.assert_array_equal(read(twin, [(0, 0), (4, 2)], 2), before)
        assert twin._handles._entries.keys() == reader._handles._entries.keys()


FORK = """
import os, sys
sys.argv[0] = "katops"  # as the command, which imports katops without the models
import numpy as np
from katops.data.formats import describe
from katops.data.reading.reader import FieldReader, Request

layout = describe(sys.argv[1])
reader = FieldReader([layout], threads=2)
def read():
    out = np.empty((9, 1, 1, 12, 20), "f4")
    zeros = np.zeros(9, np.int64)
    reader.read(Request("outputs", zeros, np.arange(9), zeros, out=out))
    reader._workers.split(lambda first, last: None, 100, 10**9)
    return out
before = read()
mine = reader._handles.descriptor(0)
child = os.fork()
if child == 0:
    same = np.array_equal(read(), before)
    os._exit(0 if same and reader._handles.descriptor(0) is not mine else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(code or not np.array_equal(read(), before))
"""


def test_a_handle_opened_before_a_fork_is_not_used_in_the_child(steady, repository):
    environment = {**os.environ, "PYTHONPATH": str(repository), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(steady)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _delete(path):
    path.unlink()


def _truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def _overwrite(path):
    with path.open("r+b") as file:
        file.seek(3000)
        file.write(b"0123")
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "message"), [(_delete, "cannot be found"), (_truncate, "has changed"), (_overwrite, "has changed")]
)
def test_a_file_that_changes_while_in_use_is_noticed(steady, change, message):
    layout = describe(steady)
    for used in (True, False):
        reader = FieldReader([layout])
        if used and steady.exists() and steady.stat().st_size == layout.stamp[0]:
            read(reader, [(0, 0)])
            change(steady)
        with pytest.raises(UserError, match=rf"data\.h5.*{message}"):
            read(reader, [(1, 0)])


@pytest.mark.parametrize("calls", [1, 60])
def test_a_file_that_gets_shorter_behind_the_readers_back_is_never_read_as_zeros(steady, monkeypatch, calls):
    reader = FieldReader([describe(steady)])
    for _ in range(calls):  # first with the loop in Python, then with the compiled one
        read(reader, [(8, 0)], kind="outputs")
    monkeypatch.setattr(reader._handles, "check_unchanged", lambda files: None)
    stored = reader.layouts[0].storage[reader.layouts[0].outputs[0].datasets[0]]
    os.truncate(steady, stored.offset + 8 * 960 + 400)
    read(reader, [(7, 0)], kind="outputs")
    with pytest.raises(UserError, match=r"data\.h5 ends at byte .* in the middle of an array"):
        read(reader, [(1, 0), (8, 0), (2, 0)], kind="outputs")


def test_the_compiled_loop_joins_neighbours_and_reads_what_the_one_in_python_reads(tmp_path, lay_out, values):
    _store(tmp_path / "u.h5", values[..., 0], ALL, "contiguous")
    reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", ALL), "v": ("u", ALL)})])
    pairs = [(sample, start) for sample in range(SAMPLES) for start in range(FRAMES - 3)]
    first = read(reader, pairs, 4)
    for _ in range(60):
        again = read(reader, pairs, 4)
    assert reader._ranges._loop.__module__ != "katops.data.reading.ranges"
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(first[:, :, 1], expected(values[..., 0], pairs, 4))


def test_systems_without_preadv_read_the_same(tmp_path, lay_out, values, monkeypatch):
    monkeypatch.delattr(os, "preadv")
    for storage in ("contiguous", "parts of frames"):
        _store(tmp_path / "u.h5", values[..., 0], ALL, storage)
        reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", ALL)})])
        pairs = [(3, 1), (0, 2), (4, 4)]
        np.testing.assert_array_equal(read(reader, pairs, 3)[:, :, 0], expected(values[..., 0], pairs, 3))


def test_damaged_data_raise_and_are_not_returned(tmp_path, lay_out, values):
    path = tmp_path / "u.h5"
    _store(path, values[..., 0], ALL, "checksum")
    with h5py.File(path) as file:
        offset = file["u"].id.get_chunk_info(0).byte_offset
    layout = lay_out(path, {"u": ("u", ALL)})
    with path.open("r+b") as file:
        file.seek(offset + 100)
        file.write(b"\xff" * 16)
    layout = replace(layout, stamp=(path.stat().st_size, path.stat().st_mtime_ns))
    with pytest.raises(UserError, match=r"u\.h5 cannot be read, it is damaged"):
        read(FieldReader([layout]), [(0, 0)])


@pytest.mark.parametrize(("compression", "way"), [(None, "chunk-map"), ("gzip", "h5py")])
def test_chunks_that_were_never_written_are_named_and_not_read_as_zeros(tmp_path, lay_out, values, compression, way):
    path = tmp_path / "u.h5"
    with h5py.File(path, "w") as file:
        u = file.create_dataset("u", (SAMPLES, FRAMES, *SPACE), "f4", chunks=(1, 7, 12, 20), compression=compression)
        u[:3] = values[:3, ..., 0]
    layout = lay_out(path, {"u": ("u", ALL)})
    reader = FieldReader([layout])
    assert reader.paths == {(0, "u"): way}
    np.testing.assert_array_equal(read(reader, [(2, 0)])[0, 0, 0], values[2, 0, ..., 0])
    with pytest.raises(UserError, match=r"u\.h5: sample 3.* of channel 'u' was never written"):
        read(reader, [(0, 0), (3, 1)])
    with pytest.raises(UserError, match=r"u\.h5: .*chunks of array 'u'.* were never written"):
        read(FieldReader([layout], memory="ram"), [(0, 0)])


@pytest.mark.parametrize("axes", [ALL, ("x", "y", "sample", "time"), ("time", "sample", "x", "y")])
def test_frames_behind_the_last_one_need_not_be_written_to_be_held_in_memory(tmp_path, lay_out, values, axes):
    """Runs that were aborted reserve room for all frames; trajectories of one array may end at different ones."""
    frames = [2, 4, 3, 4, 1]
    u, places = values[..., 0], [ALL.index(axis) for axis in axes]
    with h5py.File(tmp_path / "u.h5", "w") as file:
        chunks = tuple({"sample": 1, "time": 2, "x": 12, "y": 10}[axis] for axis in axes)
        dataset = file.create_dataset("u", [u.shape[k] for k in places], "f4", chunks=chunks, compression="lzf")
        for sample, count in enumerate(frames):
            index = tuple({"sample": sample, "time": slice(0, count)}.get(axis, slice(None)) for axis in axes)
            rest = [axis for axis in axes if axis != "sample"]
            dataset[index] = u[sample, :count].transpose([("time", "x", "y").index(axis) for axis in rest])
    reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", axes)}, frames=frames)], memory="ram")
    assert reader.paths == {(0, "u"): "ram"}
    for sample, count in enumerate(frames):
        found = read(reader, [(sample, 0)], steps=count)
        np.testing.assert_array_equal(found[0, :, 0], u[sample, :count])
    assert reader._memory.held(0, reader.layouts[0].inputs[0]).values.shape == (5 * 4, *SPACE)
    layout = lay_out(tmp_path / "u.h5", {"u": ("u", axes)}, frames=[4, 4, 4, 4, 3])
    with pytest.raises(UserError, match=r"4 of the 20 chunks of array 'u' were never written"):
        read(FieldReader([layout], memory="ram"), [(1, 0)])


@pytest.mark.parametrize("name", ["szip", "nbit", "scaleoffset"])
def test_what_hdf5_may_unpack_out_of_bounds_is_unpacked_in_the_helper_process(
    tmp_path, lay_out, values, name, monkeypatch
):
    u = values[..., 0]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((1, FRAMES, *SPACE))
    if name == "szip" and not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        pytest.skip("this HDF5 has no szip")
    if name == "szip":
        plan.set_szip(h5py.h5z.SZIP_NN_OPTION_MASK, 8)
    elif name == "nbit":
        plan.set_filter(h5py.h5z.FILTER_NBIT)
    else:
        plan.set_scaleoffset(h5py.h5z.SO_FLOAT_DSCALE, 2)
    with h5py.File(tmp_path / "u.h5", "w") as file:
        stored = h5py.h5t.IEEE_F32LE
        h5py.Dataset(h5py.h5d.create(file.id, b"u", stored, h5py.h5s.create_simple(u.shape), plan))[...] = u
    layout = lay_out(tmp_path / "u.h5", {"u": ("u", ALL)})
    assert layout.storage["/u"].filters == (name,)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", _refuse)
    reader = FieldReader([layout])
    assert reader.paths == {(0, "u"): "ram"}
    np.testing.assert_array_equal(read(reader, [(4, 1), (0, 3)], steps=2)[:, :, 0], expected(u, [(4, 1), (0, 3)], 2))
    blocks = SampleBlocks(layout, "float32")
    np.testing.assert_array_equal(blocks.read(blocks.groups[0], slice(2, 4))[:, :, 0], u[2:4])
    with pytest.raises(UserError, match=rf"array 'u' can be read whole only \(packed with {name}"):
        FieldReader([layout], memory="file")


def _refuse(*_) -> None:
    raise AssertionError("read by HDF5's library in this process")


def test_virtual_and_external_arrays_need_their_files(tmp_path, lay_out, values):
    u = values[..., 0]
    _store(tmp_path / "part.h5", u, ALL, "contiguous")
    u.tofile(tmp_path / "numbers.bin")
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        virtual = h5py.VirtualLayout(u.shape, "f4")
        virtual[:] = h5py.VirtualSource("part.h5", "u", u.shape)
        file.create_virtual_dataset("u", virtual)
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        external = [(str(tmp_path / "numbers.bin"), 0, u.nbytes)]
        file.create_dataset("u", u.shape, "f4", external=external)
    for name, needed in (("whole.h5", "part.h5"), ("outside.h5", "numbers.bin")):
        layout = lay_out(tmp_path / name, {"u": ("u", ALL)})
        assert FieldReader([layout]).paths == {(0, "u"): "h5py"}
        np.testing.assert_array_equal(read(FieldReader([layout]), [(4, 1)])[0, 0, 0], u[4, 1])
        os.truncate(tmp_path / needed, 100) if needed.endswith("bin") else (tmp_path / needed).unlink()
        with pytest.raises(UserError, match=rf"{needed}.*missing"):
            read(FieldReader([layout]), [(4, 1)])
        with pytest.raises(UserError, match=rf"{needed}.*missing"):
            read(FieldReader([layout], memory="ram"), [(4, 1)])


def test_a_shape_that_lies_is_refused_at_once(tmp_path, lay_out, values):
    _store(tmp_path / "u.h5", values[..., 0], ALL, "contiguous")
    layout = lay_out(tmp_path / "u.h5", {"u": ("u", ALL)})
    storage = {path: replace(array, offset=10**6) for path, array in layout.storage.items()}
    with pytest.raises(UserError, match=r"u\.h5 is truncated: array 'u' ends at byte"):
        FieldReader([replace(layout, storage=storage)])
    with pytest.raises(UserError, match=r"array 'u' has shape \(5, 7, 12, 20\), but \(5, 9, 12, 20\) is needed"):
        FieldReader([replace(layout, frames=np.full(SAMPLES, 9))])
    with pytest.raises(UserError, match=r"has shape \(5, 7, 12, 20\), but \(5, 7, 20, 12\)"):
        FieldReader([replace(layout, space=SPACE[::-1])])


@pytest.mark.parametrize("storage", ["contiguous", "one frame", "gzip"])
@pytest.mark.parametrize("pairs", [[(5, 0)], [(-1, 0)], [(0, 6)], [(0, -1)]])
def test_windows_outside_of_the_trajectory_are_no_windows(tmp_path, lay_out, values, storage, pairs):
    _store(tmp_path / "u.h5", values[..., 0], ALL, storage)
    reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", ALL)})])
    for calls in (1, 60):  # first planned in Python, then in machine code
        for _ in range(calls):
            read(reader, [(1, 1)], 2)
        with pytest.raises(IndexError, match=r"u\.h5(: a window ends at frame| has samples 0 to 4)"):
            read(reader, [(1, 1), *pairs], 2)


@pytest.mark.parametrize("axes", [ALL, ("time", "sample", "x", "y")])
def test_what_machine_code_plans_is_what_python_plans(tmp_path, lay_out, values, axes):
    _store(tmp_path / "u.h5", values[..., 0].transpose([ALL.index(axis) for axis in axes]), axes, "contiguous")
    for names in (["u"], ["u", "v"]):
        reader = FieldReader([lay_out(tmp_path / "u.h5", dict.fromkeys(names, ("u", axes)))])
        for call in range(80):
            steps, every = 1 + call % 3, 1 + call // 3 % 3
            pairs = [(4, 0), (0, 6 - (steps - 1) * every), (2, 0), (4, 0)]
            found = read(reader, pairs, steps, every)
            assert (reader._ranges.place is None) == (call < 32)
            for channel in range(len(names)):
                np.testing.assert_array_equal(found[:, :, channel], expected(values[..., 0], pairs, steps, every))


def test_numbers_of_windows_may_be_of_any_integer_type_and_need_not_be_writable(steady):
    reader = FieldReader([describe(steady)])
    out = np.empty((4, 1, 1, 12, 20), "f4")
    for _ in range(40):
        zeros = np.broadcast_to(np.int32(0), 4)
        reader.read(Request("inputs", zeros, np.arange(8, dtype="u1")[::2], zeros, out=out))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_found_with_file_sample_frame_and_channel(tmp_path, lay_out, values, bad):
    u = values.astype("f8")
    u[4, 3, 2, 7, 1] = bad
    _store(tmp_path / "u.h5", u, (*ALL, "channel"), "contiguous")
    layout = lay_out(tmp_path / "u.h5", {f"u{k}": ("u", (*ALL, "channel"), (k,)) for k in (0, 1)})
    reader = FieldReader([layout], threads=2)
    zeros, out = np.zeros(3, np.int64), np.empty((3, 2, 2, *SPACE), "f4")
    request = Request("inputs", zeros, np.array([1, 4, 0]), np.array([0, 1, 2]), 2, 2, out)
    reader.read(request)
    with pytest.raises(UserError, match=r"u\.h5: sample 4, frame 3 of channel 'u1' holds .*1 such values"):
        reader.check_finite(request)


def test_large_finite_values_are_finite(tmp_path, lay_out, values):
    _store(tmp_path / "u.h5", np.full((SAMPLES, FRAMES, *SPACE), 3e38, "f4"), ALL, "contiguous")
    reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", ALL)})])
    out, zeros = np.empty((1, 1, 1, *SPACE), "f4"), np.zeros(1, np.int64)
    request = Request("inputs", zeros, zeros, zeros, out=out)
    reader.read(request)
    reader.check_finite(request)


def test_prefetching_reads_nothing_and_complains_of_nothing_that_is_right(tmp_path, lay_out, values):
    for storage in STORAGE:
        _store(tmp_path / "u.h5", values[..., 0], ALL, storage)
        reader = FieldReader([lay_out(tmp_path / "u.h5", {"u": ("u", ALL)})])
        zeros = np.zeros(3, np.int64)
        reader.prefetch(Request("inputs", zeros, np.arange(3), zeros, 3, 2))


def test_a_closed_reader_opens_again(steady):
    reader = FieldReader([describe(steady)])
    read(reader, [(0, 0)])
    reader.close()
    assert read(reader, [(1, 0)]).shape == (1, 1, 1, 12, 20)


@pytest.mark.parametrize("wrong", [{"dtype": "f8"}, {"shape": (1, 1, 1, 20, 12)}, {"order": "F"}])
def test_memory_that_does_not_fit_is_not_written_to(steady, wrong):
    reader, zeros = FieldReader([describe(steady)]), np.zeros(1, np.int64)
    out = np.zeros(**{"shape": (1, 1, 1, 12, 20), "dtype": "f4"} | wrong)
    with pytest.raises(ValueError, match="C-contiguous float32 array of shape"):
        reader.read(Request("inputs", zeros, zeros, zeros, out=out))
