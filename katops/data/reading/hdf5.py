"""The path "h5py": arrays that only HDF5's library can read, because they are filtered, virtual or elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from katops.data.layout import ChannelArray
from katops.data.reading.conversion import Conversion
from katops.data.reading.handles import Handles
from katops.data.reading.plan import ReadPlan, Windows
from katops.data.reading.ranges import RangeReader
from katops.data.reading.workers import Scratch
from katops.errors import UserError

if TYPE_CHECKING:
    import h5py


@dataclass(frozen=True)
class Hdf5Source:
    """Channels in the same dataset.

    Attributes:
        file: position of the file.
        path: its name.
        channels: (position in the batch, channel); they differ in ``component`` only.
        space_axes: names of the spatial axes, in the order of the space.
        conversion: what is done to the numbers.
        touched: chunks that one window touches.
        written: per dataset, which chunks were written, ``None`` where all of them were; filled when first read.
    """

    file: int
    path: str
    channels: tuple[tuple[int, ChannelArray], ...]
    space_axes: tuple[str, ...]
    conversion: Conversion
    touched: int
    written: dict[str, np.ndarray | None] = field(default_factory=dict)

    def plan(self, plan: ReadPlan, windows: Windows) -> None:
        """Add what must be read for some slots of a batch."""
        # In the order of the file, so that a chunk is decompressed once for all windows that touch it.
        slots, samples, starts = windows.slots, windows.samples, windows.starts
        order = np.lexsort((starts, samples))
        task = Hdf5Task(self, windows.out, slots[order], samples[order], starts[order], windows.steps, windows.every)
        plan.add_task(task)

    def index(self, sample: int, frames: slice | int) -> tuple[slice | int, ...]:
        """The part of the dataset that holds a window of a sample, all components where several are wanted."""
        array = self.channels[0][1]
        component = iter(array.component)
        parts: list[slice | int] = []
        for axis in array.axes:
            if axis == "sample":
                parts.append(sample)
            elif axis == "time":
                parts.append(frames)
            elif axis == "channel":
                index = next(component)
                parts.append(index if len(self.channels) == 1 else slice(None))
            else:
                parts.append(slice(None))
        return tuple(parts)

    def arranged(self, values: np.ndarray, array: ChannelArray) -> np.ndarray:
        """([frames,] \\*space) of one channel, from what :meth:`index` selects."""
        axes = [axis for axis in array.axes if axis != "sample"]
        if len(self.channels) > 1:
            component = iter(array.component)
            values = values[tuple(next(component) if axis == "channel" else slice(None) for axis in axes)]
        return arrange(values, [axis for axis in axes if axis != "channel"], self.space_axes)

    def check_written(self, dataset: h5py.Dataset, name: str, index: tuple[slice | int, ...], sample: int) -> None:
        """Refuse a selection that HDF5 would fill with its fill value.

        Raises:
            UserError: part of it was never written, or the file that holds it is missing.
        """
        if name not in self.written:
            self.written[name] = written_chunks(dataset)
            _check_sources(Path(self.path), dataset)
        written = self.written[name]
        if written is None or written[_chunk_index(index, dataset.chunks)].all():
            return
        names = ", ".join(repr(array.name) for _, array in self.channels)
        raise UserError(
            f"{self.path}: sample {sample} of channel {names} was never written completely; the file is incomplete, "
            f"make it again or leave that sample out"
        )


@dataclass(frozen=True)
class Hdf5Task:
    """Windows of one dataset, read one after the other: HDF5's library does one thing at a time."""

    source: Hdf5Source
    out: np.ndarray | None
    slots: np.ndarray
    samples: np.ndarray
    starts: np.ndarray
    steps: int
    every: int

    @property
    def n_bytes(self) -> int:
        """Bytes that will be handed out."""
        source = self.source
        frames = self.steps if source.channels[0][1].has_time else 1
        return len(self.slots) * frames * len(source.channels) * prod(source.conversion.space) * 4

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """Not known without HDF5's library."""
        return iter(())

    def __call__(self, handles: Handles, read: RangeReader, scratch: Scratch) -> None:
        """Read, convert, and write to the batch."""
        from katops.data.containers.opening import reading

        source = self.source
        first = source.channels[0][1]
        with reading(source.path):
            file = handles.hdf5(source.file)
            for slot, sample, start in zip(
                self.slots.tolist(), self.samples.tolist(), self.starts.tolist(), strict=True
            ):
                frames = slice(start, start + (self.steps - 1) * self.every + 1, self.every)
                name = first.datasets[sample if len(first.datasets) > 1 else 0]
                dataset = file.dataset(name, source.touched)
                index = source.index(sample, frames)
                source.check_written(dataset, name, index, sample)
                block = dataset[index]
                for position, array in source.channels:
                    values = source.conversion.values(source.arranged(block, array))
                    if array.has_time:
                        self.out[slot, :, position] = values
                    else:
                        self.out[slot, 0, position] = values


