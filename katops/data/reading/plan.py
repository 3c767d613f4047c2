"""What one call of the reader has to read: byte ranges in the order of the files, shared out among threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol

import numpy as np

from katops.data.reading.handles import Handles
from katops.data.reading.ranges import Place, RangeReader
from katops.data.reading.workers import Scratch, Workers, is_worth_sharing

# A task is what a thread takes at a time: enough to be worth taking, so little that no thread waits long for another.
_LEAST_TASK, _MOST_TASK = 2**20, 4 * 2**20
_TASKS_PER_THREAD = 8
_FILE, _OFFSET, _SIZE, _ADDRESS = range(4)


@dataclass(slots=True)
class Windows:
    """Windows of one file that go to slots of a batch.

    Attributes:
        out: the batch, (b, steps, channel, \\*space), contiguous; ``None`` where nothing is read yet.
        slots: (n,) positions in the batch.
        samples, starts: (n,) sample and first frame.
        steps: frames.
        every: distance of frames.
    """

    out: np.ndarray | None
    slots: np.ndarray
    samples: np.ndarray
    starts: np.ndarray
    steps: int
    every: int

    @property
    def step_bytes(self) -> int:
        """From frame to frame in the batch; 0 where there is none."""
        return 0 if self.out is None else self.out.strides[1]

    @property
    def address(self) -> int:
        """Of the batch in memory; twice as fast as ``out.ctypes.data``."""
        return 0 if self.out is None else self.out.__array_interface__["data"][0]

    def addresses(self, channel: int, slots: np.ndarray, steps: np.ndarray | None = None) -> np.ndarray:
        """Where a channel of these slots and steps lies in memory; steps are 0 where ``None``."""
        if self.out is None:
            return np.zeros_like(slots)
        strides = self.out.strides
        places = slots * strides[0] + (self.address + channel * strides[2])
        return places if steps is None else places + steps * strides[1]


class Task(Protocol):
    """A piece of work with a scratch memory."""

    n_bytes: int

    def __call__(self, handles: Handles, read: RangeReader, scratch: Scratch) -> None:
        """Read, and write to the batch."""

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """(file, offset, bytes) of what will be read."""


class ReadPlan:
    """Collects byte ranges whose bytes can be read into place (:meth:`add`) and other work (:meth:`add_task`).

    Args:
        threads: that will share the work.
        place: :attr:`.ranges.RangeReader.place`.
    """

    def __init__(self, threads: int, place: Place | None = None) -> None:
        self.place = place
        self._threads = threads
        self._entries: list[np.ndarray] = []
        self._files: set[int] = set()
        self._n_bytes = 0
        self._tasks: list[Task] = []

    def add(self, file: int, offsets: np.ndarray, size: int, addresses: np.ndarray | int) -> None:
        """Read ``size`` bytes at each offset of a file to these addresses in memory."""
        entries = self.table(file, len(offsets), size)
        entries[_OFFSET] = offsets
        entries[_ADDRESS] = addresses

    def table(self, file: int, count: int, size: int) -> np.ndarray:
        """Make room for as many ranges; rows 1 and 3 are left to the caller: offsets and addresses."""
        entries = np.empty((4, count), np.int64)
        entries[_FILE] = file
        entries[_SIZE] = size
        self._entries.append(entries)
        self._files.add(file)
        self._n_bytes += size * count
        return entries

    def add_task(self, task: Task) -> None:
        """Work that needs more than bytes in place."""
        self._tasks.append(task)

    def run(self, handles: Handles, read: RangeReader, workers: Workers) -> None:
        """Do it all; returns when everything is in place."""
        work = [partial(task, handles, read) for task in (*self._parts(), *self._tasks)]
        workers.run(work, self._n_bytes + sum(task.n_bytes for task in self._tasks))

    def ranges(self) -> list[tuple[int, int, int]]:
        """(file, offset, bytes) of all that is to be read, as far as that is known without HDF5's library."""
        return [entry for task in (*self._parts(), *self._tasks) for entry in task.ranges()]

    def _parts(self) -> list[_Part]:
        """The byte ranges in the order of the files, in parts of similar numbers of bytes."""
        if not self._entries:
            return []
        table = self._entries[0] if len(self._entries) == 1 else np.concatenate(self._entries, axis=1)
        several = len(self._files) > 1
        order = np.lexsort((table[_OFFSET], table[_FILE])) if several else table[_OFFSET].argsort(kind="stable")
        table = table.take(order, axis=1)
        portion = self._n_bytes
        if is_worth_sharing(self._n_bytes):
            portion = min(max(self._n_bytes // (_TASKS_PER_THREAD * self._threads), _LEAST_TASK), _MOST_TASK)
        if self._n_bytes <= portion and not several:
            return [_Part(table)]
        labels = (table[_SIZE].cumsum() - table[_SIZE]) // portion
        breaks = labels[1:] != labels[:-1]
        if several:
            breaks |= table[_FILE, 1:] != table[_FILE, :-1]
        bounds = [0, *(breaks.nonzero()[0] + 1).tolist(), len(order)]
        return [_Part(table[:, first:end]) for first, end in pairwise(bounds)]


class _Part:
    """Byte ranges of one file, by offset, that one thread reads."""

    n_bytes = 0

    def __init__(self, table: np.ndarray) -> None:
        self._table = table

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """(file, offset, bytes), neighbours joined."""
        file, offset, size, _ = self._table
        breaks = (offset[1:] != offset[:-1] + size[:-1]).nonzero()[0] + 1
        firsts = np.concatenate([[0], breaks])
        sizes = np.add.reduceat(size, firsts).tolist()
        return zip(file[firsts].tolist(), offset[firsts].tolist(), sizes, strict=True)

    def __call__(self, handles: Handles, read: RangeReader, scratch: Scratch) -> None:
        """Read them."""
        table = self._table
        read(handles.descriptor(int(table[_FILE, 0])), table[_OFFSET], table[_SIZE], table[_ADDRESS])
