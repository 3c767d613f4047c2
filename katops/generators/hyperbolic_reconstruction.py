"""Second-order reconstruction on the faces of a grid: ghost cells and slope limiters."""

from collections.abc import Callable

import torch
from torch import Tensor

GHOSTS = 2

Limiter = Callable[[Tensor, Tensor], Tensor]
"""(difference to the cell before, difference to the cell behind) -> half of the slope."""


def monotonised_central(before: Tensor, behind: Tensor) -> Tensor:
    """Half of van Leer's MC slope: the central difference, at most twice the smaller one-sided one, 0 at extrema."""
    lower = torch.minimum(before, behind).clamp_(min=0)
    upper = torch.maximum(before, behind).clamp_(max=0)
    # Where the differences have two signs both bounds are 0; else one is 0 and the other limits the central slope.
    return ((before + behind) * 0.25).clamp_(min=upper, max=lower)


def van_leer(before: Tensor, behind: Tensor) -> Tensor:
    """Half of the harmonic mean of the differences, 0 at extrema."""
    product = before * behind
    total = before + behind
    return torch.where(product > 0, product / torch.where(product > 0, total, 1.0), 0.0)


LIMITERS: dict[str, Limiter] = {"mc": monotonised_central, "van_leer": van_leer}
"""Both keep the value on a face between the means of the two cells beside it, hence densities positive."""


def pad_periodic(values: Tensor, axis: int, width: int = GHOSTS) -> Tensor:
    """``values`` with ``width`` cells of the other end on each side."""
    size = values.shape[axis]
    ends = values.narrow(axis, size - width, width), values.narrow(axis, 0, width)
    return torch.cat((ends[0], values, ends[1]), axis)


def pad_outflow(values: Tensor, axis: int, width: int = GHOSTS) -> Tensor:
    """``values`` with the first and the last cell repeated: waves leave, to first order without reflection."""
    shape = list(values.shape)
    shape[axis] = width
    first, last = values.narrow(axis, 0, 1), values.narrow(axis, values.shape[axis] - 1, 1)
    return torch.cat((first.expand(shape), values, last.expand(shape)), axis)


PADDINGS = {"periodic": pad_periodic, "outflow": pad_outflow}


def face_states(padded: Tensor, axis: int, limiter: Limiter, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Values before and behind each face of n cells that come with two ghost cells on each side.

    Args:
        padded: n + 4 cells along ``axis``.
        keep: n + 2 cells along ``axis``: 1 where slopes stay, 0 where the cell is taken as constant.

    Returns:
        Two tensors of n + 1 faces along ``axis``.
    """
    cells = padded.shape[axis]
    difference = padded.narrow(axis, 1, cells - 1) - padded.narrow(axis, 0, cells - 1)
    half = limiter(difference.narrow(axis, 0, cells - 2), difference.narrow(axis, 1, cells - 2))
    if keep is not None:
        half = half * keep
    inner = padded.narrow(axis, 1, cells - 2)
    before = inner.narrow(axis, 0, cells - 3) + half.narrow(axis, 0, cells - 3)
    behind = inner.narrow(axis, 1, cells - 3) - half.narrow(axis, 1, cells - 3)
    return before, behind
