"""Norms for the slot ``norm_layer``: called with the number of channels, they keep (batch, channel, \\*space).

Neither fixes the grid: a model that uses them runs on every resolution.
"""

from torch import Tensor, nn

from katops.errors import UserError
from katops.registry import LAYERS


@LAYERS.register(
    "group_norm",
    kind="norm",
    summary="mean and variance over groups of channels and all points",
    paper="arXiv:1803.08494",
)
class GroupNorm(nn.GroupNorm):
    """y = (x - mean) / sqrt(variance + 1e-5) * weight + bias, moments per sample over (channels of a group, \\*space).

    Args:
        channels: width.
        groups: number of groups; must divide ``channels``. 1 takes the whole field together, ``channels`` each alone.

    Raises:
        UserError: ``groups`` does not divide ``channels``.
    """

    def __init__(self, channels: int, groups: int = 1) -> None:
        if groups < 1 or channels % groups:
            raise UserError(f"group_norm: {groups} groups do not divide {channels} channels")
        super().__init__(groups, channels)


@LAYERS.register(
    "layer_norm", kind="norm", summary="mean and variance over the channels of each point", paper="arXiv:1607.06450"
)
class ChannelLayerNorm(nn.LayerNorm):
    """y = (x - mean) / sqrt(variance + 1e-5) * weight + bias, moments over the channels of each grid point.

    Args:
        channels: width.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
