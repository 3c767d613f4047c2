"""MATLAB files up to version 7 ("MATLAB 5.0 MAT-file").

Read here and not by scipy, whose parser ends the process on some damaged files and does not tell where an array lies.
Source: The MathWorks, "MAT-File Format", version 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from katops.data.containers.errors import one_line
from katops.data.containers.stamps import stamp_of
from katops.data.containers.values import Budget
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

_HEADER = 128
_HEAD = 4096
"""Bytes of a variable that hold its flags, shape, name and the tag of its numbers."""
_MOST_AXES = 32
_UINT32, _INT8, _INT32, _MATRIX, _COMPRESSED = 6, 1, 5, 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Element types as stored."""
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Element types as MATLAB shows them; whole numbers are often stored in fewer bytes."""
_OTHERS = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function_handle", 17: "opaque"}
_COMPLEX, _LOGICAL = 0x800, 0x200


class _Damaged(ValueError):
    """Bytes that make no sense."""


@dataclass(frozen=True)
class _Variable:
    """A variable of the file: ``begin`` and ``size`` of its element, and where its numbers are inside of it."""

    array: StoredArray
    begin: int
    size: int
    is_compressed: bool
    stored: str
    data: int


def look(path: Path, beat: Callable[[], None]) -> StoredTree:
    """The variables of a MATLAB file; axes are counted as MATLAB stores them, i.e. in reverse.

    Raises:
        UserError: the file is damaged or truncated.
    """
    stamp = stamp_of(path)
    budget = Budget()
    arrays = {}
    for name, variable in _variables(path, beat).items():
        array = variable.array
        if array.is_real and array.size and budget.allows(array):
            array = replace(array, values=_elements(path, variable))
        arrays[name] = array
    return StoredTree(path, "matlab5", stamp, {}, {}, arrays)


def load(path: Path, name: str) -> np.ndarray:
    """All elements, with the axes in the order of storage; the checksum of a compressed variable is compared."""
    variable = _variables(path, lambda: None).get(name)
    if variable is None:
        raise UserError(f"{path} has no variable {name.lstrip('/')!r} any more")
    if variable.array.dtype == "|O":
        kind = variable.array.attributes["type"]
        raise UserError(f"{path}: variable {name.lstrip('/')!r} holds {kind} values, which are not read")
    return _elements(path, variable)


def open_array(path: Path, name: str) -> np.ndarray:
    """All elements: a compressed variable cannot be read in part."""
    return load(path, name)


def _variables(path: Path, beat: Callable[[], None]) -> dict[str, _Variable]:
    size = stamp_of(path)[0]
    found: dict[str, _Variable] = {}
    with path.open("rb") as file:
        order = "<" if file.read(_HEADER)[126:128] == b"IM" else ">"
        begin = _HEADER
        while begin < size:
            beat()
            file.seek(begin)
            head = file.read(_HEAD)
            kind, length = struct.unpack(order + "II", head[:8]) if len(head) >= 8 else (0, 0)
            if begin + 8 + length > size or len(head) < 8:
                raise UserError(
                    f"{path} is truncated: a variable ends at byte {begin + 8 + length}, the file has {size}; it was "
                    f"copied or written half-way, so copy or make it again"
                )
            try:
                variable = _variable(head, order, begin, length, kind == _COMPRESSED)
            except (_Damaged, zlib.error, struct.error) as error:
                raise UserError(f"{path} is damaged: the variable at byte {begin}: {one_line(error)}") from error
            # Objects leave a variable without a name behind.
            if variable.array.name:
                if variable.array.path in found:
                    raise UserError(f"{path} is damaged: it holds the variable {variable.array.name!r} twice")
                found[variable.array.path] = variable
            begin += 8 + length
    return found


def _variable(head: bytes, order: str, begin: int, length: int, is_compressed: bool) -> _Variable:
    inner = head
    if is_compressed:
        inner = zlib.decompressobj().decompress(head[8 : 8 + length], _HEAD)
    parser = _Parser(inner, order)
    kind, total = struct.unpack_from(order + "II", inner) if len(inner) >= 8 else (0, 0)
    if kind != _MATRIX or (not is_compressed and total != length):
        raise _Damaged(f"its element is of type {kind} and {total} bytes")
    flags = struct.unpack(order + "II", parser.part(_UINT32, 8))[0]
    content = parser.part(_INT32, None)
    shape = struct.unpack(f"{order}{len(content) // 4}i", content)
    if not 2 <= len(shape) <= _MOST_AXES or min(shape) < 0:
        raise _Damaged(f"its shape is {shape[:8]}")
    name = parser.part(_INT8, None).decode("latin-1")
    array = StoredArray("/" + name, shape[::-1], "|O", column_major=True, stored_bytes=length)
    code = flags & 0xFF
    if code not in _CLASSES or flags & _COMPLEX:
        if code not in _CLASSES and code not in _OTHERS:
            raise _Damaged(f"its class is {code}")
        kind = "complex" if code in _CLASSES else _OTHERS[code]
        return _Variable(replace(array, attributes={"type": kind}), begin, length, is_compressed, "", 0)
    dtype = "|b1" if flags & _LOGICAL else np.dtype(order + _CLASSES[code]).str
    stored, data, n_bytes = parser.numbers()
    left = 8 + total - data - n_bytes
    if n_bytes != array.size * np.dtype(stored).itemsize or not 0 <= left < 8:
        raise _Damaged(f"its shape is {shape}, its {n_bytes} bytes hold numbers of {np.dtype(stored).itemsize} bytes")
    array = replace(array, dtype=dtype, filters=("zlib",) if is_compressed else ())
    is_plain = not is_compressed and array.size > 0 and np.dtype(stored).itemsize == np.dtype(dtype).itemsize
    if is_plain and (stored == dtype or dtype == "|b1"):
        array = replace(array, offset=begin + data, stored_bytes=n_bytes)
    return _Variable(array, begin, length, is_compressed, stored, data)


class _Parser:
    """Walks over the parts of a variable: a tag of 8 bytes and the content, or a tag of 4 and up to 4 of content."""

    def __init__(self, content: bytes, order: str) -> None:
        self.content = content
        self.order = order
        self.position = 8

    def tag(self) -> tuple[int, int, int]:
        """(type, first byte, bytes) of the next part."""
        if self.position + 8 > len(self.content):
            raise _Damaged("it ends too early")
        kind, size = struct.unpack_from(self.order + "II", self.content, self.position)
        if kind >> 16:
            first, size = self.position + 4, kind >> 16
            if size > 4:
                raise _Damaged(f"a short part has {size} bytes")
            self.position += 8
            return kind & 0xFFFF, first, size
        first = self.position + 8
        self.position = first + size + -size % 8
        return kind, first, size

    def part(self, kind: int, size: int | None) -> bytes:
        """Content of the next part, which must be of that type and, where given, of that size."""
        found, first, length = self.tag()
        if found != kind or length != (length if size is None else size) or first + length > len(self.content):
            raise _Damaged(f"a part of type {found} and {length} bytes is where type {kind} must be")
        return self.content[first : first + length]

    def numbers(self) -> tuple[str, int, int]:
        """(type, first byte, bytes) of the part with the numbers, of which only the beginning is here."""
        kind, first, size = self.tag()
        if kind not in _STORED:
            raise _Damaged(f"its numbers are of type {kind}")
        return np.dtype(self.order + _STORED[kind]).str, first, size


def _elements(path: Path, variable: _Variable) -> np.ndarray:
    array = variable.array
    with path.open("rb") as file:
        file.seek(variable.begin + 8)
        content = file.read(variable.size)
    stored = np.dtype(variable.stored)
    first = variable.data
    if variable.is_compressed:
        content = _inflate(path, array.name, content, first + array.size * stored.itemsize)
    else:
        first -= 8
    if len(content) < first + array.size * stored.itemsize:
        raise UserError(f"{path} has changed since it was looked at, or is truncated")
    values = np.frombuffer(content, stored, array.size, first).reshape(array.shape)
    return values != 0 if array.dtype == "|b1" else values.astype(array.dtype, copy=False)


def _inflate(path: Path, name: str, content: bytes, needed: int) -> bytes:
    """The whole stream: its checksum comes last. No more than is promised is unpacked."""
    stream = zlib.decompressobj()
    try:
        # Padding follows the numbers.
        unpacked = stream.decompress(content, needed + 8)
        is_whole = stream.eof or (not stream.decompress(stream.unconsumed_tail, 64) and stream.eof)
    except zlib.error as error:
        raise UserError(f"{path} is damaged: the compressed variable {name!r}: {one_line(error)}") from error
    if len(unpacked) < needed or not is_whole:
        raise UserError(f"{path} is damaged: the compressed variable {name!r} has another length than its shape needs")
    return unpacked
