"""What is read of files that are not HDF5: places, shapes and values, on grids that are not square."""

import gzip
import io
import os
import struct
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.io import loadmat, netcdf_file, savemat

from katops.data.containers.loading import load_array, open_array
from katops.data.containers.probe import probe
from katops.data.storage import StoredArray
from katops.errors import UserError

SHAPE = (5, 12, 20)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def large() -> np.ndarray:
    """Too large to be read when the file is looked at."""
    return np.random.default_rng(2).normal(size=(9, 60, 70))


def raw(path: Path, array: StoredArray) -> np.ndarray:
    """The elements as they lie in the file."""
    return np.fromfile(path, array.dtype, array.size, offset=array.offset).reshape(array.shape)


def check_everywhere(path: Path, name: str, expected: np.ndarray) -> StoredArray:
    """The array is described rightly, and the same values come from its place, from memory and through slices."""
    tree = probe(path)
    array = tree.array(name)
    stored = expected.T if array.column_major else expected
    assert array.logical_shape == expected.shape
    if array.offset is not None:
        np.testing.assert_array_equal(raw(path, array), stored)
    loaded = load_array(path, tree.container, array.path)
    np.testing.assert_array_equal(loaded, stored)
    assert loaded.dtype == np.dtype(array.dtype)
    np.testing.assert_array_equal(open_array(path, tree.container, array.path)[1:3], stored[1:3])
    np.testing.assert_array_equal(tree.values(name), stored)
    return array


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "|b1", "<i2", "<c8"])
def test_npy_in_c_order_is_found_in_place(tmp_path, values, version, dtype):
    path = tmp_path / "a.npy"
    expected = (values > 0).astype(dtype) if dtype == "|b1" else values.astype(dtype)
    with path.open("wb") as file:
        np.lib.format.write_array(file, expected, version)
    array = check_everywhere(path, "data", expected)
    assert (array.dtype, array.shape, array.column_major) == (np.dtype(dtype).str, SHAPE, False)


def test_npy_in_fortran_order_is_column_major(tmp_path, values):
    np.save(tmp_path / "a.npy", np.asfortranarray(values))
    array = check_everywhere(tmp_path / "a.npy", "data", values)
    assert array.column_major
    assert array.shape == SHAPE[::-1]


def test_npy_with_python_objects_is_told_and_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}, None]), allow_pickle=True)
    assert probe(tmp_path / "a.npy").array("data").attributes["type"] == "Python object"
    with pytest.raises(UserError, match="Python object values, which are not read"):
        load_array(tmp_path / "a.npy", "numpy", "/data")


def test_npy_that_is_cut_is_refused(tmp_path, values):
    path = tmp_path / "a.npy"
    np.save(path, values)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="truncated: its header promises 4928 bytes, 4927 are there"):
        probe(path)


def test_npz_members_are_found_inside_the_archive(tmp_path, values, large):
    np.savez(tmp_path / "a.npz", values=values, large=np.asfortranarray(large))
    array = check_everywhere(tmp_path / "a.npz", "values", values)
    assert array.offset is not None
    array = check_everywhere(tmp_path / "a.npz", "large", large)
    assert (array.column_major, array.values) == (True, None)


