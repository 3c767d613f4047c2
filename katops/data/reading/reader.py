"""The lazy reader: windows of fields from many files straight into a batch, never whole files in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from katops.data.layout import ChannelArray, FileLayout
from katops.data.reading.advice import Advice
from katops.data.reading.finite import FiniteCheck
from katops.data.reading.handles import Handles
from katops.data.reading.memory import MemoryStore, free_memory
from katops.data.reading.paths import MEMORY, FileSources, Settings
from katops.data.reading.plan import ReadPlan, Windows
from katops.data.reading.ranges import RangeReader
from katops.data.reading.workers import Workers
from katops.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from katops.data.resample import Resample

KINDS = ("inputs", "outputs", "constants")


@dataclass(frozen=True)
class Request:
    """Windows to read: frames ``starts + every * [0, steps)`` of some samples.

    Attributes:
        kind: "inputs", "outputs" or "constants"; which channels, in the order of the layouts.
        files: (b,) int64, positions in the reader's ``layouts``, in any order, repetitions allowed.
        samples: (b,) int64, counted within the file.
        starts: (b,) int64, first frame of each window.
        steps: frames per window; 1 for steady problems and constants.
        every: distance of frames.
        out: (b, steps, channel, \\*space) of the reader's ``dtype``, C-contiguous, filled by ``read``. Channels without
            a time axis are repeated in every frame. ``prefetch`` does not need it.
    """

    kind: str
    files: np.ndarray
    samples: np.ndarray
    starts: np.ndarray
    steps: int = 1
    every: int = 1
    out: np.ndarray | None = None


class PathReport(NamedTuple):
    """How one array of one file is read: "raw", "chunk-map", "h5py" or "ram", and why."""

    file: str
    array: str
    path: str
    why: str


class FieldReader:
    """Reads windows of channels from files whose layouts are known.

    Every array is read on one of four paths, chosen here and told by :meth:`report`: ``raw`` (one after the other in
    the file: ``preadv`` into the batch), ``chunk-map`` (chunked, unfiltered: the same after the chunks were located),
    ``h5py`` (filtered, virtual, external) and ``ram`` (read once, whole: what cannot be read in pieces, or on demand).

    Descriptors and HDF5 handles belong to the process that opened them: after a fork they are opened again, and pickle
    and deepcopy leave them out, as they leave out what is kept in memory. At most 64 files are open at a time.

    Args:
        layouts: the parsed files; all with the same channels and the same ``space``.
        resample: thinning of the spatial axes; ``None`` keeps every point.
        dtype: "float32" or "float64", what ``Request.out`` holds. Bool, integer and float arrays of any width and byte
            order become this.
        frames: frames that one window spans; sizes HDF5's chunk cache.
        memory: "auto" keeps in memory what cannot be read in pieces, "ram" everything, "file" nothing.
        memory_budget: bytes that may be kept in memory; half of what is free where ``None``.
        threads: reading threads, the calling one included; by the number of processors (2 to 8) where ``None``.

    Raises:
        UserError: a file is shorter than its arrays, an array has another shape than was described, or it can be read
            as a whole only and that is not allowed or exceeds the budget.
    """

    def __init__(
        self,
        layouts: Sequence[FileLayout],
        *,
        resample: Resample | None = None,
        dtype: str = "float32",
        frames: int = 1,
        memory: str = "auto",
        memory_budget: int | None = None,
        threads: int | None = None,
    ) -> None:
        if memory not in MEMORY:
            raise UserError(f"unknown data.memory {memory!r}{did_you_mean(str(memory), MEMORY)} "
                            f"Allowed: {', '.join(MEMORY)}.")  # fmt: skip
        self.layouts = tuple(layouts)
        self.dtype = np.dtype(dtype)
        self.resample = None if resample is None or resample.identity else resample
        stored = self.layouts[0].space
        self.space = stored if self.resample is None else tuple(self.resample.space(stored))
        self.frames = frames
        self._handles = Handles(self.layouts)
        self._workers = Workers(threads)
        self._ranges = RangeReader()
        self._is_finite = FiniteCheck()
        self._advice = Advice()
        self._memory = MemoryStore(self.space, self.dtype)
        settings = Settings(self.resample, self.dtype, frames, memory)
        self._files = tuple(
            FileSources(number, layout, settings, self._memory) for number, layout in enumerate(self.layouts)
        )
        self._memory.check_budget(free_memory() // 2 if memory_budget is None else memory_budget)

    def read(self, *requests: Request) -> None:
        """Fill ``out`` of every request. One call for the requests of a batch lets neighbouring windows share reads.

        Raises:
            UserError: a file was moved, changed or truncated since it was described, is damaged, or part of it was
                never written.
            IndexError: there is no such file, sample or frame.
        """
        for request in requests:
            self._check_out(request)
        groups = _by_file(requests)
        files = {number for group in groups for number, _ in group}
        self._handles.check_unchanged(files)
        self._memory.load(files, self._handles, self._workers)
        plan = self._plan(requests, groups, [request.out for request in requests])
        plan.run(self._handles, self._ranges, self._workers)
        for request in requests:
            self._repeat(request)

    def wants_prefetch(self) -> bool:
        """Whether :meth:`prefetch` is worth while for the next batch, to be asked once for each.

        Mostly not where the bytes of the last ones were found in the operating system's cache.
        """
        return self._advice.is_due()

    def prefetch(self, *requests: Request) -> None:
        """Ask the operating system to bring the bytes of these requests into its cache; returns at once."""
        plan = self._plan(requests, _by_file(requests), [None] * len(requests))
        self._advice.give(plan.ranges(), self._handles)

    def load(self) -> None:
        """Read now what is kept in memory, so that processes forked later share it."""
        self._memory.load(None, self._handles, self._workers)

    def check_finite(self, request: Request) -> None:
        """Refuse NaN and infinity in what was read.

        Raises:
            UserError: a value is not finite; the message names file, sample, frame and channel.
        """
        values, good = request.out.reshape(-1), []
        self._workers.split(
            lambda first, last: good.append(self._is_finite(values[first:last])), len(values), values.nbytes
        )
        if not all(good):
            for item in range(len(request.out)):
                self._check_item(request, item)

    def report(self) -> list[PathReport]:
        """The reading path of every array of every file."""
        return [
            PathReport(str(file.layout.path), name.lstrip("/"), choice.path, choice.why)
            for file in self._files
            for name, choice in file.choices.items()
        ]

    @property
    def paths(self) -> dict[tuple[int, str], str]:
        """Reading path by (position of the file, channel)."""
        return {
            (number, array.name): file.choices[array.datasets[0]].path
            for number, file in enumerate(self._files)
            for array in file.layout.arrays
        }

    def close(self) -> None:
        """Close the files; they are opened again when something is read."""
        self._handles.close()

    def channels(self, kind: str, file: int = 0) -> tuple[ChannelArray, ...]:
        """The arrays that a request of that kind reads."""
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r} is none of {KINDS}")
        return getattr(self.layouts[file], kind)

    def _plan(
        self, requests: Sequence[Request], groups: Sequence[_Group], outs: Sequence[np.ndarray | None]
    ) -> ReadPlan:
        plan = ReadPlan(self._workers.size, self._ranges.place)
        for request, group, out in zip(requests, groups, outs, strict=True):
            for number, slots in group:
                alone = len(group) == 1
                samples = _plain(request.samples if alone else request.samples[slots])
                starts = _plain(request.starts if alone else request.starts[slots])
                windows = Windows(out, slots, samples, starts, request.steps, request.every)
                file = self._files[number]
                if plan.place is None or not file.check_windows(request.kind):
                    self._check_range(number, samples, starts, request)
                try:
                    for source in file.sources(request.kind):
                        source.plan(plan, windows)
                except IndexError:
                    # Says which one.
                    self._check_range(number, samples, starts, request)
                    raise
        return plan

    def _check_range(self, number: int, samples: np.ndarray, starts: np.ndarray, request: Request) -> None:
        layout = self.layouts[number]
        try:
            frames = layout.frames.take(samples)
        except IndexError:
            frames = None
        if frames is None or samples.min() < 0:
            raise IndexError(f"{layout.path} has samples 0 to {layout.n_samples - 1}; asked for: {samples}")
        if request.kind == "constants":
            return
        last = starts + (request.steps - 1) * request.every
        if np.minimum(starts, frames - last - 1).min() < 0:
            raise IndexError(f"{layout.path}: a window ends at frame {last.max()}, after the last one")

    def _check_out(self, request: Request) -> None:
        out = request.out
        expected = (len(request.files), request.steps, len(self.channels(request.kind)), *self.space)
        if out is None or out.shape != expected or out.dtype != self.dtype or not out.flags.c_contiguous:
            given = None if out is None else f"{out.dtype} {out.shape}"
            raise ValueError(f"out must be a C-contiguous {self.dtype} array of shape {expected}; given: {given}")

    def _repeat(self, request: Request) -> None:
        """Copy frame 0 of channels that do not change in time into the other frames."""
        if request.steps == 1:
            return
        for channel, array in enumerate(self.channels(request.kind)):
            if not array.has_time:
                request.out[:, 1:, channel] = request.out[:, :1, channel]

    def _check_item(self, request: Request, item: int) -> None:
        values = request.out[item]
        finite = np.isfinite(values)
        if finite.all():
            return
        step, channel = np.argwhere(~finite)[0][:2]
        value = values[step, channel][~finite[step, channel]][0]
        layout = self.layouts[request.files[item]]
        array = self.channels(request.kind, int(request.files[item]))[channel]
        number = sum(earlier.n_samples for earlier in self.layouts[: request.files[item]]) + request.samples[item]
        frame = f", frame {request.starts[item] + step * request.every}" if array.has_time else ""
        raise UserError(
            f"{layout.path}: sample {request.samples[item]}{frame} of channel {array.name!r} holds {value} "
            f"(read as {values.dtype}, {int((~finite).sum())} such values in this window); repair it or leave it out "
            f"with data.exclude: [{number}]; katops inspect --check lists every such sample"
        )


_Group = list[tuple[int, np.ndarray]]
"""(file, its slots in the batch) of every file in a batch."""


def _by_file(requests: Sequence[Request]) -> list[_Group]:
    """The groups of every request."""
    groups: list[_Group] = []
    for number, request in enumerate(requests):
        # x and y of a batch come from the same files.
        same = number and request.files is requests[number - 1].files
        groups.append(groups[-1] if same else _group(request.files))
    return groups


def _plain(numbers: np.ndarray) -> np.ndarray:
    """The same as machine code takes it: int64, contiguous, writable."""
    numbers = np.asarray(numbers, np.int64)
    return numbers if numbers.flags.carray else numbers.copy()


def _group(files: np.ndarray) -> _Group:
    if not len(files):
        return []
    first = int(files[0])
    if (files == first).all():
        return [(first, np.arange(len(files)))]
    order = np.argsort(files, kind="stable")
    bounds = np.flatnonzero(np.diff(files[order])) + 1
    return [(int(files[slots[0]]), slots) for slots in np.split(order, bounds)]
