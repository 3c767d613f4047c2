"""A bias that is a function of the place: b(x) instead of a number per channel (MgNO, arXiv 2310.19809, section 3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.layers.boundary import Sides


class GridBias(nn.Module):
    """v(x) -> v(x) + b(x), b piecewise linear along every axis on a grid of its own, so that any resolution has it.

    b(x) = sum_i b_i phi_i(x) with hat functions phi_i on ``nodes`` equidistant nodes: both ends of the domain are nodes
    where an axis is not periodic; where it is, node m is node 0 again. The points of a field of n points lie at
    (i + 1/2) / n of the domain. b begins at zero. A model with such a bias does not commute with shifts.

    (batch, channels, \\*space) -> (batch, channels, \\*space).

    Args:
        channels: width.
        nodes: of b, at least 2 along each axis.
        boundary: (lower, upper) condition of each axis.

    Raises:
        UserError: another number of axes, or fewer than 2 nodes.
    """

    def __init__(self, channels: int, nodes: Sequence[int], boundary: Sides) -> None:
        super().__init__()
        if len(nodes) != len(boundary) or min(nodes) < 2:
            raise UserError(f"bias_nodes {list(nodes)!r}: give at least 2 nodes for each of the {len(boundary)} axes")
        self.periodic = tuple(sides[0] == "periodic" for sides in boundary)
        self.weight = nn.Parameter(torch.zeros(channels, *nodes))

    def forward(self, v: Tensor) -> Tensor:
        bias = self.weight
        for axis, (periodic, length) in enumerate(zip(self.periodic, v.shape[2:], strict=True), start=1):
            hats = _hat_functions(bias.shape[axis], length, periodic).to(bias)
            bias = torch.tensordot(bias, hats, dims=([axis], [0])).movedim(-1, axis)
        return v + bias


def _hat_functions(nodes: int, points: int, periodic: bool) -> Tensor:
    """(nodes, points): the value of each node's hat function at each point."""
    intervals = nodes if periodic else nodes - 1
    place = (torch.arange(points) + 0.5) / points * intervals
    distance = (place - torch.arange(nodes)[:, None]).abs()
    if periodic:
        distance = torch.minimum(distance, nodes - distance)
    return (1 - distance).clamp_min(0)
