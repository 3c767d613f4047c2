"""Relative positions in a window, and the bias that a small net makes of them (SwinV2, arXiv 2111.09883)."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from katops.layers.windows import Pair
from katops.ops.position_net import position_net

HIDDEN = 512
HIGHEST = 16.0


def relative_coordinates(window: Pair, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Where a query lies as seen from a key, (2 rows - 1, 2 columns - 1, 2), last axis (row, column).

        f(r) = sign(z) log2(1 + |z|) / log2(8),   z = 8 r / (w - 1),   r = -(w - 1), ..., w - 1

    An axis with one token has the coordinate 0.
    """
    axes = []
    for length in window:
        z = 8 * torch.arange(1 - length, length, device=device, dtype=dtype or torch.float32) / max(length - 1, 1)
        axes.append(z.sign() * z.abs().log1p() / math.log(8))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


class PositionBias(nn.Sequential):
    """b = 16 sigmoid(W2 relu(W1 c + b1)) for every head and relative position, c its coordinates.

    It depends on the parameters alone. Where no gradient of it is wanted, in evaluation mode, the last one is kept
    until the window or a parameter changes (in place, or for another one; a change through ``.data`` shows after the
    next pass in training mode). Copies and pickles of the layer do not hold it.

    Args:
        num_heads: h.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__(nn.Linear(2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, num_heads, bias=False))
        self._kept: _Kept | None = None

    def forward(self, window: Pair) -> Tensor:
        """(h, 2 rows - 1, 2 columns - 1) for a window of (rows, columns) tokens, in the precision of the parameters."""
        if self.training:
            self._kept = None
        if self.training or torch.compiler.is_compiling() or not self._is_constant():
            return self._evaluated(window)
        if self._kept is None or not self._kept.holds(window, self):
            self._kept = _Kept(window, self, self._evaluated(window))
        return self._kept.table

    def _evaluated(self, window: Pair) -> Tensor:
        first, act, last = self
        coordinates = relative_coordinates(window, first.weight.device, first.weight.dtype)
        device = first.weight.device.type
        # There is no autocast for the device without values.
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            rows = coordinates.flatten(0, 1)
            if (type(first), type(act), type(last)) == (nn.Linear, nn.ReLU, nn.Linear):
                values = position_net(rows, first.weight, first.bias, last.weight)
            else:
                values = super().forward(rows)  # somebody put other parts in
            return HIGHEST * values.t().sigmoid().unflatten(1, coordinates.shape[:2])

    def _is_constant(self) -> bool:
        wanted = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters())
        return not wanted and not any(parameter.is_inference() for parameter in self.parameters())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self._kept = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


class _Kept:
    """A table with what it was made of. Parameters are held, not their addresses, which others may get after them."""

    def __init__(self, window: Pair, layer: nn.Module, table: Tensor) -> None:
        self.window, self.table = window, table
        self.inference = torch.is_inference_mode_enabled()
        self.parameters = [(parameter, parameter._version) for parameter in layer.parameters()]

    def holds(self, window: Pair, layer: nn.Module) -> bool:
        """Whether it is still the one of the layer."""
        same = all(
            parameter is kept and parameter._version == version
            for parameter, (kept, version) in zip(layer.parameters(), self.parameters, strict=True)
        )
        return same and self.window == window and self.inference == torch.is_inference_mode_enabled()
