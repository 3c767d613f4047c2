"""The B-spline basis for eager mode on the CPU: kernels forward and backward, the definition for what lies beyond."""

from typing import Any

import torch
from torch import Tensor

from katops.ops.bspline_backends import BSPLINE
from katops.ops.bspline_definition import basis_by_definition
from katops.ops.dispatch import forced_backend
from katops.ops.eager_mode import derivatives_of


class BasisFunction(torch.autograd.Function):
    """forward(x, knots, degree, extrapolation) -> (..., inputs, functions); keeps x and the knots."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: Tensor, degree: int, extrapolation: str) -> Tensor:
        ctx.save_for_backward(x, knots)
        ctx.options, ctx.backend = (degree, extrapolation), forced_backend()
        return BSPLINE.run("values", x.device, (x.dtype,), (x, knots, degree, extrapolation), ctx.backend)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, knots = ctx.saved_tensors
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        batched = torch._C._are_functorch_transforms_active() or torch._C._functorch.is_legacy_batchedtensor(gradient)
        if torch.is_grad_enabled() or batched:
            (grad_x,) = derivatives_of(basis_by_definition, (x,), gradient, knots, *ctx.options)
        else:
            arguments = (x, gradient, knots, *ctx.options)
            grad_x = BSPLINE.run("gradient", x.device, (x.dtype,), arguments, ctx.backend)
        return grad_x, None, None, None
