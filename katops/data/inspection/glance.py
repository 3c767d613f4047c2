"""A few fields of a file of any size and any order of axes, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from katops.data.containers.loading import open_array
from katops.data.containers.stamps import stamp_of
from katops.data.layout import ChannelArray, FileLayout
from katops.data.reading.conversion import Conversion
from katops.data.reading.hdf5 import arrange
from katops.data.reading.paths import choose
from katops.data.reading.reader import FieldReader, Request
from katops.data.storage import StoredArray
from katops.errors import UserError

_HDF5 = ("hdf5", "matlab73")
# Values that are read for statistics, and points of a field that are read whole: about a tenth of a second each.
_MOST_VALUES = 2**21
_MOST_POINTS = 2**24
_MOST_SAMPLES = 8
_MOST_FRAMES = 16


class Glance:
    """Reads single fields and a share of the values of one file.

    Where samples lie between one another, nothing is read whole: fields are picked out point by point, and statistics
    are taken of contiguous parts.
    """

    def __init__(self, layout: FileLayout) -> None:
        self.layout = layout
        self.space_axes = tuple(axis.name for axis in layout.meta.axes)
        self._opened: dict[str, Any] = {}

    def field(
        self, array: ChannelArray, sample: int, frame: int = 0, points: Sequence[int | slice] | None = None
    ) -> np.ndarray:
        """Float64 values of a channel: those with the indices ``points`` along the axes of space, all where ``None``.

        Raises:
            UserError: the file changed or is damaged.
        """
        points = tuple(points or (slice(None) for _ in self.space_axes))
        if self.is_between(array) or prod(self.layout.space) > _MOST_POINTS:
            return self._picked(array, sample, frame, points)
        reader = self._reader(array)
        out = np.empty((1, 1, 1, *self.layout.space))
        reader.read(Request("inputs", *(np.array([number]) for number in (0, sample, frame)), out=out))
        reader.close()
        return out[0, 0, 0][points]

    def share(self, array: ChannelArray) -> tuple[np.ndarray, int]:
        """Some of the values of a channel, float64, and of how many samples they are."""
        if self.is_between(array) or prod(self.layout.space) > _MOST_POINTS:
            return self._part(array)
        affordable = max(1, _MOST_VALUES // prod(self.layout.space))
        n_samples = self.layout.n_samples if "sample" in array.axes or len(array.datasets) > 1 else 1
        samples = _spread(n_samples, min(_MOST_SAMPLES, affordable))
        frames_each = max(1, min(_MOST_FRAMES, affordable // len(samples)))
        pairs = [
            (sample, frame)
            for sample in samples
            for frame in (_spread(int(self.layout.frames[sample]), frames_each) if array.has_time else [0])
        ]
        out = np.empty((len(pairs), 1, 1, *self.layout.space))
        numbers, frames = (np.array(column) for column in zip(*pairs, strict=True))
        reader = self._reader(array)
        reader.read(Request("inputs", np.zeros_like(numbers), numbers, frames, out=out))
        reader.close()
        return out, len(samples)

    def is_between(self, array: ChannelArray) -> bool:
        """Whether samples lie between one another, or the array can be had as a whole only."""
        return choose(self.layout, array, self.space_axes).path == "ram"

    def _reader(self, array: ChannelArray) -> FieldReader:
        layout = replace(self.layout, inputs=(array,), outputs=(), constants=())
        return FieldReader([layout], dtype="float64", threads=1)

    def _picked(self, array: ChannelArray, sample: int, frame: int, points: Sequence[int | slice]) -> np.ndarray:
        """As :meth:`field`, without reading more than these points where the storage allows that."""
        stored = self.layout.storage[array.datasets[sample if len(array.datasets) > 1 else 0]]
        component = iter(array.component)
        # HDF5 is slow at picking every n-th point: whole rows are read, and thinned afterwards.
        ranges = [slice(point, point + 1) if isinstance(point, int) else point for point in points]
        late = [slice(None)] * len(ranges)
        if stored.offset is None:
            late = [slice(None) if isinstance(point, int) else point for point in points]
            ranges = [
                part if isinstance(point, int) else slice(None) for part, point in zip(ranges, points, strict=True)
            ]
        places = dict(zip(self.space_axes, ranges, strict=True)) | {"sample": sample, "time": frame}
        index = tuple(next(component) if axis == "channel" else places[axis] for axis in array.axes)
        values = np.asarray(self._array(stored)[index])
        axes = [axis for axis in array.axes if axis in self.space_axes]
        found = self._values(array, arrange(values, axes, self.space_axes))
        sizes = [len(range(size)[part]) for part, size in zip(ranges, self.layout.space, strict=True)]
        found = np.broadcast_to(found, sizes)[tuple(late)]
        return found[tuple(0 if isinstance(point, int) else slice(None) for point in points)]

    def _part(self, array: ChannelArray) -> tuple[np.ndarray, int]:
        """Contiguous rows, spread over the array."""
        stored = self.layout.storage[array.datasets[0]]
        component = iter(array.component)
        index: list[int | slice] = [next(component) if axis == "channel" else slice(None) for axis in array.axes]
        size, rows = stored.size, [tuple(index)]
        for place, (axis, length) in enumerate(zip(array.axes, stored.shape, strict=True)):
            if axis == "channel":
                size //= length
            elif size > _MOST_VALUES:
                # The outermost axes are thinned until what is left can be afforded.
                kept = max(1, _MOST_VALUES * length // size)
                chosen = [length // 2] if kept < 2 else _spread(length, min(kept, 16))
                rows = [(*row[:place], number, *row[place + 1 :]) for row in rows for number in chosen]
                size = size // length * len(chosen)
        lazy = self._array(stored)
        values = np.concatenate([np.asarray(lazy[row]).ravel() for row in rows])
        whole = "sample" not in array.axes or isinstance(rows[0][array.axes.index("sample")], slice)
        return self._values(array, values), self.layout.n_samples if whole else len(rows)

    def _values(self, array: ChannelArray, stored: np.ndarray) -> np.ndarray:
        conversion = Conversion.of(array, np.dtype("float64"), None, tuple(self.layout.space))
        return np.asarray(conversion.values(stored), np.float64)

    def _array(self, stored: StoredArray) -> Any:
        """Something that gives the stored numbers when it is sliced."""
        path, container = self.layout.path, self.layout.container
        if stamp_of(path) != tuple(self.layout.stamp):
            raise UserError(f"{path} has changed since it was described; start again with the new file")
        if stored.path not in self._opened:
            if stored.offset is not None:
                opened = np.memmap(path, stored.dtype, "r", offset=stored.offset, shape=stored.shape)
            elif container in _HDF5:
                from katops.data.containers.opening import open_file

                opened = open_file(path)[stored.path]
            else:
                opened = open_array(path, container, stored.path)
            self._opened[stored.path] = opened
        return self._opened[stored.path]


def _spread(length: int, count: int) -> list[int]:
    """``count`` numbers from 0 to ``length - 1``, both included, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).astype(np.int64)).tolist()
