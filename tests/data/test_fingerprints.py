"""The fingerprint follows the contents, not the name."""

import hashlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.io import netcdf_file

from katops.data.fingerprints import fingerprint
from katops.data.formats import describe
from katops.errors import UserError


def test_a_copy_has_the_same_fingerprint_and_so_has_its_description(steady, tmp_path):
    copy = shutil.copy(steady, tmp_path / "other_name.hdf5")
    assert fingerprint(copy) == fingerprint(steady) == fingerprint(describe(steady))
    assert len(fingerprint(steady)) == 64


@pytest.mark.parametrize("sample", [0, 4, 8])
def test_a_change_in_the_first_middle_or_last_sample_is_noticed(steady, sample):
    before = fingerprint(steady)
    with h5py.File(steady, "r+") as file:
        file["fields/pressure"][sample, 11, 19] += 1.0
    assert fingerprint(steady) != before


def test_a_changed_attribute_is_noticed(steady):
    before = fingerprint(steady)
    with h5py.File(steady, "r+") as file:
        file.attrs["seed"] = 4
    assert fingerprint(steady) != before


@pytest.mark.parametrize("shape", [(3, 600, 700), (3, 5, 600, 700), (3, 2**19), (2, 3, 4)])
def test_large_samples_are_read_in_part_and_small_ones_whole(write_plain, shape):
    values = np.zeros(shape)
    before = fingerprint(write_plain(a=values))
    values[-1].flat[0] = 1.0
    assert fingerprint(write_plain(a=values)) != before


def test_any_hdf5_file_has_a_fingerprint(tmp_path):
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["text"] = ["a", "b"]
        file["scalar"] = 3
        file["empty"] = np.zeros((0, 4))
        file["null"] = h5py.Empty("f4")
        file["records"] = np.zeros(3, "f4,i4")
    assert fingerprint(path) == fingerprint(path)


def test_the_fingerprint_of_hdf5_files_is_the_one_that_models_remember(tmp_path):
    """Written down step by step, since saved models hold it."""
    path = tmp_path / "a.h5"
    values, times = np.arange(4 * 12 * 20, dtype=np.float32).reshape(4, 12, 20), np.arange(5) / 2
    with h5py.File(path, "w") as file:
        file.attrs.update(seed=3, name="example", box=np.eye(2))
        file["fields/u"], file["time"], file["count"] = values, times, 7
    parts = [str(path.stat().st_size), '{"box": ["[1.0, 0.0]", "[0.0, 1.0]"], "name": "example", "seed": 3}']
    parts += [
        "count () <i8",
        np.int64(7).tobytes(),
        "fields/u (4, 12, 20) <f4",
        *(values[k].tobytes() for k in (0, 2, 3)),
    ]
    parts += ["time (5,) <f8", *(times[k].tobytes() for k in (0, 2, 4))]
    expected = hashlib.sha256(b"".join(part.encode() if isinstance(part, str) else part for part in parts))
    assert fingerprint(path) == expected.hexdigest()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".nc", ".pt", ".zarr"])
def test_files_of_other_containers_have_a_fingerprint(tmp_path, suffix):
    first, second = np.zeros((3, 12, 20)), np.zeros((3, 12, 20))
    second[1, 6, 10] = 1.0
    paths = [_write_other(tmp_path / f"{name}{suffix}", values) for name, values in (("a", first), ("b", second))]
    again = _write_other(tmp_path / "copies" / f"c{suffix}", first)
    assert fingerprint(paths[0]) == fingerprint(again)
    assert fingerprint(paths[0]) != fingerprint(paths[1])


def _write_other(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, u=values)
    elif path.suffix == ".mat":
        path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + values.tobytes())
    elif path.suffix == ".nc":
        with netcdf_file(path, "w") as file:
            for name, size in zip("nxy", values.shape, strict=True):
                file.createDimension(name, size)
            file.createVariable("u", "f8", ("n", "x", "y"))[:] = values
    elif path.suffix == ".pt":
        # The archive holds the name of the file that is written.
        with path.open("wb") as file:
            torch.save({"u": torch.from_numpy(values)}, file)
    else:
        zarr = pytest.importorskip("zarr")
        zarr.create_array(store=str(path), data=values, chunks=(1, 12, 20))
    return path


def test_several_files_have_one_fingerprint_by_their_order_and_contents(steady, write_plain, tmp_path):
    other = write_plain(a=np.ones((2, 3)))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    copies = [shutil.copy(path, folder / name) for path, name in ((steady, "x.h5"), (other, "y.h5"))]
    both = fingerprint([steady, other])
    assert both == fingerprint(copies)
    assert both != fingerprint([other, steady])
    assert fingerprint([steady]) == fingerprint(steady)
    with pytest.raises(UserError, match="no file"):
        fingerprint([])


def test_a_damaged_file_is_refused_in_one_sentence(steady):
    content = bytearray(steady.read_bytes())
    for position in range(60, 1500, 7):
        content[position] ^= 0xFF
    steady.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        fingerprint(steady)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file"):
        fingerprint(tmp_path / "none.h5")
