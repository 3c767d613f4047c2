"""Mean and standard deviation at every grid point, over the training windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from katops.data.dataset import FieldDataset
from katops.data.statistics.fields import read_frames, reading_passes
from katops.data.statistics.window_frames import TouchedFrames

Progress = Callable[[int, int], None]


class PointMoments:
    """Running mean and sum of squared deviations at every point, in float64 (Chan, Golub, LeVeque 1979)."""

    def __init__(self) -> None:
        self.count = 0.0
        self.mean: Tensor = torch.zeros(())
        self.squares: Tensor = torch.zeros(())

    def add(self, fields: Tensor, counts: np.ndarray) -> None:
        """Take in fields (b, channel, \\*space), field i counted ``counts[i]`` times."""
        weights = torch.from_numpy(counts.astype(np.float64))
        total = float(weights.sum())
        if not total:
            return
        fields = fields.double()
        weights = weights.view(-1, *(1,) * (fields.ndim - 1))
        mean = (weights * fields).sum(0) / total
        squares = (weights * (fields - mean).square()).sum(0)
        change, together = mean - self.mean, self.count + total
        self.squares = self.squares + squares + change.square() * (self.count * total / together)
        self.mean = self.mean + change * (total / together)
        self.count = together

    @property
    def std(self) -> Tensor:
        """Population standard deviation at every point."""
        return (self.squares / self.count).sqrt()


def point_statistics(
    dataset: FieldDataset, indices: Sequence[int] | np.ndarray, *, progress: Progress | None = None
) -> dict[str, PointMoments]:
    """Moments at every point of "inputs", "outputs" and "constants" (without parameters) over the windows ``indices``.

    Frames of a window share the statistics of their channel. Every frame is read once.

    Args:
        dataset: where to read.
        indices: windows of the training part.
        progress: called with (windows done, all windows).
    """
    windows = TouchedFrames(dataset, indices)
    sides = {side: PointMoments() for side in ("inputs", "outputs", "constants")}
    for block in windows.blocks():
        for kind, frames, read_sides in reading_passes(dataset, windows, block):
            for fields, part in read_frames(dataset, kind, frames):
                for side, counts in zip(read_sides, part.counts, strict=True):
                    sides[side].add(fields, counts.sum(1))
        if progress is not None:
            progress(block.stop, len(windows))
    return sides