def test_npz_compressed_members_are_loaded(tmp_path, values, large):
    np.savez_compressed(tmp_path / "a.npz", values=values, large=large)
    for name, expected in (("values", values), ("large", large)):
        array = check_everywhere(tmp_path / "a.npz", name, expected)
        assert (array.offset, array.filters) == (None, ("zip",))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_a_wrong_checksum_is_refused(tmp_path, large, save):
    path = tmp_path / "a.npz"
    save(path, large=large)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        probe(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_5_is_column_major(tmp_path, values, large, compressed):
    path = tmp_path / "a.mat"
    variables = {"values": values, "large": large, "whole": np.arange(12.0).reshape(3, 4), "mask": values > 0}
    savemat(path, variables, do_compression=compressed)
    for name, expected in variables.items():
        assert check_everywhere(path, name, expected).column_major
    assert probe(path).array("mask").dtype == "|b1"
    assert (probe(path).array("large").offset is None) == compressed


def test_matlab_5_what_is_not_a_number_is_told(tmp_path):
    path = tmp_path / "a.mat"
    savemat(
        path,
        {
            "text": "abc",
            "cell": np.array([1, "a"], dtype=object),
            "pair": {"a": 1},
            "z": np.array([[1j]]),
            "ok": np.ones((2, 3)),
        },
    )
    tree = probe(path)
    assert {array.name: array.attributes.get("type") for array in tree.arrays.values()} == {
        "text": "char",
        "z": "complex",
        "cell": "cell",
        "pair": "struct",
        "ok": None,
    }


@pytest.mark.parametrize("order", ["<", ">"])
def test_matlab_5_whole_numbers_stored_in_fewer_bytes_become_what_matlab_shows(tmp_path, order):
    """MATLAB stores a double array of small whole numbers as bytes; the tag of up to four bytes has a short form."""
    path = tmp_path / "a.mat"
    flags = struct.pack(order + "IIII", 6, 8, 6, 0)
    shape = struct.pack(order + "IIii", 5, 8, 1, 3)
    name = struct.pack(order + "I", 1 << 16 | 1) + b"u\0\0\0"
    numbers = struct.pack(order + "I", 3 << 16 | 2) + bytes([7, 8, 255, 0])
    content = flags + shape + name + numbers
    header = b"MATLAB 5.0 MAT-file".ljust(124) + (b"\0\1IM" if order == "<" else b"\1\0MI")
    path.write_bytes(header + struct.pack(order + "II", 14, len(content)) + content)
    array = probe(path).array("u")
    assert (array.dtype, array.shape, array.offset) == (order + "f8", (3, 1), None)
    np.testing.assert_array_equal(load_array(path, "matlab5", "/u"), [[7], [8], [255]])


def test_matlab_5_agrees_with_scipy_on_every_type(tmp_path):
    path = tmp_path / "a.mat"
    types = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "b1")
    written = {f"v{dtype}": np.arange(24).reshape(2, 3, 4).astype(dtype) for dtype in types}
    savemat(path, written)
    found = loadmat(path)
    for name in written:
        array = probe(path).array(name)
        assert np.dtype(array.dtype) == written[name].dtype
        np.testing.assert_array_equal(load_array(path, "matlab5", array.path).T, found[name])


def test_matlab_5_with_a_wrong_checksum_is_refused(tmp_path, large):
    path = tmp_path / "a.mat"
    savemat(path, {"large": large}, do_compression=True)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    probe(path)
    with pytest.raises(UserError, match="incorrect data check"):
        load_array(path, "matlab5", "/large")


def test_matlab_5_that_is_cut_is_refused(tmp_path, large):
    path = tmp_path / "a.mat"
    savemat(path, {"large": large})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated: a variable ends at byte"):
        probe(path)


@pytest.mark.parametrize("version", [1, 2])
def test_classic_netcdf_variables_are_found_in_place(tmp_path, values, version):
    path = tmp_path / "a.nc"
    with netcdf_file(path, "w", version=version) as file:
        for name, size in zip("nxy", SHAPE, strict=True):
            file.createDimension(name, size)
        file.title = "a title"
        variable = file.createVariable("u", "f4", ("n", "x", "y"))
        variable[:] = values
        variable.units = "m/s"
        file.createVariable("x", "f8", ("x",))[:] = np.linspace(0, 1, 12)
    array = check_everywhere(path, "u", values)
    assert (array.dtype, array.attributes) == (">f4", {"units": "m/s", "dimensions": ["n", "x", "y"]})
    np.testing.assert_array_equal(probe(path).values("x"), np.linspace(0, 1, 12))
    assert probe(path).attributes == {"title": "a title"}


@pytest.mark.parametrize("with_others", [False, True])
def test_classic_netcdf_records_are_loaded(tmp_path, with_others):
    """A single record variable lies in one piece; several alternate, each record padded to four bytes."""
    path = tmp_path / "a.nc"
    expected = np.arange(4 * 3 * 5, dtype=np.int16).reshape(4, 3, 5)
    with netcdf_file(path, "w") as file:
        for name, size in (("time", None), ("x", 3), ("y", 5)):
            file.createDimension(name, size)
        file.createVariable("u", "i2", ("time", "x", "y"))[:] = expected
        if with_others:
            file.createVariable("time", "f8", ("time",))[:] = np.arange(4) / 2
    array = check_everywhere(path, "u", expected)
    assert (array.offset is None) == with_others
    if with_others:
        np.testing.assert_array_equal(probe(path).values("time"), np.arange(4) / 2)


