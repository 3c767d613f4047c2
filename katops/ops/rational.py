"""The group rational function, differentiable, by the fastest backend there is.

    y = P(x) / Q(x),   P(x) = sum_{i=0..m} a_i x^i,   Q(x) = 1 + sum_{j=1..n} |b_j| |x|^j

with one pair (a, b) per group of neighbouring channels (Yang & Wang 2024, arXiv 2409.10594, equations 8 and 12; the
denominator is the one of the published kernels). Q >= 1, so there are no poles.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from katops.errors import UserError
from katops.ops.rational_autograd import Eager, Functional, Opaque, composite, value_by_definition
from katops.ops.rational_backends import RATIONAL, forward, prepare

__all__ = ["RATIONAL", "group_rational", "prepare"]


def group_rational(
    x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int = -1, dtype: torch.dtype | None = None
) -> Tensor:
    """y = P(x) / Q(x), with P of degree m and Q = 1 + sum_j |b_j| |x|^j of degree n, per group of channels.

    The number of groups is the larger of the first sizes of ``numerator`` and ``denominator``; a first size of 1 shares
    the coefficients among all groups. Channels c of C belong to group floor(c * groups / C).

    Gradients of any order exist, reverse and forward. Where the derivative is one-sided, |b|' = +1 at b = 0 (else a
    denominator that starts at zero would stay there) and |x|' = copysign(1, x). The backward pass keeps x and the
    coefficients, nothing else; its sums over a group come out the same, bit for bit, from run to run.

    Half-precision input is computed in float32 and rounded once; the gradients of the coefficients have the type of the
    coefficients.

    Huge input gives the right quotient even where P(x) and Q(x) themselves overflow; an infinite x gives the limit of
    P/Q; NaN gives NaN, in its own element and, backward, in the coefficients of its own group only. Where the incoming
    gradient is zero, x adds nothing to the coefficients' gradients, however large or infinite it is. The coefficients
    themselves are taken to be moderate, below 1e20 in float32.

    Plain tensors go to the fastest backend of their device (:mod:`katops.ops.rational_backends`); ``torch.compile`` and
    ``torch.export`` see one operator; torch.func's transforms, forward-mode differentiation, derivatives beyond the
    first, and tensor subclasses use the definition in plain torch.

    Args:
        x: any shape, floating point, in any memory layout.
        numerator: a, (groups or 1, m + 1), ascending powers; m >= 0.
        denominator: b, (groups or 1, n), from the first power on; n >= 0.
        channel_dim: axis of the channels.
        dtype: type of the result, by default that of ``x``.

    Returns:
        the shape of ``x``.

    Raises:
        UserError: the groups do not divide the channels, the coefficients have the wrong shape or are on another
            device, or a type is not floating point.
    """
    dtype = getattr(x, "dtype", None) if dtype is None else dtype
    _check(x, numerator, denominator, channel_dim, dtype)
    inputs = (x, numerator, denominator, channel_dim, dtype)
    return _compiled(*inputs) if torch.compiler.is_compiling() else _route(x, numerator, denominator)(*inputs)


def _compiled(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, dtype: torch.dtype) -> Tensor:
    """What torch.compile and the exporters see."""
    if torch.onnx.is_in_onnx_export():
        return value_by_definition(x, numerator, denominator, channel_dim, dtype)
    if torch._C._are_functorch_transforms_active():
        return composite(x, numerator, denominator, channel_dim, dtype)
    return Opaque.apply(x, numerator, denominator, channel_dim, dtype)


def _route(*tensors: Tensor) -> Callable[..., Tensor]:
    """How these tensors are to be computed and differentiated here, see :mod:`katops.ops.rational_autograd`."""
    if torch._C._is_tracing():
        return value_by_definition
    if forward_ad._current_level >= 0:
        return composite
    if torch._C._are_functorch_transforms_active():
        return Functional.apply
    if torch._C._len_torch_dispatch_stack():
        return Opaque.apply
    if not all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors):
        return Functional.apply
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return Eager.apply
    return forward


_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _check(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, dtype: torch.dtype) -> None:
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.dtype not in _TYPES or dtype not in _TYPES:
        given = f"{x.dtype} ({x.layout}) and {dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise UserError(
            f"group_rational: x must be a dense floating-point tensor of 16, 32 or 64 bits, and dtype such a type; "
            f"given: {given.replace('torch.', '')}"
        )
    for name, coefficients in (("numerator", numerator), ("denominator", denominator)):
        if coefficients.ndim != 2 or coefficients.dtype not in _TYPES:
            raise UserError(
                f"group_rational: the {name} must be a floating-point tensor (groups or 1, coefficients); "
                f"given: {tuple(coefficients.shape)} of {coefficients.dtype}"
            )
        if coefficients.device != x.device:
            raise UserError(
                f"group_rational: x is on {x.device}, the {name} on {coefficients.device}; move one of them"
            )
    groups = max(len(numerator), len(denominator))
    if not {len(numerator), len(denominator)} <= {1, groups} or groups == 0 or numerator.shape[1] == 0:
        raise UserError(
            f"group_rational: numerator {tuple(numerator.shape)} and denominator {tuple(denominator.shape)} must have "
            f"the same number of groups, or one of them a single row; the numerator needs a coefficient"
        )
    if not -x.ndim <= channel_dim < x.ndim:
        raise UserError(f"group_rational: channel_dim {channel_dim} is no axis of a tensor of shape {tuple(x.shape)}")
    channels = x.shape[channel_dim]
    if channels % groups:
        raise UserError(
            f"group_rational: {groups} groups do not divide {channels} channels (axis {channel_dim} of "
            f"{tuple(x.shape)}); choose a number of groups that does"
        )
