"""ConvNeXt's block with a norm that may know the time (Liu et al., arXiv 2201.03545)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from katops.layers.activation import build_activation
from katops.layers.grid_ends import pad_ends
from katops.layers.patches import Norm

WIDTH_OF_KERNEL = 7
INITIAL_SCALE = 1e-6


class ConvNeXtBlock(nn.Module):
    """x + gamma MLP(norm(depthwise 7 x 7 convolution of x)) on tokens; gamma, one number per channel, is ``weight``.

    Parts have the published names.

    Args:
        channels: width.
        norm: makes the norm.
        act_layer: activation between ``pwconv1`` and ``pwconv2``, four times as wide.
        mlp_layer: channel mixer in the place of these two, called with in_features=, hidden_features=, out_features=.
        wrap: for each axis whether the convolution reaches across its ends.
    """

    def __init__(
        self,
        channels: int,
        norm: Norm,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        mlp_layer: Callable[..., nn.Module] | None = None,
        wrap: Sequence[bool] = (False, False),
    ) -> None:
        super().__init__()
        self.wrap = tuple(wrap)
        self.weight = nn.Parameter(torch.full((channels,), INITIAL_SCALE))
        self.dwconv = nn.Conv2d(channels, channels, WIDTH_OF_KERNEL, groups=channels)
        self.norm = norm(channels)
        if mlp_layer is None:
            self.mlp = None
            self.pwconv1 = nn.Linear(channels, 4 * channels)
            self.act = build_activation(act_layer, 4 * channels)
            self.pwconv2 = nn.Linear(4 * channels, channels)
        else:
            self.mlp = mlp_layer(in_features=channels, hidden_features=4 * channels, out_features=channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.norm(self._convolved(x), time)
        y = self.pwconv2(self.act(self.pwconv1(y))) if self.mlp is None else self.mlp(y)
        return torch.addcmul(x, y, self.weight.to(y.dtype))

    def _convolved(self, x: Tensor) -> Tensor:
        fields, half = x.permute(0, 3, 1, 2), WIDTH_OF_KERNEL // 2
        if any(self.wrap):
            return self.dwconv(pad_ends(fields, half, self.wrap)).permute(0, 2, 3, 1)
        # The convolution itself knows zeros beyond the ends; they need no copy of the field.
        weight, bias, groups = self.dwconv.weight, self.dwconv.bias, self.dwconv.groups
        return functional.conv2d(fields, weight, bias, padding=half, groups=groups).permute(0, 2, 3, 1)
