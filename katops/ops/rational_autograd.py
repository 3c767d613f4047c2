"""The ways in which the group rational function meets autograd, see :func:`katops.ops.rational.group_rational`.

Eager
    An autograd function around the kernels, the cheapest per call. Its derivative is another one around the backward
    kernel, whose derivatives in turn, the second and higher ones, come from the definition in plain torch.
Opaque
    The same around the operators of :mod:`katops.ops.rational_library`, in the form that torch.compile can trace. It
    has no forward-mode derivative: one would break ``fullgraph=True``.
Functional
    For torch.func's reverse mode and vmap, and for tensor subclasses: the definition, with its derivatives by hand.
Composite
    For forward-mode derivatives, and for torch.func inside of torch.compile: a function of plain operations. PyTorch
    2.14 takes the second forward derivative of an autograd function to be zero, and its compiler, under torch.func,
    leaves the backward pass of one away.
"""

from typing import Any

import torch
from torch import Tensor

from katops.ops import rational_backends, rational_library  # noqa: F401 - the operators are defined on import
from katops.ops.dispatch import forced_backend
from katops.ops.rational_definition import rational_composite, rational_gradients, rational_value
from katops.ops.rational_kernels import Gradients


class Eager(torch.autograd.Function):
    """forward(x, numerator, denominator, channel_dim, dtype) by the kernels."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(x, numerator, denominator)
        ctx.channel_dim, ctx.backend = channel_dim, forced_backend()
        return rational_backends.forward(x, numerator, denominator, channel_dim, dtype, ctx.backend)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, numerator, denominator = ctx.saved_tensors
        if torch._C._are_functorch_transforms_active() or torch._C._functorch.is_legacy_batchedtensor(gradient):
            return *gradients_by_definition(x, gradient, numerator, denominator, ctx.channel_dim), None, None
        inputs = (x, gradient, numerator, denominator, ctx.channel_dim, ctx.needs_input_grad[:3], ctx.backend)
        # with create_graph=True the derivative itself is to be differentiated
        differentiate = EagerBackward.apply if torch.is_grad_enabled() else rational_backends.backward
        return *differentiate(*inputs), None, None


class EagerBackward(torch.autograd.Function):
    """forward(x, gradient, numerator, denominator, ...) by the backward kernel; its derivatives by the definition."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gradient: Tensor,
        numerator: Tensor,
        denominator: Tensor,
        channel_dim: int,
        needs: tuple[bool, bool, bool],
        backend: str | None,
    ) -> Gradients:
        ctx.save_for_backward(x, gradient, numerator, denominator)
        ctx.set_materialize_grads(False)
        ctx.channel_dim = channel_dim
        return rational_backends.backward(x, gradient, numerator, denominator, channel_dim, needs, backend)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(cotangent is None for cotangent in cotangents):
            return (None,) * 7
        # Third and higher orders need the way back to where the inputs came from, the second one does not. In both
        # cases tensors of their own: the gradient may depend on x, a path for the outer engine, not for the inner one.
        create_graph = torch.is_grad_enabled()
        inputs = [
            tensor.view_as(tensor) if create_graph and tensor.requires_grad else tensor.detach().requires_grad_()
            for tensor in ctx.saved_tensors
        ]
        with torch.enable_grad():
            outputs = gradients_by_definition(*inputs, ctx.channel_dim)
            pairs = zip(outputs, cotangents, strict=True)
            reached, weights = zip(*(pair for pair in pairs if pair[1] is not None), strict=True)
            given = torch.autograd.grad(reached, inputs, weights, create_graph=create_graph, allow_unused=True)
        return *given, None, None, None


class Opaque(torch.autograd.Function):
    """forward(x, numerator, denominator, channel_dim, dtype) by the operators that compilers do not look into."""

    @staticmethod
    def forward(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, dtype: torch.dtype) -> Tensor:
        return torch.ops.katops.rational_forward(x, numerator, denominator, channel_dim, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, numerator, denominator, ctx.channel_dim, _ = inputs
        ctx.save_for_backward(x, numerator, denominator)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, numerator, denominator = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return *gradients_by_definition(x, gradient, numerator, denominator, ctx.channel_dim), None, None
        needs = ctx.needs_input_grad[:3]
        given = torch.ops.katops.rational_backward(x, gradient, numerator, denominator, ctx.channel_dim, *needs)
        return *[tensor if need else None for tensor, need in zip(given, needs, strict=True)], None, None


class Functional(torch.autograd.Function):
    """forward(x, numerator, denominator, channel_dim, dtype) by the definition, for transforms and subclasses."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, dtype: torch.dtype) -> Tensor:
        return value_by_definition(x, numerator, denominator, channel_dim, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, numerator, denominator, ctx.channel_dim, _ = inputs
        ctx.save_for_backward(x, numerator, denominator)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, numerator, denominator = ctx.saved_tensors
        return *gradients_by_definition(x, gradient, numerator, denominator, ctx.channel_dim), None, None


def value_by_definition(
    x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, dtype: torch.dtype
) -> Tensor:
    """y in plain torch, without derivatives."""
    grouped, trailing = _grouped(x, numerator, denominator, channel_dim)
    return rational_value(grouped, numerator, denominator, trailing, dtype).reshape(x.shape)


def composite(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, dtype: torch.dtype) -> Tensor:
    """y in plain torch, to be differentiated operation by operation."""
    grouped, trailing = _grouped(x, numerator, denominator, channel_dim)
    return rational_composite(grouped, numerator, denominator, trailing, dtype).reshape(x.shape)


def gradients_by_definition(
    x: Tensor, gradient: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The three gradients as differentiable operations of plain torch."""
    grouped, trailing = _grouped(x, numerator, denominator, channel_dim)
    grad_x, grad_numerator, grad_denominator = rational_gradients(
        grouped, gradient.reshape(grouped.shape), numerator, denominator, trailing
    )
    return grad_x.reshape(x.shape), grad_numerator, grad_denominator


def _grouped(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int) -> tuple[Tensor, int]:
    """x as (..., groups, \\*trailing), and the number of trailing axes."""
    groups = max(len(numerator), len(denominator))
    grouped = x.unflatten(channel_dim, (groups, x.shape[channel_dim] // groups))
    return grouped, x.ndim - channel_dim % x.ndim
