"""The stencils of a grid hierarchy: a 3-wide convolution, with or without stride 2, and its way back to the finer grid.

Both take their ghost cells from the boundary condition and work on 1, 2 or 3 axes. Coarse point j is fine point 2j,
which fits axes with both ends among the points. With ``interior_nodes``, an axis of odd length n that has a Dirichlet
side has its coarse points at 2j + 1 instead: the points -1 and n, where the value is zero, then belong to every grid
(2^k - 1 interior nodes).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, normalise_boundary
from katops.layers.boundary import Sides, add_ghost_cells
from katops.layers.spatial import number_of_axes

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class Convolution(nn.Module):
    """3-wide convolution that honours the boundary condition.

    y_j = b + sum_k W_k x_{stride j + k} with k in {-1, 0, 1} on each axis,

    (batch, in_channels, \\*space) -> (batch, out_channels, \\*ceil(space / stride)).

    Args:
        in_channels, out_channels: widths.
        boundary: condition on each side of each axis, see :func:`katops.fields.normalise_boundary`.
        stride: 1, or 2 for a restriction to the coarser grid.
        bias: whether to add a constant per channel.
        interior_nodes: for stride 2, where the coarse points lie, see the module; y_j is then taken around 2j + 1, and
            there are (n - 1) / 2 of them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        boundary: Boundary,
        stride: int = 1,
        bias: bool = False,
        interior_nodes: bool = False,
    ) -> None:
        super().__init__()
        n_axes = number_of_axes(boundary)
        self.boundary = normalise_boundary(boundary, n_axes, STENCIL_BOUNDARIES)
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *[3] * n_axes))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        # Zeros outside are the convolution's own padding; every other side needs a ghost cell.
        self._ghosts = tuple(int(sides != ("dirichlet", "dirichlet")) for sides in self.boundary)
        self._padding = tuple(1 - ghost for ghost in self._ghosts)
        self._nested = nested_axes(self.boundary, interior_nodes and stride == 2)
        self._convolve = _CONVOLUTIONS[n_axes - 1]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform with variance 1 / (3 fan_in), torch's default for convolutions; bias zero."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, sign: int = 1) -> Tensor:
        """y for x, or b - (y - b) for ``sign=-1``: negating the few weights spares a pass over the field."""
        weight = self.weight if sign == 1 else -self.weight
        ghosts, padding = self._ghosts, self._padding
        if any(self._nested):
            # Every point that a stencil around an odd point needs is there.
            inside = [nests(*axis) for axis in zip(self._nested, x.shape[2:], strict=True)]
            ghosts = [0 if skip else ghost for skip, ghost in zip(inside, ghosts, strict=True)]
            padding = [0 if skip else width for skip, width in zip(inside, padding, strict=True)]
        x = add_ghost_cells(x, self.boundary, ghosts, ghosts)
        return self._convolve(x, weight, self.bias, self.stride, padding)


def nested_axes(boundary: Sides, interior_nodes: bool) -> tuple[bool, ...]:
    """The axes on which coarse points may be the odd ones."""
    return tuple(interior_nodes and "dirichlet" in sides for sides in boundary)


def nests(nested: bool, length: int) -> bool:
    """Whether the coarse points of such an axis are the odd ones: there are as many gaps on either side."""
    return nested and length % 2 == 1 and length > 1


