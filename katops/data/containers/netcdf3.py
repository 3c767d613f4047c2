"""Classic netCDF files (CDF-1 and CDF-2): a header, arrays one after the other, then records.

Source: Unidata, NetCDF Users Guide, appendix "File Format Specifications".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.containers.chunks import check_apart
from katops.data.containers.stamps import stamp_of
from katops.data.containers.values import Budget, plain_value
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

_TYPES = {1: ">i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8"}
_ABSENT, _DIMENSIONS, _VARIABLES, _ATTRIBUTES = 0, 10, 11, 12
_STREAMING = 2**32 - 1
"""Number of records where the writer did not know it in advance."""
_MOST_HEADER = 64 * 2**20


@dataclass(frozen=True)
class _Variable:
    """One array of the header: ``begin`` is its first byte, ``step`` the bytes from one record to the next."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    dimensions: tuple[str, ...]
    attributes: dict[str, Any]
    begin: int
    is_record: bool
    step: int = 0


def look(path: Path, beat: Callable[[], None]) -> StoredTree:
    """The variables of a classic netCDF file; ``attributes["dimensions"]`` names the axes of each.

    Raises:
        UserError: the file is damaged, truncated or being written.
    """
    stamp = stamp_of(path)
    attributes, variables = _read(path)
    budget = Budget()
    arrays = {}
    check_apart(path, [_first_extent(variable) for variable in variables])
    for variable in variables:
        beat()
        _check_place(path, variable, stamp[0])
        array = _stored(variable)
        if array.is_real and budget.allows(array):
            array = replace(array, values=np.array(_map(path, variable)))
        arrays[array.path] = array
    # The last variable is padded.
    left = stamp[0] - max((_end(variable) for variable in variables), default=stamp[0])
    if left > 3:
        raise UserError(
            f"{path} holds {left} bytes more than its header describes; it is damaged, or still being written"
        )
    return StoredTree(path, "netcdf3", stamp, attributes, {}, arrays)


def load(path: Path, name: str) -> np.ndarray:
    """All elements, with the axes in the order of storage."""
    return np.array(open_array(path, name))


def open_array(path: Path, name: str) -> np.ndarray:
    """A view of the file."""
    wanted = name.lstrip("/")
    variable = next((variable for variable in _read(path)[1] if variable.name == wanted), None)
    if variable is None:
        raise UserError(f"{path} has no variable {wanted!r} any more")
    _check_place(path, variable, stamp_of(path)[0])
    return _map(path, variable)


