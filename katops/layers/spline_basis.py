"""The B-spline basis of a KAN layer, with the grid of every input."""

from typing import Any

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.layers.basis_functions import BASIS_PAPER, real
from katops.ops.bspline import EXTRAPOLATIONS, bspline_basis
from katops.ops.bspline_knots import uniform_knots
from katops.registry import LAYERS


@LAYERS.register("bspline", kind="basis", summary="B-splines on a grid per input: local, refinable", paper=BASIS_PAPER)
class BSplineBasis(nn.Module):
    """B_m(x_i), m = 1 .. intervals + degree, (..., in_features) -> (..., in_features, size).

    The grid is kept in the buffer ``knots``, (in_features, intervals + 2 degree + 1): the inner knots span the range of
    each input, ``degree`` ghost knots lie beyond either end. It starts with equal distances between ``low`` and
    ``high``
    and moves with :meth:`katops.layers.kan_linear.KANLinear.update_grid` and ``refine``.

    Args:
        in_features: number of inputs.
        intervals: between the inner knots, G.
        degree: of the polynomials, k; at least 1.
        low, high: the range at first.
        extrapolation: what happens outside of the range: "linear", "clamp" or "zero", see
            :func:`katops.ops.bspline.bspline_basis`.

    Raises:
        UserError: a number is too small, the range is empty or the extrapolation has no such name.
    """

    def __init__(
        self,
        in_features: int,
        intervals: int = 5,
        degree: int = 3,
        low: float = -1.0,
        high: float = 1.0,
        extrapolation: str = "linear",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or intervals < 1 or degree < 1:
            raise UserError(
                f"bspline: in_features, intervals and degree must be at least 1; given: {in_features}, {intervals}, "
                f"{degree}"
            )
        if not low < high:
            raise UserError(f"bspline: low must be less than high; given: {low} and {high}")
        if extrapolation not in EXTRAPOLATIONS:
            raise UserError(
                f"bspline: extrapolation must be one of {', '.join(EXTRAPOLATIONS)}; given: {extrapolation!r}"
            )
        self.in_features, self.degree, self.extrapolation = in_features, degree, extrapolation
        options = {"device": device, "dtype": dtype}
        low_end, high_end = torch.full((in_features,), low, **options), torch.full((in_features,), high, **options)
        self.register_buffer("knots", uniform_knots(low_end, high_end, intervals, degree))

    @property
    def intervals(self) -> int:
        """G, the number of intervals of the grid."""
        return self.knots.shape[1] - 2 * self.degree - 1

    @property
    def size(self) -> int:
        """The number of functions per input, G + k."""
        return self.intervals + self.degree

    @property
    def low(self) -> Tensor:
        """The lower end of the range of every input, (in_features,)."""
        return self.knots[:, self.degree]

    @property
    def high(self) -> Tensor:
        """The upper end of the range of every input, (in_features,)."""
        return self.knots[:, -1 - self.degree]

    def outside(self, x: Tensor) -> Tensor:
        """For every input, how many values of ``x`` (..., in_features) lie outside of its range."""
        return ((x < self.low) | (x > self.high)).reshape(-1, self.in_features).sum(0)

    def forward(self, x: Tensor) -> Tensor:
        x = real(x)
        return bspline_basis(x, self.knots.to(x.dtype), self.degree, self.extrapolation)

    def extra_repr(self) -> str:
        return f"{self.in_features}, intervals={self.intervals}, degree={self.degree}, {self.extrapolation}"