def arrange(values: np.ndarray, axes: list[str], space_axes: tuple[str, ...]) -> np.ndarray:
    """A view with the axes ([sample,] [time,] \\*space), of size 1 where the values lack a spatial axis."""
    lead = [axis for axis in ("sample", "time") if axis in axes]
    present = [axis for axis in space_axes if axis in axes]
    values = values.transpose([axes.index(axis) for axis in (*lead, *present)])
    missing = (slice(None) if axis in axes else None for axis in space_axes)
    return values[(*(slice(None) for _ in lead), *missing)]


def chunks_touched(array: ChannelArray, chunks: tuple[int, ...] | None, frames: int) -> int:
    """Chunks that a window of ``frames`` frames of one sample touches."""
    if chunks is None:
        return 1
    count = 1
    for axis, size, chunk in zip(array.axes, array.shape, chunks, strict=True):
        if axis == "time":
            # A window that is not aligned with the chunks touches one more.
            count *= min(-(-frames // chunk) + (chunk > 1), -(-size // chunk))
        elif axis != "sample":
            count *= -(-size // chunk)
    return count


def written_chunks(dataset: h5py.Dataset) -> np.ndarray | None:
    """Which chunks exist, on the grid of chunks; ``None`` where all do."""
    if dataset.chunks is None:
        return None
    grid = tuple(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    if dataset.id.get_num_chunks() == prod(grid):
        return None
    written = np.zeros(grid, bool)

    def mark(chunk: h5py.h5d.StoreInfo) -> None:
        written[tuple(a // b for a, b in zip(chunk.chunk_offset, dataset.chunks, strict=True))] = True

    dataset.id.chunk_iter(mark)
    return written


def check_complete(path: Path, dataset: h5py.Dataset, array: ChannelArray, frames: np.ndarray) -> None:
    """Refuse an array of whose frames some were never written; what lies behind the last frame does not matter.

    Args:
        path: the file.
        dataset: one of its arrays.
        array: what is stored in it.
        frames: (samples in ``dataset``,) number of frames of each.

    Raises:
        UserError: HDF5 would hand out its fill value in place of frames, or the file that holds them is missing.
    """
    _check_sources(path, dataset)
    written = written_chunks(dataset)
    if written is None:
        return
    needed = np.ones(written.shape, bool)
    if "time" in array.axes:
        time = array.axes.index("time")
        last = -(-frames // dataset.chunks[time])
        if "sample" in array.axes:
            sample = array.axes.index("sample")
            last = np.maximum.reduceat(last, np.arange(0, len(last), dataset.chunks[sample]))
            last = last.reshape([-1 if axis == sample else 1 for axis in range(needed.ndim)])
        numbers = np.arange(written.shape[time]).reshape([-1 if axis == time else 1 for axis in range(needed.ndim)])
        needed &= numbers < last
    missing = int((needed & ~written).sum())
    if missing:
        raise UserError(
            f"{path}: {missing} of the {int(needed.sum())} chunks of array {dataset.name.lstrip('/')!r} were never "
            f"written; the file is incomplete, make it again"
        )


def _chunk_index(index: tuple[slice | int, ...], chunks: tuple[int, ...]) -> tuple[slice | int, ...]:
    return tuple(
        part // chunk
        if isinstance(part, int)
        else slice(None)
        if part.start is None
        else slice(part.start // chunk, (part.stop - 1) // chunk + 1)
        for part, chunk in zip(index, chunks, strict=True)
    )


def _check_sources(path: Path, dataset: h5py.Dataset) -> None:
    """HDF5 hands out fill values in place of files that are missing or too short."""
    needed: list[tuple[str, int]] = []
    if dataset.is_virtual:
        needed = [(source.file_name, 0) for source in dataset.virtual_sources() if source.file_name != "."]
    elif dataset.external:
        needed = [(name, offset + size) for name, offset, size in dataset.external]
    for name, size in dict(needed).items():
        place = path.parent / name
        if "%" in name:
            continue
        if not place.is_file() or os.stat(place).st_size < min(size, 2**62):
            raise UserError(
                f"{path}: array {dataset.name.lstrip('/')!r} lies in the file {name!r}, which is missing or too short; "
                f"put it back beside {path.name}"
            )
