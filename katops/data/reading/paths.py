"""Which way the arrays of a file are read: chosen once, when the file is opened, and reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from katops.data.layout import ChannelArray, FileLayout
from katops.data.reading.blocks import ChunkTable, ContiguousTable, Geometry
from katops.data.reading.conversion import Conversion
from katops.data.reading.handles import check_most_open
from katops.data.reading.hdf5 import Hdf5Source, chunks_touched
from katops.data.reading.memory import MemorySource, MemoryStore
from katops.data.reading.raw import BlockSource
from katops.data.storage import FRAGILE_FILTERS, StoredArray
from katops.errors import UserError

if TYPE_CHECKING:
    from katops.data.resample import Resample

MEMORY = ("auto", "ram", "file")
_HDF5 = ("hdf5", "matlab73")

Source = BlockSource | Hdf5Source | MemorySource


class Choice(NamedTuple):
    """ "raw", "chunk-map", "h5py" or "ram", and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Settings:
    """What holds for all files of a reader; the meaning is that of :class:`.reader.FieldReader`'s arguments."""

    resample: Resample | None
    dtype: np.dtype
    frames: int
    memory: str


class FileSources:
    """The sources of one file: what fills the channels of a request.

    Args:
        number: position of the file.
        layout: the file.
        settings: of the reader.
        store: keeps the arrays that are held in memory.

    Attributes:
        choices: path of every channel's array, by the path of its (first) dataset.
    """

    def __init__(self, number: int, layout: FileLayout, settings: Settings, store: MemoryStore) -> None:
        self.number = number
        self.layout = layout
        self.settings = settings
        self.space_axes = tuple(axis.name for axis in layout.meta.axes)
        self.choices: dict[str, Choice] = {}
        check_most_open(layout)
        for array in layout.arrays:
            _check(layout, array, self.space_axes)
            choice = choose(layout, array, self.space_axes)
            if settings.memory == "ram":
                choice = Choice("ram", "memory: ram")
            elif choice.path == "ram" and settings.memory == "file":
                raise UserError(
                    f"{layout.path}: array {array.datasets[0].lstrip('/')!r} can be read whole only ({choice.why}) and "
                    f"data.memory: file forbids that; use memory: auto, or convert it once: katops convert"
                )
            self.choices[array.datasets[0]] = choice
            if choice.path == "ram":
                store.add(self, array)
        self._store = store
        self._sources: dict[str, list[Source]] = {}
        self._tables: dict[tuple[tuple[str, ...], tuple[int, ...]], ChunkTable] = {}

    def sources(self, kind: str) -> list[Source]:
        """The sources that fill the channels of "inputs", "outputs" or "constants"."""
        if kind not in self._sources:
            self._sources[kind] = list(self._make(getattr(self.layout, kind)))
        return self._sources[kind]

    def check_windows(self, kind: str) -> bool:
        """Whether the sources of this kind see for themselves that windows are inside of the trajectories."""
        return all(isinstance(source, BlockSource) and source.is_in_place for source in self.sources(kind))

    def stored(self, array: ChannelArray) -> list[StoredArray]:
        """How the datasets of a channel are stored."""
        return [self.layout.storage[name] for name in array.datasets]

    def frames(self, array: ChannelArray, number: int) -> np.ndarray:
        """Frames of each sample that lies in dataset ``number`` of a channel; 1 without a time axis."""
        return frames_in(self.layout, array, number)

    def conversion(self, array: ChannelArray) -> Conversion:
        """From what is stored to what is handed out."""
        space = tuple(self.layout.space)
        return Conversion.of(array, self.settings.dtype, self.settings.resample, space)

    def _make(self, arrays: Sequence[ChannelArray]) -> Sequence[Source]:
        sources: list[Source] = []
        together: dict[tuple, list[tuple[int, ChannelArray]]] = {}
        for position, array in enumerate(arrays):
            key = (array.datasets, array.axes, array.scale, array.offset, array.missing)
            together.setdefault(key, []).append((position, array))
        for channels in together.values():
            path = self.choices[channels[0][1].datasets[0]].path
            if path == "ram":
                sources += [MemorySource(self.number, position, array, self._store) for position, array in channels]
            elif path == "h5py":
                sources.append(self._hdf5_source(channels))
            else:
                sources += self._block_sources(channels, path == "chunk-map")
        return sources

    def _hdf5_source(self, channels: list[tuple[int, ChannelArray]]) -> Hdf5Source:
        array = channels[0][1]
        touched = chunks_touched(array, self.stored(array)[0].chunks, self.settings.frames)
        return Hdf5Source(
            self.number, str(self.layout.path), tuple(channels), self.space_axes, self.conversion(array), touched
        )

    def _block_sources(self, channels: list[tuple[int, ChannelArray]], chunked: bool) -> list[BlockSource]:
        """One source for components that lie between one another, one each for those that lie apart."""
        first = channels[0][1]
        extents = self.stored(first)[0].chunks if chunked else first.shape
        geometry = Geometry(first, self.space_axes, extents)
        inner = 0 if geometry.is_outside("time") else geometry.stride("time")
        reach = geometry.span + (geometry.extent("time") - 1) * inner

        def block(channel: tuple[int, ChannelArray]) -> tuple[int, ...]:
            return geometry.component_block(channel[1].component)

        def offset(channel: tuple[int, ChannelArray]) -> int:
            return geometry.component_offset(channel[1].component)

        sources = []
        ordered = sorted(channels, key=lambda channel: (block(channel), offset(channel)))
        for _, same_block in groupby(ordered, key=block):
            cluster: list[tuple[int, ChannelArray]] = []
            for channel in same_block:
                if cluster and offset(channel) - offset(cluster[0]) >= reach:
                    sources.append(self._block_source(cluster, geometry, inner, chunked))
                    cluster = []
                cluster.append(channel)
            sources.append(self._block_source(cluster, geometry, inner, chunked))
        return sources

    def _block_source(
        self, channels: list[tuple[int, ChannelArray]], geometry: Geometry, inner: int, chunked: bool
    ) -> BlockSource:
        array = channels[0][1]
        offsets = [geometry.component_offset(channel.component) for _, channel in channels]
        if chunked:
            table = self._chunk_table(array, geometry)
            tiles = table.tiles
        else:
            bases = np.array([stored.offset for stored in self.stored(array)], np.int64)
            table = ContiguousTable(bases, geometry.stride("sample"), geometry.stride("time"))
            tiles = (geometry.whole(),)
        step = geometry.stride("time") if array.has_time else geometry.stride("sample")
        return BlockSource(
            file=self.number,
            path=str(self.layout.path),
            channels=tuple(
                (position, channel.name, offset - offsets[0])
                for (position, channel), offset in zip(channels, offsets, strict=True)
            ),
            table=table,
            tiles=tiles,
            shift=offsets[0],
            extra=offsets[-1] - offsets[0],
            conversion=self.conversion(array),
            has_time=array.has_time,
            frames=np.array(self.layout.frames, np.int64),
            frame_stride=inner,
            step_stride=0 if inner else step,
        )

    def _chunk_table(self, array: ChannelArray, geometry: Geometry) -> ChunkTable:
        key = (array.datasets, geometry.component_block(array.component))
        if key not in self._tables:
            self._tables[key] = ChunkTable(self.layout.path, array, geometry, self.layout.stamp[0])
        return self._tables[key]


