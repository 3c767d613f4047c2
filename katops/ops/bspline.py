"""The B-spline basis of every input, differentiable, by the fastest backend there is."""

import torch
from torch import Tensor

from katops.errors import UserError
from katops.ops.bspline_autograd import BasisFunction
from katops.ops.bspline_backends import BSPLINE as BSPLINE
from katops.ops.bspline_definition import basis_by_definition
from katops.ops.eager_mode import runs_on_the_cpu

EXTRAPOLATIONS = ("linear", "clamp", "zero")


def bspline_basis(x: Tensor, knots: Tensor, degree: int, extrapolation: str = "linear", order: int = 0) -> Tensor:
    """B_m(x_i), or its derivative, for every input i and basis function m (de Boor 1978, chapter IX).

    Per input, the knots t are strictly increasing; the inner ones, ``t[degree]`` to ``t[-1 - degree]``, span the range
    [t_0, t_G] of the grid, on which the functions sum to 1. Outside of the range

        linear:  B_m(x) = B_m(e) + (x - e) B_m'(e), where e is the nearer end: a spline goes on along its tangent;
        clamp:   B_m(x) = B_m(e): a spline stays what it is at the end;
        zero:    the functions go on to the end of the ghost knots, and are zero beyond (as in pykan).

    Gradients in x of any order exist; there is none in the knots.

    Args:
        x: (..., inputs), float32 or float64.
        knots: (inputs, intervals + 2 degree + 1), of the type of ``x``.
        degree: of the polynomials, at least 1; 3 for cubic splines, which are twice continuously differentiable.
        extrapolation: "linear", "clamp" or "zero".
        order: of the derivative in x.

    Returns:
        (..., inputs, intervals + degree).

    Raises:
        UserError: a shape, a type, the degree or the extrapolation is not one of these.
    """
    _check(x, knots, degree, extrapolation, order)
    if order == 0 and runs_on_the_cpu(x, knots):
        return BasisFunction.apply(x, knots, degree, extrapolation)
    return basis_by_definition(x, knots, degree, extrapolation, order)


def _check(x: Tensor, knots: Tensor, degree: int, extrapolation: str, order: int) -> None:
    if x.dtype not in (torch.float32, torch.float64) or knots.dtype != x.dtype:
        raise UserError(f"bspline_basis: x and knots must both be float32 or float64; given: {x.dtype}, {knots.dtype}")
    if degree < 1 or order < 0:
        raise UserError(f"bspline_basis: the degree must be at least 1, the order at least 0; given: {degree}, {order}")
    if extrapolation not in EXTRAPOLATIONS:
        raise UserError(
            f"bspline_basis: extrapolation must be one of {', '.join(EXTRAPOLATIONS)}; given: {extrapolation!r}"
        )
    if x.ndim < 1 or knots.ndim != 2 or x.shape[-1] != len(knots) or knots.shape[1] < 2 * degree + 2:
        raise UserError(
            f"bspline_basis: expected x (..., inputs) and knots (inputs, at least {2 * degree + 2}), got "
            f"{tuple(x.shape)} and {tuple(knots.shape)}"
        )
