"""Which samples, frames and planes a picture of a data file shows, and how they are called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from katops.data.layout import FileLayout
from katops.drawing import plain

# More points than a panel has pixels, and more frames than can be told apart, are thinned.
_MOST_POINTS, _MOST_FRAMES = 512, 64


@dataclass(frozen=True)
class Panel:
    """What one column shows of every channel.

    Attributes:
        sample: number of the sample.
        frames: one frame, or several for a space-time picture.
        points: index along each axis of space: a number in the planes of 3-D fields.
        title: over the column.
        first: whether it is the first panel of its sample and plane, where channels without time are drawn.
    """

    sample: int
    frames: tuple[int, ...]
    points: tuple[int | slice, ...]
    title: str
    first: bool


def panels_of(layout: FileLayout) -> list[Panel]:
    """The columns."""
    n_axes = len(layout.space)
    points = tuple(slice(None, None, -(-size // _MOST_POINTS)) for size in layout.space)
    if n_axes == 3:
        return _planes(layout, points)
    if not layout.time_dependent:
        samples = _spread(layout, 4)
        return [Panel(sample, (0,), points, f"sample {sample}", True) for sample in samples]
    if n_axes == 1:
        return [
            Panel(sample, _frames(layout, sample, _MOST_FRAMES), points, f"sample {sample}", True)
            for sample in _spread(layout, 3)
        ]
    panels = []
    for sample in _spread(layout, 2):
        for position, frame in enumerate(_frames(layout, sample, 3)):
            panels.append(Panel(sample, (frame,), points, _title(layout, sample, frame), position == 0))
    return panels


def _planes(layout: FileLayout, points: tuple[slice, ...]) -> list[Panel]:
    """The mid-planes of a sample at its first and last frame, or of two samples."""
    sample, frames = 0, _frames(layout, 0, 2)
    moments = [(sample, frame) for frame in frames] if layout.time_dependent else [(s, 0) for s in _spread(layout, 2)]
    panels = []
    for position, (number, frame) in enumerate(moments):
        for normal, axis in enumerate(layout.meta.axes):
            middle = layout.space[normal] // 2
            place = axis.coordinates(layout.space[normal])[middle]
            plane = tuple(middle if other == normal else part for other, part in enumerate(points))
            where = f"{axis.name} = {place:.3g} {axis.unit}".rstrip()
            first = position == 0 or not layout.time_dependent
            panels.append(Panel(number, (frame,), plane, f"{_title(layout, number, frame)}\n{plain(where)}", first))
    return panels


def _title(layout: FileLayout, sample: int, frame: int) -> str:
    if not layout.time_dependent:
        return f"sample {sample}"
    if layout.times is None:
        return f"sample {sample}, frame {frame}"
    time = layout.times[frame] if layout.times.ndim == 1 else layout.times[sample, frame]
    return f"sample {sample}, t = {time:.3g} {plain(layout.meta.time_unit)}".rstrip()


def _spread(layout: FileLayout, count: int) -> list[int]:
    """Numbers of a few samples; neighbours, because those lie close together in files with the samples last."""
    return list(range(min(count, layout.n_samples)))


def _frames(layout: FileLayout, sample: int, count: int) -> tuple[int, ...]:
    frames = int(layout.frames[sample])
    return tuple(np.unique(np.linspace(0, frames - 1, min(count, frames)).round().astype(int)).tolist())
