"""Cosine attention within shifted windows (Liu et al., SwinV2, arXiv 2111.09883, as scOT uses it)."""

import math

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.layers.position_bias import PositionBias
from katops.layers.windows import Windows, enter, leave, merge_heads, split_heads
from katops.ops.cosine_attention import cosine_attention

PAPER = "arXiv:2111.09883"
LARGEST_SCALE = 100.0
INITIAL_SCALE = 10.0


class CosineAttention(nn.Module):
    """softmax(s_h <q/|q|, k/|k|> + bias_h + mask) v in every window and head, tokens in, tokens out.

    q = W_q x + b_q, k = W_k x, v = W_v x + b_v; s_h = min(exp(logit_scale_h), 100); the bias is
    :class:`katops.layers.position_bias.PositionBias`. There is no division by the root of the width of a head.

    Args:
        channels: width; a multiple of ``num_heads``.
        num_heads: heads.
        qkv_bias: whether b_q and b_v are there.
        dropout: rate of dropout of the attention weights.

    Raises:
        UserError: the heads do not divide the channels.
    """

    def __init__(self, channels: int, num_heads: int, qkv_bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise UserError(f"window attention: {num_heads} heads do not divide {channels} channels")
        self.num_heads, self.dropout = num_heads, dropout
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(INITIAL_SCALE)))
        self.continuous_position_bias_mlp = PositionBias(num_heads)
        self.query = nn.Linear(channels, channels, bias=qkv_bias)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=qkv_bias)

    def forward(self, x: Tensor, windows: Windows, mask: Tensor | None = None) -> Tensor:
        """(batch, \\*padded, channels) as :func:`katops.layers.windows.enter` gives them -> the same shape."""
        query, key, value = (
            split_heads(part(x), windows, self.num_heads) for part in (self.query, self.key, self.value)
        )
        scale = self.logit_scale.clamp(max=math.log(LARGEST_SCALE)).exp().flatten()
        table = self.continuous_position_bias_mlp(windows.size)
        y = cosine_attention(query, key, value, scale, table, mask, self.dropout if self.training else 0.0)
        return merge_heads(y, windows)


class WindowAttention(nn.Module):
    """Cosine attention in windows and a linear map behind it, on tokens (batch, rows, columns, channels).

    The parts have the names of the published checkpoints.

    Args:
        channels, num_heads, qkv_bias: see :class:`CosineAttention`.
        dropout: rate of dropout of the result.
        attention_dropout: rate of dropout of the attention weights.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self = CosineAttention(channels, num_heads, qkv_bias, attention_dropout)
        self.output = nn.ModuleDict({"dense": nn.Linear(channels, channels), "dropout": nn.Dropout(dropout)})

    def forward(self, x: Tensor, windows: Windows, mask: Tensor | None = None) -> Tensor:
        """Attention in ``windows``; ``mask`` is their :func:`katops.layers.windows.attention_mask`."""
        y = self.self(enter(x, windows), windows, mask)
        return leave(self.output["dropout"](self.output["dense"](y)), windows)
