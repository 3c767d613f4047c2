"""Bases of KAN layers other than splines: psi_m(x_i), (..., in_features) -> (..., in_features, size).

They have no grid to move. Each maps its inputs where it needs them by itself, input by input, so that an edge stays a
function of one input.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.ops.rational import group_rational
from katops.registry import LAYERS

BASIS_PAPER = "arXiv:2404.19756"


def real(x: Tensor) -> Tensor:
    """x in single precision at least: in 16 bits neighbouring functions of a basis are the same."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _check_size(name: str, option: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name}: {option} must be at least 1; given: {value}")


def _check_range(name: str, low: float, high: float) -> None:
    if not low < high:
        raise UserError(f"{name}: low must be less than high; given: {low} and {high}")


@LAYERS.register(
    "radial", kind="basis", summary="Gaussians at equal distances, as in FastKAN", paper="arXiv:2405.06721"
)
class RadialBasis(nn.Module):
    """psi_m(x) = exp(-((x - u_m) / h)^2), centres u_m from ``low`` to ``high`` at the distance h (Li 2024).

    Args:
        in_features: number of inputs.
        count: number of centres, at least 2.
        low, high: the first and the last centre. Far from them all functions are zero.
    """

    def __init__(self, in_features: int, count: int = 8, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        _check_size("radial", "count", count - 1)
        _check_range("radial", low, high)
        self.in_features, self.size = in_features, count
        self.register_buffer("centres", torch.linspace(low, high, count))
        self.width = (high - low) / (count - 1)

    def forward(self, x: Tensor) -> Tensor:
        x = real(x)
        return torch.exp(-(((x.unsqueeze(-1) - self.centres.to(x.dtype)) / self.width) ** 2))


@LAYERS.register(
    "chebyshev", kind="basis", summary="Chebyshev polynomials of tanh(x), as in ChebyKAN", paper="arXiv:2405.07200"
)
class ChebyshevBasis(nn.Module):
    """psi_m(x) = T_m(tanh x), m = 0 .. degree, by T_{m+1} = 2 z T_m - T_{m-1} (SS et al. 2024).

    The recurrence has finite derivatives where tanh saturates, which cos(m arccos z) has not.

    Args:
        in_features: number of inputs.
        degree: of the highest polynomial, at least 1.
    """

    def __init__(self, in_features: int, degree: int = 4) -> None:
        super().__init__()
        _check_size("chebyshev", "degree", degree)
        self.in_features, self.size = in_features, degree + 1

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(real(x))
        functions = [torch.ones_like(z), z]
        while len(functions) < self.size:
            functions.append(2 * z * functions[-1] - functions[-2])
        return torch.stack(functions, -1)


@LAYERS.register("fourier", kind="basis", summary="sines and cosines of the range, periodic")
class FourierBasis(nn.Module):
    """psi(x) = cos(m a), sin(m a), m = 1 .. frequencies, with a = 2 pi (x - low) / (high - low) - pi.

    Args:
        in_features: number of inputs.
        frequencies: at least 1; there are twice as many functions.
        low, high: one period.
    """

    def __init__(self, in_features: int, frequencies: int = 4, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        _check_size("fourier", "frequencies", frequencies)
        _check_range("fourier", low, high)
        self.in_features, self.size, self.low, self.high = in_features, 2 * frequencies, low, high
        self.register_buffer("multiples", torch.arange(1.0, frequencies + 1))

    def forward(self, x: Tensor) -> Tensor:
        x = real(x)
        angle = (x - self.low) * (2 * math.pi / (self.high - self.low)) - math.pi
        angles = angle.unsqueeze(-1) * self.multiples.to(x.dtype)
        return torch.cat([angles.cos(), angles.sin()], -1)


@LAYERS.register("rational_basis", kind="basis", summary="a few learned rational functions, shared by all inputs")
class RationalBasis(nn.Module):
    """psi_m(x) = P_m(x) / (1 + sum_j |b_mj| |x|^j), m = 1 .. count, learned and shared by all inputs.

    They start as x^m / (1 + 0.1 |x| + ... + |x|^degree) and grow linearly at most, see
    :func:`katops.ops.rational.group_rational`.

    Args:
        in_features: number of inputs.
        count: number of functions, 1 to degree + 1.
        degree: of the denominators; the numerators have one more.
    """

    def __init__(
        self, in_features: int, count: int = 4, degree: int = 4, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        if degree < 1 or not 1 <= count <= degree + 1:
            raise UserError(
                f"rational_basis: degree must be at least 1 and count from 1 to degree + 1; given: {degree}, {count}"
            )
        self.in_features, self.size = in_features, count
        options = {"device": device, "dtype": dtype}
        self.numerator = nn.Parameter(torch.empty(count, degree + 2, **options))
        self.denominator = nn.Parameter(torch.empty(count, degree, **options))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The powers of x, tamed; drawn from no generator."""
        with torch.no_grad():
            self.numerator.zero_()
            self.numerator[:, 1:].fill_diagonal_(1.0)
            # Not zero, where |b| has a corner.
            self.denominator.fill_(0.1)
            self.denominator[:, -1] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        x = real(x)
        repeated = x.unsqueeze(-1).expand(*x.shape, self.size)
        return group_rational(repeated, self.numerator, self.denominator, channel_dim=-1)
