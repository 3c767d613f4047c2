"""The group rational function as two opaque operators of torch.library, for torch.compile, export and dispatch modes.

``katops::rational_forward`` and ``katops::rational_backward`` have no derivative of their own; the autograd functions
of :mod:`katops.ops.rational_autograd` connect them. Opaque also on the CPU, where the kernels' backward takes half the
time of what Inductor makes of the formula.
"""

import torch
from torch import Tensor

from katops.ops import rational_backends

_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)

torch.library.define(
    "katops::rational_forward",
    "(Tensor x, Tensor numerator, Tensor denominator, int channel_dim, ScalarType dtype) -> Tensor",
    tags=_TAGS,
)
torch.library.define(
    "katops::rational_backward",
    "(Tensor x, Tensor gradient, Tensor numerator, Tensor denominator, int channel_dim, bool need_x, "
    "bool need_numerator, bool need_denominator) -> (Tensor, Tensor, Tensor)",
    tags=_TAGS,
)


@torch.library.impl("katops::rational_forward", "CompositeExplicitAutograd")
def _forward(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, dtype: torch.dtype) -> Tensor:
    return rational_backends.forward(x, numerator, denominator, channel_dim, dtype)


@torch.library.register_fake("katops::rational_forward")
def _fake_forward(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(x, dtype=dtype)


@torch.library.impl("katops::rational_backward", "CompositeExplicitAutograd")
def _backward(
    x: Tensor,
    gradient: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    channel_dim: int,
    need_x: bool,
    need_numerator: bool,
    need_denominator: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = (x, numerator, denominator)
    needs = (need_x, need_numerator, need_denominator)
    given = rational_backends.backward(x, gradient, numerator, denominator, channel_dim, needs)
    return tuple(like.new_empty(0) if one is None else one for one, like in zip(given, inputs, strict=True))


@torch.library.register_fake("katops::rational_backward")
def _fake_backward(
    x: Tensor,
    gradient: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    channel_dim: int,
    need_x: bool,
    need_numerator: bool,
    need_denominator: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    needed = ((x, need_x), (numerator, need_numerator), (denominator, need_denominator))
    return tuple(torch.empty_like(like) if need else like.new_empty(0) for like, need in needed)
