"""NumPy arrays: .npy files, and the same bytes inside .npz archives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

from katops.data.containers.errors import one_line
from katops.data.containers.stamps import stamp_of
from katops.data.containers.values import Budget
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

NAME = "/data"
"""The one array of a .npy file has no name in it."""
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # Differs from version 2 in how it spells the names of fields, and compound values are not read.
    (3, 0): np.lib.format.read_array_header_2_0,
}


def look(path: Path, beat: Callable[[], None]) -> StoredTree:
    """The one array of a .npy file.

    Raises:
        UserError: the file is damaged, truncated, or holds Python objects.
    """
    stamp = stamp_of(path)
    with path.open("rb") as file:
        array = read_header(file, path, NAME)
    if array.dtype != "|O" and array.offset + array.stored_bytes > stamp[0]:
        raise UserError(
            f"{path} is truncated: its header promises {array.offset + array.stored_bytes} bytes, {stamp[0]} are "
            f"there; it was copied or written half-way, so copy or make it again"
        )
    if array.dtype != "|O" and array.offset + array.stored_bytes < stamp[0]:
        raise UserError(
            f"{path} holds {stamp[0] - array.offset - array.stored_bytes} bytes more than its header describes; it is "
            f"damaged, or several arrays were written into it: store them as .npz"
        )
    if Budget().allows(array) and array.is_real:
        array = replace(array, values=np.array(_map(path, array)))
    return StoredTree(path, "numpy", stamp, {}, {}, {NAME: array})


def load(path: Path, name: str) -> np.ndarray:
    """All elements, with the axes in the order of storage."""
    return np.array(open_array(path, name))


def open_array(path: Path, name: str) -> np.ndarray:
    """A view of the file."""
    with path.open("rb") as file:
        array = read_header(file, path, name)
    if array.dtype == "|O":
        raise UserError(f"{path}: array {array.name!r} holds {array.attributes['type']} values, which are not read")
    return _map(path, array)


def read_header(file: BinaryIO, path: Path, name: str) -> StoredArray:
    """What the header says; ``offset`` counts from where the file stood."""
    begin = file.tell()
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise UserError(f"{path}: array {name.lstrip('/')!r} has version {version} of the .npy header; 1 to 3 are")
        shape, is_fortran, dtype = _HEADERS[version](file)
    except (ValueError, SyntaxError, TypeError, EOFError, TokenError) as error:
        raise UserError(
            f"{path} is damaged: the header of array {name.lstrip('/')!r} makes no sense: {one_line(error)}"
        ) from error
    if dtype.kind not in "biufc":
        kind = "Python object" if dtype.hasobject else "text" if dtype.kind in "SU" else str(dtype)
        return StoredArray(name, tuple(shape), "|O", {"type": kind})
    column_major = is_fortran and len(shape) > 1
    return StoredArray(
        name,
        tuple(shape[::-1]) if column_major else tuple(shape),
        dtype.str,
        offset=file.tell() - begin,
        stored_bytes=prod(shape) * dtype.itemsize,
        column_major=column_major,
    )


def _map(path: Path, array: StoredArray) -> np.ndarray:
    if not array.size:
        return np.empty(array.shape, array.dtype)
    return np.memmap(path, array.dtype, mode="r", offset=array.offset, shape=array.shape)
