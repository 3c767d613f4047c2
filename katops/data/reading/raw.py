"""The paths "raw" and "chunk-map": bytes of arrays that are stored as they are, without HDF5's library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from katops.data.reading.blocks import ChunkTable, ContiguousTable, Tile
from katops.data.reading.conversion import Conversion
from katops.data.reading.handles import Handles
from katops.data.reading.plan import ReadPlan, Windows
from katops.data.reading.ranges import RangeReader
from katops.data.reading.workers import Scratch
from katops.errors import UserError

# Small enough for the second-level cache, large enough that Python's share does not count.
_SCRATCH = 2**20
# Gaps up to this size between blocks are read along: one system call instead of several.
_SMALL_GAP = 4096


@dataclass(frozen=True)
class BlockSource:
    """Channels whose numbers lie between one another in the file, so that they are read together.

    Attributes:
        file: position of the file.
        path: its name.
        channels: (position in the batch, name, bytes from the begin of the block) of each channel.
        table: where the blocks lie.
        tiles: the parts of the space, as many as the table has columns.
        shift: bytes from where the table points to the begin of the block.
        extra: bytes that the last channel reaches beyond the first one.
        conversion: what is done to the numbers.
        has_time: whether there are frames.
        frames: (N,) frames of each sample.
        frame_stride: bytes from frame to frame where they lie inside the space, as in (sample, x, y, time); else 0.
        step_stride: bytes from block to block where a next one follows, to recognise neighbours; 0 if none does.
    """

    file: int
    path: str
    channels: tuple[tuple[int, str, int], ...]
    table: ContiguousTable | ChunkTable
    tiles: tuple[Tile, ...]
    shift: int
    extra: int
    conversion: Conversion
    has_time: bool
    frames: np.ndarray
    frame_stride: int
    step_stride: int

    def plan(self, plan: ReadPlan, windows: Windows) -> None:
        """Add what must be read for some slots of a batch."""
        if self.is_in_place:
            self._plan_in_place(plan, windows)
            return
        slots, samples, frames, steps = self._frames(windows)
        offsets = self.table.offsets(samples, frames)
        self._check_written(offsets, samples, frames)
        offsets = offsets + self.shift
        if self.is_direct:
            addresses = windows.addresses(self.channels[0][0], slots, steps)
            plan.add(self.file, offsets[:, 0], self.tiles[0].span, addresses)
            return
        inner = (windows.steps, windows.every * self.frame_stride) if self.frame_stride and self.has_time else None
        order = np.argsort(offsets[:, 0], kind="stable")
        largest = max(self._span(tile, inner) for tile in self.tiles)
        at_once = max(1, _SCRATCH // self._pitch(largest))
        for first in range(0, len(order), at_once):
            part = order[first : first + at_once]
            plan.add_task(BlockTask(self, windows.out, offsets[part], slots[part], steps[part], inner))

    def _frames(self, windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(slot, sample, frame, step of the window) of every block."""
        slots, samples, starts = windows.slots, windows.samples, windows.starts
        if not self.has_time:
            return slots, samples, np.zeros_like(starts), np.zeros_like(starts)
        if self.frame_stride:
            return slots, samples, starts, np.zeros_like(starts)
        steps = np.arange(windows.steps)
        frames = (starts[:, None] + windows.every * steps).ravel()
        count = windows.steps
        return np.repeat(slots, count), np.repeat(samples, count), frames, np.tile(steps, len(starts))

    def _plan_in_place(self, plan: ReadPlan, windows: Windows) -> None:
        """The same for contiguous arrays of numbers that are handed out as they are.

        Planning costs as much as reading here: whole windows are one entry where they can be.
        """
        size, table, count = self.tiles[0].span, self.table, windows.steps if self.has_time else 1
        if windows.every * table.frame_stride == size == windows.step_bytes:
            size, count = size * count, 1
        if plan.place is None:
            steps = np.arange(count)
            offsets = (table.first(windows.samples, windows.starts) + self.shift)[:, None]
            addresses = windows.addresses(self.channels[0][0], windows.slots)[:, None]
            offsets = offsets + windows.every * table.frame_stride * steps
            addresses = addresses + windows.step_bytes * steps
            plan.add(self.file, offsets.ravel(), size, addresses.ravel())
            return
        _, offsets, _, addresses = plan.table(self.file, len(windows.samples) * count, size)
        strides = (0, 0, 0) if windows.out is None else windows.out.strides
        place = windows.address + self.channels[0][0] * strides[2]
        if not plan.place(
            offsets, addresses, windows.samples, windows.starts, windows.slots, self.frames, self.bases,
            table.sample_stride, table.frame_stride, place, strides[0], strides[1], windows.steps, windows.every,
        ):  # fmt: skip
            raise IndexError(f"{self.path} has no such window")

    def _span(self, tile: Tile, inner: tuple[int, int] | None) -> int:
        return tile.span + self.extra + (0 if inner is None else (inner[0] - 1) * inner[1])

    def _pitch(self, span: int) -> int:
        """Bytes from block to block in the scratch memory: as in the file where they nearly touch there."""
        if span <= self.step_stride <= span + _SMALL_GAP:
            return self.step_stride
        return -(-span // 64) * 64

    @cached_property
    def is_in_place(self) -> bool:
        """Whether that is so, and the array is contiguous."""
        return self.is_direct and isinstance(self.table, ContiguousTable)

    @cached_property
    def bases(self) -> np.ndarray:
        """Offsets of the first number of each array."""
        return self.table.bases + self.shift

    @cached_property
    def is_direct(self) -> bool:
        """Whether the bytes can be read into the batch as they are."""
        if not self.conversion.keeps_bytes or len(self.channels) > 1 or len(self.tiles) > 1:
            return False
        tile, size = self.tiles[0], self.conversion.stored.itemsize
        contiguous = tuple(int(np.prod(tile.shape[k + 1 :], dtype=np.int64)) * size for k in range(len(tile.shape)))
        return tile.shape == self.conversion.space and tile.strides == contiguous and not self.frame_stride

    def _check_written(self, offsets: np.ndarray, samples: np.ndarray, frames: np.ndarray) -> None:
        if offsets.min() >= 0:
            return
        row = int(np.argwhere(offsets < 0)[0][0])
        frame = f", frame {frames[row]}," if self.has_time else ""
        raise UserError(
            f"{self.path}: sample {samples[row]}{frame} of channel {self.channels[0][1]!r} was never written; the file "
            f"is incomplete, make it again or leave that sample out"
        )


@dataclass(frozen=True)
class BlockTask:
    """Blocks that one thread reads into its scratch memory and spreads over the batch.

    Attributes:
        source: whose blocks.
        out: the batch; ``None`` where only the ranges are wanted.
        offsets: (m, tiles).
        slots, steps: (m,) where the frames belong in the batch.
        inner: (frames, bytes from one to the next) where a block holds all frames of a window.
    """

    source: BlockSource
    out: np.ndarray | None
    offsets: np.ndarray
    slots: np.ndarray
    steps: np.ndarray
    inner: tuple[int, int] | None

    @property
    def n_bytes(self) -> int:
        """Bytes that will be read."""
        return len(self.offsets) * sum(self.source._span(tile, self.inner) for tile in self.source.tiles)

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """(file, offset, bytes) of every block."""
        for tile, offsets in zip(self.source.tiles, self.offsets.T, strict=True):
            span = self.source._span(tile, self.inner)
            for offset in offsets.tolist():
                yield self.source.file, offset, span

    def __call__(self, handles: Handles, read: RangeReader, scratch: Scratch) -> None:
        """Read, convert, and write to the batch."""
        source = self.source
        assemble = len(source.tiles) > 1 and source.conversion.resample is not None
        frames = () if self.inner is None else (self.inner[0],)
        wholes = [
            np.empty((len(self.offsets), *frames, *source.conversion.space), source.conversion.stored)
            for _ in source.channels
        ] if assemble else []  # fmt: skip
        for tile, offsets in zip(source.tiles, self.offsets.T, strict=True):
            memory, pitch = self._read(handles, read, scratch, tile, np.ascontiguousarray(offsets))
            for number, (position, _, start) in enumerate(source.channels):
                stored = self._view(memory, pitch, tile, start)
                if assemble:
                    wholes[number][(..., *tile.region)] = stored
                else:
                    self._spread(position, tile.region, source.conversion.values(stored))
        for (position, _, _), whole in zip(source.channels, wholes, strict=False):
            self._spread(position, (), source.conversion.values(whole))

    def _read(
        self, handles: Handles, read: RangeReader, scratch: Scratch, tile: Tile, offsets: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """The scratch memory with the blocks, and the bytes from block to block."""
        span = self.source._span(tile, self.inner)
        pitch = self.source._pitch(span)
        memory = scratch.take(pitch * len(offsets))
        # What lies between neighbours is read along.
        sizes = np.full(len(offsets), span)
        sizes[:-1][offsets[1:] == offsets[:-1] + pitch] = pitch
        addresses = memory.ctypes.data + pitch * np.arange(len(offsets))
        read(handles.descriptor(self.source.file), offsets, sizes, addresses)
        return memory, pitch

    def _view(self, memory: np.ndarray, pitch: int, tile: Tile, start: int) -> np.ndarray:
        """(m, [frames,] \\*shape of the tile), one channel in the scratch memory."""
        shape, strides = tile.shape, tile.strides
        if self.inner is not None:
            shape, strides = (self.inner[0], *shape), (self.inner[1], *strides)
        shape, strides = (len(self.offsets), *shape), (pitch, *strides)
        return np.ndarray(shape, self.source.conversion.stored, memory, start, strides)

    def _spread(self, position: int, region: tuple[slice, ...], values: np.ndarray) -> None:
        """Write (m, [frames,] \\*region) to the slots and steps of the batch."""
        where = slice(None) if self.inner is not None else self.steps
        self.out[(self.slots, where, position, *region)] = values
