"""Where the numbers of a frame lie in a file, for arrays that are stored as they are: contiguous, or in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

import numpy as np

from katops.data.layout import ChannelArray
from katops.errors import UserError


@dataclass(frozen=True)
class Tile:
    """A part of a frame that is one stretch of bytes, possibly with bytes of other channels in between.

    Attributes:
        region: the part of the space that it fills, in the order of the space.
        shape: points along each axis of the space; 1 along axes that the array does not have.
        strides: bytes from point to point; 0 along axes that the array does not have.
        span: bytes from the first point to the end of the last one.
    """

    region: tuple[slice, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    span: int


class Geometry:
    """Strides of an array stored in blocks of ``extents``, the whole array or one chunk of it.

    Args:
        array: the channel.
        space_axes: names of the spatial axes, in the order of the space.
        extents: shape of a block, in the order of storage.
    """

    def __init__(self, array: ChannelArray, space_axes: Sequence[str], extents: Sequence[int]) -> None:
        self.axes = array.axes
        self.extents = tuple(extents)
        self.itemsize = np.dtype(array.dtype).itemsize
        self.strides = tuple(prod(self.extents[k + 1 :]) * self.itemsize for k in range(len(self.extents)))
        self.space_axes = tuple(space_axes)
        self.span = self.tile([slice(None)] * len(self.space_axes), self._space_extents()).span

    def stride(self, axis: str) -> int:
        """Bytes from index to index; 0 for an axis that the array does not have."""
        return self.strides[self.axes.index(axis)] if axis in self.axes else 0

    def extent(self, axis: str) -> int:
        """Indices within a block; 1 for an axis that the array does not have."""
        return self.extents[self.axes.index(axis)] if axis in self.axes else 1

    def is_outside(self, axis: str) -> bool:
        """Whether one index of an axis leaves the space in one stretch, the other indices outside of it."""
        return self.extent(axis) == 1 or self.stride(axis) >= self.span

    def component_offset(self, component: Sequence[int]) -> int:
        """Bytes from component 0 to this one, within a block."""
        places = [k for k, axis in enumerate(self.axes) if axis == "channel"]
        return sum((index % self.extents[k]) * self.strides[k] for k, index in zip(places, component, strict=True))

    def component_block(self, component: Sequence[int]) -> tuple[int, ...]:
        """Which block along each "channel" axis holds this component."""
        extents = [size for axis, size in zip(self.axes, self.extents, strict=True) if axis == "channel"]
        return tuple(index // size for index, size in zip(component, extents, strict=True))

    def tile(self, region: Sequence[slice], sizes: Sequence[int]) -> Tile:
        """The tile of these sizes at the begin of a block."""
        strides = tuple(self.stride(axis) for axis in self.space_axes)
        span = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + self.itemsize
        return Tile(tuple(region), tuple(sizes), strides, span)

    def whole(self) -> Tile:
        """The tile that fills the space."""
        return self.tile([slice(None)] * len(self.space_axes), self._space_extents())

    def _space_extents(self) -> tuple[int, ...]:
        return tuple(self.extent(axis) for axis in self.space_axes)


@dataclass(frozen=True)
class ContiguousTable:
    """Offsets in arrays without chunks.

    Attributes:
        bases: offset of every array: one, or one per sample.
        sample_stride, frame_stride: bytes; 0 where there is no such axis.
    """

    bases: np.ndarray
    sample_stride: int
    frame_stride: int

    def first(self, samples: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """(n,) offsets of the frames."""
        begins = self.bases[samples] if len(self.bases) > 1 else samples * self.sample_stride + self.bases[0]
        return begins + frames * self.frame_stride if self.frame_stride else begins

    def offsets(self, samples: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """(n, 1) offsets of the frames."""
        return self.first(samples, frames)[:, None]


class ChunkTable:
    """Offsets in chunked, unfiltered arrays; the chunks are located when the first of them is needed.

    Args:
        path: the file.
        array: a channel of it.
        geometry: of one chunk.
        size: bytes of the file.
    """

    def __init__(self, path: Path, array: ChannelArray, geometry: Geometry, size: int) -> None:
        self._path, self._array, self._geometry, self._file_size = path, array, geometry, size
        self._tables: dict[str, np.ndarray] = {}
        self.tiles = tuple(self._tiles())

    def offsets(self, samples: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """(n, tiles) offsets of the frames; -1 where nothing was written."""
        datasets = self._array.datasets
        if len(datasets) == 1:
            return self._offsets(datasets[0], samples, frames)
        found = np.empty((len(samples), len(self.tiles)), np.int64)
        for sample in np.unique(samples):
            here = samples == sample
            found[here] = self._offsets(datasets[sample], np.zeros(here.sum(), np.int64), frames[here])
        return found

    def _offsets(self, dataset: str, samples: np.ndarray, frames: np.ndarray) -> np.ndarray:
        sample_extent, frame_extent = self._geometry.extent("sample"), self._geometry.extent("time")
        if "sample" not in self._array.axes:
            samples = np.zeros_like(samples)
        chunks = self._table(dataset)[samples // sample_extent, frames // frame_extent]
        within = samples % sample_extent * self._geometry.stride("sample")
        within = within + frames % frame_extent * self._geometry.stride("time")
        return np.where(chunks < 0, chunks, chunks + within[:, None])

    def _table(self, dataset: str) -> np.ndarray:
        """(chunks along sample, chunks along time, tiles) offsets of the chunks."""
        if dataset not in self._tables:
            self._tables[dataset] = self._locate(dataset)
        return self._tables[dataset]

    def _locate(self, dataset: str) -> np.ndarray:
        from katops.data.containers.probe import chunk_map

        grid = chunk_map(self._path, dataset).offsets
        chunk_bytes = prod(self._geometry.extents) * self._geometry.itemsize
        if grid.size and grid.max() + chunk_bytes > self._file_size:
            raise UserError(
                f"{self._path} is truncated: a chunk of {dataset.lstrip('/')!r} ends at byte "
                f"{grid.max() + chunk_bytes}, the file has {self._file_size}; copy or make it again"
            )
        axes = self._array.axes
        blocks = iter(self._geometry.component_block(self._array.component))
        grid = grid[tuple(next(blocks) if axis == "channel" else slice(None) for axis in axes)]
        axes = [axis for axis in axes if axis != "channel"]
        for axis in ("sample", "time", *self._geometry.space_axes):
            if axis not in axes:
                grid, axes = grid[..., None], [*axes, axis]
        order = [axes.index(axis) for axis in ("sample", "time", *self._geometry.space_axes)]
        grid = grid.transpose(order)
        return np.ascontiguousarray(grid.reshape(*grid.shape[:2], -1))

    def _tiles(self) -> list[Tile]:
        """The parts of the space, in the order of the table."""
        parts = []
        for axis in self._geometry.space_axes:
            size, extent = self._array.size(axis) or 1, self._geometry.extent(axis)
            whole = extent >= size
            parts.append(
                [(slice(None) if whole else slice(a, min(a + extent, size)), min(extent, size - a))
                 for a in range(0, size, extent)]
            )  # fmt: skip
        return [
            self._geometry.tile([region for region, _ in corner], [size for _, size in corner])
            for corner in product(*parts)
        ]
