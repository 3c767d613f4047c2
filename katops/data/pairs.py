"""Pairs of frames of a trajectory: every state may be the input for every later one (all2all training)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import gcd

import numpy as np

from katops.errors import UserError


@dataclass(frozen=True)
class Pairs:
    """All pairs (u(t_i), u(t_j)) with t_i <= t_j of some frames of a trajectory, and the time t_j - t_i between them.

    With the solution operator S, u(t_j) = S(t_j - t_i) u(t_i), so K + 1 frames hold (K + 1)(K + 2) / 2 examples of S:
    the all2all training of Herde et al., Poseidon, arXiv 2405.19101, section 2. Pairs are ordered by their input, then
    by their target.

    Attributes:
        frames: which frames of the file take part, increasing, at least one.
        identity: whether pairs of a frame with itself (no time in between) count.
        leads: distances of the two frames, in frames of the file, that are allowed; all where ``None``.

    Raises:
        UserError: the frames are not increasing numbers from 0 on, a distance does not occur, or no pair is left.
    """

    frames: tuple[int, ...]
    identity: bool = True
    leads: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        frames = tuple(self.frames)
        object.__setattr__(self, "frames", frames)
        if not frames or any(not _is_frame(frame) for frame in frames) or list(frames) != sorted(set(frames)):
            raise UserError(f"pairs.frames must be increasing frame numbers from 0 on; given: {list(frames)}")
        if self.leads is not None:
            object.__setattr__(self, "leads", tuple(self.leads))
            possible = sorted({int(lead) for lead in self._all[1]})
            unknown = [lead for lead in self.leads if lead not in possible]
            if unknown:
                raise UserError(f"pairs.leads names {unknown}; the distances of pairs.frames are {possible}")
        if not len(self):
            raise UserError(f"pairs.frames {list(frames)} leave no pair; give two frames, or identity: true")

    # What a window of one frame in and one frame out has too (katops.data.windows.Window).
    n_in = 1
    n_out = 1
    input_span = 1

    @property
    def first(self) -> int:
        """The first frame that is used."""
        return self.frames[0]

    @property
    def span(self) -> int:
        """Frames from the first to the last one that is used, both included."""
        return self.frames[-1] - self.frames[0] + 1

    @property
    def every(self) -> int:
        """The largest distance of which all distances of frames are multiples."""
        return reduce(gcd, np.diff(self.frames).tolist(), 0) or 1

    def __len__(self) -> int:
        """Pairs in each trajectory."""
        return len(self.starts)

    @property
    def starts(self) -> np.ndarray:
        """(pairs,) frame of the input."""
        return self._chosen[0]

    @property
    def distances(self) -> np.ndarray:
        """(pairs,) frames from the input to the target."""
        return self._chosen[1]

    @cached_property
    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        frames = np.array(self.frames, dtype=np.int64)
        inputs, targets = np.triu_indices(len(frames), k=0 if self.identity else 1)
        return frames[inputs], frames[targets] - frames[inputs]

    @cached_property
    def _chosen(self) -> tuple[np.ndarray, np.ndarray]:
        starts, distances = self._all
        if self.leads is None:
            return starts, distances
        allowed = np.isin(distances, self.leads)
        return starts[allowed], distances[allowed]


def check_lengths(
    pairs: Pairs, frames: Sequence[int] | np.ndarray, included: np.ndarray, name: Callable[[int], str]
) -> None:
    """Refuse trajectories that end before the last frame of the pairs.

    Args:
        pairs: the pattern.
        frames: (n,) length of each trajectory.
        included: (n,) bool, those that are used.
        name: what a message calls a trajectory.

    Raises:
        UserError: one of them is too short.
    """
    frames = np.asarray(frames)
    short = np.flatnonzero(included & (frames <= pairs.frames[-1]))
    if len(short):
        shortest = int(short[frames[short].argmin()])
        raise UserError(
            f"the pairs use frame {pairs.frames[-1]}, but {name(shortest)} has frames 0 to {frames[shortest] - 1}; "
            f"make data.pairs.last smaller, or exclude the short trajectories"
        )


def _is_frame(frame: object) -> bool:
    return isinstance(frame, int) and not isinstance(frame, bool) and frame >= 0