class Prolongation(nn.Module):
    """Transposed stride-2 convolution to a finer grid of either parity, with one set of weights.

    Coarse value c_j reaches the fine points 2j - 1, 2j, 2j + 1, so per axis

        u_{2j} = W_0 c_j,    u_{2j+1} = W_1 c_j + W_{-1} c_{j+1},

    or one point further up where coarse points are the odd ones. A finer grid of even length ends on an odd point,
    whose right neighbour c_{n/2} is a ghost cell of the coarse grid; one of odd length ends on a coarse point and needs
    none.
    (batch, coarse channels, \\*coarse) -> (batch, channels, \\*n).

    Args:
        channels: width on the finer grid.
        boundary: condition on each side of each axis.
        coarse_channels: width on the coarser grid, by default the same.
        interior_nodes: where the coarse points lie, see the module.
    """

    def __init__(
        self,
        channels: int,
        *,
        boundary: Boundary,
        coarse_channels: int | None = None,
        interior_nodes: bool = False,
    ) -> None:
        super().__init__()
        n_axes = number_of_axes(boundary)
        self.boundary = normalise_boundary(boundary, n_axes, STENCIL_BOUNDARIES)
        self.weight = nn.Parameter(torch.empty(coarse_channels or channels, channels, *[3] * n_axes))
        self._wants_ghost = tuple(tuple(side != "dirichlet" for side in sides) for sides in self.boundary)
        self._nested = nested_axes(self.boundary, interior_nodes)
        self._prolong = _TRANSPOSED[n_axes - 1]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform with variance 1 / (3 fan_in); a fine point is reached by 1.5 coarse points per axis on average."""
        n_axes = self.weight.ndim - 2
        bound = 1 / math.sqrt(self.weight.shape[0] * 1.5**n_axes)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, coarse: Tensor, size: Sequence[int]) -> Tensor:
        """Prolong to the grid ``size``, whose axes are 2n - 1, 2n or 2n + 1 points long where the coarse ones are n."""
        plans = [
            _axis_plan(nests(nested, length), length, *wanted)
            for nested, length, wanted in zip(self._nested, size, self._wants_ghost, strict=True)
        ]
        below, above, padding, extra, start = zip(*plans, strict=True)
        coarse = add_ghost_cells(coarse, self.boundary, below, above)
        fine = self._prolong(coarse, self.weight, None, stride=2, padding=padding, output_padding=extra)
        # A ghost cell also lies on a fine point of its own, one past the end.
        if not any((*below, *above)):
            return fine
        return fine[(..., *(slice(first, first + length) for first, length in zip(start, size, strict=True)))]


def _axis_plan(odd: bool, length: int, wants_below: bool, wants_above: bool) -> tuple[int, int, int, int, int]:
    """For one axis of the finer grid: ghosts below and above, padding, output padding, and where the result begins."""
    if odd:
        # A coarse ghost cell adds two fine points on its side.
        return int(wants_below), int(wants_above), 0, 0, 2 * wants_below
    even = 1 - length % 2
    ghost = int(wants_above and even)
    return 0, ghost, 1, even - ghost, 0


class PublishedProlongation(nn.Module):
    """Prolongation as in the published MgNO code: zeros beyond every boundary, a kernel per parity of the finer grid.

    A kernel 4 points wide (2j - 1 ... 2j + 2) leads from n to 2n points, one 3 points wide from n to 2n - 1.

    Args:
        channels: width, kept.
        width: 4 where the axes of the finer grid are even, 3 where they are odd.
        n_axes: number of spatial axes.

    Raises:
        UserError: the field to be prolonged to lies on a grid of the other parity.
    """

    def __init__(self, channels: int, *, width: int, n_axes: int) -> None:
        super().__init__()
        if width not in (3, 4):
            raise UserError(f"published prolongation kernels are 3 or 4 points wide, not {width}")
        self.weight = nn.Parameter(torch.empty(channels, channels, *[width] * n_axes))
        self._prolong = _TRANSPOSED[n_axes - 1]
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, coarse: Tensor, size: Sequence[int]) -> Tensor:
        fine = self._prolong(coarse, self.weight, None, stride=2, padding=1)
        if fine.shape[2:] != torch.Size(size):
            raise UserError(
                f"the published layout prolongs {tuple(coarse.shape[2:])} to {tuple(fine.shape[2:])} points, but the "
                f"finer grid has {tuple(size)}; build the model without published_widths for other grids"
            )
        return fine
