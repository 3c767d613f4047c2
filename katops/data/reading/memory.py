"""The path "ram": arrays that are read once, whole, because they cannot be read in pieces or because that is wanted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.data.containers.loading import load_array, open_array
from katops.data.containers.probe import HelpersArray
from katops.data.layout import ChannelArray
from katops.data.reading.handles import Handles
from katops.data.reading.hdf5 import arrange, check_complete
from katops.data.reading.workers import Scratch, Workers
from katops.data.storage import FRAGILE_FILTERS, StoredArray
from katops.errors import UserError

if TYPE_CHECKING:
    from katops.data.reading.paths import FileSources
    from katops.data.reading.plan import ReadPlan, Windows
    from katops.data.reading.ranges import RangeReader

# Bytes of a file that are turned into frames at a time.
_BLOCK = 16 * 2**20
_TASK = 1024 * 2**10


@dataclass
class _Held:
    """A channel in memory.

    Attributes:
        file: its file.
        array: the channel.
        first_rows: (N,) or (1,) where the frames of each sample begin in ``values``.
        n_rows: frames of all samples.
        values: (n_rows, \\*space), contiguous, what is handed out; ``None`` before it was read.
    """

    file: FileSources
    array: ChannelArray
    first_rows: np.ndarray
    n_rows: int
    values: np.ndarray | None = None


class MemoryStore:
    """The channels that are held in memory, by file. Pickle and deepcopy leave their numbers out."""

    def __init__(self, space: tuple[int, ...], dtype: np.dtype) -> None:
        self._space, self._dtype = space, dtype
        self._held: dict[int, dict[ChannelArray, _Held]] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def add(self, file: FileSources, array: ChannelArray) -> None:
        """Make room for a channel; nothing is read yet."""
        # What a file stores behind the longest trajectory of an array means nothing.
        frames = [int(file.frames(array, number).max()) for number in range(len(array.datasets))]
        if len(array.datasets) == 1 and "sample" in array.axes:
            frames = frames * array.size("sample")
        rows = np.concatenate([[0], np.cumsum(frames)])
        held = _Held(file, array, rows[:-1], int(rows[-1]))
        self._held.setdefault(file.number, {})[array] = held

    def check_budget(self, budget: int) -> None:
        """Refuse more than ``budget`` bytes.

        Raises:
            UserError: with what is needed, and what to do.
        """
        item = self._dtype.itemsize
        sizes = {n: sum(h.n_rows for h in held.values()) * prod(self._space) * item for n, held in self._held.items()}
        total = sum(sizes.values())
        if total <= budget:
            return
        number = max(sizes, key=sizes.get)
        held = next(iter(self._held[number].values()))
        why = held.file.choices[held.array.datasets[0]].why
        raise UserError(
            f"{held.file.layout.path} must be held in memory ({why}): {sizes[number] / 2**30:.2f} GiB, all files "
            f"together {total / 2**30:.2f} GiB, but {budget / 2**30:.2f} GiB may be used (data.memory_budget); convert "
            f"it once to a layout that is read in pieces: katops convert {held.file.layout.path.name} OUT.h5"
        )

    def load(self, numbers: set[int] | None, handles: Handles, workers: Workers) -> None:
        """Read what is not there yet of some files, of all where ``None``."""
        if not self._held:
            return
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.Lock()
        wanted = self._held if numbers is None else numbers & self._held.keys()
        with self._lock:
            for number in wanted:
                missing = [held for held in self._held[number].values() if held.values is None]
                if missing:
                    handles.check_unchanged([number])
                    _load(missing, self._space, self._dtype, handles, workers)

    def held(self, number: int, array: ChannelArray) -> _Held:
        """The channel of a file."""
        return self._held[number][array]

    def __getstate__(self) -> dict[str, Any]:
        held = {
            number: {array: _Held(h.file, h.array, h.first_rows, h.n_rows) for array, h in channels.items()}
            for number, channels in self._held.items()
        }
        return {"_space": self._space, "_dtype": self._dtype, "_held": held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._process = os.getpid()


@dataclass(frozen=True)
class MemorySource:
    """One channel that is held in memory."""

    file: int
    position: int
    array: ChannelArray
    store: MemoryStore

    def plan(self, plan: ReadPlan, windows: Windows) -> None:
        """Add what must be copied for some slots of a batch."""
        if windows.out is None:
            return
        held = self.store.held(self.file, self.array)
        samples = windows.samples if len(held.first_rows) > 1 else np.zeros_like(windows.samples)
        rows, count = held.first_rows[samples], 1
        if self.array.has_time:
            rows, count = rows + windows.starts, windows.steps
        out = windows.out[:, :count, self.position]
        at_once = max(1, _TASK // max(1, count * held.values[0].nbytes))
        for first in range(0, len(rows), at_once):
            part = slice(first, first + at_once)
            plan.add_task(CopyTask(held.values, out, windows.slots[part], rows[part], windows.every))


@dataclass(frozen=True)
class CopyTask:
    """Copies frames ``rows + every * [0, steps)`` to slots of a batch of (b, steps, \\*space)."""

    values: np.ndarray
    out: np.ndarray
    slots: np.ndarray
    rows: np.ndarray
    every: int

    @property
    def n_bytes(self) -> int:
        """Bytes that will be copied."""
        return len(self.slots) * self.out[0].nbytes

    def ranges(self) -> tuple[()]:
        """Nothing is read from a file."""
        return ()

    def __call__(self, handles: Handles, read: RangeReader, scratch: Scratch) -> None:
        """Copy."""
        length = (self.out.shape[1] - 1) * self.every + 1
        for slot, row in zip(self.slots.tolist(), self.rows.tolist(), strict=True):
            self.out[slot] = self.values[row : row + length : self.every]


def free_memory() -> int:
    """Bytes that this process could still take: what the machine has free, within the limit of its control group."""
    free = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free += [int(limit) - used] if limit.isdecimal() else []
    except (OSError, ValueError):
        pass
    if not free:
        free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    return max(0, min(free))


def _load(
    channels: Sequence[_Held], space: tuple[int, ...], dtype: np.dtype, handles: Handles, workers: Workers
) -> None:
    """Read the arrays of one file, each once, for all of its channels."""
    by_datasets: dict[tuple[str, ...], list[_Held]] = {}
    for held in channels:
        by_datasets.setdefault(held.array.datasets, []).append(held)
    for together in by_datasets.values():
        values = [_Filling(held, space, dtype) for held in together]
        array, file = together[0].array, together[0].file
        work: list[Callable[[Scratch], None]] = []
        n_bytes = 0
        for number, stored in enumerate(file.stored(array)):
            for first, stop, read in _blocks(file, array, number, handles):
                work.append(partial(_fill, values, number, first, stop, read))
            n_bytes += stored.size * np.dtype(stored.dtype).itemsize
        workers.run(work, n_bytes)
        for held, filling in zip(together, values, strict=True):
            held.values = filling.finished()


def _fill(
    fillings: Sequence[_Filling], number: int, first: int, stop: int, read: Callable[[], np.ndarray], _: Scratch
) -> None:
    block = read()
    for filling in fillings:
        filling.put(number, first, stop, block)


class _Filling:
    """A channel while it is read: blocks along the first stored axis are put where they belong."""

    def __init__(self, held: _Held, space: tuple[int, ...], dtype: np.dtype) -> None:
        self._held = held
        file, array = held.file, held.array
        self._conversion = file.conversion(array)
        self._space_axes = file.space_axes
        # Parts of a frame cannot be resampled.
        self._late = self._conversion.resample is not None and array.axes[0] not in ("sample", "time")
        if self._late:
            self._conversion = file.conversion(array).without_resampling()
        self._values = np.empty((held.n_rows, *(file.layout.space if self._late else space)), dtype)

    def put(self, number: int, first: int, stop: int, block: np.ndarray) -> None:
        """Put a block: indices first, ..., stop - 1 of the first axis of a dataset."""
        array = self._held.array
        component = iter(array.component)
        leading = array.axes[0]
        if leading == "channel":
            # The block holds some components only.
            index = array.component[0]
            if not first <= index < stop:
                return
            component = iter((index - first, *array.component[1:]))
        frames = int(self._held.file.frames(array, number).max())
        parts = {"time": slice(stop - first if leading == "time" else frames)}
        block = block[
            tuple(next(component) if axis == "channel" else parts.get(axis, slice(None)) for axis in array.axes)
        ]
        axes = [axis for axis in array.axes if axis != "channel"]
        values = self._conversion.values(arrange(block, axes, self._space_axes))
        target = self._target(number)
        lead = [axis for axis in ("sample", "time") if axis in axes]
        order = [*lead, *self._space_axes]
        where = [slice(first, stop) if axis == leading else slice(None) for axis in order]
        target[tuple(where)] = values

    def finished(self) -> np.ndarray:
        """(rows, \\*space)."""
        if not self._late:
            return self._values
        whole = self._held.file.conversion(self._held.array)
        return np.ascontiguousarray(whole.resample.apply(self._values, len(self._space_axes)))

    def _target(self, number: int) -> np.ndarray:
        """The rows of a dataset, as ([sample,] [time,] \\*space)."""
        held = self._held
        array, shape = held.array, self._values.shape[1:]
        if len(array.datasets) > 1:
            rows = np.append(held.first_rows, held.n_rows)
            values = self._values[rows[number] : rows[number + 1]]
            return values if array.has_time else values[0]
        frames = int(held.file.frames(array, 0).max()) if array.has_time else None
        lead = [size for size in (array.size("sample"), frames) if size is not None]
        return self._values.reshape(*lead, *shape)


def _blocks(
    file: FileSources, array: ChannelArray, number: int, handles: Handles
) -> list[tuple[int, int, Callable[[], np.ndarray]]]:
    """(first, stop, function that reads) for parts of dataset ``number`` of a channel along its first axis."""
    stored, container = file.layout.storage[array.datasets[number]], file.layout.container
    row = stored.size // stored.shape[0] * np.dtype(stored.dtype).itemsize
    length = int(file.frames(array, number).max()) if array.axes[0] == "time" else stored.shape[0]
    at_once = max(1, _BLOCK // row)
    if stored.offset is not None:
        read = partial(_read_raw, file, stored, handles)
    elif container in ("hdf5", "matlab73"):
        read = partial(_read_hdf5, file, array, number, handles)
    elif stored.chunks is not None:
        read = partial(_slice, open_array(file.layout.path, container, stored.path))
    else:
        at_once, read = stored.shape[0], partial(_read_whole, file, stored)
    if stored.chunks is not None:
        at_once = max(1, at_once // stored.chunks[0]) * stored.chunks[0]
    bounds = [(first, min(first + at_once, length)) for first in range(0, length, at_once)]
    return [(first, stop, partial(read, first, stop)) for first, stop in bounds]


def _read_raw(file: FileSources, stored: StoredArray, handles: Handles, first: int, stop: int) -> np.ndarray:
    values = np.empty((stop - first, *stored.shape[1:]), stored.dtype)
    row = stored.size // stored.shape[0] * values.dtype.itemsize
    view = memoryview(values.reshape(-1).view(np.uint8))
    handles.descriptor(file.number).read(view, stored.offset + first * row)
    return values


def _read_hdf5(
    file: FileSources, array: ChannelArray, number: int, handles: Handles, first: int, stop: int
) -> np.ndarray:
    from katops.data.containers.opening import reading

    path, name = file.layout.path, array.datasets[number]
    with reading(path):
        # Not kept from block to block: files of 10,000 arrays are common, and each has a cache.
        dataset = handles.hdf5(file.number).dataset(name, 1)
        if first == 0:
            check_complete(path, dataset, array, file.frames(array, number))
        if FRAGILE_FILTERS.intersection(file.layout.storage[name].filters):
            return HelpersArray(path, file.layout.container, name)[first:stop]
        return dataset[first:stop]


def _slice(lazy: Any, first: int, stop: int) -> np.ndarray:
    return lazy[first:stop]


def _read_whole(file: FileSources, stored: StoredArray, first: int, stop: int) -> np.ndarray:
    values = np.asarray(load_array(file.layout.path, file.layout.container, stored.path))
    if values.shape != stored.shape:
        raise UserError(
            f"{file.layout.path}: array {stored.name!r} has shape {values.shape} now and had {stored.shape} when it "
            f"was described; start again with the new file"
        )
    return values[first:stop]
