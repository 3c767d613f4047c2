"""GR-KAN layers with the parameters of an existing linear map: y = W F(x) + b (Yang & Wang 2024, arXiv 2409.10594).

They are subclasses of the maps that they replace and name the parameters alike, so that everything that looks for
``fc1.weight`` or for an ``nn.Linear`` finds it, and the original state dict is a part of the new one.
"""

from torch import Tensor, nn

from katops.layers.group_rational import GroupRational


class RationalLinear(nn.Linear):
    """y = W F(x) + b on the last axis, (..., in_features) -> (..., out_features), F the group rational function.

    Args:
        linear: gives weight and bias; they are the same parameters, not copies.
        rational: F, for ``linear.in_features`` channels on the last axis.
    """

    def __init__(self, linear: nn.Linear, rational: GroupRational) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.rational = rational

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self.rational(input))


class RationalConv2d(nn.Conv2d):
    """y = W F(x) + b in each pixel, (b, in_channels, h, w) -> (b, out_channels, h, w), F the group rational function.

    Args:
        convolution: 1 x 1; gives weight and bias, which are the same parameters, not copies.
        rational: F, for ``convolution.in_channels`` channels on axis 1.
    """

    def __init__(self, convolution: nn.Conv2d, rational: GroupRational) -> None:
        has_bias = convolution.bias is not None
        super().__init__(convolution.in_channels, convolution.out_channels, 1, bias=has_bias, device="meta")
        self.weight, self.bias = convolution.weight, convolution.bias
        self.rational = rational

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self.rational(input))
