"""A net with one hidden layer on few inputs, block by block, so that the hidden values never leave the cache."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from katops.ops.eager_mode import derivatives_of, trains_on_the_cpu

# Rows at once; with 512 hidden values a block of them takes a megabyte.
BLOCK = 512


def position_net(x: Tensor, weight: Tensor, bias: Tensor, out_weight: Tensor) -> Tensor:
    """y = relu(x W^T + b) V^T, (rows, inputs) -> (rows, outputs); x gets no gradient.

    For training on the CPU hidden values are computed again on the way back instead of kept.

    Args:
        x: (rows, inputs).
        weight, bias: W (hidden, inputs), b (hidden,).
        out_weight: V (outputs, hidden).
    """
    if trains_on_the_cpu(x, weight, bias, out_weight):
        return _InBlocks.apply(x, weight, bias, out_weight)
    return _definition(x, weight, bias, out_weight)


def _definition(x: Tensor, weight: Tensor, bias: Tensor, out_weight: Tensor) -> Tensor:
    return functional.linear(functional.linear(x, weight, bias).relu(), out_weight)


class _InBlocks(torch.autograd.Function):
    """forward(x, weight, bias, out_weight)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, out_weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias, out_weight)
        y, scratch = x.new_empty(len(x), len(out_weight)), _scratch(x, bias)
        for rows, results in zip(x.split(BLOCK), y.split(BLOCK), strict=True):
            hidden = torch.addmm(bias, rows, weight.t(), out=scratch[: len(rows)]).relu_()
            torch.mm(hidden, out_weight.t(), out=results)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        weight, bias, out_weight = parameters
        if torch.is_grad_enabled():
            return None, *derivatives_of(lambda *each: _definition(x, *each), parameters, gradient)
        dweight, dbias, dout = weight.new_zeros(weight.t().shape), torch.zeros_like(bias), torch.zeros_like(out_weight)
        scratch, other = _scratch(x, bias), _scratch(x, bias)
        for rows, dy in zip(x.split(BLOCK), gradient.split(BLOCK), strict=True):
            hidden = torch.addmm(bias, rows, weight.t(), out=scratch[: len(rows)]).relu_()
            dout.addmm_(dy.t(), hidden)
            dhidden = torch.mm(dy, out_weight, out=other[: len(rows)])
            torch.ops.aten.threshold_backward(dhidden, hidden, 0, grad_input=dhidden)
            # With the few inputs as rows the product is ten times as fast as with them as columns.
            dweight.addmm_(rows.t(), dhidden)
            dbias.add_(dhidden.sum(0))
        return None, dweight.t(), dbias, dout


def _scratch(x: Tensor, bias: Tensor) -> Tensor:
    """Memory for the hidden values of a block."""
    return x.new_empty(min(BLOCK, len(x)), len(bias))
