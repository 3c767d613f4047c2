"""Means, roots and ratios whose values and gradients stay finite where alloys become pure elements."""

import torch
from torch import Tensor

CAP = 1e3
"""What ratios are capped at where their denominator vanishes."""


def mean(fractions: Tensor, values: Tensor) -> Tensor:
    """``Σ c_i p_i``: (..., elements) and (elements,) to (...,)."""
    return (fractions * values).sum(-1)


def variance(fractions: Tensor, values: Tensor) -> Tensor:
    """``Σ c_i (p_i - p)²`` with ``p = Σ c_i p_i``."""
    return (fractions * (values - mean(fractions, values)[..., None]) ** 2).sum(-1)


def relative_variance(fractions: Tensor, values: Tensor) -> Tensor:
    """``Σ c_i (1 - p_i / p)²``."""
    return (fractions * (1 - values / mean(fractions, values)[..., None]) ** 2).sum(-1)


def root(values: Tensor) -> Tensor:
    """Square root of what is not negative, with gradient 0 (not infinity) at 0."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


def capped_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator`` within ±:data:`CAP`; :data:`CAP` where the denominator is 0."""
    zero = denominator == 0
    ratio = (numerator / torch.where(zero, 1.0, denominator)).clamp(-CAP, CAP)
    return torch.where(zero, CAP, ratio)
