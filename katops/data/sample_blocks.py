"""Whole samples of a file, block after block, also where samples lie between one another.

Training reads windows in any order, which such files do not allow; going through a file once, they can be read with
bounded memory, every byte about once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from katops.data.containers.loading import open_array
from katops.data.containers.opening import reading
from katops.data.containers.probe import HelpersArray
from katops.data.layout import ChannelArray, FileLayout
from katops.data.reading.conversion import Conversion
from katops.data.reading.handles import Handles
from katops.data.reading.hdf5 import arrange, check_complete
from katops.data.reading.paths import choose, frames_in
from katops.data.reading.reader import FieldReader, Request
from katops.data.storage import FRAGILE_FILTERS, StoredArray

_HDF5 = ("hdf5", "matlab73")
# What is copied in the time of a system call: rows are read whole where that copies no more in vain.
_WORTH_A_CALL = 16 * 2**10
_SLAB = 32 * 2**20
# Blocks of samples that need not be larger, because samples lie one after the other.
_ENOUGH = 256 * 2**20


class SampleBlocks:
    """Reads the channels of one file sample by sample.

    Channels in the same array (components of a vector) form a group and are read together.

    Args:
        layout: the file.
        dtype: "float32" or "float64", what is handed out.

    Attributes:
        groups: the channels.
    """

    def __init__(self, layout: FileLayout, dtype: str) -> None:
        self.layout = layout
        self.dtype = np.dtype(dtype)
        self.space_axes = tuple(axis.name for axis in layout.meta.axes)
        together: dict[Any, list[ChannelArray]] = {}
        for array in layout.arrays:
            together.setdefault((array.datasets, array.axes), []).append(array)
        self.groups = tuple(map(tuple, together.values()))
        self._handles = Handles([layout])
        self._readers: dict[tuple[ChannelArray, ...], FieldReader] = {}
        self._opened: dict[str, Any] = {}

    def blocks(self, group: Sequence[ChannelArray], n_bytes: int) -> list[slice]:
        """Ranges of samples that take about ``n_bytes`` in memory, in whole chunks where samples share chunks.

        Every block goes through the whole array where samples lie between one another; the larger, the better.
        """
        n_samples = self.layout.n_samples
        n_bytes = n_bytes if self._between(group[0]) else min(n_bytes, _ENOUGH)
        frames = int(self.layout.frames.max()) if group[0].has_time else 1
        size = max(1, n_bytes // (frames * len(group) * prod(self.layout.space) * self.dtype.itemsize))
        chunks = self._stored(group[0]).chunks
        if chunks is not None and "sample" in group[0].axes:
            chunk = chunks[group[0].axes.index("sample")]
            size = max(1, size // chunk) * chunk
        return [slice(begin, min(begin + size, n_samples)) for begin in range(0, n_samples, size)]

    def read(self, group: tuple[ChannelArray, ...], samples: slice) -> np.ndarray:
        """(samples, frames, channel, \\*space); one frame without time, NaN behind the end of shorter trajectories.

        Raises:
            UserError: the file changed, is damaged, or part of it was never written.
        """
        moving = group[0].has_time
        frames = self.layout.frames[samples] if moving else np.ones(samples.stop - samples.start, np.int64)
        longest = int(self.layout.frames.max()) if moving else 1
        values = np.empty((len(frames), longest, len(group), *self.layout.space), self.dtype)
        if self._between(group[0]):
            self._read_between(group, samples, values)
        else:
            self._read_directly(group, samples, frames, values)
        for row in np.flatnonzero(frames < longest):
            values[row, frames[row] :] = np.nan
        return values

    def element(self, array: ChannelArray, sample: int, frame: int, point: Sequence[int]) -> np.ndarray:
        """One value as it would be handed out, looked up in the file by its stored indices."""
        number = sample if len(array.datasets) > 1 else 0
        stored, component = self.layout.storage[array.datasets[number]], iter(array.component)
        places = dict(zip(self.space_axes, point, strict=True)) | {"sample": sample, "time": frame}
        index = tuple(next(component) if axis == "channel" else int(places[axis]) for axis in array.axes)
        if stored.offset is not None:
            value = np.empty((1,), stored.dtype)
            position = int(np.ravel_multi_index(index, stored.shape)) * value.itemsize
            self._handles.descriptor(0).read(memoryview(value.view(np.uint8)), stored.offset + position)
        else:
            value = np.asarray(self._array(array, number)[index], stored.dtype).reshape(1)
        with np.errstate(over="ignore", invalid="ignore"):
            return self._conversion(array).values(value).astype(self.dtype)

    def _between(self, array: ChannelArray) -> bool:
        """Whether samples lie between one another, or the array can be had as a whole only."""
        return choose(self.layout, array, self.space_axes).path == "ram"

    def _read_directly(
        self, group: tuple[ChannelArray, ...], samples: slice, frames: np.ndarray, values: np.ndarray
    ) -> None:
        if group not in self._readers:
            # One at a time: each has threads of its own.
            self._readers = {
                group: FieldReader(
                    [replace(self.layout, inputs=group, outputs=(), constants=())],
                    dtype=self.dtype.name,
                    frames=values.shape[1],
                    memory="file",
                )
            }
        numbers = np.arange(samples.start, samples.stop)
        for begin, end in _equal_runs(frames):
            zeros, steps = np.zeros(end - begin, np.int64), int(frames[begin])
            part = values[begin:end]
            out = part if steps == part.shape[1] else np.empty((end - begin, steps, *part.shape[2:]), self.dtype)
            self._readers[group].read(Request("inputs", zeros, numbers[begin:end], zeros, steps, out=out))
            if out is not part:
                part[:, :steps] = out

    def _read_between(self, group: tuple[ChannelArray, ...], samples: slice, values: np.ndarray) -> None:
        self._handles.check_unchanged(np.zeros(1, np.int64))
        if len(group[0].datasets) == 1:
            self._put(group, self._part(group[0], samples), values)
            return
        for row, number in enumerate(range(samples.start, samples.stop)):
            with reading(self.layout.path):
                block = np.asarray(self._array(group[0], number)[...])
            self._put(group, block, values[row : row + 1])

    def _put(self, group: tuple[ChannelArray, ...], block: np.ndarray, values: np.ndarray) -> None:
        """Put stored numbers of some samples where they belong."""
        for position, array in enumerate(group):
            component = iter(array.component)
            chosen = block[tuple(next(component) if axis == "channel" else slice(None) for axis in array.axes)]
            axes = [axis for axis in array.axes if axis != "channel"]
            with np.errstate(over="ignore", invalid="ignore"):
                found = self._conversion(array).values(arrange(chosen, axes, self.space_axes))
                found = found if "time" in axes else np.expand_dims(found, "sample" in axes)
                found = found if "sample" in axes else found[None]
                values[:, :, position] = found[:, : values.shape[1]]

    def _part(self, array: ChannelArray, samples: slice) -> np.ndarray:
        """The stored array with only ``samples`` along its sample axis, if it has one."""
        stored = self._stored(array)
        place = array.axes.index("sample") if "sample" in array.axes else None
        if stored.offset is None:
            chosen = tuple(samples if axis == "sample" else slice(None) for axis in array.axes)
            with reading(self.layout.path):
                return np.asarray(self._array(array)[chosen])
        if place is None:
            place, samples = 0, slice(0, stored.shape[0])
        return self._pieces(stored, place, samples)

    def _pieces(self, stored: StoredArray, place: int, part: slice) -> np.ndarray:
        """Some indices of axis ``place``, read without HDF5."""
        descriptor = self._handles.descriptor(0)
        inner = prod(stored.shape[place + 1 :]) * np.dtype(stored.dtype).itemsize
        count, row = part.stop - part.start, stored.shape[place] * inner
        rows, piece, first = prod(stored.shape[:place]), count * inner, part.start * inner
        values = np.empty((*stored.shape[:place], count, *stored.shape[place + 1 :]), stored.dtype)
        flat = values.reshape(-1).view(np.uint8).reshape(rows, piece)
        if rows == 1 or row - piece > _WORTH_A_CALL:
            for number in range(rows):
                descriptor.read(memoryview(flat[number]), stored.offset + number * row + first)
            return values
        at_once = max(1, _SLAB // row)
        for begin in range(0, rows, at_once):
            whole = np.empty((min(at_once, rows - begin), row), np.uint8)
            descriptor.read(memoryview(whole.reshape(-1)), stored.offset + begin * row)
            flat[begin : begin + len(whole)] = whole[:, first : first + piece]
        return values

    def _array(self, array: ChannelArray, number: int = 0) -> Any:
        """Something that gives the numbers of dataset ``number`` of a channel when it is sliced."""
        stored = self.layout.storage[array.datasets[number]]
        if self.layout.container in _HDF5:
            dataset = self._handles.hdf5(0).dataset(stored.path, 1)
            check_complete(self.layout.path, dataset, array, frames_in(self.layout, array, number))
            if FRAGILE_FILTERS.intersection(stored.filters):
                return HelpersArray(self.layout.path, self.layout.container, stored.path)
            return dataset
        if stored.path not in self._opened:
            self._opened = {stored.path: open_array(self.layout.path, self.layout.container, stored.path)}
        return self._opened[stored.path]

    def _stored(self, array: ChannelArray) -> StoredArray:
        return self.layout.storage[array.datasets[0]]

    def _conversion(self, array: ChannelArray) -> Conversion:
        return Conversion.of(array, self.dtype, None, tuple(self.layout.space))


def _equal_runs(numbers: np.ndarray) -> list[tuple[int, int]]:
    """(begin, end) of the stretches of equal numbers."""
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return list(pairwise(bounds))
