"""Initial weights of KAN layers: three rules, drawn from one generator."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from katops.ops.bspline import bspline_basis
from katops.ops.bspline_knots import inner_knots

RULES = ("glorot", "power", "pykan")
# Within the ranges that do best in the published study (sections 3 and 4 there).
_POWER_OF_BASE, _POWER_OF_BASIS = 0.25, 1.75
# pykan's own numbers for a layer: noise of the curves at the knots.
_NOISE = 0.3


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the coefficients, and of the weights of the base function."""

    coefficients: float
    base: float


def glorot_spread(basis: nn.Module, base_act: nn.Module | None, sub_nodes: int) -> Spread:
    """Every one of the T terms of an edge has the same share of the variance (Rigas et al. 2025, arXiv 2509.03417).

        std_t^2 = (1 / T) 2 / (inputs E[psi_t^2] + outputs E[psi_t'^2]),   x uniform on [-1, 1]

    where the mean of the basis is taken over its functions.
    """
    inputs = basis.in_features
    x = torch.linspace(-1, 1, 401, dtype=torch.float64)
    terms = basis.size + (base_act is not None)

    def spread(values: Tensor) -> float:
        slopes = values.diff(dim=0) / (x[1] - x[0])
        wanted = inputs * values.square().mean() + sub_nodes * slopes.square().mean()
        return math.sqrt(2 / (terms * max(wanted.item(), 1e-12)))

    with torch.no_grad():
        # In the type of the module, which may be meant for another device.
        kept = next(iter([*basis.buffers(), *basis.parameters()]), None)
        points = x[:, None].expand(-1, inputs).to(kept if kept is not None else torch.float32)
        values = basis(points).double().cpu()
        base = spread(base_act(points).double().cpu()) if base_act is not None else 0.0
    return Spread(spread(values), base)


def power_spread(basis: nn.Module) -> Spread:
    """std = (inputs (functions + 1))^-a: small curves on a larger base function (Rigas et al. 2025, section 3)."""
    terms = basis.in_features * (basis.size + 1)
    return Spread(terms**-_POWER_OF_BASIS, terms**-_POWER_OF_BASE)


def pykan_coefficients(basis: nn.Module, sub_nodes: int, generator: torch.Generator | None) -> Tensor:
    """(inputs, functions, sub_nodes): the smallest splines through uniform noise at the inner knots, as in pykan."""
    knots = basis.knots.double().cpu()
    inner = inner_knots(knots, basis.degree)
    at_knots = bspline_basis(inner.T, knots, basis.degree).transpose(0, 1)
    noise = torch.rand(*inner.shape, sub_nodes, generator=generator, dtype=torch.float64) - 0.5
    noise = noise * _NOISE / basis.intervals
    return torch.linalg.pinv(at_knots) @ noise / math.sqrt(basis.in_features)
