"""5,000 damaged files: each is read, or refused in one sentence; this process neither crashes nor hangs.

What a checksum covers is either refused or what was written. Where checksums cover the structure alone, arrays keep
their places, shapes and types, so that only elements that were hit differ. What nothing covers may be changed by
damage; even then an array has the shape that is told, and the reader hands out what lies in the file.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.io import netcdf_file, savemat

from katops.data.containers.loading import load_array
from katops.data.containers.opening import open_file, reading
from katops.data.containers.probe import chunk_map, probe
from katops.data.formats import describe_tree
from katops.data.layout import Statement
from katops.data.reading.reader import FieldReader, Request
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

FILES = 10_000
PATIENCE = 1.0
"""Seconds; a file of this size is looked at in a few milliseconds."""
SHAPE = (3, 4, 12, 20)
AXES = ("sample", "time", "x", "y")
MOST_ELEMENTS = 2**20
"""Damaged shapes of arrays that are stored in part may be larger than the memory."""

RNG = np.random.default_rng(0)
FIELD = RNG.normal(size=SHAPE).astype(np.float32)
OTHER = RNG.normal(size=(3, 12, 20))


@dataclass(frozen=True)
class Seed:
    """A file to be damaged.

    Attributes:
        write: makes it.
        field: name of the array (sample, time, x, y) in it.
        covered: what checksums cover: "all", "all but zeros" (Fletcher's sum of zeros is zero, so that a chunk that was
            zeroed with its checksum passes), "structure" (where arrays lie and what shape they have), "nothing".
    """

    write: Callable[[Path], object]
    field: str = "u"
    covered: str = "nothing"


def hdf5(version: str, fill: Callable[[h5py.File], object], user_block: int = 0) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w", libver=version, userblock_size=user_block) as file:
            fill(file)

    return write


def contiguous(file: h5py.File) -> None:
    file.attrs.update(name="example", seed=3, complete=True)
    file["u"], file["a"] = FIELD, OTHER
    file["u"].attrs["unit"] = "m"
    file["axes/x"] = np.linspace(0, 1, 12)
    file["axes/x"].attrs["boundary"] = ["dirichlet", "neumann"]
    file["time"] = np.arange(4) / 2


def chunked(**options: object) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        file.create_dataset("u", data=FIELD, chunks=(1, 2, 12, 20), **options)
        file.create_dataset("time", data=np.arange(40.0), chunks=(8,), **options)

    return fill


def growing(file: h5py.File) -> None:
    file.create_dataset("u", data=FIELD, chunks=(1, 2, 12, 20), maxshape=(None, 4, 12, 20))
    file.create_dataset("v", data=FIELD, chunks=(1, 2, 12, 20), maxshape=(None, None, 12, 20))


def seed_groups(file: h5py.File) -> None:
    for seed in range(4):
        group = file.create_group(f"{seed:04d}")
        group["data"] = FIELD[:, :, None]
        group.attrs["config"] = "sim:\n  seed: 4\n" * 5
        for axis, size in zip("txy", SHAPE[1:], strict=True):
            group[f"grid/{axis}"] = np.linspace(0, 1, size).astype(np.float32)


def matlab73(file: h5py.File) -> None:
    contiguous(file)
    for name in ("u", "a", "time"):
        file[name].attrs["MATLAB_class"] = np.bytes_("single")


def classic_netcdf(path: Path) -> None:
    with netcdf_file(path, "w") as file:
        for name, size in (("record", None), *zip(AXES, SHAPE, strict=True)):
            file.createDimension(name, size)
        file.title = "example"
        file.createVariable("u", "f4", AXES)[:] = FIELD
        file.variables["u"].units = "m"
        file.createVariable("moving", "f4", ("record", "x"))[:] = OTHER[0, :4, :12]
        file.createVariable("record", "f8", ("record",))[:] = np.arange(4)


def tensors(path: Path) -> None:
    torch.save({"u": torch.from_numpy(FIELD), "inner": {"a": torch.from_numpy(OTHER)}, "viscosity": 0.1}, path)


VARIABLES = {"u": FIELD, "a": OTHER, "text": "some text"}
CHECKED = {"compression": "gzip", "shuffle": True, "fletcher32": True}
SEEDS = {
    "contiguous, old HDF5": Seed(hdf5("earliest", contiguous)),
    "contiguous, new HDF5": Seed(hdf5("latest", contiguous), covered="structure"),
    "chunks, old HDF5": Seed(hdf5("earliest", chunked())),
    "chunks, new HDF5": Seed(hdf5("latest", chunked()), covered="structure"),
    "growing, old HDF5": Seed(hdf5("earliest", growing)),
    "growing, new HDF5": Seed(hdf5("latest", growing), covered="structure"),
    "gzip and checksum, old HDF5": Seed(hdf5("earliest", chunked(**CHECKED))),
    "gzip and checksum, new HDF5": Seed(hdf5("latest", chunked(**CHECKED)), covered="all"),
    "checksum, old HDF5": Seed(hdf5("earliest", chunked(fletcher32=True))),
    "checksum, new HDF5": Seed(hdf5("latest", chunked(fletcher32=True)), covered="all but zeros"),
    "lzf, old HDF5": Seed(hdf5("earliest", chunked(compression="lzf"))),
    "lzf, new HDF5": Seed(hdf5("latest", chunked(compression="lzf"))),
    "scale and offset, old HDF5": Seed(hdf5("earliest", chunked(scaleoffset=2))),
    "scale and offset, new HDF5": Seed(hdf5("latest", chunked(scaleoffset=2))),
    "seed groups, old HDF5": Seed(hdf5("earliest", seed_groups), "0001/data"),
    "seed groups, new HDF5": Seed(hdf5("latest", seed_groups), "0001/data", "structure"),
    "MATLAB 7.3": Seed(hdf5("earliest", matlab73, 512)),
    "MATLAB 5": Seed(lambda path: savemat(path, VARIABLES)),
    "MATLAB 5, compressed": Seed(lambda path: savemat(path, VARIABLES, do_compression=True), covered="all"),
    "NumPy": Seed(lambda path: np.save(path, FIELD), "data"),
    "NumPy, Fortran order": Seed(lambda path: np.save(path, np.asfortranarray(FIELD)), "data"),
    "NumPy archive": Seed(lambda path: np.savez(path, u=FIELD, a=OTHER), covered="all"),
    "NumPy archive, compressed": Seed(lambda path: np.savez_compressed(path, u=FIELD, a=OTHER), covered="all"),
    "classic netCDF": Seed(classic_netcdf),
    "torch": Seed(tensors, covered="all"),
}


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three of: a bit, a byte, a number made extreme or changed by little, a range zeroed, overwritten, cut."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        size = len(damaged)
        # Headers lie at the beginning: half of the damage is done there.
        place = int(rng.integers(size)) if rng.random() < 0.5 else min(size - 1, int(rng.exponential(400)))
        width = int(rng.choice([1, 2, 4, 8]))
        length = int(rng.integers(1, 200))
        kind = rng.integers(7)
        if kind == 0:
            damaged[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            damaged[place] = int(rng.integers(256))
        elif kind == 2:
            top = 2 ** (8 * width)
            extreme = (0, 1, top - 1, top // 2, top // 2 - 1)[rng.integers(5)]
            damaged[place : place + width] = extreme.to_bytes(width, "little")
        elif kind == 3:
            number = int.from_bytes(damaged[place : place + width], "little") + int(rng.choice([-1, 1, 2, 8]))
            damaged[place : place + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
        elif kind == 4:
            length = min(length, size - place)
            damaged[place : place + length] = bytes(length)
        elif kind == 5:
            source = int(rng.integers(size))
            copied = damaged[source : source + min(length, size - place)]
            damaged[place : place + len(copied)] = copied
        elif rng.random() < 0.3:
            del damaged[max(2, place) :]
    return bytes(damaged)


def elements(tree: StoredTree, array: StoredArray) -> np.ndarray:
    """The elements, on the way on which this process reads them."""
    if array.offset is not None:
        return np.fromfile(tree.path, array.dtype, array.size, offset=array.offset).reshape(array.shape)
    if tree.container not in ("hdf5", "matlab73"):
        return load_array(tree.path, tree.container, array.path)
    with open_file(tree.path) as file, reading(tree.path):
        return file[array.path][()]


def read_field(tree: StoredTree, name: str) -> np.ndarray:
    """The field, as training reads it: (sample, time, channel, x, y)."""
    axes = AXES if tree.array(name).shape[2:3] != (1,) else ("sample", "time", "channel", "x", "y")
    statement = Statement(inputs=(name,), outputs=(name,), axes=axes, format="plain", boundary="periodic")
    layout = describe_tree(tree, statement)
    reader = FieldReader([layout], threads=1, memory_budget=2**24)
    shape = (layout.n_samples, int(layout.frames.min()), len(layout.inputs), *layout.space)
    if np.prod(shape) > MOST_ELEMENTS:
        raise UserError("too large for this test")
    out = np.empty(shape, np.float32)
    some = np.zeros(len(out), np.int64)
    try:
        reader.read(Request("inputs", some, np.arange(len(out)), some, steps=shape[1], out=out))
    finally:
        reader.close()
    return out


def places(path: Path, tree: StoredTree) -> dict[str, np.ndarray]:
    """Position in the file of each chunk of each array, or of its first byte."""
    return {
        name: chunk_map(path, name).offsets if array.chunks else np.array(array.offset)
        for name, array in tree.arrays.items()
        if array.is_real
    }


def check_values(seed: Seed, values: np.ndarray, expected: np.ndarray | None) -> None:
    """They are what was written, where a checksum says so."""
    if seed.covered == "all":
        np.testing.assert_array_equal(values, expected)
    if seed.covered == "all but zeros":
        changed = values != expected
        assert not values[changed].any()


def check_accepted(seed: Seed, tree: StoredTree, original: StoredTree, expected: dict[str, np.ndarray]) -> None:
    """What was not refused has the shape that is told, and is what was written where a checksum says so."""
    for name, array in tree.arrays.items():
        if not array.is_real or array.size > MOST_ELEMENTS:
            continue
        try:
            values = elements(tree, array)
        except UserError:
            continue
        assert values.shape == array.shape
        check_values(seed, values, expected.get(name))
        if seed.covered == "structure":
            before = original.array(name)
            assert (array.shape, array.dtype, array.chunks) == (before.shape, before.dtype, before.chunks)
            assert array.offset == before.offset
    if seed.covered == "structure":
        assert list(tree.arrays) == list(original.arrays)


def attempt(refusals: list[str], function: Callable, *arguments: object, **options: object) -> object | None:
    """What a function returns; ``None``, and the sentence among the refusals, where it raises UserError."""
    try:
        return function(*arguments, **options)
    except UserError as error:
        refusals.append(str(error))
        return None


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    seed = SEEDS[name]
    seed.write(tmp_path / "whole")
    # Some writers append an extension.
    whole = next(tmp_path.iterdir())
    original = probe(whole)
    expected = {path: elements(original, array) for path, array in original.arrays.items() if array.is_real}
    field = read_field(original, seed.field)
    chunks = places(whole, original) if seed.covered == "structure" else {}
    content = whole.read_bytes()
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    path = tmp_path / "damaged"
    refusals = []
    for _ in range(FILES // len(SEEDS)):
        path.write_bytes(damage(content, rng))
        tree = attempt(refusals, probe, path, patience=PATIENCE)
        if tree is None:
            continue
        check_accepted(seed, tree, original, expected)
        if seed.covered == "structure":
            for array, place in places(path, tree).items():
                np.testing.assert_array_equal(place, chunks[array])
        values = attempt(refusals, read_field, tree, seed.field)
        if values is None:
            continue
        check_values(seed, values, field)
        array = tree.array(seed.field)
        if array.filters:
            # What a decoder makes of damaged bytes may differ from call to call.
            continue
        stored = attempt(refusals, elements, tree, array)
        if stored is None:
            continue
        with np.errstate(all="ignore"):
            logical = (stored.T if array.column_major else stored).astype(np.float32)
        np.testing.assert_array_equal(values.ravel(), logical.ravel())
    assert 0 < len(refusals) < FILES // len(SEEDS)
    assert all(len(sentence.splitlines()) == 1 for sentence in refusals)
