"""Windows over trajectories: which frames are the input, which the target, and how many windows there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from katops.errors import UserError

WHOLE_TRAJECTORY = 2**31
"""A distance of windows that leaves one in each trajectory."""


@dataclass(frozen=True)
class Window:
    """A pattern of frames. For a window that starts at frame s (all units are frames of the file):

    - input frames:  s + i * every,                    i = 0 .. n_in - 1
    - target frames: s + (n_in + gap + j) * every,     j = 0 .. n_out - 1
    - windows start at s = first, first + stride, first + 2 * stride, ... as long as s + span <= T, the number of
      frames, where span = (n_in + gap + n_out - 1) * every + 1.

    So ``every`` thins the trajectory, ``gap`` counts thinned frames that are skipped between the last input and the
    first target (0: the target follows at once), and ``stride`` is the distance of neighbouring windows. The lead time,
    from the last input to the last target, is (gap + n_out) * every time steps.

    Attributes:
        n_in: input frames, at least 1.
        n_out: target frames, at least 1.
        gap: skipped frames, at least 0.
        stride: frames from one start to the next, at least 1.
        every: frames from one frame of the window to the next, at least 1.
        first: first frame of the first window, at least 0; frames before it are not used.

    Raises:
        UserError: a value is not an integer or is too small.
    """

    n_in: int = 1
    n_out: int = 1
    gap: int = 0
    stride: int = 1
    every: int = 1
    first: int = 0

    def __post_init__(self) -> None:
        for name, least in (("n_in", 1), ("n_out", 1), ("gap", 0), ("stride", 1), ("every", 1), ("first", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"window.{name} must be an integer of at least {least}; given: {value!r}")

    @property
    def span(self) -> int:
        """Frames from the first input to the last target, both included."""
        return (self.n_in + self.gap + self.n_out - 1) * self.every + 1

    @property
    def input_span(self) -> int:
        """Frames from the first to the last input, both included."""
        return (self.n_in - 1) * self.every + 1

    @property
    def target_offset(self) -> int:
        """Frames from the start of the window to the first target."""
        return (self.n_in + self.gap) * self.every

    @property
    def lead(self) -> int:
        """Frames from the last input to the last target."""
        return (self.gap + self.n_out) * self.every

    def starts(self, frames: int, *, inputs_only: bool = False) -> range:
        """First frames of all windows in a trajectory; empty where the window is longer than the trajectory.

        Args:
            frames: length of the trajectory.
            inputs_only: only the input must fit, because there is nothing to compare with.
        """
        span = self.input_span if inputs_only else self.span
        return range(self.first, frames - span + 1, self.stride)


class WindowIndex:
    """All windows of all trajectories, numbered: trajectory after trajectory, in the order of their starts.

    The flat index of window k of trajectory m is counts[0] + ... + counts[m - 1] + k; it is looked up with a binary
    search, O(log n).

    Args:
        counts: (n,) number of windows of each trajectory; trajectories may differ.
        stride: frames from one start to the next.
        first: first frame of the first window.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray, stride: int = 1, first: int = 0) -> None:
        self.ends = np.cumsum(np.asarray(counts, dtype=np.int64))
        self.stride, self.first = stride, first

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def locate(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flat indices -> (trajectory, first frame), both int64.

        Raises:
            IndexError: an index is outside [0, len).
        """
        flat = np.asarray(flat, dtype=np.int64)
        if flat.size and not 0 <= flat.min() <= flat.max() < len(self):
            raise IndexError(f"window {flat.min()} to {flat.max()} is outside 0 to {len(self) - 1}")
        sample = np.searchsorted(self.ends, flat, side="right")
        return sample, self.first + (flat - self._first(sample)) * self.stride

    def of_samples(self, samples: np.ndarray) -> np.ndarray:
        """Flat indices of all windows of some trajectories, in the order given.

        Raises:
            IndexError: there is no such trajectory.
        """
        samples = np.asarray(samples, dtype=np.int64)
        if samples.size and not 0 <= samples.min() <= samples.max() < len(self.ends):
            raise IndexError(f"sample {samples.min()} to {samples.max()} is outside 0 to {len(self.ends) - 1}")
        first, counts = self._first(samples), self.ends[samples] - self._first(samples)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(first, counts) + within

    def _first(self, samples: np.ndarray) -> np.ndarray:
        """Flat index of the first window of each trajectory."""
        return np.where(samples > 0, self.ends[samples - 1], 0)


def index_windows(
    window: Window,
    frames: Sequence[int] | np.ndarray,
    *,
    inputs_only: bool = False,
    included: np.ndarray | None = None,
    name: Callable[[int], str] = "trajectory {}".format,
) -> WindowIndex:
    """Number the windows of trajectories of the given lengths.

    Args:
        window: the pattern.
        frames: (n,) length of each trajectory; lengths may differ.
        inputs_only: as in :meth:`Window.starts`.
        included: (n,) bool, trajectories that are used; the others get no window. All where ``None``.
        name: what a message calls a trajectory.

    Raises:
        UserError: a trajectory is shorter than the window, so that its data would silently be left out.
    """
    frames = np.asarray(frames, dtype=np.int64)
    included = np.ones(len(frames), dtype=bool) if included is None else included
    span = window.input_span if inputs_only else window.span
    needed = window.first + span
    short = np.flatnonzero(included & (frames < needed))
    if len(short):
        shortest = short[frames[short].argmin()]
        more = f" (and {len(short) - 1} more of {int(included.sum())} are too short)" if len(short) > 1 else ""
        beginning = f" from frame {window.first} on" if window.first else ""
        raise UserError(
            f"the window spans {span} frames{beginning} (n_in {window.n_in}, gap {window.gap}, n_out {window.n_out}, "
            f"every {window.every}), but {name(int(shortest))} has {frames[shortest]}{more}; make the window at most "
            f"{max(int(frames[shortest]) - window.first, 0)} frames long, or exclude the short trajectories"
        )
    counts = np.where(included, (frames - needed) // window.stride + 1, 0)
    return WindowIndex(counts, window.stride, window.first)
