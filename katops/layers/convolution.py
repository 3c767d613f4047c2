"""The stencils of a grid hierarchy: a 3-wide convolution, with or without stride 2, and its way back to the finer grid.

Both take their ghost cells from the boundary condition and work on 1, 2 or 3 axes. Coarse point j is fine point 2j.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, normalise_boundary
from katops.layers.boundary import add_ghost_cells
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
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, boundary: Boundary, stride: int = 1, bias: bool = False
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
        self._convolve = _CONVOLUTIONS[n_axes - 1]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform with variance 1 / (3 fan_in), torch's default for convolutions; bias zero."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = add_ghost_cells(x, self.boundary, self._ghosts, self._ghosts)
        return self._convolve(x, self.weight, self.bias, self.stride, self._padding)


class Prolongation(nn.Module):
    """Transposed stride-2 convolution to a finer grid of either parity, with one set of weights.

    Coarse value c_j reaches the fine points 2j - 1, 2j, 2j + 1, so per axis

        u_{2j} = W_0 c_j,    u_{2j+1} = W_1 c_j + W_{-1} c_{j+1}.

    A finer grid of even length ends on an odd point, whose right neighbour c_{n/2} is a ghost cell of the coarse grid;
    one of odd length ends on a coarse point and needs none. (batch, c, \\*ceil(n / 2)) -> (batch, c, \\*n).

    Args:
        channels: width, kept.
        boundary: condition on each side of each axis.
    """

    def __init__(self, channels: int, *, boundary: Boundary) -> None:
        super().__init__()
        n_axes = number_of_axes(boundary)
        self.boundary = normalise_boundary(boundary, n_axes, STENCIL_BOUNDARIES)
        self.weight = nn.Parameter(torch.empty(channels, channels, *[3] * n_axes))
        self._wants_ghost = tuple(sides[1] != "dirichlet" for sides in self.boundary)
        self._prolong = _TRANSPOSED[n_axes - 1]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform with variance 1 / (3 fan_in); a fine point is reached by 1.5 coarse points per axis on average."""
        n_axes = self.weight.ndim - 2
        bound = 1 / math.sqrt(self.weight.shape[0] * 1.5**n_axes)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, coarse: Tensor, size: Sequence[int]) -> Tensor:
        """Prolong to the grid ``size``, whose axes are 2n - 1 or 2n points long where the coarse ones are n."""
        even = [1 - length % 2 for length in size]
        ghosts = [int(wants and length) for wants, length in zip(self._wants_ghost, even, strict=True)]
        extra = [length - ghost for length, ghost in zip(even, ghosts, strict=True)]
        coarse = add_ghost_cells(coarse, self.boundary, [0] * len(even), ghosts)
        fine = self._prolong(coarse, self.weight, None, stride=2, padding=1, output_padding=extra)
        # A ghost cell also lies on a fine point of its own, one past the end.
        return fine[(..., *(slice(length) for length in size))] if any(ghosts) else fine


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
