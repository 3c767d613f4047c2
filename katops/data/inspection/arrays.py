"""The arrays of a file in ``katops inspect``: how they are stored, what they are used for, how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from katops.data.layout import ChannelArray, FileLayout
from katops.data.reading.hdf5 import chunks_touched
from katops.data.reading.paths import choose
from katops.data.storage import StoredArray, StoredTree

# Reading that many times the bytes of a frame, or holding that many bytes in memory, is worth a conversion.
_WASTEFUL, _LARGE = 4.0, 2**30


@dataclass(frozen=True)
class ArrayInfo:
    """One array of the file as it is stored, and how it is read ("" where it is not).

    ``channels`` are the channels made of it, where they are not called as it is.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    storage: str
    bytes_stored: int
    role: str = ""
    unit: str = ""
    reading: str = ""
    why: str = ""
    channels: tuple[str, ...] = ()


def array_info(array: StoredArray) -> ArrayInfo:
    """What is known of an array without knowing what it is used for."""
    return ArrayInfo(
        path=array.path,
        shape=array.logical_shape,
        dtype=str(array.attributes.get("type", "text")) if array.dtype == "|O" else str(np.dtype(array.dtype)),
        storage=_storage(array),
        bytes_stored=array.stored_bytes,
        role=str(array.attributes.get("role", "")),
        unit=str(array.attributes.get("unit", array.attributes.get("units", ""))),
    )


def _storage(array: StoredArray) -> str:
    if array.nothing_written:
        return "never written"
    filters = " + ".join(array.filters)
    if array.chunks is not None:
        return f"chunks {' x '.join(map(str, array.chunks))}, {filters or 'no filter'}"
    if filters:
        return filters
    if array.parts:
        return f"virtual, from {len(array.parts)} file{'s' if len(array.parts) > 1 else ''}"
    order = ", column-major" if array.column_major else ""
    return f"contiguous{order}" if array.offset is not None or not array.size else "in one piece"


def with_roles(
    arrays: Sequence[ArrayInfo], tree: StoredTree, layout: FileLayout, warnings: list[str]
) -> tuple[ArrayInfo, ...]:
    """The arrays with what they are used for and how they are read."""
    kinds = {"input": layout.inputs, "output": layout.outputs, "constant": layout.constants}
    roles: dict[str, set[str]] = {}
    names: dict[str, list[str]] = {}
    for role, channels in kinds.items():
        for channel in channels:
            for name in channel.datasets:
                roles.setdefault(name, set()).add(role)
    parameters = {channel.name for channel in layout.meta.parameters}
    readings = {}
    for channel in layout.arrays:
        for path in channel.datasets:
            names.setdefault(path, []).append(channel.name)
        way, why = _reading(layout, channel)
        readings |= dict.fromkeys(channel.datasets, (way, why))
        if "convert" in why:
            sentence = f"array {channel.datasets[0].lstrip('/')!r} is read slowly: {why}"
            if sentence not in warnings:
                warnings.append(sentence)
    shown = []
    for array in arrays:
        role = array.role or {"input+output": "state"}.get(text := "+".join(sorted(roles.get(array.path, ()))), text)
        if not role and array.path.lstrip("/") in parameters:
            role = "parameter"
        way, why = readings.get(array.path, ("", ""))
        channels = [name for name in names.get(array.path, ()) if name not in (array.path[1:], _last(array.path))]
        shown.append(replace(array, role=role, reading=way, why=why, channels=tuple(channels)))
    return tuple(shown)


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _reading(layout: FileLayout, array: ChannelArray) -> tuple[str, str]:
    """(reading path, what it costs)."""
    axes = tuple(axis.name for axis in layout.meta.axes)
    way, why = choose(layout, array, axes)
    stored = layout.storage[array.datasets[0]]
    if way == "ram":
        held = 4 * prod(layout.space) * (int(layout.frames.sum()) if array.has_time else layout.n_samples)
        advice = "; katops convert makes a file that is read in pieces" if held > _LARGE else ""
        return way, f"{why}; held in memory, {held / 1e9:.2g} GB{advice}"
    if stored.chunks is not None:
        read = chunks_touched(array, stored.chunks, 1) * prod(stored.chunks)
        components = prod(
            size for axis, size in zip(array.axes, array.shape, strict=True) if axis not in ("sample", "time")
        )
        ratio = read / components
        if ratio >= _WASTEFUL and not (way == "chunk-map" and array.axes[0] == "sample" and stored.chunks[0] == 1):
            return way, f"{why}; a frame costs {ratio:.0f} times its bytes, katops convert makes a file without that"
        if way == "h5py" and stored.filters:
            return way, f"{why}; unpacked anew for every window, katops convert makes a file without that"
    return way, why
