"""Which frames the windows of a data set touch, and how often: overlapping windows share their frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from katops.data.dataset import FieldDataset

# Frames of windows that are sorted out at once, which bounds memory.
_MOST_FRAMES = 2**18


@dataclass(frozen=True)
class FrameList:
    """Frames in the order of the files, each once.

    Attributes:
        files, samples, frames: (m,) int64; the sample is counted within its file.
        keys: (m,) int64, increasing; keys that differ by d belong to frames of one trajectory that lie d apart.
        counts: for each pattern, (m, steps): how many windows have the frame as their step j.
    """

    files: np.ndarray
    samples: np.ndarray
    frames: np.ndarray
    keys: np.ndarray
    counts: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def part(self, chosen: slice) -> FrameList:
        """Some of the frames."""
        rows = (self.files, self.samples, self.frames, self.keys)
        return FrameList(*(row[chosen] for row in rows), tuple(count[chosen] for count in self.counts))


@dataclass(frozen=True)
class Pattern:
    """Frames ``starts + every * [0, steps)`` of the windows; ``starts`` is (windows,)."""

    starts: np.ndarray
    steps: int
    every: int = 1


class TouchedFrames:
    """The windows of a data set in the order of the files.

    Args:
        dataset: whose windows.
        indices: which of them, in any order.
    """

    def __init__(self, dataset: FieldDataset, indices: Sequence[int] | np.ndarray) -> None:
        places = dataset.places(np.sort(np.asarray(indices, dtype=np.int64)))
        self.files, self.samples = places.files, places.samples
        window = dataset.window
        self.inputs = Pattern(places.starts, window.n_in, window.every)
        self.outputs = Pattern(places.targets, window.n_out, window.every)

    def __len__(self) -> int:
        return len(self.files)

    def blocks(self) -> Iterator[slice]:
        """Ranges of windows that hold whole trajectories, as many as can be sorted out at once."""
        ends = np.r_[np.flatnonzero(_changes(self.files, self.samples))[1:], len(self)]
        most = max(1, _MOST_FRAMES // (self.inputs.steps + self.outputs.steps))
        begin = 0
        for position, end in enumerate(ends):
            last = position == len(ends) - 1
            if last or ends[position + 1] - begin > most:
                yield slice(begin, int(end))
                begin = int(end)

    def frames(self, block: slice, *patterns: Pattern) -> FrameList:
        """The frames that the windows of a block have in one of the patterns."""
        return self._frames(block, patterns)

    def first_frames(self, block: slice) -> FrameList:
        """Every sample of a block once, counted as often as it has windows; where constants are read."""
        return self._frames(block, (Pattern(np.zeros_like(self.files), 1),))

    def _frames(self, block: slice, patterns: Sequence[Pattern]) -> FrameList:
        files, samples = self.files[block], self.samples[block]
        new = _changes(files, samples)
        heads, trajectory = np.flatnonzero(new), np.cumsum(new) - 1
        last = max(int(pattern.starts[block].max()) + pattern.every * (pattern.steps - 1) for pattern in patterns)
        # So far apart that a distance of frames never leads into another trajectory.
        spread = 2 * last + 2
        wanted = [
            (trajectory * spread + pattern.starts[block])[:, None] + pattern.every * np.arange(pattern.steps)
            for pattern in patterns
        ]
        keys = np.unique(np.concatenate([entry.ravel() for entry in wanted]))
        owner = heads[keys // spread]
        counts = tuple(_counts(keys, entry) for entry in wanted)
        return FrameList(files[owner], samples[owner], keys % spread, keys, counts)


def _changes(files: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Where another trajectory begins, (windows,) bool."""
    return np.r_[True, (np.diff(files) != 0) | (np.diff(samples) != 0)]


def _counts(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(keys, steps): how often each key is in each column of ``wanted``."""
    columns = [np.bincount(np.searchsorted(keys, column), minlength=len(keys)) for column in wanted.T]
    return np.stack(columns, axis=1)
