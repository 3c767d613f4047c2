"""The arithmetic of efficient-kan, written down from its formulas: the peer of ``kan.py``, which no package installs.

A layer keeps one base weight, one row of spline coefficients and one scale per edge. Per call: the recursion of Cox and
de Boor over the degree on a tensor of rows, inputs and functions; the coefficients times their scales; two matrix
products.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class TranscribedLayer(nn.Module):
    """y = W^b silu(x) + (s c) . B(x) on one uniform grid for all inputs, knots stored per input."""

    def __init__(self, in_features: int, out_features: int, intervals: int = 5, degree: int = 3) -> None:
        super().__init__()
        self.degree = degree
        step = 2 / intervals
        knots = torch.arange(-degree, intervals + degree + 1) * step - 1
        self.register_buffer("knots", knots.expand(in_features, -1).contiguous())
        self.base = nn.Parameter(torch.randn(out_features, in_features) * in_features**-0.5)
        self.coefficients = nn.Parameter(0.1 * torch.randn(out_features, in_features, intervals + degree))
        self.scale = nn.Parameter(torch.ones(out_features, in_features))

    def forward(self, x: Tensor) -> Tensor:
        scaled = self.coefficients * self.scale.unsqueeze(-1)
        return functional.linear(functional.silu(x), self.base) + functional.linear(
            self.basis(x).flatten(1), scaled.flatten(1)
        )

    def basis(self, x: Tensor) -> Tensor:
        """(rows, inputs) -> (rows, inputs, functions)."""
        x, t = x.unsqueeze(-1), self.knots
        values = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
        for p in range(1, self.degree + 1):
            rise = (x - t[:, : -p - 1]) / (t[:, p:-1] - t[:, : -p - 1])
            fall = (t[:, p + 1 :] - x) / (t[:, p + 1 :] - t[:, 1:-p])
            values = rise * values[..., :-1] + fall * values[..., 1:]
        return values


class TranscribedKAN(nn.Sequential):
    """Layers one behind the other."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__(*(TranscribedLayer(*pair) for pair in pairwise(widths)))