def frames_in(layout: FileLayout, array: ChannelArray, number: int) -> np.ndarray:
    """Frames of each sample that lies in dataset ``number`` of a channel; 1 without a time axis."""
    frames = layout.frames if array.has_time else np.ones_like(layout.frames)
    return frames[number : number + 1] if len(array.datasets) > 1 else frames


def choose(layout: FileLayout, array: ChannelArray, space_axes: Sequence[str]) -> Choice:
    """The fastest way to read windows of an array."""
    stored = [layout.storage[name] for name in array.datasets]
    hdf5 = layout.container in _HDF5
    uneven = any(item.shape != array.shape for item in stored) and array.axes[0] != "time"
    if all(item.offset is not None for item in stored):
        if not Geometry(array, space_axes, array.shape).is_outside("sample"):
            return Choice("ram", f"its samples lie between one another, axes ({', '.join(array.axes)})")
        if not uneven:
            return Choice("raw", "contiguous, unfiltered")
    if fragile := sorted({name for item in stored for name in item.filters} & FRAGILE_FILTERS):
        return Choice("ram", f"packed with {', '.join(fragile)}, which only the helper process unpacks")
    if not hdf5:
        return Choice("ram", f"{layout.container} arrays of this kind can be read whole only")
    chunks, filters = stored[0].chunks, stored[0].filters
    if chunks is not None and all(item.chunks == chunks and not item.filters for item in stored) and not uneven:
        geometry = Geometry(array, space_axes, chunks)
        if geometry.is_outside("sample") and geometry.is_outside("time"):
            return Choice("chunk-map", f"chunks of {chunks}, unfiltered")
    if "sample" in array.axes and not _sample_by_sample(array, chunks, space_axes):
        return Choice("ram", f"its samples lie between one another, axes ({', '.join(array.axes)}), chunks {chunks}")
    if filters:
        return Choice("h5py", f"filtered with {', '.join(filters)}")
    if parts := {part for item in stored for part in item.parts}:
        return Choice("h5py", f"virtual, put together from {len(parts)} files")
    return Choice("h5py", f"chunks of {chunks}" if chunks else "compact, virtual or in another file")


