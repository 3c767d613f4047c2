"""What the writers of layouts copy from: a file in katops' own layout and the problem that it holds."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from katops.errors import UserError
from katops.generators.problem import Problem

_BLOCK_BYTES = 2**25


class Source:
    """A file of generated samples.

    Args:
        file: in the katops layout, open.
        problem: what it holds.
    """

    def __init__(self, file: h5py.File, problem: Problem) -> None:
        self.file = file
        self.problem = problem
        self.samples = int(file.attrs["samples"])

    @property
    def space(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(self.file[f"axes/{axis.name}"].size for axis in self.problem.meta.axes)

    @property
    def frames(self) -> int:
        """Frames of a trajectory; 1 of steady problems."""
        return 1 if self.problem.times is None else len(self.problem.times)

    def points(self, axis: str) -> np.ndarray:
        """Coordinates along an axis, float64."""
        return self.file[f"axes/{axis}"][:]

    def shape(self, channel: str) -> tuple[int, ...]:
        """(N, [T,] \\*space)."""
        return self.file[f"fields/{channel}"].shape

    def blocks(self, channels: Sequence[str]) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Which samples, and their values of each channel, float32; about 32 MiB at a time."""
        arrays = [self.file[f"fields/{channel}"] for channel in channels]
        sample_bytes = 4 * sum(int(np.prod(array.shape[1:])) for array in arrays)
        size = max(1, _BLOCK_BYTES // sample_bytes)
        for start in range(0, self.samples, size):
            part = slice(start, min(start + size, self.samples))
            yield part, [array[part] for array in arrays]

    def parameters(self) -> dict[str, np.ndarray]:
        """(N,) values by name."""
        return {channel.name: self.file[f"parameters/{channel.name}"][:] for channel in self.problem.meta.parameters}


Writer = Callable[[Source, Path], None]


def has(problem: Problem, *channels: str) -> bool:
    """Whether these are all channels of a problem, in any order."""
    return set(problem.fields) == set(channels)


def no_place(layout: str, problem: Problem, accepted: str) -> UserError:
    """The error where a layout has no place for a problem."""
    name, variant = problem.meta.name, problem.recipe.get("variant", "")
    given = f"{name} ({variant}: {', '.join(problem.fields)})"
    return UserError(f"the layout {layout} has no place for {given}; it takes {accepted}, so choose another layout")