class _Header:
    """Reads numbers and names, all big-endian and padded to four bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.content = file.read(_MOST_HEADER)
        self.position = 4
        self.offset_bytes = 8 if self.content[3] == 2 else 4

    def number(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.content):
            raise UserError(f"{self.path} is damaged or truncated: its header leads out of the file")
        taken = self.content[self.position : end]
        self.position = end
        return taken

    def padded(self, size: int) -> bytes:
        return self.take(size + -size % 4)[:size]

    def name(self) -> str:
        return self.padded(self.number()).decode("utf-8", errors="replace")

    def count(self, tag: int) -> int:
        """Number of entries of a list with this tag."""
        found, entries = self.number(), self.number()
        if found not in (tag, _ABSENT) or (found == _ABSENT and entries):
            raise UserError(f"{self.path} is damaged: its header holds {found} where {tag} must be")
        # An entry takes at least four bytes.
        if 4 * entries > len(self.content):
            raise UserError(f"{self.path} is damaged: its header promises {entries} entries")
        return entries

    def element_type(self) -> str:
        code = self.number()
        if code not in _TYPES:
            raise UserError(f"{self.path} is damaged: its header names the element type {code}; 1 to 6 exist")
        return _TYPES[code]

    def attributes(self) -> dict[str, Any]:
        found = {}
        for _ in range(self.count(_ATTRIBUTES)):
            name, dtype, length = self.name(), np.dtype(self.element_type()), self.number()
            content = self.padded(length * dtype.itemsize)
            if dtype.kind == "S":
                found[name] = content.decode("utf-8", errors="replace").rstrip("\0")
            else:
                values = np.frombuffer(content, dtype)
                found[name] = plain_value(values[0] if length == 1 else values)
        return found


def _read(path: Path) -> tuple[dict[str, Any], list[_Variable]]:
    header = _Header(path)
    records = header.number()
    if records == _STREAMING:
        raise UserError(f"{path} is still being written, or was never closed: its header does not count its records")
    sizes = [(header.name(), header.number()) for _ in range(header.count(_DIMENSIONS))]
    attributes = header.attributes()
    variables = [_variable(header, sizes, records) for _ in range(header.count(_VARIABLES))]
    if any(variable.begin < header.position for variable in variables):
        raise UserError(f"{path} is damaged: a variable begins inside the header")
    recorded = [variable for variable in variables if variable.is_record]
    # A single record variable is not padded.
    step = sum(_record_bytes(variable, padded=len(recorded) > 1) for variable in recorded)
    return attributes, [replace(item, step=step) if item.is_record else item for item in variables]


def _variable(header: _Header, sizes: list[tuple[str, int]], records: int) -> _Variable:
    name = header.name()
    indices = [header.number() for _ in range(header.number())]
    if any(index >= len(sizes) for index in indices) or any(sizes[index][1] == 0 for index in indices[1:]):
        raise UserError(f"{header.path} is damaged: variable {name!r} has an axis that is not described")
    is_record = bool(indices) and sizes[indices[0]][1] == 0
    shape = [sizes[index][1] for index in indices]
    if is_record:
        shape[0] = records
    attributes = header.attributes()
    dtype = header.element_type()
    promised = header.number()
    begin = header.number(header.offset_bytes)
    names = tuple(sizes[index][0] for index in indices)
    variable = _Variable(name, dtype, tuple(shape), names, attributes, begin, is_record)
    _check_size(header.path, variable, promised)
    return variable


def _check_size(path: Path, variable: _Variable, promised: int) -> None:
    """The size is stored beside the shape; what does not fit into it is stored as the largest number."""
    shape = variable.shape[1:] if variable.is_record else variable.shape
    size = prod(shape) * np.dtype(variable.dtype).itemsize
    if size < 2**32 - 4 and promised not in (size, size + -size % 4):
        raise UserError(
            f"{path} is damaged: variable {variable.name!r} of shape {variable.shape} needs {size} bytes, {promised} "
            f"are set aside for it"
        )


def _record_bytes(variable: _Variable, *, padded: bool) -> int:
    size = prod(variable.shape[1:]) * np.dtype(variable.dtype).itemsize
    return size + -size % 4 if padded else size


def _check_place(path: Path, variable: _Variable, size: int) -> None:
    end = _end(variable)
    if end > size:
        raise UserError(
            f"{path} is truncated: variable {variable.name!r} ends at byte {end}, the file has {size}; it was copied "
            f"or written half-way, so copy or make it again"
        )


def _end(variable: _Variable) -> int:
    item = np.dtype(variable.dtype).itemsize
    if not variable.is_record:
        return variable.begin + prod(variable.shape) * item
    records = variable.shape[0]
    return variable.begin + (records - 1) * variable.step + prod(variable.shape[1:]) * item if records else 0


def _first_extent(variable: _Variable) -> np.ndarray:
    """(first byte, bytes) of an array, or of its part in the first record."""
    shape = variable.shape[1:] if variable.is_record else variable.shape
    return np.array([[variable.begin, prod(shape) * np.dtype(variable.dtype).itemsize]], dtype=np.int64)


def _stored(variable: _Variable) -> StoredArray:
    dtype = np.dtype(variable.dtype)
    attributes = {**variable.attributes, "dimensions": list(variable.dimensions)}
    path = "/" + variable.name
    if dtype.kind == "S":
        return StoredArray(path, variable.shape, "|O", {**attributes, "type": "text"})
    size = prod(variable.shape) * dtype.itemsize
    lies_together = not variable.is_record or variable.step == _record_bytes(variable, padded=False)
    offset = variable.begin if lies_together and size else None
    return StoredArray(path, variable.shape, dtype.str, attributes, offset=offset, stored_bytes=size)


def _map(path: Path, variable: _Variable) -> np.ndarray:
    if not prod(variable.shape):
        return np.empty(variable.shape, variable.dtype)
    content = np.memmap(path, np.uint8, mode="r")
    inner = np.dtype(variable.dtype).itemsize * np.cumprod((1, *variable.shape[:0:-1]), dtype=np.int64)[::-1]
    strides = [int(stride) for stride in inner[: len(variable.shape)]]
    if variable.is_record:
        strides[0] = variable.step
    return np.ndarray(variable.shape, variable.dtype, content, variable.begin, strides)
