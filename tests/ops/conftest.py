"""What the tests of the kernels share: the function by its definition in float64, with the error that is allowed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from katops.ops.memory_layout import GroupLayout, flat
from katops.ops.rational_kernels import RationalKernels


def _by_definition(x: Tensor, g: Tensor, a: Tensor, b: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """y, dx and the terms of da and db on [outer, groups, inner] in float64, each with its error scale."""
    columns = [t.double()[..., None].unbind(1) for t in (a, b)]
    size, side = x.abs(), torch.copysign(torch.ones_like(x), x)
    p_terms = [c * x**i for i, c in enumerate(columns[0])]
    p_slopes = [i * c * x ** (i - 1) for i, c in enumerate(columns[0]) if i]
    zero = torch.zeros_like(x)
    q = 1 + sum((c.abs() * size**j for j, c in enumerate(columns[1], 1)), zero)
    q_slope = sum((j * c.abs() * size ** (j - 1) for j, c in enumerate(columns[1], 1)), zero)
    f = sum(p_terms) / q
    powers = [g * x**i / q for i in range(a.shape[1])]
    signs = [torch.where(c < 0, -1.0, 1.0) for c in columns[1]]
    weighted = [-sign * g * f * size**j / q for j, sign in enumerate(signs, 1)]
    slope_scale = sum(map(torch.abs, p_slopes), zero) + f.abs() * q_slope
    return {
        "y": (f, sum(map(torch.abs, p_terms)) / q),
        "x": (g * (sum(p_slopes, zero) - f * side * q_slope) / q, g.abs() * slope_scale / q),
        "numerator": _sums(powers, a),
        "denominator": _sums(weighted, b),
    }


def _sums(terms: list[Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of the terms over all but the groups, or over all of them, and the root of the sum of their squares."""
    if not terms:
        return torch.zeros(like.shape).double(), torch.zeros(like.shape).double()
    axes = (1, 3) if len(like) > 1 else (1, 2, 3)
    stacked = torch.stack(terms)
    return tuple(t.sum(axes).reshape(like.shape[1], -1).T for t in (stacked, stacked**2))


@pytest.fixture(scope="session")
def assert_right() -> Callable[..., None]:
    """Forward and backward of some kernels against the definition in float64, within the error of a few roundings."""

    def check(
        kernels: RationalKernels,
        x: Tensor,
        gradient: Tensor,
        a: Tensor,
        b: Tensor,
        layout: GroupLayout,
    ) -> None:
        compute = torch.float64 if x.dtype == torch.float64 else torch.float32
        y = kernels.forward(x, a, b, layout, gradient.dtype)
        grad_x, grad_a, grad_b = kernels.backward(x, gradient, a, b, layout, (True, True, True))
        assert (y.dtype, grad_x.dtype, grad_a.dtype, grad_b.dtype) == (gradient.dtype, x.dtype, a.dtype, b.dtype)
        assert y.stride() == grad_x.stride() == x.stride()
        expected = _by_definition(flat(x).view(layout).double(), flat(gradient).view(layout).double(), a, b)
        for name, given, roundings in (("y", y, 8), ("x", grad_x, 16)):
            value, scale = expected[name]
            error = (flat(given).view(layout).double() - value).abs()
            allowed = roundings * torch.finfo(compute).eps * scale + 0.51 * torch.finfo(given.dtype).eps * value.abs()
            assert (error <= allowed).all(), f"{name}: {(error / allowed).max()} times the allowed error"
        unit = 1.0 if compute == torch.float32 else 1e-7
        for name, given in (("numerator", grad_a), ("denominator", grad_b)):
            value, squares = expected[name]
            error = (given.double() - value).abs()
            allowed = unit * (1e-5 * squares.sqrt() + 1e-7 * value.abs())
            assert (error <= allowed).all(), f"{name}: {(error / allowed).max()} times the allowed error"

    return check
