"""The stages of scOT: transformer layers on one grid of tokens, and the way to the next grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature

from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from katops.layers.activation import build_activation
from katops.layers.convnext_block import ConvNeXtBlock
from katops.layers.patches import Norm, PatchMerging, PatchUnmerging
from katops.layers.resnet_block import ResNetBlock
from katops.layers.window_attention import WindowAttention
from katops.layers.windows import AttentionMasks, Pair, Windows, cut

SKIP_BLOCKS = ("convnext", "resnet")


@dataclass(frozen=True)
class Parts:
    """What all layers of a model are made of; see :class:`katops.models.scot.ScOT` for the meaning of the options.

    Attributes:
        norm: makes a norm inside a stage.
        edge_norm: makes a norm between stages and behind the embedding.
        wrap: for each axis whether windows and convolutions reach across its ends.
    """

    window_size: int
    mlp_ratio: float
    qkv_bias: bool
    dropout: float
    attention_dropout: float
    act_layer: Callable[..., nn.Module]
    mlp_layer: Callable[..., nn.Module] | None
    norm: Norm
    edge_norm: Norm
    wrap: tuple[bool, bool]
    padded_keys: bool
    skip_block: str

    def mixer(self) -> Callable[..., nn.Module] | None:
        """``mlp_layer``, called with those of the arguments that it takes."""
        return None if self.mlp_layer is None else partial(_with_accepted, self.mlp_layer)


class ScOTLayer(nn.Module):
    """a = x + norm(attention(x)), y = a + norm(W2 act(W1 a + b1) + b2): norms behind the branches, as in SwinV2.

    Args:
        channels, num_heads: width and heads.
        drop_path: rate of samples for which a branch is left out.
        parts: see :class:`Parts`.
    """

    def __init__(self, channels: int, num_heads: int, drop_path: float, parts: Parts) -> None:
        super().__init__()
        self.attention = WindowAttention(channels, num_heads, parts.qkv_bias, parts.dropout, parts.attention_dropout)
        self.layernorm_before, self.layernorm_after = parts.norm(channels), parts.norm(channels)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        hidden, mixer = int(parts.mlp_ratio * channels), parts.mixer()
        if mixer is None:
            self.mlp = None
            act = build_activation(parts.act_layer, hidden)
            self.intermediate = nn.ModuleDict({"dense": nn.Linear(channels, hidden), "act": act})
            self.output = nn.ModuleDict({"dense": nn.Linear(hidden, channels), "dropout": nn.Dropout(parts.dropout)})
        else:
            self.mlp = mixer(in_features=channels, hidden_features=hidden, out_features=channels)

    def forward(self, x: Tensor, time: Tensor, windows: Windows, mask: Tensor | None) -> Tensor:
        """Tokens (batch, rows, columns, channels) on the grid of ``windows``."""
        x = x + self.drop_path(self.layernorm_before(self.attention(x, windows, mask), time))
        return x + self.drop_path(self.layernorm_after(self._mixed(x), time))

    def _mixed(self, x: Tensor) -> Tensor:
        if self.mlp is not None:
            return self.mlp(x)
        hidden = self.intermediate["act"](self.intermediate["dense"](x))
        return self.output["dropout"](self.output["dense"](hidden))


class Stage(nn.Module):
    """Layers on one grid, every other one with shifted windows.

    Args:
        channels, num_heads: width and heads.
        drop_path: rates, one per layer.
        shift_first: whether the even layers are shifted instead of the odd ones.
        parts: see :class:`Parts`.
    """

    def __init__(
        self, channels: int, num_heads: int, drop_path: Sequence[float], shift_first: bool, parts: Parts
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ScOTLayer(channels, num_heads, rate, parts) for rate in drop_path)
        self.shift_first = shift_first
        self.window_size, self.wrap, self.padded_keys = parts.window_size, parts.wrap, parts.padded_keys
        self.grad_checkpointing = False
        self.masks = AttentionMasks()

    def windows(self, grid: Pair) -> list[Windows]:
        """How each layer cuts a grid."""
        return [
            cut(grid, self.window_size, (index + self.shift_first) % 2 == 1, self.wrap)
            for index in range(len(self.blocks))
        ]

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        windows = self.windows(x.shape[1:3])
        for block, cuts in zip(self.blocks, windows, strict=True):
            mask = self.masks(cuts, self.padded_keys, x.device, x.dtype)
            if self.grad_checkpointing:
                x = checkpoint(block, x, time, cuts, mask, use_reentrant=False)
            else:
                x = block(x, time, cuts, mask)
        return x


class EncoderStage(Stage):
    """A stage and, unless it is the last, the way to half the grid: u -> (y = layers(u), merge(y + u))."""

    def __init__(self, channels: int, num_heads: int, drop_path: Sequence[float], last: bool, parts: Parts) -> None:
        super().__init__(channels, num_heads, drop_path, False, parts)
        self.downsample = None if last else PatchMerging(channels, parts.edge_norm, parts.wrap)

    def forward(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens for the skip connection and those for the next stage."""
        y = super().forward(x, time)
        return y, y if self.downsample is None else self.downsample(y + x, time)


class DecoderStage(Stage):
    """A stage and, unless it is the finest, the way to twice the grid."""

    def __init__(self, channels: int, num_heads: int, drop_path: Sequence[float], finest: bool, parts: Parts) -> None:
        # Shifts mirror those of the encoder: the last layer is never shifted.
        super().__init__(channels, num_heads, drop_path, len(drop_path) % 2 == 0, parts)
        self.upsample = None if finest else PatchUnmerging(channels, parts.edge_norm)

    def forward(self, x: Tensor, time: Tensor, grid: Pair | None) -> Tensor:
        """``grid`` is the next stage's, ``None`` at the finest."""
        y = super().forward(x, time)
        return y if self.upsample is None else self.upsample(y, time, grid)


def skip_blocks(channels: int, count: int, parts: Parts) -> nn.Module:
    """What a skip connection passes through: ``count`` blocks, nothing but the tokens for 0."""
    if not count:
        return nn.Identity()
    if parts.skip_block == "resnet":
        return nn.ModuleList(ResNetBlock(channels, parts.wrap) for _ in range(count))
    return nn.ModuleList(
        ConvNeXtBlock(channels, parts.norm, parts.act_layer, parts.mixer(), parts.wrap) for _ in range(count)
    )


def _with_accepted(layer: Callable[..., nn.Module], **offered: int) -> nn.Module:
    parameters = signature(layer).parameters
    return layer(**{name: value for name, value in offered.items() if name in parameters})
