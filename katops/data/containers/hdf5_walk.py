"""One pass over the objects of an HDF5 file. Runs in the helper process of :mod:`katops.data.containers.probe`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from katops.data.containers.chunks import check_apart, check_filter, count_missing, is_hardly_written, stored_chunks
from katops.data.containers.values import Budget, plain_value
from katops.data.containers.virtual import MISSING, VirtualSources
from katops.data.storage import FRAGILE_FILTERS, StoredArray
from katops.errors import UserError

_FILTERS = {
    1: "gzip",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32015: "zstd",
    32026: "blosc2",
}
"""Numbers registered with the HDF Group."""


class Walk:
    """One pass over the objects of a file; the low-level interface, since files of 10,000 groups are common."""

    def __init__(self, path: Path, file: h5py.File, size: int, beat: Callable[[], None]) -> None:
        self.path = path
        self.file = file
        self.size = size
        self.beat = beat
        self.user_block = user_block_of(file)
        self.budget = Budget()
        self.attributes: dict[str, Any] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.arrays: dict[str, StoredArray] = {}
        self.broken: dict[str, str] = {}
        self.extents: list[np.ndarray] = []
        # From version 3 of the superblock on, checksums cover everything but the elements.
        self.has_checksums = file.id.get_create_plist().get_version()[0] >= 3
        self.has_matlab_classes = False
        self.fileno = _identity(file.id)[0]
        self._seen: set[tuple[int, int]] = set()
        self._sources = VirtualSources(path.parent)

    def look_around(self) -> None:
        """Visit everything, then check that no two arrays claim the same bytes."""
        self.attributes = self._attributes(self.file.id)
        self._seen.add(_identity(self.file.id))
        self._members("/", self.file["/"].id)
        check_apart(self.path, self.extents)

    def _members(self, prefix: str, group: h5py.h5g.GroupID) -> None:
        links: list[tuple[bytes, int]] = []
        order = h5py.h5.INDEX_NAME
        if group.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED:
            order = h5py.h5.INDEX_CRT_ORDER
        group.links.iterate(lambda name, info: links.append((name, info.type)), info=True, idx_type=order)
        for name, kind in links:
            self.beat()
            path = prefix + name.decode("utf-8", errors="replace")
            if kind == h5py.h5l.TYPE_HARD or self._leads_somewhere(path, group, name, kind):
                self._add(path, h5py.h5o.open(group, name))

    def _add(self, path: str, item: h5py.h5o.ObjectID) -> None:
        if isinstance(item, h5py.h5d.DatasetID):
            array = self._array(path, item)
            if path not in self.broken:
                self.arrays[path] = array
        elif isinstance(item, h5py.h5g.GroupID):
            identity = _identity(item)
            # A group that contains itself, or is linked twice, is listed once.
            if identity not in self._seen:
                self._seen.add(identity)
                self.groups[path] = self._attributes(item)
                self._members(path + "/", item)

    def _leads_somewhere(self, path: str, group: h5py.h5g.GroupID, name: bytes, kind: int) -> bool:
        target = group.links.get_val(name)
        try:
            h5py.h5o.open(group, name)
        except (KeyError, OSError):
            if kind == h5py.h5l.TYPE_EXTERNAL:
                file, inner = (part.decode("utf-8", errors="replace") for part in target)
                self.broken[path] = f"it is a link to {inner!r} in the file {file!r}, which cannot be opened from here"
            else:
                self.broken[path] = f"it is a link to {target.decode('utf-8', errors='replace')!r}, which is not there"
            return False
        return True

    def _attributes(self, item: h5py.h5o.ObjectID) -> dict[str, Any]:
        if not h5py.h5a.get_num_attrs(item):
            return {}
        found: dict[str, Any] = {}
        attributes = h5py.AttributeManager(_Holder(item))
        for name in attributes:
            self.beat()
            try:
                found[name] = plain_value(attributes[name])
            except TypeError:
                # An element type that numpy does not have, e.g. a time or a bit field.
                found[name] = None
        self.has_matlab_classes |= "MATLAB_class" in found
        return found

    def _array(self, path: str, item: h5py.h5d.DatasetID) -> StoredArray:
        attributes = self._attributes(item)
        if item.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            return StoredArray(path, (0,), "|O", {**attributes, "type": "empty"})
        stored = item.get_type()
        dtype, kind = _element_type(stored)
        if kind:
            attributes["type"] = kind
        if "DIMENSION_LIST" in attributes:
            attributes["dimensions"] = self._dimensions(item, len(item.shape))
        array = StoredArray(path, item.shape, dtype, attributes, stored_bytes=item.get_storage_size())
        identity = _identity(item)
        if identity[0] == self.fileno:
            extents = len(self.extents)
            array = replace(array, **self._place(array, item, stored.get_size()))
            # Under its second name an array claims the same bytes.
            if identity in self._seen:
                del self.extents[extents:]
            self._seen.add(identity)
        if kind in ("", "text") and self.budget.allows(array):
            array = replace(array, values=self._values(item, array))
        return array

    def _dimensions(self, item: h5py.h5d.DatasetID, rank: int) -> list[str]:
        """Path of the first dimension scale of each axis, "" where there is none; netCDF-4 names axes by them."""
        names = [""] * rank
        for axis in range(rank):
            self.beat()
            scales: list[bytes] = []
            if h5py.h5ds.get_num_scales(item, axis) > 0:
                h5py.h5ds.iterate(item, axis, lambda scale, found=scales: found.append(h5py.h5i.get_name(scale)))
            if scales and scales[0]:
                names[axis] = scales[0].decode("utf-8", errors="replace")
        return names

    def _place(self, array: StoredArray, item: h5py.h5d.DatasetID, itemsize: int) -> dict[str, Any]:
        """What :class:`StoredArray` says about the bytes."""
        plan = item.get_create_plist()
        layout = plan.get_layout()
        if layout == h5py.h5d.CHUNKED:
            return self._place_chunks(array, item, itemsize, plan)
        if layout == h5py.h5d.VIRTUAL:
            return self._place_virtual(plan)
        if layout != h5py.h5d.CONTIGUOUS or not array.size:
            return {}
        if plan.get_external_count():
            return {"incomplete": self._missing_parts(plan)}
        return self._place_contiguous(array, item, itemsize)

    def _place_chunks(
        self, array: StoredArray, item: h5py.h5d.DatasetID, itemsize: int, plan: h5py.h5p.PropDCID
    ) -> dict[str, Any]:
        chunks = tuple(plan.get_chunk())
        pipeline = [plan.get_filter(index) for index in range(plan.get_nfilters())]
        for code, _, settings, _ in pipeline:
            check_filter(self.path, array.name, code, settings, prod(chunks), itemsize)
        filters = tuple(_filter_name(code, name) for code, _, _, name in pipeline)
        found = stored_chunks(item, self.user_block, self.beat)
        found.check(self.path, array.name, self.size, array.shape, chunks, None if filters else prod(chunks) * itemsize)
        if not self.has_checksums:
            found.check_index(self.path, array.name, item, self.beat)
        if FRAGILE_FILTERS.intersection(filters):
            self._decode(h5py.Dataset(item), found.starts, chunks)
        self.extents.append(found.extents)
        missing = count_missing(array.shape, chunks, len(found))
        if is_hardly_written(missing, len(found)):
            self.broken[array.path] = (
                f"only {len(found)} of the {missing + len(found)} chunks of its shape {array.shape} were written"
            )
        return {
            "chunks": chunks,
            "filters": filters,
            "nothing_written": len(found) == 0 and array.size > 0,
            "incomplete": f"{missing} of its {missing + len(found)} chunks were never written" if missing else "",
        }

    def _decode(self, dataset: h5py.Dataset, starts: np.ndarray, chunks: tuple[int, ...]) -> None:
        """Unpack every chunk once, here, where it may crash."""
        for start in starts.tolist():
            self.beat()
            # What is damaged and does not crash is reported when somebody reads it.
            with suppress(OSError):
                dataset[tuple(slice(first, first + size) for first, size in zip(start, chunks, strict=True))]

    def _place_contiguous(self, array: StoredArray, item: h5py.h5d.DatasetID, itemsize: int) -> dict[str, Any]:
        offset = item.get_offset()
        if offset is None:
            return {"nothing_written": True, "stored_bytes": 0}
        if array.dtype == "|O":
            return {}
        needed = array.size * itemsize
        if array.stored_bytes != needed:
            raise UserError(
                f"{self.path} is damaged: array {array.name!r} of shape {array.shape} needs {needed} bytes, "
                f"{array.stored_bytes} are set aside for it"
            )
        if offset + needed > self.size:
            raise UserError(
                f"{self.path} is truncated: array {array.name!r} ends at byte {offset + needed}, the file has "
                f"{self.size}; it was copied or written half-way, so copy or make it again"
            )
        self.extents.append(np.array([[offset, needed]], dtype=np.int64))
        return {"offset": offset}

    def _missing_parts(self, plan: h5py.h5p.PropDCID) -> str:
        """Of an array whose bytes lie in files beside this one: those that are not there or too short."""
        for index in range(plan.get_external_count()):
            name, offset, size = plan.get_external(index)
            # HDF5 looks for it in the folder one works in.
            part = Path(os.fsdecode(name))
            if not part.is_file() or (size != h5py.h5f.UNLIMITED and part.stat().st_size < offset + size):
                return f"its bytes lie in the file {str(part)!r}, which is missing or too short"
        return ""

    def _place_virtual(self, plan: h5py.h5p.PropDCID) -> dict[str, Any]:
        """The files that an array is put together from, and those of them that HDF5 would replace by fill values."""
        sources: dict[str, str] = {}
        for index in range(plan.get_virtual_count()):
            name = plan.get_virtual_filename(index)
            # What lies in this file is in the walk; a pattern of names is as long as the files that are there.
            if name != "." and "%" not in name:
                sources[name] = sources.get(name) or self._sources.trouble(plan, index)
        bad = {name: trouble for name, trouble in sources.items() if trouble}
        self.beat()
        if bad:
            name, trouble = next(iter(bad.items()))
            told = f"missing, e.g. {name!r}" if trouble == MISSING else f"damaged or others, e.g. {name!r} {trouble}"
            return {"incomplete": f"it is put together from {len(sources)} files, {len(bad)} of which are {told}"}
        return {"parts": tuple(self._sources.stamp(name) for name in sources)}

    def _values(self, item: h5py.h5d.DatasetID, array: StoredArray) -> np.ndarray | None:
        if array.nothing_written or array.incomplete:
            return None
        try:
            return elements_of(h5py.Dataset(item))
        except (OSError, RuntimeError, ValueError, TypeError):
            # Damaged or compressed with a filter that is not installed: reported when somebody asks for the values.
            return None


class _Holder:
    """What :class:`h5py.AttributeManager` wants to see of a group or an array."""

    def __init__(self, item: h5py.h5o.ObjectID) -> None:
        self.id = item


def elements_of(dataset: h5py.Dataset, part: tuple = ()) -> np.ndarray:
    """The elements of an array, or some of them; text as str."""
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    return np.asarray(dataset.asstr(errors="replace")[part] if is_text else dataset[part])


def user_block_of(file: h5py.File) -> int:
    """What has to be added to the addresses of chunks, which count from the end of the user block in old versions."""
    return 0 if not file.userblock_size or _addresses_count_user_block() else file.userblock_size


@functools.cache
def _addresses_count_user_block() -> bool:
    addresses = []
    for user_block in (0, 512):
        with h5py.File("probe", "w", driver="core", backing_store=False, userblock_size=user_block) as file:
            addresses.append(file.create_dataset("a", data=[0], chunks=(1,)).id.get_chunk_info(0).byte_offset)
    return addresses[0] != addresses[1]


def _identity(item: h5py.h5o.ObjectID) -> tuple[int, int]:
    info = h5py.h5o.get_info(item)
    return info.fileno, info.addr


def _element_type(stored: h5py.h5t.TypeID) -> tuple[str, str]:
    """numpy's spelling, and what the elements are where they are not numbers."""
    try:
        dtype = stored.dtype
    except TypeError:
        return "|O", type(stored).__name__.removeprefix("Type").removesuffix("ID").lower()
    if h5py.check_string_dtype(dtype) is not None:
        return "|O", "text"
    if h5py.check_ref_dtype(dtype) is not None:
        return "|O", "reference"
    if dtype.names is not None:
        return "|O", "complex" if set(dtype.names) == {"real", "imag"} else "compound"
    if dtype.kind not in "biufc" or dtype.shape:
        return "|O", "array" if dtype.kind != "O" else "variable-length"
    plain = stored.get_super() if isinstance(stored, h5py.h5t.TypeEnumID) else stored
    if dtype.kind in "iuf" and not plain.equal(_stored_type(dtype.str)):
        return "|O", f"{stored.get_size()}-byte number of an unusual layout"
    return dtype.str, ""


@functools.cache
def _stored_type(dtype: str) -> h5py.h5t.TypeID:
    """As numpy would store it: others have the same size and mean other numbers."""
    return h5py.h5t.py_create(np.dtype(dtype))


def _filter_name(code: int, name: bytes) -> str:
    return _FILTERS.get(code) or name.decode("utf-8", errors="replace") or f"filter {code}"