def test_classic_netcdf_that_is_cut_or_not_closed_is_refused(tmp_path, values):
    path = tmp_path / "a.nc"
    with netcdf_file(path, "w") as file:
        file.createDimension("t", None)
        file.createDimension("x", 12)
        file.createVariable("u", "f4", ("t", "x"))[:] = values[0, :, :12]
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    with pytest.raises(UserError, match="truncated: variable 'u'"):
        probe(path)
    path.write_bytes(content[:4] + b"\xff" * 4 + content[8:])
    with pytest.raises(UserError, match="still being written"):
        probe(path)
    path.write_bytes(b"CDF\x05" + content[4:])
    with pytest.raises(UserError, match="nccopy -k nc4"):
        probe(path)


def test_torch_tensors_of_nested_dictionaries(tmp_path, values, large):
    path = tmp_path / "a.pt"
    turned = torch.from_numpy(np.ascontiguousarray(large.T)).permute(2, 1, 0)
    torch.save(
        {
            "x": torch.from_numpy(values > 0),
            "inner": {"y": turned, "parts": [torch.arange(3), torch.arange(4)], "note": "hello"},
            "viscosity": 0.01,
            "half": torch.zeros(3, dtype=torch.bfloat16),
        },
        path,
    )
    check_everywhere(path, "x", values > 0)
    check_everywhere(path, "inner/y", large)
    tree = probe(path)
    assert (tree.container, tree.attributes) == ("torch", {"viscosity": 0.01})
    assert tree.groups == {"/inner": {"note": "hello"}, "/inner/parts": {}}
    np.testing.assert_array_equal(tree.values("inner/parts/1"), np.arange(4))
    assert tree.array("half").attributes["type"] == "bfloat16"
    with pytest.raises(UserError, match="bfloat16 values, which are not read"):
        load_array(path, "torch", "/half")


