"""Boundary conditions as ghost cells: what a convolution sees just outside the grid.

One layer of ghost cells per side is all a 3-wide stencil needs. With u_0 ... u_{n-1} on an axis, the cell below it is

    dirichlet   u_{-1} = 0          homogeneous value
    neumann     u_{-1} = u_0        even reflection about the cell face: zero flux
    periodic    u_{-1} = u_{n-1}    wrap

and likewise above. Axes are treated one after the other, which also fills the corners; the rules commute.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Sides = tuple[tuple[str, str], ...]


def add_ghost_cells(x: Tensor, boundary: Sides, lower: Sequence[int], upper: Sequence[int]) -> Tensor:
    """Extend a field by at most one ghost cell on each side of each axis.

    Args:
        x: (batch, channel, \\*space), every axis of length >= 1.
        boundary: (lower, upper) condition of each spatial axis, as :func:`katops.fields.normalise_boundary` spells it.
        lower, upper: for each spatial axis 1 for a ghost cell on that side, 0 for none.

    Returns:
        (batch, channel, \\*(n + lower + upper)).
    """
    for axis, ((below, above), at_lower, at_upper) in enumerate(zip(boundary, lower, upper, strict=True)):
        if at_lower or at_upper:
            x = _extend_axis(x, axis + 2, below if at_lower else None, above if at_upper else None)
    return x


def _extend_axis(x: Tensor, dim: int, below: str | None, above: str | None) -> Tensor:
    """One axis; ``None`` stands for no ghost cell."""
    if {below, above} <= {"dirichlet", None}:
        widths = [0, 0] * (x.ndim - dim - 1) + [int(below is not None), int(above is not None)]
        return F.pad(x, widths)
    # Concatenation is deterministic on a GPU; torch's replication padding is not.
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    parts = [x]
    if below is not None:
        parts.insert(0, _ghost(below, nearest=first, farthest=last))
    if above is not None:
        parts.append(_ghost(above, nearest=last, farthest=first))
    return torch.cat(parts, dim)


def _ghost(side: str, *, nearest: Tensor, farthest: Tensor) -> Tensor:
    if side == "dirichlet":
        return torch.zeros_like(nearest)
    return nearest if side == "neumann" else farthest
