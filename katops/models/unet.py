"""The U-Net of the MONAI package, behind the contract of operator models."""

from typing import Any

from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, normalise_boundary
from katops.layers.spatial import check_field, number_of_axes
from katops.models.build import register_net
from katops.models.neural_operators import check_sizes
from katops.models.padding import crop, extend, margins

PAPER = "arXiv:1505.04597"
GRIDS = 5
# Instance norms need more than one point on the coarsest of the five grids.
SMALLEST = 2 ** (GRIDS - 1)


class UNet(nn.Module):
    """U-Net (Ronneberger et al., arXiv 1505.04597; MONAI's ``BasicUNet``) on five grids, GELU, instance norms.

    (batch, in_channels, \\*space) -> (batch, out_channels, \\*space). A grid that cannot be halved four times, or not
    twice more than once, is extended at its upper end (wrapped on periodic axes, the last value repeated elsewhere) and
    the result cropped. The convolutions themselves see zeros beyond the grid, whatever ``boundary`` says.

    Args:
        in_channels, out_channels: channels of input and output.
        hidden_channels: width on the finest grid; 1, 2, 4, 8 and 16 times that from fine to coarse.
        boundary: decides which axes are periodic.
        spatial_dims: 1, 2 or 3; by default the number of axes spelled out in ``boundary``, or 2.

    Raises:
        UserError: a size is not positive, or the ``monai`` package is missing.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        hidden_channels: int = 32,
        boundary: Boundary = "dirichlet",
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes("UNet", in_channels=in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        n_axes = number_of_axes(boundary, spatial_dims=spatial_dims)
        self.boundary = normalise_boundary(boundary, n_axes, STENCIL_BOUNDARIES)
        try:
            from monai.networks.nets import BasicUNet
        except ImportError as error:
            raise UserError(f'unet needs the monai package: pip install "katops[baselines]" ({error})') from error
        widths = [hidden_channels * 2**level for level in range(GRIDS)]
        self.net = BasicUNet(
            spatial_dims=n_axes,
            in_channels=in_channels,
            out_channels=out_channels,
            features=(*widths, hidden_channels),
            act="GELU",
        )

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """y for x; ``time`` belongs to the contract of operator models and has no influence here."""
        check_field(x, self.in_channels, len(self.boundary), "UNet")
        space = x.shape[2:]
        extra = margins(space, self.boundary, 0.0, SMALLEST)
        if max(length + points for length, points in zip(space, extra, strict=True)) == SMALLEST:
            extra[0] += SMALLEST
        return crop(self.net(extend(x, extra, self.boundary)), space)


@register_net(summary="U-Net on five grids, from the MONAI package", paper=PAPER)
def unet(**options: Any) -> UNet:
    """U-Net with the defaults of the class."""
    return UNet(**options)
