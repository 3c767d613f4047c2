"""Zero mean and unit variance along the last axis, keeping the result alone for the way back."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from katops.ops.eager_mode import trains_on_the_cpu


def normalise(x: Tensor, eps: float) -> Tensor:
    """z = (x - mean) / sqrt(variance + eps), moments over the last axis, the variance around the mean.

    The gradient is a function of z and s = 1 / sqrt(variance + eps),

        dx = s (dz - mean(dz) - z mean(z dz)),

    so that what a layer before makes of x need not be kept where z is, by whatever multiplies it.

    Args:
        x: (\\*any, channels).
        eps: added to the variance.
    """
    if trains_on_the_cpu(x):
        return _KeepingResult.apply(x, eps)[0]
    return functional.layer_norm(x, x.shape[-1:], eps=eps)


class _KeepingResult(torch.autograd.Function):
    """forward(x, eps) -> z, s."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        z, _, s = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(z, s)
        ctx.set_materialize_grads(False)
        return z, s

    @staticmethod
    def backward(ctx: Any, dz: Tensor | None, ds: Tensor | None) -> tuple[Tensor | None, None]:
        z, s = ctx.saved_tensors
        dx = None
        if dz is not None and torch.is_grad_enabled():
            dx = s * (dz - dz.mean(-1, keepdim=True) - z * (z * dz).mean(-1, keepdim=True))
        elif dz is not None:
            # The kernel for z in the place of x, whose mean is 0 and whose variance counts as 1.
            unit = [torch.zeros_like(s), torch.ones_like(s)]
            kernel = torch.ops.aten.native_layer_norm_backward
            dx = kernel(dz, z, z.shape[-1:], *unit, None, None, [True, False, False])[0].mul_(s)
        if ds is not None:
            through_s = ds * s.square() * z / -z.shape[-1]
            dx = through_s if dx is None else dx + through_s
        return dx, None
