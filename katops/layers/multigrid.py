"""The multigrid V-cycle as a trainable linear operator between function spaces (MgNO, arXiv 2310.19809).

A linear operator f -> u is written as one V-cycle for A u = f whose stencils are learned. Level 0 is the given grid;
an axis of n points has ceil(n / 2) on the next level. All stencils are 3 points wide per axis, so the cycle has O(n)
weights and work, sees the whole domain through its coarsest level, and takes its boundary condition from ghost cells.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, normalise_boundary
from katops.layers.convolution import Convolution, Prolongation, PublishedProlongation
from katops.layers.spatial import channels_last, check_field, number_of_axes
from katops.registry import LAYERS

Schedule = Sequence[Sequence[int]]
DEFAULT_SCHEDULE = ((1, 1), (1, 1), (1, 1), (2, 0))
# S starts at half of torch's default size: damped steps. Undamped, several of them in a row amplify at the start.
DAMPING = 0.5
# Pi starts almost at zero. With the classical transfer every level would add its copy of the smooth part of u, so that
# a layer's gain would grow with the number of levels: 2 to 3 on 64 points, which makes training diverge.
INJECTION = 0.1
FULL_WEIGHTING = (0.25, 0.5, 0.25)
LINEAR_INTERPOLATION = (0.5, 1.0, 0.5)


class PublishedLevelNorm(nn.LayerNorm):
    """The published code's norm: a LayerNorm over (channel, \\*grid), which fixes the grid of its level."""

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.normalized_shape:
            raise UserError(
                f"the published level norm is for the grid {self.normalized_shape[1:]}, got {tuple(x.shape[2:])}"
            )
        return super().forward(x)


class Smoothing(nn.Module):
    """One step of a stationary iteration for A u = f: u <- u + S (f - A u)."""

    def __init__(self, f_channels: int, u_channels: int, *, boundary: Boundary, bias: bool) -> None:
        super().__init__()
        self.A = Convolution(u_channels, f_channels, boundary=boundary, bias=bias)
        self.S = Convolution(f_channels, u_channels, boundary=boundary, bias=bias)
        with torch.no_grad():
            self.S.weight.mul_(DAMPING)

    def forward(self, u: Tensor, f: Tensor) -> Tensor:
        return u + self.S(f - self.A(u))


