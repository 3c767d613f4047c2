"""The lazy reader: the right numbers for every storage, and never numbers of another file or another process."""

import copy
import os
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from katops.data.formats import describe
from katops.data.hdf5 import FieldFile
from katops.errors import UserError


def test_a_batch_holds_samples_in_the_order_asked_for(steady, fields):
    layout = describe(steady)
    samples = np.array([7, 0, 1, 2, 7, 5])
    values = FieldFile(layout).read(layout.outputs, samples, np.zeros(6, int))
    np.testing.assert_array_equal(values, fields["pressure"][samples][:, None, None])
    assert values.dtype == np.float32


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_window_of_any_samples_equals_the_slice_of_the_array(moving, fields, data):
    steps, every = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    last = 7 - (steps - 1) * every - 1
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, last)), min_size=1, max_size=12))
    subsample = data.draw(st.integers(1, 5))
    samples, starts = np.array(pairs).T
    layout = describe(moving)
    values = FieldFile(layout, subsample=subsample).read(layout.inputs, samples, starts, steps, every)
    frames = starts[:, None] + every * np.arange(steps)
    velocity = fields["velocity"][samples[:, None], frames]
    coefficient = np.broadcast_to(fields["coefficient"][samples][:, None], velocity.shape)
    expected = np.stack([coefficient, velocity], axis=2)[..., ::subsample, ::subsample]
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", ">i8", "f2", "f4", ">f4", "f8", ">f8"])
@pytest.mark.parametrize("wanted", ["float32", "float64"])
def test_every_element_type_is_cast_to_the_wanted_one(write_plain, plane, dtype, wanted):
    values = (np.random.default_rng(0).normal(size=(4, 12, 20)) * 5).astype(dtype)
    layout = describe(write_plain(a=values, b=values), **plane)
    read = FieldFile(layout, dtype=wanted).read(layout.inputs, np.arange(4), np.zeros(4, int))
    assert read.dtype == wanted
    np.testing.assert_array_equal(read[:, 0, 0], values.astype(wanted))


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"chunks": (1, 1, 12, 20)},
        {"chunks": (2, 3, 5, 7), "compression": "gzip", "shuffle": True},
        {"chunks": (1, 7, 12, 20), "compression": "lzf"},
        {"chunks": (3, 2, 12, 20), "fletcher32": True},
    ],
)
def test_the_storage_of_an_array_changes_nothing(tmp_path, fields, storage):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("u", data=fields["velocity"], **storage)
    layout = describe(path, inputs=["u"], outputs=["u"], axes=["sample", "time", "x", "y"])
    values = FieldFile(layout, frames=4).read(layout.inputs, np.arange(9), np.full(9, 2), 4)
    np.testing.assert_array_equal(values[:, :, 0], fields["velocity"][:, 2:6])


def test_the_chunk_cache_holds_what_one_window_touches(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("u", (2, 40, 256, 300), "f4", chunks=(1, 20, 256, 300), compression="gzip")
        file["u"][:] = 0.0
    layout = describe(path, inputs=["u"], outputs=["u"], axes=["sample", "time", "x", "y"])
    reader = FieldFile(layout, frames=4)
    reader.read(layout.inputs, np.array([0]), np.array([18]), 4)
    cache = reader._open_datasets["/u"].id.get_access_plist().get_chunk_cache()
    assert cache[1] >= 2 * 20 * 256 * 300 * 4


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda reader: pickle.loads(pickle.dumps(reader))])
def test_a_used_reader_can_be_copied_and_the_copy_opens_the_file_itself(steady, fields, duplicate):
    layout = describe(steady)
    reader = FieldFile(layout)
    reader.read(layout.inputs, np.array([0]), np.array([0]))
    twin = duplicate(reader)
    assert twin._file is None
    np.testing.assert_array_equal(
        twin.read(layout.inputs, np.array([4]), np.zeros(1, int))[0, 0, 0], fields["coefficient"][4]
    )
    assert twin._file is not reader._file


FORK = """
import os, sys
import numpy as np
sys.argv = ["katops"]
from katops.data.formats import describe
from katops.data.hdf5 import FieldFile

layout = describe(sys.path.pop())
reader = FieldFile(layout)
def read(): return reader.read(layout.outputs, np.arange(9), np.zeros(9, int))
before = read()
descriptor = reader._file.id.get_vfd_handle()
child = os.fork()
if child == 0:
    parent_file = reader._file
    same = np.array_equal(read(), before)
    fresh = reader._file is not parent_file and not parent_file.id.valid
    # A descriptor that came through the fork shares its position with the parent's.
    os.lseek(reader._file.id.get_vfd_handle(), 777, os.SEEK_SET)
    os._exit(0 if same and fresh else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
shared = os.lseek(descriptor, 0, os.SEEK_CUR) == 777
sys.exit(code or shared or not np.array_equal(read(), before))
"""


def test_a_handle_opened_before_a_fork_is_not_used_in_the_child(steady, repository):
    code = FORK.replace("sys.path.pop()", repr(str(steady)))
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _reader(path):
    layout = describe(path)
    reader = FieldFile(layout)
    reader.read(layout.inputs, np.array([0]), np.array([0]))
    return layout, reader


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
    layout, reader = _reader(steady)
    change(steady)
    with pytest.raises(UserError, match=f"data.h5.*{message}"):
        reader.read(layout.inputs, np.array([1]), np.array([0]))


def test_damaged_data_raise_and_are_not_returned(tmp_path, plane):
    path = tmp_path / "data.h5"
    values = np.random.default_rng(0).normal(size=(4, 12, 20))
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=values, chunks=(1, 12, 20), fletcher32=True)
        offset = file["a"].id.get_chunk_info(2).byte_offset
    with path.open("r+b") as file:
        file.seek(offset + 100)
        file.write(b"\xff" * 16)
    layout = describe(path, **plane | {"outputs": []})
    reader = FieldFile(layout, dtype="float64")
    np.testing.assert_array_equal(reader.read(layout.inputs, np.array([1]), np.array([0]))[0, 0, 0], values[1])
    with pytest.raises(UserError, match=r"data\.h5 cannot be read, it is damaged"):
        reader.read(layout.inputs, np.array([2]), np.array([0]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_found_with_file_sample_and_channel(write_plain, plane, bad):
    values = np.ones((6, 12, 20))
    values[4, 3, 2] = bad
    layout = describe(write_plain(a=np.ones((6, 12, 20)), b=values), **plane | {"inputs": ["a", "b"], "outputs": []})
    reader, samples = FieldFile(layout), np.array([1, 4, 5])
    read = reader.read(layout.inputs, samples, np.zeros(3, int))
    with pytest.raises(UserError, match=r"plain.h5: sample 4 of channel 'b'.*1 such values"):
        reader.check_finite(read, layout.inputs, samples)


def test_parameters_are_read_per_sample(moving):
    layout = describe(moving)
    values = FieldFile(layout, dtype="float64").read_parameters(np.array([8, 0, 0]))
    np.testing.assert_allclose(values, [[0.9], [0.1], [0.1]])


def test_a_closed_reader_opens_again(steady):
    layout, reader = _reader(steady)
    reader.close()
    assert reader.read(layout.inputs, np.array([1]), np.array([0])).shape == (1, 1, 1, 12, 20)
