"""A residual block of two 3 x 3 convolutions with batch norms, on tokens."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from katops.layers.grid_ends import pad_ends

SLOPE = 0.01


class ResNetBlock(nn.Module):
    """x + bn2(conv2(leaky_relu(bn1(conv1(x))))) on tokens (batch, rows, columns, channels); parts have published names.

    Args:
        channels: width.
        wrap: for each axis whether the convolutions reach across its ends.
    """

    def __init__(self, channels: int, wrap: Sequence[bool] = (False, False)) -> None:
        super().__init__()
        self.wrap = tuple(wrap)
        self.conv1 = nn.Conv2d(channels, channels, 3)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``time`` belongs to the contract of skip blocks and has no influence here."""
        fields = x.permute(0, 3, 1, 2)
        y = functional.leaky_relu(self.bn1(self.conv1(pad_ends(fields, 1, self.wrap))), SLOPE)
        y = self.bn2(self.conv2(pad_ends(y, 1, self.wrap)))
        return (fields + y).permute(0, 2, 3, 1)
