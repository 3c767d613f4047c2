"""The multigrid cycle as a trainable linear operator between function spaces (MgNO, arXiv 2310.19809).

A linear operator f -> u is written as one cycle for A u = f whose stencils are learned. Level 0 is the given grid; an
axis of n points has ceil(n / 2) on the next level. All stencils are 3 points wide per axis, so the work is O(n), the
cycle sees the whole domain through its coarsest level, and it takes its boundary condition from ghost cells.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, normalise_boundary
from katops.layers.convolution import Convolution, Prolongation, PublishedProlongation
from katops.layers.grid_hierarchy import (
    check_cycle,
    level_widths,
    smoothing_schedule,
    visits,
)
from katops.layers.spatial import channels_last, check_field, number_of_axes
from katops.registry import LAYERS

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
        # Results of convolutions are new tensors that no gradient needs: sums may overwrite them, u - S (A u - f).
        residual = self.A(u).sub_(f)
        return self.S(residual, sign=-1).add_(u)


@LAYERS.register(
    "multigrid",
    kind="space mixer",
    summary="one multigrid V-, W- or F-cycle with learned stencils, any grid size and boundary",
    paper="arXiv:2310.19809",
)
class MultigridCycle(nn.Module):
    """One cycle f -> u with learned stencils A, S (smoothing), R, Pi (restriction) and P (prolongation).

    On level l, for the given u^l and f^l (at the start f^0 = f and u^0 = 0):

        u^l      <- u^l + S^l (f^l - A^l u^l)        pre(l) times; the very first step of all is u^0 = S^0 f
        f^{l+1}   = R^l f^l                          or R^l (f^l - A^l u^l) with restrict_residual; stride 2
        u^{l+1}   = Pi^l u^l                         stride 2
        u^{l+1}  <- cycle on level l + 1             once (V), twice (W), or an F- and then a V-cycle (F)
        u^l      <- N^l (u^l + P^l u^{l+1})          N^l: the level's norm, if there is one
        u^l      <- u^l + S^l (f^l - A^l u^l)        post(l) times

    and on the coarsest level pre + post smoothing steps. Every step has its own A and S; visits of a level share them,
    so that V-, W- and F-cycles have the same weights. With the residual restricted, Pi = 0 and the stencils of a
    discretisation this is the correction scheme of classical multigrid; restricting f itself is what the published code
    does by default.

    There is no activation inside: without norm and bias the cycle is linear, and where every side is periodic and the
    axis lengths are multiples of 2^(L-1), it commutes with shifts by multiples of 2^(L-1) points.

    (batch, in_channels, \\*space) -> (batch, out_channels, \\*space) on 1 to 3 axes of any length. An axis of length 1
    stays one point long on all coarser levels, so grids with fewer than 2^(L-1) points need nothing special.

    Args:
        in_channels: channels of f on the finest level.
        out_channels: channels of u on the finest level.
        boundary: condition on each side of each axis; honoured in smoothing, restriction and prolongation.
        schedule: (pre, post) smoothing steps for each level, finest first; its length is the number of levels L.
        levels: L, where ``schedule`` is not given; by default what ``grid`` needs, or 5.
        smoothing: (pre, post) for all levels of such a cycle but the coarsest, which has max(2, pre + post); by default
            (1, 1).
        grid: lengths of the axes that the cycle is made for, for the default of ``levels``; other grids remain allowed.
        cycle: ``v``, ``w`` or ``f``.
        restrict_residual: whether the coarser level gets the restricted residual instead of the restricted f.
        channel_growth: level l has (1 + channel_growth l) times the channels of the finest, f and u alike.
        interior_nodes: whether the points of an axis with a Dirichlet side are its interior nodes; those of odd length
            are then coarsened to their odd points, n -> (n - 1) / 2, so that 2^k - 1 points nest.
        norm_layer: called as ``norm_layer(channels of u)`` for every level but the coarsest.
        bias: a constant per channel in every A and S.
        published_widths: for published weights only: the prolongation kernels of the published code, 3 or 4 points wide
            per level by the parity of the finer grid. They see zeros beyond the boundary whatever ``boundary`` says,
            hence are not shift-equivariant, and fit only grids of that parity.
        published_norm_grid: for published weights only: a LayerNorm over (channel, \\*grid) on every level but the
            coarsest, which ties the layer to this finest grid; in place of ``norm_layer``.

    Raises:
        UserError: the schedule is empty, negative or begins without a pre-smoothing step; the cycle is unknown; the
            published layout does not fit the schedule or stands beside what it does not have (``channel_growth``,
            ``interior_nodes``, ``norm_layer``); or the input has other axes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        boundary: Boundary = "dirichlet",
        schedule: Sequence[Sequence[int]] | None = None,
        levels: int | None = None,
        smoothing: Sequence[int] | None = None,
        grid: Sequence[int] | None = None,
        cycle: str = "v",
        restrict_residual: bool = False,
        channel_growth: float = 0.0,
        interior_nodes: bool = False,
        norm_layer: Callable[[int], nn.Module] | None = None,
        bias: bool = False,
        published_widths: Sequence[int] | None = None,
        published_norm_grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        n_axes = number_of_axes(boundary, 2 if grid is None else len(grid))
        self.boundary = normalise_boundary(boundary, n_axes, STENCIL_BOUNDARIES)
        self.schedule = smoothing_schedule(schedule, levels, smoothing, grid, self.boundary)
        check_cycle(cycle)
        if published_widths is not None:
            _check_published_widths(published_widths, len(self.schedule) - 1, channel_growth, interior_nodes)
        if published_norm_grid is not None and norm_layer is not None:
            raise UserError("published_norm_grid is a norm for the levels itself; leave norm_layer out")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.cycle, self.restrict_residual = cycle, restrict_residual
        f_widths = level_widths(in_channels, channel_growth, len(self.schedule))
        u_widths = level_widths(out_channels, channel_growth, len(self.schedule))
        finer = range(len(self.schedule) - 1)
        transfer = {"boundary": self.boundary, "interior_nodes": interior_nodes}

        def smoothings(level: int, count: int) -> nn.ModuleList:
            widths = f_widths[level], u_widths[level]
            return nn.ModuleList(Smoothing(*widths, boundary=self.boundary, bias=bias) for _ in range(count))

        def restrictions(widths: list[int]) -> nn.ModuleList:
            return nn.ModuleList(Convolution(*pair, stride=2, **transfer) for pair in pairwise(widths))

        self.first = Convolution(in_channels, out_channels, boundary=self.boundary, bias=bias)
        self.pre = nn.ModuleList(smoothings(level, pre - (level == 0)) for level, (pre, _) in enumerate(self.schedule))
        self.restrict_f = restrictions(f_widths)
        self.restrict_u = restrictions(u_widths)
        self.residual = nn.ModuleList(
            Convolution(u_widths[level], f_widths[level], boundary=self.boundary, bias=bias)
            for level in (finer if restrict_residual else ())
        )
        self.prolong = nn.ModuleList(
            Prolongation(u_widths[level], coarse_channels=u_widths[level + 1], **transfer)
            if published_widths is None
            else PublishedProlongation(out_channels, width=published_widths[level], n_axes=n_axes)
            for level in finer
        )
        self.norm = nn.ModuleList(
            _level_norm(level, u_widths[level], norm_layer, published_norm_grid) for level in finer
        )
        self.post = nn.ModuleList(smoothings(level, post) for level, (_, post) in enumerate(self.schedule))
        self.reset_transfers()

    def reset_transfers(self) -> None:
        """Start from the classical transfers, channel by channel: full weighting down, linear interpolation up.

        Pi is a tenth of full weighting, so that coarse levels begin as corrections. Where a level has more channels
        than the one above, they are dealt out in turn: coarse channel c begins from fine channel c mod width. Published
        prolongations keep their random start.
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
                with torch.no_grad():
                    # The mean of the coarse channels that belong to a fine one.
                    prolongation.weight.div_(prolongation.weight.shape[0] / prolongation.weight.shape[1])

    def forward(self, f: Tensor) -> Tensor:
        check_field(f, self.in_channels, len(self.boundary), "multigrid cycle")
        return self._on_level(0, channels_last(self.first(f)), f, self.cycle)

    def _on_level(self, level: int, u: Tensor, f: Tensor, cycle: str) -> Tensor:
        """A cycle from this level down and back."""
        u = _smooth(self.pre[level], u, f)
        coarsest = len(self.schedule) - 1
        if level < coarsest:
            if self.restrict_residual:
                coarse_f = self.restrict_f[level](self.residual[level](u).sub_(f), sign=-1)
            else:
                coarse_f = self.restrict_f[level](f)
            coarse_u = self.restrict_u[level](u)
            for kind in visits(cycle, to_coarsest=level + 1 == coarsest):
                coarse_u = self._on_level(level + 1, coarse_u, coarse_f, kind)
            u = self.norm[level](self.prolong[level](coarse_u, u.shape[2:]).add_(u))
        return _smooth(self.post[level], u, f)


def _check_published_widths(widths: Sequence[int], finer_levels: int, growth: float, interior_nodes: bool) -> None:
    if len(widths) != finer_levels:
        raise UserError(
            f"published_widths {list(widths)} has {len(widths)} entries; give one for each of the {finer_levels} "
            f"levels above the coarsest"
        )
    if growth or interior_nodes:
        raise UserError(
            "published_widths: the published cycle has the same channels on all levels and its coarse points at the "
            "even ones; leave channel_growth and interior_nodes out"
        )


def _set_stencil(weight: Tensor, stencil: Sequence[float]) -> None:
    """weight[i, j] = tensor product of the stencil over the axes where i and j are the same channel, zero elsewhere.

    Of two unequal numbers of channels the larger is dealt out in turn: i = j modulo the smaller.
    """
    line = torch.tensor(stencil, dtype=weight.dtype, device=weight.device)
    kernel = torch.ones_like(line[0])
    for _ in range(weight.ndim - 2):
        kernel = kernel[..., None] * line
    rows, columns = weight.shape[:2]
    with torch.no_grad():
        weight.zero_()
        for channel in range(max(rows, columns)):
            weight[channel % rows, channel % columns] = kernel


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