@LAYERS.register(
    "multigrid",
    kind="space mixer",
    summary="one multigrid V-cycle with learned stencils, any grid size and boundary",
    paper="arXiv:2310.19809",
)
class MultigridCycle(nn.Module):
    """One V-cycle f -> u with learned stencils A, S (smoothing), R, Pi (restriction) and P (prolongation).

    Downwards, for l = 0, ..., L - 1 with f^0 = f and u^0 = 0:

        u^l     <- u^l + S^l (f^l - A^l u^l)        pre(l) times; the very first step is u^0 = S^0 f
        f^{l+1}  = R^l f^l,  u^{l+1} = Pi^l u^l     stride 2

    and upwards, for l = L - 2, ..., 0:

        u^l     <- N^l (u^l + P^l u^{l+1})          N^l: the level's norm, if there is one
        u^l     <- u^l + S^l (f^l - A^l u^l)        post(l) times, with their own A and S

    There is no activation inside: without norm and bias the cycle is linear, and where every side is periodic and the
    axis lengths are multiples of 2^(L-1), it commutes with shifts by multiples of 2^(L-1) points.

    (batch, in_channels, \\*space) -> (batch, out_channels, \\*space) on 1 to 3 axes of any length. An axis of length 1
    stays one point long on all coarser levels, so grids with fewer than 2^(L-1) points need nothing special.

    Args:
        in_channels: channels of f, on every level.
        out_channels: channels of u, on every level.
        boundary: condition on each side of each axis; honoured in smoothing, restriction and prolongation.
        schedule: (pre, post) smoothing steps for each level, finest first; on the coarsest level the two are added.
        norm_layer: called as ``norm_layer(out_channels)`` for every level but the coarsest.
        bias: a constant per channel in every A and S.
        published_widths: for published weights only: the prolongation kernels of the published code, 3 or 4 points wide
            per level by the parity of the finer grid. They see zeros beyond the boundary whatever ``boundary`` says,
            hence are not shift-equivariant, and fit only grids of that parity.
        published_norm_grid: for published weights only: a LayerNorm over (channel, \\*grid) on every level but the
            coarsest, which ties the layer to this finest grid; replaces ``norm_layer``.

    Raises:
        UserError: the schedule is empty, negative or begins without a pre-smoothing step; the published layout does not
            fit it; or the input has other axes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        boundary: Boundary = "dirichlet",
        schedule: Schedule = DEFAULT_SCHEDULE,
        norm_layer: Callable[[int], nn.Module] | None = None,
        bias: bool = False,
        published_widths: Sequence[int] | None = None,
        published_norm_grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_schedule(schedule)
        if published_widths is not None and len(published_widths) != len(schedule) - 1:
            raise UserError(
                f"published_widths {list(published_widths)} has {len(published_widths)} entries; give one for each of "
                f"the {len(schedule) - 1} levels above the coarsest"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.boundary = normalise_boundary(boundary, number_of_axes(boundary), STENCIL_BOUNDARIES)
        finer = range(len(schedule) - 1)

        def smoothings(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                Smoothing(in_channels, out_channels, boundary=self.boundary, bias=bias) for _ in range(count)
            )

        def restrictions(channels: int) -> nn.ModuleList:
            return nn.ModuleList(Convolution(channels, channels, boundary=self.boundary, stride=2) for _ in finer)

        self.first = Convolution(in_channels, out_channels, boundary=self.boundary, bias=bias)
        self.pre = nn.ModuleList(smoothings(pre - (level == 0)) for level, (pre, _) in enumerate(schedule))
        self.restrict_f = restrictions(in_channels)
        self.restrict_u = restrictions(out_channels)
        self.prolong = nn.ModuleList(
            Prolongation(out_channels, boundary=self.boundary)
            if published_widths is None
            else PublishedProlongation(out_channels, width=published_widths[level], n_axes=len(self.boundary))
            for level in finer
        )
        self.norm = nn.ModuleList(_level_norm(level, out_channels, norm_layer, published_norm_grid) for level in finer)
        self.post = nn.ModuleList(smoothings(post) for _, post in schedule)
        self.reset_transfers()

    def reset_transfers(self) -> None:
        """Start from the classical transfers, channel by channel: full weighting down, linear interpolation up.

        Pi is a tenth of full weighting, so that coarse levels begin as corrections. Published prolongations keep their
        random start.
        """
        for restriction in self.restrict_f:
            _set_stencil(restriction.weight, FULL_WEIGHTING)
        for restriction in self.restrict_u:
            _set_stencil(restriction.weight, FULL_WEIGHTING)
            with torch.no_grad():
                restriction.weight.mul_(INJECTION)
        for prolongation in self.prolong:
            if isinstance(prolongation, Prolongation):
                _set_stencil(prolongation.weight, LINEAR_INTERPOLATION)

    def forward(self, f: Tensor) -> Tensor:
        check_field(f, self.in_channels, len(self.boundary), "multigrid cycle")
        coarsest = len(self.pre) - 1
        u = channels_last(self.first(f))
        visited = []
        for level in range(coarsest):
            u = _smooth(self.pre[level], u, f)
            visited.append((u, f))
            u, f = self.restrict_u[level](u), self.restrict_f[level](f)
        u = _smooth(self.post[coarsest], _smooth(self.pre[coarsest], u, f), f)
        for level in reversed(range(coarsest)):
            before, f = visited.pop()
            u = self.norm[level](before + self.prolong[level](u, before.shape[2:]))
            u = _smooth(self.post[level], u, f)
        return u


def check_schedule(schedule: Schedule) -> None:
    """Raises :class:`UserError` unless a schedule is a list of (pre, post) pairs that begins with pre-smoothing."""
    wrong = [pair for pair in schedule if len(pair) != 2 or min(pair) < 0]
    if not schedule or wrong:
        raise UserError(
            f"schedule {schedule!r}: give (pre, post) smoothing steps >= 0 for at least one level, finest first"
        )
    if schedule[0][0] < 1:
        raise UserError(f"schedule {schedule!r}: the finest level needs at least one pre-smoothing step, u = S f")


def _set_stencil(weight: Tensor, stencil: Sequence[float]) -> None:
    """weight[c, c] = tensor product of the stencil over the axes, zero between different channels."""
    line = torch.tensor(stencil, dtype=weight.dtype, device=weight.device)
    kernel = torch.ones_like(line[0])
    for _ in range(weight.ndim - 2):
        kernel = kernel[..., None] * line
    with torch.no_grad():
        weight.zero_()
        for channel in range(weight.shape[0]):
            weight[channel, channel] = kernel


def _smooth(steps: nn.ModuleList, u: Tensor, f: Tensor) -> Tensor:
    for step in steps:
        u = step(u, f)
    return u


def _level_norm(
    level: int, channels: int, norm_layer: Callable[[int], nn.Module] | None, published_grid: Sequence[int] | None
) -> nn.Module:
    if published_grid is not None:
        return PublishedLevelNorm([channels, *(-(-length // 2**level) for length in published_grid)])
    return norm_layer(channels) if norm_layer else nn.Identity()
