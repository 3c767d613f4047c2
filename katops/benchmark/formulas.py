"""The group rational function as people write it in plain torch, differentiated by autograd: two peers to compare with.

    y = P(x) / Q(x),   P(x) = sum_{i=0..m} a_i x^i,   Q(x) = 1 + sum_{j=1..n} |b_j| |x|^j

on (..., channels), a: (groups or 1, m + 1), b: (groups or 1, n).
"""

import torch
from torch import Tensor


def by_powers(x: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
    """Every power stored, every term added: what the published KAT runs on a CPU (there with signed powers in Q)."""
    a, b = _per_channel(x, numerator), _per_channel(x, denominator)
    p = sum(a[i] * x**i for i in range(len(a)))
    q = 1 + sum(b[j].abs() * x.abs() ** (j + 1) for j in range(len(b)))
    return (p / q).to(x.dtype)


def by_horner(x: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
    """Horner's rule in float32 at least: the form that a compiler makes one loop of."""
    compute = torch.promote_types(x.dtype, numerator.dtype)
    groups = max(len(numerator), len(denominator))
    value = x.to(compute).unflatten(-1, (groups, x.shape[-1] // groups))
    p = _horner(value, numerator)
    magnitude = value.abs()
    q = 1 + magnitude * _horner(magnitude, denominator.abs())
    return (p / q).flatten(-2).to(x.dtype)


def _per_channel(x: Tensor, coefficients: Tensor) -> tuple[Tensor, ...]:
    """The coefficient of each power, one per channel."""
    channels = x.shape[-1]
    return coefficients.repeat_interleave(channels // len(coefficients), 0).unbind(-1)


def _horner(x: Tensor, coefficients: Tensor) -> Tensor:
    columns = [column[:, None] for column in coefficients.unbind(-1)]
    value = columns[-1]
    for column in reversed(columns[:-1]):
        value = value * x + column
    return value