def test_torch_a_bare_tensor_and_the_old_format(tmp_path, values):
    torch.save(torch.from_numpy(values), tmp_path / "a.pt")
    check_everywhere(tmp_path / "a.pt", "data", values)
    torch.save({"u": torch.from_numpy(values)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    check_everywhere(tmp_path / "old.pt", "u", values)


class _Trap:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_torch_files_never_run_code(tmp_path):
    torch.save({"x": torch.zeros(3), "trap": _Trap(tmp_path / "caught")}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"posix\.mkdir, which could run code when it is loaded and is refused"):
        probe(tmp_path / "a.pt")
    assert not (tmp_path / "caught").exists()


def test_torch_files_that_are_damaged_are_refused(tmp_path, large):
    path = tmp_path / "a.pt"
    torch.save({"x": torch.from_numpy(large)}, path)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged or truncated"):
        probe(path)
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="Bad CRC-32"):
        probe(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("compressed", [False, True])
def test_zarr_stores_of_both_versions(tmp_path, values, large, version, compressed):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    root = zarr.create_group(store=str(path), zarr_format=version, attributes={"title": "a", "list": [1, 2]})
    group = root.create_group("fields", attributes={"of": "flow"})
    compressors = "auto" if compressed else None
    group.create_array("u", data=values, chunks=(2, 12, 20), compressors=compressors).attrs["units"] = "m"
    root.create_array("large", data=large, chunks=(1, 60, 70), compressors=compressors)
    root.create_array("empty", shape=(4, 5), dtype="f4", chunks=(2, 5))
    array = check_everywhere(path, "fields/u", values)
    assert (array.chunks, array.attributes, bool(array.filters)) == ((2, 12, 20), {"units": "m"}, compressed)
    check_everywhere(path, "large", large)
    tree = probe(path)
    assert (tree.container, tree.attributes) == ("zarr", {"title": "a", "list": [1, 2]})
    assert tree.groups == {"/fields": {"of": "flow"}}
    assert tree.array("empty").nothing_written


def test_zarr_a_store_that_is_one_array(tmp_path, values):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(store=str(tmp_path / "a"), data=values, chunks=(1, 12, 20))
    check_everywhere(tmp_path / "a", "data", values)


def test_zarr_metadata_that_are_damaged_are_refused(tmp_path, values):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(store=str(tmp_path / "a"), data=values, chunks=(1, 12, 20))
    (tmp_path / "a/zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    with pytest.raises(UserError, match="damaged zarr store"):
        probe(tmp_path / "a")


def test_zarr_chunks_that_are_damaged_are_refused_when_they_are_read(tmp_path, large):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(store=str(tmp_path / "a"), data=large, chunks=(3, 60, 70))
    (tmp_path / "a/c/1/0/0").write_bytes(b"no chunk")
    probe(tmp_path / "a")
    array = open_array(tmp_path / "a", "zarr", "/data")
    np.testing.assert_array_equal(array[:3], large[:3])
    with pytest.raises(UserError, match=r"a chunk of .* cannot be read"):
        array[4]


def test_zarr_says_what_to_install_where_it_is_missing(tmp_path, values, monkeypatch):
    pytest.importorskip("zarr").create_array(store=str(tmp_path / "a"), data=values)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match="pip install 'zarr>=3'"):
        load_array(tmp_path / "a", "zarr", "/data")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\0" * 400, "begins with zeros"),
        (gzip.compress(b"a", mtime=0), "a gzip archive; unpack it first"),
        (b"BZh91AY", "a bzip2 archive; unpack it first"),
        (b"<!DOCTYPE html><html>", "a web page; the download went wrong"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"no data at all", "of a kind that is not read; HDF5, netCDF, MATLAB"),
        (b"PK\x03\x04 and so on", "damaged or truncated archive"),
        (b"\0" * 257 + b"ustar\0", "tar archive|zeros"),
    ],
)
def test_other_files_are_refused_by_their_bytes(tmp_path, content, sentence):
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        probe(path)


def test_a_zip_archive_of_other_things_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match=r"neither \.npz nor \.pt; unpack it first"):
        probe(tmp_path / "a.npz")


def test_the_name_of_a_file_does_not_matter(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "a.npy").rename(tmp_path / "a.mat")
    assert probe(tmp_path / "a.mat").container == "numpy"


def test_folders_and_pipes_and_missing_files_are_told_apart(tmp_path):
    (tmp_path / "data.h5").write_bytes(b"")
    with pytest.raises(UserError, match=r"no file .*dat\.h5'; did you mean 'data\.h5'"):
        probe(tmp_path / "dat.h5")
    with pytest.raises(UserError, match=r"the folder .* does not exist"):
        probe(tmp_path / "none" / "a.h5")
    with pytest.raises(UserError, match="a folder and no zarr store"):
        probe(tmp_path)
    with pytest.raises(UserError, match="a pipe or a device"):
        probe("/dev/null")


@pytest.mark.parametrize("begin", [0, 512, 2048])
def test_hdf5_is_found_after_a_user_block(tmp_path, begin):
    path = tmp_path / "a"
    with h5py.File(path, "w", userblock_size=begin) as file:
        file["u"] = np.arange(6.0)
    array = probe(path).array("u")
    assert probe(path).container == "hdf5"
    np.testing.assert_array_equal(raw(path, array), np.arange(6.0))


def test_headers_that_promise_too_much_are_refused(tmp_path):
    """A size of 2^60 elements in a header of a few bytes takes neither memory nor time."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": (2**57,)})
    (tmp_path / "a.npy").write_bytes(content.getvalue())
    with pytest.raises(UserError, match="truncated"):
        probe(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content.getvalue())
    with pytest.raises(UserError, match="damaged"):
        probe(tmp_path / "a.npz")
    header = b"CDF\x01" + struct.pack(">IIIII", 0, 10, 2**31 - 1, 0, 0)
    (tmp_path / "a.nc").write_bytes(header)
    with pytest.raises(UserError, match="promises 2147483647 entries"):
        probe(tmp_path / "a.nc")
