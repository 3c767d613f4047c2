"""B-splines and their derivatives in plain torch: the definition that every fast path has to match.

    B_m^0(x) = 1 if t_m <= x < t_{m+1}, else 0
    B_m^p(x) = (x - t_m) / (t_{m+p} - t_m) B_m^{p-1}(x) + (t_{m+p+1} - x) / (t_{m+p+1} - t_{m+1}) B_{m+1}^{p-1}(x)
    d/dx B_m^p = p [B_m^{p-1} / (t_{m+p} - t_m) - B_{m+1}^{p-1} / (t_{m+p+1} - t_{m+1})]

(Cox 1972; de Boor, A Practical Guide to Splines, chapters IX and X). Knots are strictly increasing.
"""

import torch
from torch import Tensor


def basis_by_definition(x: Tensor, knots: Tensor, degree: int, extrapolation: str, order: int = 0) -> Tensor:
    """The derivative of the given order of every basis function, see :func:`katops.ops.bspline.bspline_basis`.

    Args:
        x: (..., inputs).
        knots: (inputs, intervals + 2 degree + 1).
        degree: of the polynomials.
        extrapolation: "linear", "clamp" or "zero".
        order: of the derivative.

    Returns:
        (..., inputs, intervals + degree).
    """
    if extrapolation == "zero":
        spans = (x.unsqueeze(-1) >= knots[:, :-1]) & (x.unsqueeze(-1) < knots[:, 1:])
        return _recursion(x, spans, knots, degree, order)
    low, high = knots[:, degree], knots[:, -1 - degree]
    # Not torch.clamp, whose derivative at the ends is not the one of the inside.
    inside = torch.where(x < low, low, torch.where(x > high, high, x))
    spans = _closed_spans(inside, knots, degree)
    if extrapolation == "linear" and order == 0:
        beyond, inside = (x - inside).unsqueeze(-1), inside.unsqueeze(-1)
        lower = spans.to(x.dtype)
        for p in range(1, degree):
            lower = _average(inside, lower, knots, p)
        # The slope is needed at the ends alone; elsewhere it is multiplied by a zero.
        return _average(inside, lower, knots, degree) + beyond * _difference(lower, knots, degree)
    values = _recursion(inside, spans, knots, degree, order)
    if order == 0 or (extrapolation == "linear" and order == 1):
        return values
    outside = ((x < low) | (x > high)).unsqueeze(-1)
    return torch.where(outside, torch.zeros_like(values), values)


def _closed_spans(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    """Which span holds x; the last one within the range has its upper end, too, for the slopes there."""
    x = x.unsqueeze(-1)
    last = knots.shape[1] - 2 - degree
    inner = (x >= knots[:, :last]) & (x < knots[:, 1 : last + 1])
    top = x >= knots[:, last : last + 1]
    return torch.cat([inner, top, torch.zeros_like(top).expand(*top.shape[:-1], degree)], -1)


def _recursion(x: Tensor, spans: Tensor, knots: Tensor, degree: int, order: int) -> Tensor:
    """The recursion over the degree; its last ``order`` steps take differences instead of averages."""
    x = x.unsqueeze(-1)
    if order > degree:
        return torch.zeros_like(x + knots[:, : -1 - degree])
    values = spans.to(x.dtype)
    for p in range(1, degree + 1):
        values = _average(x, values, knots, p) if p <= degree - order else _difference(values, knots, p)
    return values


def _average(x: Tensor, lower: Tensor, knots: Tensor, p: int) -> Tensor:
    """Functions of degree p from those of degree p - 1, at x (..., inputs, 1)."""
    rise = (x - knots[:, : -p - 1]) / (knots[:, p:-1] - knots[:, : -p - 1])
    fall = (knots[:, p + 1 :] - x) / (knots[:, p + 1 :] - knots[:, 1:-p])
    return rise * lower[..., :-1] + fall * lower[..., 1:]


def _difference(lower: Tensor, knots: Tensor, p: int) -> Tensor:
    """Derivatives of degree p from functions, or derivatives, of degree p - 1."""
    scaled = p * lower / (knots[:, p:] - knots[:, :-p])
    return scaled[..., :-1] - scaled[..., 1:]
