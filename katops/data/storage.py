"""What a data file stores, before anything is said about its meaning: one description for every container.

Formats (:mod:`katops.data.formats`) read their meaning off a :class:`StoredTree`; they never touch the file. The reader
(:mod:`katops.data.reading`) finds the bytes of an array with a :class:`StoredArray`; it never asks for the meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from katops.errors import UserError, did_you_mean

CONTAINERS = ("hdf5", "matlab73", "matlab5", "numpy", "npz", "torch", "netcdf3", "zarr")
"""HDF5 (netCDF-4 included), MATLAB from 7.3 on (HDF5 too), MATLAB up to 7, .npy, .npz, torch.save, classic netCDF."""
FRAGILE_FILTERS = frozenset({"szip", "nbit", "scaleoffset"})
"""Filters whose decoders in HDF5 read out of bounds on damaged data: only the helper process unpacks them."""


@dataclass(frozen=True)
class StoredArray:
    """One array of a file.

    Attributes:
        path: where it is, from the root: ``"/fields/u"``.
        shape: as stored, the fastest axis last.
        dtype: element type in numpy's spelling with byte order (``"<f4"``, ``">f8"``, ``"|b1"``); ``"|O"`` for what is
            neither a number nor a bool (text, references, compound values).
        attributes: as plain Python values.
        offset: position in the file of the first byte, where the elements lie there one after the other, unfiltered;
            ``None`` otherwise.
        chunks: shape of a chunk, ``None`` where the array is not chunked.
        filters: names of the filters in the order in which they were applied when writing, e.g. ("shuffle", "gzip").
        stored_bytes: bytes it takes in the file.
        values: the elements, of small arrays (coordinates, times, parameters); ``None`` for others.
        column_major: the author counted the axes the other way round (MATLAB, Fortran): ``shape`` is reversed.
        nothing_written: storage was never allocated, a reader would get fill values.
        incomplete: what of it was never written or lies in a file that is missing, for people; "" where all is there.
        parts: the files that hold the elements of a virtual array: (path, bytes, modification time in ns).
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    attributes: dict[str, Any] = field(default_factory=dict)
    offset: int | None = None
    chunks: tuple[int, ...] | None = None
    filters: tuple[str, ...] = ()
    stored_bytes: int = 0
    values: np.ndarray | None = field(default=None, repr=False, compare=False)
    column_major: bool = False
    nothing_written: bool = False
    incomplete: str = ""
    parts: tuple[tuple[str, int, int], ...] = field(default=(), repr=False, compare=False)

    @property
    def name(self) -> str:
        """The path without the leading slash."""
        return self.path.lstrip("/")

    @property
    def logical_shape(self) -> tuple[int, ...]:
        """The shape as the author of the file sees it."""
        return self.shape[::-1] if self.column_major else self.shape

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def is_real(self) -> bool:
        """Whether the elements are real numbers (bool, integer, float)."""
        return np.dtype(self.dtype).kind in "biuf"


@dataclass(frozen=True)
class StoredTree:
    """Everything a file stores, except the elements of its large arrays.

    Attributes:
        path: the file (a folder for zarr).
        container: one of :data:`CONTAINERS`.
        stamp: (bytes, modification time in ns) when it was looked at.
        attributes: of the root.
        groups: attributes of every group but the root, by path, parents first; members in the order of storage.
        arrays: every array, by path, in the order of storage.
        fetch: reads the elements of an array whose ``values`` are ``None``; see :meth:`values`.
        broken: what cannot be read and why, by path, e.g. links that lead nowhere.
    """

    path: Path
    container: str
    stamp: tuple[int, int]
    attributes: dict[str, Any]
    groups: dict[str, dict[str, Any]]
    arrays: dict[str, StoredArray]
    fetch: Callable[[str], np.ndarray] | None = field(default=None, repr=False, compare=False)
    broken: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> StoredArray | None:
        """The array of that path, with or without the leading slash."""
        return self.arrays.get("/" + name.strip("/"))

    def array(self, name: str) -> StoredArray:
        """The array of that path, with or without the leading slash.

        Raises:
            UserError: there is none; the message suggests the nearest name.
        """
        found = self.find(name)
        if found is None:
            names = [array.name for array in self.arrays.values()]
            if "/" + name.strip("/") in self.broken:
                raise UserError(f"{self.path}: {name!r} cannot be read: {self.broken['/' + name.strip('/')]}")
            if "/" + name.strip("/") in self.groups:
                raise UserError(f"{self.path}: {name!r} is a group, not an array; name one of the arrays in it")
            raise UserError(
                f"{self.path} has no array {name!r}{did_you_mean(name, names)} "
                f"Its arrays: {', '.join(names[:12]) or 'none'}{', ...' if len(names) > 12 else ''}."
            )
        return found

    def values(self, name: str) -> np.ndarray:
        """The elements of an array that describes others: coordinates, times, parameters.

        Raises:
            UserError: there is no such array, or it cannot be read.
        """
        array = self.array(name)
        if array.values is not None:
            return array.values
        if self.fetch is None:
            raise UserError(f"{self.path}: the array {array.name!r} was not read")
        return self.fetch(array.path)

    def has_group(self, name: str) -> bool:
        """Whether there is a group of that path."""
        return "/" + name.strip("/") in self.groups

    def members(self, group: str = "/") -> dict[str, StoredArray]:
        """The arrays that lie directly in a group, by their last name, in the order of storage."""
        prefix = _prefix(group)
        return {
            path[len(prefix) :]: array
            for path, array in self.arrays.items()
            if path.startswith(prefix) and "/" not in path[len(prefix) :]
        }

    def subgroups(self, group: str = "/") -> list[str]:
        """The last names of the groups that lie directly in a group, in the order of storage."""
        prefix = _prefix(group)
        return [
            path[len(prefix) :] for path in self.groups if path.startswith(prefix) and "/" not in path[len(prefix) :]
        ]


def _prefix(group: str) -> str:
    inner = group.strip("/")
    return f"/{inner}/" if inner else "/"