def _sample_by_sample(array: ChannelArray, chunks: tuple[int, ...] | None, space_axes: Sequence[str]) -> bool:
    """Whether HDF5 can read one sample without going through all of them."""
    place = array.axes.index("sample")
    if chunks is not None and chunks[place] == 1:
        return True
    return all(array.axes.index(axis) > place for axis in space_axes if axis in array.axes)


def _check(layout: FileLayout, array: ChannelArray, space_axes: Sequence[str]) -> None:
    """Refuse an array that is not what its description says, before bytes are taken for numbers.

    Raises:
        UserError: its shape or element type is another one, or the file ends before it does.
    """
    n_components = array.axes.count("channel")
    sizes = dict(zip(space_axes, layout.space, strict=True))
    samples = {"sample": layout.n_samples} if "sample" in array.axes else {}
    if len(array.datasets) not in (1, layout.n_samples) or len(array.component) != n_components:
        raise UserError(
            f"{layout.path}: channel {array.name!r} has {len(array.datasets)} arrays for {layout.n_samples} samples "
            f"and {len(array.component)} components for {n_components} axes of components"
        )
    for number, name in enumerate(array.datasets):
        stored = layout.storage[name]
        expected = _expected(array, sizes | samples, layout, number)
        if len(stored.shape) != len(array.axes) or any(
            size < least if axis in ("time", "channel") else size != least
            for axis, size, least in zip(array.axes, stored.shape, expected, strict=True)
        ):
            raise UserError(
                f"{layout.path}: array {stored.name!r} has shape {stored.shape}, but {expected} is needed for its axes "
                f"({', '.join(array.axes)})"
            )
        if np.dtype(stored.dtype).itemsize != np.dtype(array.dtype).itemsize:
            raise UserError(
                f"{layout.path}: array {stored.name!r} holds {stored.dtype} values and was described as {array.dtype}; "
                f"all samples must have the same element type"
            )
        end = None if stored.offset is None else stored.offset + stored.size * np.dtype(stored.dtype).itemsize
        if end is not None and end > layout.stamp[0]:
            raise UserError(
                f"{layout.path} is truncated: array {stored.name!r} ends at byte {end}, the file has "
                f"{layout.stamp[0]}; it was copied or written half-way, so copy or make it again"
            )


def _expected(array: ChannelArray, sizes: dict[str, int], layout: FileLayout, number: int) -> tuple[int, ...]:
    """Least size of every stored axis."""
    component = iter(array.component)
    frames = layout.frames[number] if len(array.datasets) > 1 else layout.frames.max()
    return tuple(
        next(component) + 1 if axis == "channel" else int(frames) if axis == "time" else sizes[axis]
        for axis in array.axes
    )
