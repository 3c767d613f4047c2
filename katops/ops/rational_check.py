"""Whether the group rational function computes right on a device: its numbers against the equations in float64."""

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from katops.ops.dispatch import Dispatcher
from katops.ops.memory_layout import GroupLayout
from katops.ops.rational_kernels import RationalKernels, compute_type

# Enough elements that backends with a path of their own for small tensors do not take it.
LAYOUT = GroupLayout(outer=512, groups=8, inner=12)
NOT_A_NUMBER = 1e30


@dataclass(frozen=True)
class RationalCheck:
    """Forward and backward pass of one small tensor.

    Args:
        dtype: of the input and the output; the coefficients are float32.
        backend: the one that ran.
        errors: of y, dx, da and db: the largest deviation from float64 as a part of what rounding explains, so that up
            to 1 is right; 1e30 where the result is not a number.
        first_seconds: of the first forward and backward pass, compilation included.
        seconds: of the second.
        problem: why there are no numbers, where a backend raised what it must not.
    """

    dtype: str
    backend: str = ""
    errors: dict[str, float] = field(default_factory=dict)
    first_seconds: float = 0.0
    seconds: float = 0.0
    problem: str = ""

    @property
    def right(self) -> bool:
        """Whether every number is."""
        return not self.problem and all(error <= 1 for error in self.errors.values())


@dataclass(frozen=True)
class _Exact:
    """The results in float64, and how far a backend may be from each of them."""

    values: dict[str, Tensor]
    allowed: dict[str, Tensor]


def check_rational(dispatcher: Dispatcher[RationalKernels], device: torch.device, dtype: torch.dtype) -> RationalCheck:
    """Run the backend that is chosen for tensors of this type, twice, and compare.

    Values of x are normal, some beyond the range where powers of x are formed in float32; the numerator is shared by
    the groups, the denominator is not.
    """
    x, gradient, numerator, denominator = _inputs(dtype)
    exact = _exact(x, gradient, numerator, denominator)
    tensors = [tensor.to(device) for tensor in (x, gradient, numerator, denominator)]
    _, first_seconds = _run(dispatcher, *tensors)
    results, seconds = _run(dispatcher, *tensors)
    backend, _ = dispatcher.choose(device, (dtype, compute_type(dtype), dtype))
    errors = {name: _deviation(results[name], exact.values[name], exact.allowed[name]) for name in exact.values}
    return RationalCheck(str(dtype).removeprefix("torch."), backend, errors, first_seconds, seconds)


def _inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (LAYOUT.outer, LAYOUT.groups * LAYOUT.inner)
    x = 2 * torch.randn(shape, generator=generator)
    x[0, -4:] = torch.tensor([-1e10, -1e4, 1e4, 1e10])
    gradient = torch.randn(shape, generator=generator)
    numerator = torch.randn(1, 6, generator=generator)
    denominator = torch.randn(LAYOUT.groups, 4, generator=generator)
    denominator[0, 0] = 0
    return x.to(dtype), gradient.to(dtype), numerator, denominator


def _run(
    dispatcher: Dispatcher[RationalKernels], x: Tensor, gradient: Tensor, numerator: Tensor, denominator: Tensor
) -> tuple[dict[str, Tensor], float]:
    """The results, copied to the CPU, and the time until they were there."""
    types = (x.dtype, compute_type(x.dtype), x.dtype)
    start = time.perf_counter()
    y = dispatcher.run("forward", x.device, types, (x, numerator, denominator, LAYOUT, x.dtype), None)
    arguments = (x, gradient, numerator, denominator, LAYOUT, (True, True, True))
    gradients = dispatcher.run("backward", x.device, types, arguments, None)
    results = {name: tensor.cpu() for name, tensor in zip(("y", "dx", "da", "db"), (y, *gradients), strict=True)}
    return results, time.perf_counter() - start


def _exact(x: Tensor, gradient: Tensor, numerator: Tensor, denominator: Tensor) -> _Exact:
    """y = P/Q, dx = g (P' - f sgn(x) Q') / Q, da_i = sum g x^i / Q, db_j = -sgn(b_j) sum g f |x|^j / Q, f = P/Q."""
    rounding = torch.finfo(torch.float32).eps
    rounding_of_result = torch.finfo(x.dtype).eps / 2 if x.dtype.itemsize < 4 else 0.0
    value, g = x.double().view(LAYOUT), gradient.double().view(LAYOUT)
    a = [column[:, None] for column in numerator.double().unbind(-1)]
    b = [column[:, None] for column in denominator.double().abs().unbind(-1)]
    size = value.abs()
    quotient = 1 + sum(b[j] * size ** (j + 1) for j in range(len(b)))
    f = sum(a[i] * value**i for i in range(len(a))) / quotient
    slope_p = sum(i * a[i] * value ** (i - 1) for i in range(1, len(a)))
    slope_q = sum((j + 1) * b[j] * size**j for j in range(len(b)))
    terms_a = torch.stack([g * value**i / quotient for i in range(len(a))], -1)
    signs = torch.where(denominator < 0, 1.0, -1.0).double()[:, None, :]
    terms_b = signs * torch.stack([g * f * size ** (j + 1) / quotient for j in range(len(b))], -1)
    values = {
        "y": f,
        "dx": g * (slope_p - f * torch.copysign(torch.ones_like(value), value) * slope_q) / quotient,
        "da": terms_a.sum((0, 1, 2))[None],
        "db": terms_b.sum((0, 2)),
    }
    scale_y = sum((a[i] * value**i).abs() for i in range(len(a))) / quotient
    scale_slope = sum((i * a[i] * value ** (i - 1)).abs() for i in range(1, len(a))) + f.abs() * slope_q
    allowed = {
        "y": (8 * rounding + rounding_of_result) * scale_y,
        "dx": (16 * rounding + rounding_of_result) * g.abs() * scale_slope / quotient,
        "da": 1e-5 * terms_a.square().sum((0, 1, 2)).sqrt()[None] + 1e-7 * values["da"].abs(),
        "db": 1e-5 * terms_b.square().sum((0, 2)).sqrt() + 1e-7 * values["db"].abs(),
    }
    return _Exact(values, allowed)


def _deviation(result: Tensor, exact: Tensor, allowed: Tensor) -> float:
    ratio = (result.double().view_as(exact) - exact).abs() / (allowed + torch.finfo(torch.float32).tiny)
    largest = float(ratio.max())
    return largest if math.isfinite(largest) else NOT_A_NUMBER
