"""One pass over the training windows: statistics of every channel and the mean target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from katops.data.dataset import FieldDataset
from katops.data.reading.reader import Request
from katops.data.statistics.moments import ChannelStatistics, FieldMoments, Moments
from katops.data.statistics.window_frames import FrameList, TouchedFrames
from katops.errors import UserError

Progress = Callable[[int, int], None]

# Bytes of one batch; statistics need a float64 copy of it.
_BATCH_BYTES = 8 * 2**20


@dataclass(frozen=True)
class FieldStatistics:
    """What one pass over the training windows gives.

    Attributes:
        inputs, outputs, constants: of each channel, in the order of the data set.
        target_mean: (steps_out, output channels, \\*space) float64, pointwise mean of the targets.
        count: number of windows.
    """

    inputs: tuple[ChannelStatistics, ...]
    outputs: tuple[ChannelStatistics, ...]
    constants: tuple[ChannelStatistics, ...]
    target_mean: np.ndarray
    count: int


def field_statistics(
    dataset: FieldDataset, indices: Sequence[int] | np.ndarray, *, progress: Progress | None = None
) -> FieldStatistics:
    """Statistics over the windows ``indices``, every value counted as often as it occurs in a window.

    Every frame is read once, however many windows share it, in the order of the files and in batches of about 8 MiB;
    memory does not depend on the number of windows. Sums are taken in float64, see :class:`.moments.Moments`.

    Args:
        dataset: where to read.
        indices: windows of the training part.
        progress: called with (windows done, all windows).

    Raises:
        UserError: there is nothing to read, or a value is not finite (file, sample and channel are named), whatever the
            dataset itself allows.
    """
    if not len(indices):
        raise UserError(f"{dataset.layout.path}: there are no training samples to take statistics of")
    if not dataset.layout.outputs:
        raise UserError(f"{dataset.layout.path} is described without outputs, so it cannot be trained on")
    windows = TouchedFrames(dataset, indices)
    sides = {side: _Side(len(getattr(dataset.layout, side))) for side in ("inputs", "outputs", "constants")}
    conditions = Moments(len(dataset.meta.condition))
    shape = (dataset.meta.steps_out, len(dataset.meta.outputs), *dataset.space)
    target_sum = torch.zeros((shape[0], prod(shape[1:])), dtype=torch.float64)
    done = 0
    for block in windows.blocks():
        passes = reading_passes(dataset, windows, block)
        total, finished = sum(len(frames) for _, frames, _ in passes), 0
        for kind, frames, read_sides in passes:
            increments = _Increments(dataset.window.every)
            for fields, part in read_frames(dataset, kind, frames):
                moments = FieldMoments.of(fields)
                for side, counts in zip(read_sides, part.counts, strict=True):
                    sides[side].values.add(moments, counts.sum(1))
                    if side == "outputs":
                        target_sum += torch.from_numpy(counts.T.astype(np.float64)) @ fields.flatten(1).double()
                change = None if kind == "constants" else increments.of(part, fields)
                if change is not None:
                    moments = FieldMoments.of(change)
                    for side in read_sides:
                        sides[side].increments.add(moments)
                finished += len(part)
                if progress is not None:
                    progress(done + finished * (block.stop - block.start) // total, len(windows))
        # One number per window stands for all points of the channel that it becomes.
        values = dataset.conditions(windows.files[block], windows.samples[block])
        conditions.add(FieldMoments.of(values[..., None]))
        done = block.stop
    rows = {
        side: entry.values.statistics([array.name for array in getattr(dataset.layout, side)], entry.increments)
        for side, entry in sides.items()
    }
    rows["constants"] += conditions.statistics(dataset.meta.condition, Moments(0))
    return FieldStatistics(**rows, target_mean=(target_sum / len(windows)).view(shape).numpy(), count=len(windows))


def reading_passes(
    dataset: FieldDataset, windows: TouchedFrames, block: slice
) -> list[tuple[str, FrameList, tuple[str, ...]]]:
    """(what to read, which frames, whose they are) for a block of windows; a state is read once for both sides."""
    layout = dataset.layout
    if layout.inputs == layout.outputs:
        passes = [("inputs", windows.frames(block, windows.inputs, windows.outputs), ("inputs", "outputs"))]
    else:
        passes = [("inputs", windows.frames(block, windows.inputs), ("inputs",))]
        if layout.outputs:
            passes.append(("outputs", windows.frames(block, windows.outputs), ("outputs",)))
    if layout.constants:
        passes.append(("constants", windows.first_frames(block), ("constants",)))
    return passes


def read_frames(dataset: FieldDataset, kind: str, frames: FrameList) -> Iterator[tuple[Tensor, FrameList]]:
    """Checked fields (b, channel, \\*space), valid until the next one is asked for."""
    channels = len(dataset.reader.channels(kind))
    size = min(max(1, _BATCH_BYTES // (channels * prod(dataset.space) * dataset.dtype.itemsize)), len(frames))
    memory = torch.empty((size, 1, channels, *dataset.space), dtype=dataset.dtype)
    parts = [frames.part(slice(begin, begin + size)) for begin in range(0, len(frames), size)]
    requests = [Request(kind, part.files, part.samples, part.frames) for part in parts]
    for number, (part, request) in enumerate(zip(parts, requests, strict=True)):
        fields = memory[: len(part)]
        filled = replace(request, out=fields.numpy())
        dataset.reader.read(filled)
        if number + 1 < len(requests) and dataset.reader.wants_prefetch():
            dataset.reader.prefetch(requests[number + 1])
        dataset.reader.check_finite(filled)
        yield fields[:, 0], part


class _Side:
    """What is gathered about the inputs, the outputs or the constants."""

    def __init__(self, channels: int) -> None:
        self.values = Moments(channels)
        self.increments = Moments(channels)


class _Increments:
    """What changes between frames that lie ``every`` apart; to be told the frames of a pass batch after batch."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._keys = np.empty(0, np.int64)
        self._fields: Tensor | None = None

    def of(self, part: FrameList, fields: Tensor) -> Tensor | None:
        """(pairs, channel, \\*space) float64 of the pairs that end in this batch; ``None`` where there are none."""
        keys = np.r_[self._keys, part.keys]
        values = fields if self._fields is None else torch.cat([self._fields, fields])
        place = np.searchsorted(keys, part.keys - self.every)
        found = np.flatnonzero(keys[place] == part.keys - self.every)
        recent = np.flatnonzero(keys > keys[-1] - self.every)
        self._keys, self._fields = keys[recent], values[torch.from_numpy(recent)].clone()
        if not len(found):
            return None
        return fields[torch.from_numpy(found)].double() - values[torch.from_numpy(place[found])].double()
