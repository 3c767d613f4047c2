"""Errors of a group rational function and its gradients against float64, in units of the error scale.

The error scale of a sum is the size of its terms: what remains of rounding errors however carefully it is computed.

    y:            sum_i |a_i x^i| / Q
    dx:           |g| (sum_i i |a_i x^(i-1)| + |f| sum_j j |b_j| |x|^(j-1)) / Q,   f = P / Q
    da_i, db_j:   square root of the sum of the squared terms of
                  da_i = sum g x^i / Q,   db_j = -sgn(b_j) sum g f |x|^j / Q
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Of float64 intermediates, about 20 of which exist at a time.
_ELEMENTS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Errors:
    """Largest error relative to its scale, of y, of dx, and of the sums da and db."""

    y: float
    dx: float
    coefficients: float


@dataclass(frozen=True)
class Results:
    """What a function returned: y and dx like x, da and db like the coefficients."""

    y: Tensor
    dx: Tensor
    da: Tensor
    db: Tensor


@torch.no_grad()
def errors(
    results: Results, x: Tensor, numerator: Tensor, denominator: Tensor, gradient: Tensor, channel_dim: int = -1
) -> Errors:
    """Compare with the definition in float64, at x != 0 (where the derivative of |x| is no matter of taste).

    Args:
        results: y and the gradients for the incoming ``gradient``, of any precision.
        x: the input, with the channels at ``channel_dim``.
        numerator, denominator: a, (groups or 1, m + 1), and b, (groups or 1, n).
    """
    groups = max(len(numerator), len(denominator))
    a = numerator.double().expand(groups, -1)[:, None, :].unbind(-1)
    b = denominator.double().expand(groups, -1)[:, None, :].unbind(-1)
    rows = [_by_groups(tensor, groups, channel_dim) for tensor in (x, gradient, results.y, results.dx)]
    terms = torch.zeros(2, groups, len(a) + len(b), dtype=torch.float64, device=x.device)
    worst_y = worst_dx = 0.0
    chunk = max(1, _ELEMENTS_AT_ONCE // max(1, x.shape[channel_dim]))
    for x_part, g_part, y_part, dx_part in zip(*(tensor.split(chunk) for tensor in rows), strict=True):
        y, y_scale, dx, dx_scale, sums = _definition(x_part.double(), g_part.double(), a, b)
        worst_y = max(worst_y, _worst(y_part.double() - y, y_scale))
        worst_dx = max(worst_dx, _worst(dx_part.double() - dx, dx_scale))
        terms += sums
    da, db = terms.split([len(a), len(b)], -1)
    given = ((results.da, numerator, da), (results.db, denominator, db))
    worst_sums = max(_worst_sum(found, like, expected) for found, like, expected in given if like.numel())
    return Errors(worst_y, worst_dx, worst_sums)


def _by_groups(x: Tensor, groups: int, channel_dim: int) -> Tensor:
    """(rows, groups, channels of a group)."""
    x = x.movedim(channel_dim, -1)
    return x.reshape(-1, groups, x.shape[-1] // groups)


def _definition(
    x: Tensor, g: Tensor, a: tuple[Tensor, ...], b: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, its scale, dx, its scale, and [sums, sums of squares] of the terms of da and db, (2, groups, m + 1 + n)."""
    sign, size = torch.sign(x), x.abs()
    q = 1 + sum((b_j.abs() * size ** (j + 1) for j, b_j in enumerate(b)), torch.zeros_like(x))
    slope_q = sum(((j + 1) * b_j.abs() * size**j for j, b_j in enumerate(b)), torch.zeros_like(x))
    f = sum((a_i * x**i for i, a_i in enumerate(a)), torch.zeros_like(x)) / q
    slope_p = sum((i * a_i * x ** (i - 1) for i, a_i in enumerate(a) if i), torch.zeros_like(x))
    y_scale = sum((a_i.abs() * size**i for i, a_i in enumerate(a)), torch.zeros_like(x)) / q
    p_scale = sum((i * a_i.abs() * size ** (i - 1) for i, a_i in enumerate(a) if i), torch.zeros_like(x))
    dx = g * (slope_p - f * sign * slope_q) / q
    dx_scale = g.abs() * (p_scale + f.abs() * slope_q) / q
    terms = [g * x**i / q for i in range(len(a))]
    terms += [-torch.where(b_j < 0, -1.0, 1.0) * g * f * size ** (j + 1) / q for j, b_j in enumerate(b)]
    sums = torch.stack([torch.stack([term.sum((0, 2)), (term * term).sum((0, 2))]) for term in terms], -1)
    return f, y_scale, dx, dx_scale, sums


def _worst(difference: Tensor, scale: Tensor) -> float:
    """Largest |difference| / scale, 0 / 0 counted as 0 and what is not a number as infinite."""
    ratio = torch.where(difference == 0, 0.0, difference.abs() / scale)
    return float(ratio.nan_to_num(nan=math.inf, posinf=math.inf).max()) if ratio.numel() else 0.0


def _worst_sum(found: Tensor, like: Tensor, terms: Tensor) -> float:
    """As :func:`_worst` for sums over groups of elements, or over all groups where these share a row of ``like``."""
    total, squares = terms if len(like) == terms.shape[1] else terms.sum(1, keepdim=True)
    return _worst(found.double() - total, squares.sqrt())
