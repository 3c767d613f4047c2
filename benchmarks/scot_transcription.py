"""scOT written down step by step as its description reads (arXiv 2405.19101 and the key layout of the checkpoints).

The yardstick of ``scot_step.py``: stock torch modules and operations, attention as scores, bias, mask, softmax and
product, a lookup of the position bias in every layer and call, norms from two plain moments. It has the published
state dict, so that golden files of the reference fit into it. Square grids that need no padding, one time per sample.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class TimeNorm(nn.Module):
    """Gain and shift are linear maps of the time; the variance is the mean of squares less the squared mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Linear(1, channels), nn.Linear(1, channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        mean = x.mean(dim=-1, keepdim=True)
        variance = (x**2).mean(dim=-1, keepdim=True) - mean**2
        x = (x - mean) / (variance + 1e-5).sqrt()
        time = time.reshape(-1, 1)
        gain, shift = self.weight(time), self.bias(time)
        while gain.ndim < x.ndim:
            gain, shift = gain.unsqueeze(1), shift.unsqueeze(1)
        return gain * x + shift


class Attention(nn.Module):
    """Cosine attention of the tokens (windows, n, channels) of each window among themselves."""

    def __init__(self, channels: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.continuous_position_bias_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, num_heads, bias=False)
        )
        self.query, self.value = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        offsets = 8 * torch.arange(1 - window, window) / (window - 1)
        offsets = offsets.sign() * torch.log2(1 + offsets.abs()) / math.log2(8)
        table = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), dim=-1)
        row, column = torch.arange(window**2) // window, torch.arange(window**2) % window
        index = (row[:, None] - row + window - 1) * (2 * window - 1) + column[:, None] - column + window - 1
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        windows, n, channels = x.shape
        query, key, value = (
            part(x).view(windows, n, self.num_heads, -1).permute(0, 2, 1, 3)
            for part in (self.query, self.key, self.value)
        )
        scores = functional.normalize(query, dim=-1) @ functional.normalize(key, dim=-1).transpose(-2, -1)
        scores = scores * self.logit_scale.clamp(max=math.log(100)).exp()
        table = self.continuous_position_bias_mlp(self.table).view(-1, self.num_heads)
        bias = table[self.index.view(-1)].view(n, n, self.num_heads).permute(2, 0, 1).contiguous()
        scores = scores + (16 * bias.sigmoid()).unsqueeze(0)
        if mask is not None:
            count = mask.shape[0]
            scores = scores.view(windows // count, count, self.num_heads, n, n)
            # Added twice, as in the published code.
            scores = scores + mask[None, :, None] + mask[None, :, None]
            scores = scores.view(-1, self.num_heads, n, n)
        y = scores.softmax(dim=-1) @ value
        return y.permute(0, 2, 1, 3).contiguous().view(windows, n, channels)


class Dense(nn.Module):
    """A linear map under the published name."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class Layer(nn.Module):
    """Attention in windows, then an MLP, each with a norm behind it; tokens (batch, g g, channels)."""

    def __init__(self, channels: int, num_heads: int, grid: int, window: int, shifted: bool, mlp_ratio: float) -> None:
        super().__init__()
        self.grid, self.window = grid, min(window, grid)
        self.shift = window // 2 if shifted and grid > window else 0
        self.attention = nn.Module()
        self.attention.self = Attention(channels, num_heads, self.window)
        self.attention.output = Dense(channels, channels)
        self.layernorm_before, self.layernorm_after = TimeNorm(channels), TimeNorm(channels)
        self.intermediate = Dense(channels, int(mlp_ratio * channels))
        self.output = Dense(int(mlp_ratio * channels), channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        a = x + self.layernorm_before(self.attended(x), time)
        return a + self.layernorm_after(self.output(functional.gelu(self.intermediate(a))), time)

    def attended(self, x: Tensor) -> Tensor:
        batch, _, channels = x.shape
        grid, window, shift = self.grid, self.window, self.shift
        x = x.view(batch, grid, grid, channels)
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        x = x.view(batch, grid // window, window, grid // window, window, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window**2, channels)
        y = self.attention.output(self.attention.self(x, self.mask(x) if shift else None))
        y = y.view(batch, grid // window, grid // window, window, window, channels)
        y = y.permute(0, 1, 3, 2, 4, 5).contiguous().view(batch, grid, grid, channels)
        if shift:
            y = torch.roll(y, (shift, shift), (1, 2))
        return y.view(batch, grid * grid, channels)

    def mask(self, x: Tensor) -> Tensor:
        region = torch.zeros(self.grid, self.grid, device=x.device)
        slices = (slice(-self.window), slice(-self.window, -self.shift), slice(-self.shift, None))
        for row, rows in enumerate(slices):
            for column, columns in enumerate(slices):
                region[rows, columns] = 3 * row + column
        count = self.grid // self.window
        region = region.view(count, self.window, count, self.window).permute(0, 2, 1, 3).reshape(-1, self.window**2)
        return torch.where(region[:, None] != region[:, :, None], -100.0, 0.0)


class Merging(nn.Module):
    """To half the grid and twice the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = TimeNorm(2 * channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        batch, length, channels = x.shape
        x = x.view(batch, math.isqrt(length), math.isqrt(length), channels)
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.norm(self.reduction(torch.cat(corners, dim=-1).view(batch, length // 4, 4 * channels)), time)


class Unmerging(nn.Module):
    """To twice the grid and half the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample = nn.Linear(channels, 2 * channels, bias=False)
        self.mixup = nn.Linear(channels // 2, channels // 2, bias=False)
        self.norm = TimeNorm(channels // 2)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        batch, length, channels = x.shape
        grid = math.isqrt(length)
        x = self.upsample(x).view(batch, grid, grid, 2, 2, channels // 2).permute(0, 1, 3, 2, 4, 5)
        return self.mixup(self.norm(x.reshape(batch, 4 * length, channels // 2), time))


class ConvNeXt(nn.Module):
    """Depthwise convolution, norm, MLP, scale, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 1e-6))
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = TimeNorm(channels)
        self.pwconv1, self.pwconv2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        batch, length, channels = x.shape
        grid = math.isqrt(length)
        y = self.dwconv(x.transpose(1, 2).reshape(batch, channels, grid, grid)).permute(0, 2, 3, 1)
        y = self.weight * self.pwconv2(functional.gelu(self.pwconv1(self.norm(y, time))))
        return x + y.reshape(batch, length, channels)


class TranscribedScOT(nn.Module):
    """(batch, in_channels, n, n) and (batch,) -> (batch, out_channels, n, n), n being ``image_size``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_size: int = 128,
        patch_size: int = 4,
        embed_dim: int = 48,
        depths: Sequence[int] = (4, 4, 4, 4),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        skip_connections: Sequence[int] = (2, 2, 2, 0),
        window_size: int = 16,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        levels = range(len(depths))
        widths = [embed_dim * 2**level for level in levels]
        self.grid = image_size // patch_size
        self.embeddings = nn.Module()
        self.embeddings.patch_embeddings = nn.Module()
        self.embeddings.patch_embeddings.projection = nn.Conv2d(in_channels, embed_dim, patch_size, patch_size)
        self.embeddings.norm = TimeNorm(embed_dim)

        def stage(level: int, first_shifted: int) -> nn.Module:
            made = nn.Module()
            made.blocks = nn.ModuleList(
                Layer(
                    widths[level],
                    num_heads[level],
                    self.grid // 2**level,
                    window_size,
                    (block + first_shifted) % 2 == 1,
                    mlp_ratio,
                )
                for block in range(depths[level])
            )
            return made

        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.layers = nn.ModuleList(stage(level, 0) for level in levels)
        self.decoder.layers = nn.ModuleList(stage(level, 1 - depths[level] % 2) for level in reversed(levels))
        for level in levels[:-1]:
            self.encoder.layers[level].downsample = Merging(widths[level])
            self.decoder.layers[level].upsample = Unmerging(widths[levels[-1] - level])
        self.residual_blocks = nn.ModuleList(
            nn.ModuleList(ConvNeXt(widths[level]) for _ in range(skip_connections[level])) for level in levels
        )
        self.patch_recovery = nn.Module()
        self.patch_recovery.projection = nn.ConvTranspose2d(embed_dim, out_channels, patch_size, patch_size)
        self.patch_recovery.mixup = nn.Conv2d(out_channels, out_channels, 5, padding=2, bias=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        u = self.embeddings.norm(self.embeddings.patch_embeddings.projection(x).flatten(2).transpose(1, 2), time)
        skips = []
        for stage in self.encoder.layers:
            entered = u
            for block in stage.blocks:
                u = block(u, time)
            skips.append(u)
            if hasattr(stage, "downsample"):
                u = stage.downsample(u + entered, time)
        for level, blocks in enumerate(self.residual_blocks):
            for block in blocks:
                skips[level] = block(skips[level], time)
        z = skips.pop()
        for stage in self.decoder.layers:
            for block in stage.blocks:
                z = block(z, time)
            if hasattr(stage, "upsample"):
                z = stage.upsample(z, time) + skips.pop()
        z = z.transpose(1, 2).reshape(x.shape[0], -1, self.grid, self.grid)
        return self.patch_recovery.mixup(self.patch_recovery.projection(z))
