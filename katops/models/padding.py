"""Margins around a field for nets that take only some grids, or that take every field for periodic."""

from collections.abc import Sequence

import torch
from torch import Tensor

from katops.layers.boundary import Sides


def margins(space: Sequence[int], boundary: Sides, fraction: float, multiple: int) -> list[int]:
    """Points to add at the upper end of each axis.

    Args:
        space: lengths of the axes.
        boundary: (lower, upper) condition of each axis.
        fraction: of the length, to be added at least to axes that are not periodic.
        multiple: what the length with the margin has to be a multiple of.
    """
    wanted = [
        length if sides[0] == "periodic" else length + round(fraction * length)
        for length, sides in zip(space, boundary, strict=True)
    ]
    return [-(-total // multiple) * multiple - length for total, length in zip(wanted, space, strict=True)]


def extend(x: Tensor, extra: Sequence[int], boundary: Sides) -> Tensor:
    """x with ``extra`` points at the upper end of each axis: wrapped where it is periodic, the last value elsewhere."""
    for axis, (points, sides) in enumerate(zip(extra, boundary, strict=True), start=2):
        if points:
            index = _continued(x.shape[axis], points, periodic=sides[0] == "periodic")
            x = x.index_select(axis, index.to(x.device))
    return x


def crop(y: Tensor, space: Sequence[int]) -> Tensor:
    """The first ``space`` points of each axis."""
    return y[(..., *(slice(length) for length in space))].contiguous()


def _continued(length: int, points: int, *, periodic: bool) -> Tensor:
    index = torch.arange(length + points)
    return index % length if periodic else index.clamp_max(length - 1)
