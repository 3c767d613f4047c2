"""NumPy archives (.npz): zip files of .npy files; their checksums are compared when the file is looked at."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from katops.data.containers.errors import one_line
from katops.data.containers.npy import read_header
from katops.data.containers.stamps import stamp_of
from katops.data.containers.values import Budget
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

_LOCAL_HEADER = 30
"""Bytes in front of the name of a member, in the file."""
_BLOCK = 2**20


def look(path: Path, beat: Callable[[], None]) -> StoredTree:
    """The arrays of an archive. Every member is read once, to compare its checksum: later reads do not.

    Raises:
        UserError: the archive is damaged or truncated, a checksum differs, or an array holds Python objects.
    """
    stamp = stamp_of(path)
    budget = Budget()
    arrays = {}
    with opened(path) as archive:
        for member in archive.infolist():
            check(archive, member, beat)
            array = _array(path, archive, member)
            if array.is_real and budget.allows(array):
                array = replace(array, values=_elements(path, archive, member, array))
            arrays[array.path] = array
    return StoredTree(path, "npz", stamp, {}, {}, arrays)


def load(path: Path, name: str) -> np.ndarray:
    """All elements, with the axes in the order of storage."""
    with opened(path) as archive:
        member = next((member for member in archive.infolist() if _name(member) == name), None)
        if member is None:
            raise UserError(f"{path} has no array {name.lstrip('/')!r} any more")
        return _elements(path, archive, member, _array(path, archive, member))


def open_array(path: Path, name: str) -> np.ndarray:
    """All elements: a compressed member cannot be read in part."""
    return load(path, name)


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive; what goes wrong with it is told in one sentence."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    # zipfile raises RuntimeError for encrypted members, NotImplementedError for methods it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or truncated: {one_line(error)}; copy or make it again") from error


def check(archive: zipfile.ZipFile, member: zipfile.ZipInfo, beat: Callable[[], None]) -> None:
    """Read a member to its end, where zipfile compares the checksum."""
    with archive.open(member) as file:
        while file.read(_BLOCK):
            beat()


def data_offset(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Position of the first byte of a member; its name and extra field may differ from those in the directory."""
    with archive.open(member), open(archive.filename, "rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER)
    return (
        member.header_offset
        + _LOCAL_HEADER
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )


def _name(member: zipfile.ZipInfo) -> str:
    return "/" + member.filename.removesuffix(".npy")


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> StoredArray:
    with archive.open(member) as file:
        array = read_header(file, path, _name(member))
    if array.dtype == "|O":
        return array
    if array.offset + array.stored_bytes != member.file_size:
        raise UserError(
            f"{path} is damaged: array {array.name!r} of shape {array.logical_shape} and type {array.dtype} needs "
            f"{array.stored_bytes} bytes, {member.file_size - array.offset} are stored"
        )
    if member.compress_type == zipfile.ZIP_STORED:
        return replace(array, offset=data_offset(archive, member) + array.offset)
    return replace(array, offset=None, filters=("zip",), stored_bytes=member.compress_size)


def _elements(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, array: StoredArray) -> np.ndarray:
    if array.dtype == "|O":
        raise UserError(f"{path}: array {array.name!r} holds {array.attributes['type']} values, which are not read")
    with archive.open(member) as file:
        content = file.read()
    dtype = np.dtype(array.dtype)
    return np.frombuffer(content, dtype, offset=len(content) - array.size * dtype.itemsize).reshape(array.shape)
