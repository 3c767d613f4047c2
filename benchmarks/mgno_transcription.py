"""MgNO written down layer by layer as published (arXiv 2310.19809, Algorithm 1 and the released models' key layout).

The yardstick of ``mgno_step.py``: stock torch modules in stock memory order, a module for every stencil, and the state
dict of the published code, so that golden files of the reference fit into it.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Smoother(nn.Module):
    """u + S (f - A u), or S f where there is no u yet."""

    def __init__(self, u_channels: int, f_channels: int, *, initial: bool) -> None:
        super().__init__()
        self.A = None if initial else nn.Conv2d(u_channels, f_channels, 3, padding=1, bias=False)
        self.S = nn.Conv2d(f_channels, u_channels, 3, padding=1, bias=False)

    def forward(self, u: Tensor | None, f: Tensor) -> Tensor:
        return self.S(f) if self.A is None else u + self.S(f - self.A(u))


class Restriction(nn.Module):
    """(u, f) to the next coarser grid."""

    def __init__(self, u_channels: int, f_channels: int) -> None:
        super().__init__()
        self.Pi = nn.Conv2d(u_channels, u_channels, 3, stride=2, padding=1, bias=False)
        self.R = nn.Conv2d(f_channels, f_channels, 3, stride=2, padding=1, bias=False)

    def forward(self, u: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        return self.Pi(u), self.R(f)


class Cycle(nn.Module):
    """One V-cycle; ``post_smooth_layer<l>`` and ``layer<l>`` are the published names of its parts."""

    def __init__(self, schedule: Sequence[Sequence[int]], u_channels: int, f_channels: int) -> None:
        super().__init__()
        self.depth = len(schedule)
        self.RTlayers = nn.ModuleList(
            nn.ConvTranspose2d(u_channels, u_channels, 4, stride=2, padding=1, bias=False) for _ in schedule[1:]
        )
        for level, (pre, post) in enumerate(schedule):
            steps = [Smoother(u_channels, f_channels, initial=level == step == 0) for step in range(pre)]
            transfer = [Restriction(u_channels, f_channels)] if level else []
            setattr(self, f"layer{level}", nn.ModuleList([*transfer, *steps]))
            after = [Smoother(u_channels, f_channels, initial=False) for _ in range(post)]
            setattr(self, f"post_smooth_layer{level}", nn.ModuleList(after))

    def forward(self, f: Tensor) -> Tensor:
        u = None
        visited = []
        for level in range(self.depth):
            for part in getattr(self, f"layer{level}"):
                if isinstance(part, Restriction):
                    u, f = part(u, f)
                else:
                    u = part(u, f)
            visited.append((u, f))
        for level in reversed(range(self.depth)):
            if level < self.depth - 1:
                before, f = visited[level]
                u = before + self.RTlayers[level](u)
            for part in getattr(self, f"post_smooth_layer{level}"):
                u = part(u, f)
        return u


class TranscribedMgNO(nn.Module):
    """(batch, in_channels, n, n) -> (batch, 1, n, n) with n a multiple of 2^(levels - 1)."""

    def __init__(
        self, in_channels: int, hidden_channels: int, n_layers: int, schedule: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        widths = [in_channels] + [hidden_channels] * n_layers
        pairs = list(pairwise(widths))
        self.conv_list = nn.ModuleList(Cycle(schedule, after, before) for before, after in pairs)
        self.linear_list = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in pairs)
        self.linear = nn.Conv2d(hidden_channels, 1, 1, bias=False)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        for cycle, pointwise in zip(self.conv_list, self.linear_list, strict=True):
            x = self.act(cycle(x) + pointwise(x))
        return self.linear(x)
