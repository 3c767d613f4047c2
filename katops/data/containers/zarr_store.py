"""zarr stores (folders), versions 2 and 3 of the format, read by the optional package zarr."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.containers.chunks import is_hardly_written
from katops.data.containers.errors import one_line
from katops.data.containers.stamps import stamp_of
from katops.data.containers.values import Budget, plain_value
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

NAME = "/data"
"""The array of a store that is a single array."""


def look(path: Path, beat: Callable[[], None]) -> StoredTree:
    """The arrays of a zarr store. A chunk that was never written counts as the fill value, as the format has it.

    Raises:
        UserError: the package zarr is missing; the store is damaged.
    """
    stamp = stamp_of(path)
    root = _open(path)
    budget = Budget()
    groups: dict[str, dict[str, Any]] = {}
    arrays: dict[str, StoredArray] = {}
    broken: dict[str, str] = {}
    members = [("data", root)] if _is_array(root) else sorted(root.members(max_depth=None))
    for name, item in members:
        beat()
        attributes = {key: plain_value(value) for key, value in item.attrs.asdict().items()}
        if not _is_array(item):
            groups["/" + name] = attributes
            continue
        array = _stored("/" + name, item, attributes)
        if is_hardly_written(item.nchunks, item.nchunks_initialized):
            broken[array.path] = f"only {item.nchunks_initialized} of its {item.nchunks} chunks were written"
            continue
        if array.is_real and not array.nothing_written and budget.allows(array):
            array = replace(array, values=np.asarray(item[...]))
        arrays[array.path] = array
    attributes = {} if _is_array(root) else {key: plain_value(value) for key, value in root.attrs.asdict().items()}
    return StoredTree(path, "zarr", stamp, attributes, groups, arrays, broken=broken)


def load(path: Path, name: str) -> np.ndarray:
    """All elements, with the axes in the order of storage."""
    return open_array(path, name)[...]


def open_array(path: Path, name: str) -> LazyArray:
    """An array of which a slice reads the chunks it touches."""
    root = _open(path)
    if _is_array(root):
        return LazyArray(path, root)
    try:
        return LazyArray(path, root[name.lstrip("/")])
    except KeyError:
        raise UserError(f"{path} has no array {name.lstrip('/')!r} any more") from None


class LazyArray:
    """A zarr array whose damage is told in one sentence."""

    def __init__(self, path: Path, array: Any) -> None:
        self.path = path
        self.array = array
        self.shape = tuple(int(size) for size in array.shape)
        self.dtype = np.dtype(array.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        try:
            return np.asarray(self.array[index])
        # What the decoders of chunks raise.
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            text = one_line(error)
            raise UserError(f"{self.path} is damaged: a chunk of {self.array.path!r} cannot be read: {text}") from error


def _open(path: Path) -> Any:
    try:
        import zarr
    except ImportError:
        raise UserError(f"{path} is a zarr store, which needs the package zarr: pip install 'zarr>=3'") from None
    try:
        return zarr.open(store=str(path), mode="r")
    # zarr raises these on metadata that make no sense.
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is a damaged zarr store: {one_line(error) or type(error).__name__}") from error


def _is_array(item: Any) -> bool:
    return hasattr(item, "chunks")


def _stored(path: str, item: Any, attributes: dict[str, Any]) -> StoredArray:
    dtype = np.dtype(item.dtype)
    shape = tuple(int(size) for size in item.shape)
    dimensions = getattr(item.metadata, "dimension_names", None)
    if dimensions:
        attributes = {**attributes, "dimensions": list(dimensions)}
    if dtype.kind not in "biufc":
        return StoredArray(path, shape, "|O", {**attributes, "type": "text" if dtype.kind in "SUT" else str(dtype)})
    array = StoredArray(path, shape, dtype.str, attributes, chunks=tuple(item.chunks))
    filters = (*getattr(item, "filters", ()), *getattr(item, "compressors", ()))
    return replace(
        array,
        filters=tuple(_codec_name(codec) for codec in filters),
        stored_bytes=int(item.nbytes_stored()),
        nothing_written=array.size > 0 and item.nchunks_initialized == 0,
    )


def _codec_name(codec: Any) -> str:
    name = getattr(codec, "codec_id", None) or type(codec).__name__.removesuffix("Codec").lower()
    return str(name)
