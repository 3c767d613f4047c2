"""From fields to tokens (batch, rows, columns, channel) and back, and between grids of tokens of half the length."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from katops.layers.grid_ends import complete, pad_ends
from katops.layers.windows import Pair

# Called with a width; makes a norm of tokens that is called with a time.
Norm = Callable[[int], nn.Module]
WINDOW_OF_MIXUP = 5


class PatchProjection(nn.Module):
    """A convolution whose stride is its width: field (batch, channel, x, y) -> tokens.

    Args:
        in_channels: of the field.
        width: of the tokens.
        patch_size: points per axis that make one token.
        wrap: for each axis whether it is periodic, where its length is no multiple of ``patch_size``.
    """

    def __init__(self, in_channels: int, width: int, patch_size: int, wrap: Sequence[bool]) -> None:
        super().__init__()
        self.patch_size, self.wrap = patch_size, tuple(wrap)
        self.projection = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(complete(x, self.patch_size, (2, 3), self.wrap)).permute(0, 2, 3, 1)


class PatchEmbedding(nn.Module):
    """Patches as tokens, normalised; parts have the published names.

    Args:
        in_channels, width, patch_size, wrap: see :class:`PatchProjection`.
        norm: makes the norm.
        dropout: rate.
    """

    def __init__(
        self, in_channels: int, width: int, patch_size: int, norm: Norm, dropout: float, wrap: Sequence[bool]
    ) -> None:
        super().__init__()
        self.patch_embeddings = PatchProjection(in_channels, width, patch_size, wrap)
        self.norm = norm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.dropout(self.norm(self.patch_embeddings(x), time))


class PatchMerging(nn.Module):
    """Four neighbours become one token of twice the width: linear map, then norm.

    Args:
        channels: width before.
        norm: makes the norm.
        wrap: for each axis whether it is periodic, where its length is odd.
    """

    def __init__(self, channels: int, norm: Norm, wrap: Sequence[bool]) -> None:
        super().__init__()
        self.wrap = tuple(wrap)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = norm(2 * channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = complete(x, 2, (1, 2), self.wrap)
        batch, rows, columns, channels = x.shape
        # Neighbours in the order of the published weights: down the first column, then down the second.
        x = x.view(batch, rows // 2, 2, columns // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return self.norm(self.reduction(x.reshape(batch, rows // 2, columns // 2, 4 * channels)), time)


class PatchUnmerging(nn.Module):
    """One token becomes four of half the width: linear map, norm, linear map.

    Args:
        channels: width before.
        norm: makes the norm.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.upsample = nn.Linear(channels, 2 * channels, bias=False)
        self.mixup = nn.Linear(channels // 2, channels // 2, bias=False)
        self.norm = norm(channels // 2)

    def forward(self, x: Tensor, time: Tensor, grid: Pair) -> Tensor:
        """``grid`` is the result's; an odd axis loses the token that merging added."""
        batch, rows, columns, channels = x.shape
        x = self.upsample(x).view(batch, rows, columns, 2, 2, channels // 2).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, 2 * rows, 2 * columns, channels // 2)[:, : grid[0], : grid[1]]
        return self.mixup(self.norm(x, time))


class PatchRecovery(nn.Module):
    """Tokens -> field: each token becomes a patch, and a 5 x 5 convolution smooths the seams.

    Args:
        width: of the tokens.
        out_channels: of the field.
        patch_size: points per axis of a patch.
        wrap: for each axis whether the convolution reaches across its ends.
    """

    def __init__(self, width: int, out_channels: int, patch_size: int, wrap: Sequence[bool]) -> None:
        super().__init__()
        self.wrap = tuple(wrap)
        self.projection = nn.ConvTranspose2d(width, out_channels, patch_size, stride=patch_size)
        self.mixup = nn.Conv2d(out_channels, out_channels, WINDOW_OF_MIXUP, bias=False)

    def forward(self, x: Tensor, space: Sequence[int]) -> Tensor:
        """``space`` is the result's; what patches reach beyond it is left out."""
        field = self._patches(x)[:, : space[0], : space[1]].permute(0, 3, 1, 2)
        return self.mixup(pad_ends(field, WINDOW_OF_MIXUP // 2, self.wrap)).contiguous()

    def _patches(self, x: Tensor) -> Tensor:
        """The transposed convolution, whose patches do not overlap, as a product of matrices; channels last."""
        weight, p = self.projection.weight, self.projection.kernel_size[0]
        batch, rows, columns, width = x.shape
        channels = weight.shape[1]
        patches = functional.linear(
            x, weight.permute(2, 3, 1, 0).reshape(-1, width), self.projection.bias.repeat(p * p)
        )
        patches = patches.view(batch, rows, columns, p, p, channels).transpose(2, 3)
        return patches.reshape(batch, rows * p, columns * p, channels)
