"""MgNO: a neural operator whose linear operators are multigrid cycles (He, Liu and Xu, arXiv 2310.19809).

Each layer maps a vector of functions to the next one, without lifting or decoding networks:

    u_{l+1} = act(W_l u_l + B_l u_l + b_l)        W_l: multigrid cycle, B_l: pointwise channel mixer, b_l: bias
    y       = Q u_L                               Q: pointwise linear

The boundary condition, the number of spatial axes and the grid all live in the cycle.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, normalise_boundary
from katops.layers.activation import build_activation
from katops.layers.grid_bias import GridBias
from katops.layers.multigrid import MultigridCycle
from katops.layers.normalisation import GroupNorm
from katops.layers.spatial import channels_last, check_field, number_of_axes
from katops.models.build import register_net
from katops.models.mgno_published import load_published

PAPER = "arXiv:2310.19809"


class MgNO(nn.Module):
    """Multigrid neural operator, (batch, in_channels, \\*space) -> (batch, out_channels, \\*space) on any grid.

    Args:
        in_channels, out_channels: channels of input and output.
        hidden_channels: width of the functions between the layers.
        n_layers: number of layers.
        schedule: (pre, post) smoothing steps per level, finest first; its length is the number of grids.
        levels, smoothing: instead of ``schedule``: number of grids, and (pre, post) on all but the coarsest, which has
            max(2, pre + post); (1, 0) by default, the published V-cycle.
        grid: lengths of the axes that the model is made for; decides ``levels`` where nothing else does (64 x 64 gets
            5, down to 4 x 4; without a grid there are 5). ``katops train`` fills it in. Any other grid is allowed.
        cycle: ``v``, ``w`` or ``f``; the three have the same weights.
        restrict_residual: see :class:`katops.layers.MultigridCycle`.
        channel_growth: level l of a cycle has (1 + channel_growth l) times the channels; 1 for the paper's Helmholtz
            problem.
        interior_nodes: whether the points of an axis with a Dirichlet side are interior nodes (2^k - 1 of them nest).
        boundary: ``dirichlet``, ``neumann`` or ``periodic`` for all sides, or per axis, or per side of each axis.
        spatial_dims: 1, 2 or 3; by default the number of axes spelled out in ``boundary`` or ``grid``, or 2.
        act_layer: activation, see :func:`katops.layers.activation.build_activation`.
        norm_layer: norm on the levels of the cycles, called with the number of channels; ``None`` keeps them linear.
        mixer_norm_layer: norm of W u + B u + b, before the activation.
        mlp_layer: channel mixer beside each cycle, called with in_features= and out_features=, acts on the last axis.
        pointwise: whether there is such a channel mixer.
        space_mixer: replaces the cycle; called with (in_channels, out_channels, boundary=...). The options of the
            cycle (``schedule``, ``cycle``, ``norm_layer``, ``bias``, ...) are then refused, and ``grid`` has no
            influence.
        bias: a constant per channel in every stencil of a cycle but the transfers.
        bias_nodes: nodes per axis of a bias b(x) that is a function on the domain in every layer, see
            :class:`katops.layers.grid_bias.GridBias`; ``None`` leaves b the constant of ``mlp_layer``.
        multigrid_projection: Q is a cycle as well, instead of a matrix.
        add_input: y = Q u_L + x, for problems whose output is close to their input.
        published_widths, published_norm_grid: layout of published weights, see :class:`katops.layers.MultigridCycle`.

    Raises:
        UserError: a size is not positive, ``add_input`` with unequal channels, a wrong ``boundary`` or ``schedule``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        hidden_channels: int = 32,
        n_layers: int = 4,
        schedule: Sequence[Sequence[int]] | None = None,
        levels: int | None = None,
        smoothing: Sequence[int] | None = None,
        grid: Sequence[int] | None = None,
        cycle: str = "v",
        restrict_residual: bool = False,
        channel_growth: float = 0.0,
        interior_nodes: bool = False,
        boundary: Boundary = "dirichlet",
        spatial_dims: int | None = None,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        norm_layer: Callable[[int], nn.Module] | None = None,
        mixer_norm_layer: Callable[[int], nn.Module] | None = None,
        mlp_layer: Callable[..., nn.Module] = nn.Linear,
        pointwise: bool = True,
        space_mixer: Callable[..., nn.Module] | None = None,
        bias: bool = False,
        bias_nodes: Sequence[int] | None = None,
        multigrid_projection: bool = False,
        add_input: bool = False,
        published_widths: Sequence[int] | None = None,
        published_norm_grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        cycle_options = {
            "schedule": schedule,
            "levels": levels,
            "smoothing": smoothing,
            "cycle": cycle,
            "restrict_residual": restrict_residual,
            "channel_growth": channel_growth,
            "interior_nodes": interior_nodes,
            "norm_layer": norm_layer,
            "bias": bias,
            "published_widths": published_widths,
            "published_norm_grid": published_norm_grid,
        }
        sizes = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "hidden_channels": hidden_channels,
            "n_layers": n_layers,
        }
        for name, value in sizes.items():
            if value < 1:
                raise UserError(f"MgNO: {name} must be at least 1, got {value}")
        if add_input and in_channels != out_channels:
            raise UserError(f"MgNO: add_input needs equal channels, got {in_channels} in and {out_channels} out")
        if not pointwise and mlp_layer is not nn.Linear:
            raise UserError("MgNO: mlp_layer has no effect with pointwise=False; leave one of them out")
        self.in_channels, self.out_channels = in_channels, out_channels
        n_axes = number_of_axes(boundary, 2 if grid is None else len(grid), spatial_dims)
        self.boundary = normalise_boundary(boundary, n_axes, STENCIL_BOUNDARIES)
        self.add_input = add_input
        self.grad_checkpointing = False
        mixer = _space_mixer(space_mixer, cycle_options, grid, self.boundary)
        widths = [in_channels] + [hidden_channels] * n_layers
        pairs = list(pairwise(widths))
        self.mixers = nn.ModuleList(mixer(*pair) for pair in pairs)
        self.pointwise = nn.ModuleList(
            mlp_layer(in_features=inputs, out_features=outputs) if pointwise else None for inputs, outputs in pairs
        )
        self.biases = nn.ModuleList(
            nn.Identity() if bias_nodes is None else GridBias(width, bias_nodes, self.boundary) for width in widths[1:]
        )
        norm = mixer_norm_layer or nn.Identity
        self.norms = nn.ModuleList(norm(width) for width in widths[1:])
        self.activations = nn.ModuleList(build_activation(act_layer, outputs, channel_dim=1) for _, outputs in pairs)
        self.projection = (
            mixer(hidden_channels, out_channels) if multigrid_projection else nn.Linear(hidden_channels, out_channels)
        )

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """y for x; ``time`` belongs to the contract of operator models and has no influence here."""
        check_field(x, self.in_channels, len(self.boundary), type(self).__name__)
        u = channels_last(x)
        layers = zip(self.mixers, self.pointwise, self.biases, self.norms, self.activations, strict=True)
        for layer in layers:
            u = checkpoint(_layer, u, *layer, use_reentrant=False) if self.grad_checkpointing else _layer(u, *layer)
        linear = isinstance(self.projection, nn.Linear)
        y = (_on_channels(self.projection, u) if linear else self.projection(u)).contiguous()
        return y + x if self.add_input else y

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether the layers keep their inputs only, and compute the rest again on the way back."""
        self.grad_checkpointing = enable


def _layer(
    u: Tensor, mixer: nn.Module, pointwise: nn.Module | None, bias: nn.Module, norm: nn.Module, act: nn.Module
) -> Tensor:
    v = mixer(u)
    return act(norm(bias(v if pointwise is None else v + _on_channels(pointwise, u))))


def _space_mixer(
    space_mixer: Callable[..., nn.Module] | None, given: dict[str, Any], grid: Sequence[int] | None, boundary: Any
) -> Callable[[int, int], nn.Module]:
    """What makes the mixer between two widths; ``given`` are the options of the cycle."""
    if space_mixer is None:
        published = {"smoothing": (1, 0)} if given["smoothing"] is None and given["schedule"] is None else {}
        options = {**given, **published, "grid": None if given["schedule"] else grid}
        return partial(MultigridCycle, boundary=boundary, **options)
    if "boundary" in getattr(space_mixer, "keywords", ()):
        raise UserError("MgNO: boundary is an option of the model, which gives it to every space_mixer; put it there")
    idle = [name for name, value in given.items() if value and (name, value) != ("cycle", "v")]
    if idle:
        raise UserError(
            f"MgNO: {', '.join(idle)} belong to the V-cycle and have no effect with another space_mixer; give them "
            f"as options of the space_mixer"
        )
    return partial(space_mixer, boundary=boundary)


def _on_channels(mixer: nn.Module, u: Tensor) -> Tensor:
    """Apply a channel mixer, which acts on the last axis, to (batch, channel, \\*space)."""
    return mixer(u.movedim(1, -1)).movedim(-1, 1)


@register_net(summary="multigrid neural operator, all sizes given as options", paper=PAPER)
def mgno(**options: Any) -> MgNO:
    """MgNO with the defaults of the class."""
    return MgNO(**options)


@register_net(summary="multigrid neural operator, 4 layers of width 24", paper=PAPER)
def mgno_tiny(**options: Any) -> MgNO:
    """For a laptop: trains on thousands of 64 x 64 fields in minutes on a CPU."""
    return MgNO(**{"hidden_channels": 24, "n_layers": 4, **options})


@register_net(summary="multigrid neural operator, 5 layers of width 32", paper=PAPER)
def mgno_small(**options: Any) -> MgNO:
    """0.93 M parameters on five grids."""
    return MgNO(**{"hidden_channels": 32, "n_layers": 5, **options})


@register_net(summary="multigrid neural operator, 6 layers of width 64", paper=PAPER)
def mgno_base(**options: Any) -> MgNO:
    """For a GPU, and grids of 128 points per axis and more."""
    return MgNO(**{"hidden_channels": 64, "n_layers": 6, **options})


@register_net(summary="MgNO of the paper's Darcy flow with the smooth coefficient, 211 x 211", paper=PAPER)
def mgno_darcy_smooth(**options: Any) -> MgNO:
    """Five layers of width 24 on six grids."""
    return MgNO(**{"hidden_channels": 24, "n_layers": 5, **_levels(options, 6), **options})


@register_net(summary="MgNO of the paper's Darcy flow with the rough coefficient, 256 x 256", paper=PAPER)
def mgno_darcy_rough(**options: Any) -> MgNO:
    """Four layers of width 24 on six grids."""
    return MgNO(**{"hidden_channels": 24, "n_layers": 4, **_levels(options, 6), **options})


@register_net(summary="MgNO of the paper's Darcy flow with the multiscale coefficient, 256 x 256", paper=PAPER)
def mgno_darcy_multiscale(**options: Any) -> MgNO:
    """Four layers of width 24 on six grids."""
    return MgNO(**{"hidden_channels": 24, "n_layers": 4, **_levels(options, 6), **options})


@register_net(summary="MgNO of the paper's Navier-Stokes flow, viscosity 1e-5, 64 x 64, one step", paper=PAPER)
def mgno_navier_stokes(**options: Any) -> MgNO:
    """Five layers of width 32 on five grids with two steps on the two coarsest, biases, norms on the levels, no
    pointwise term, and an output that is added to the input where they have the same channels; give
    ``boundary="periodic"``.

    The norms are over a whole level, as published, but with one scale per channel, so that the grid stays free.
    """
    cycle = _schedule(options, ((1, 0), (1, 0), (1, 0), (2, 0), (2, 0)))
    cycle |= _of_the_cycle(options, {"norm_layer": GroupNorm, "bias": True})
    same_channels = options.get("in_channels", 1) == options.get("out_channels", 1)
    sizes = {"hidden_channels": 32, "n_layers": 5}
    return MgNO(**{**sizes, "pointwise": False, "add_input": same_channels, **cycle, **options})


@register_net(summary="MgNO of the paper's Helmholtz problem, 101 x 101, channels grow with the level", paper=PAPER)
def mgno_helmholtz(**options: Any) -> MgNO:
    """Four layers of width 20, 40, ..., 100 on five grids, each followed by a norm, and a cycle as the last map.

    The published code mirrors the field at the boundary; give ``boundary="neumann"``.
    """
    sizes = {"hidden_channels": 20, "n_layers": 4}
    maps = {"mixer_norm_layer": GroupNorm, "pointwise": False, "multigrid_projection": True}
    cycle = _of_the_cycle(options, {"channel_growth": 1.0, "bias": True}) | _levels(options, 5)
    return MgNO(**{**sizes, **maps, **cycle, **options})


@register_net(summary="MgNO of the paper's pipe flow, 129 x 129 mesh points, coordinates in", paper=PAPER)
def mgno_pipe(**options: Any) -> MgNO:
    """Five layers of width 24 on six grids with a post-smoothing step on the last but one."""
    cycle = _schedule(options, (*((1, 0),) * 4, (1, 1), (2, 0)))
    return MgNO(**{"in_channels": 2, "hidden_channels": 24, "n_layers": 5, **cycle, **options})


def _levels(options: Mapping[str, Any], levels: int) -> dict[str, int]:
    """The published number of grids, unless the caller decides about them."""
    return {} if _own_levels(options) else {"levels": levels}


def _schedule(options: Mapping[str, Any], schedule: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The published schedule, or its number of grids where the caller decides about the smoothing steps."""
    if _own_levels(options):
        return {}
    return {"levels": len(schedule)} if options.get("smoothing") is not None else {"schedule": schedule}


def _of_the_cycle(options: Mapping[str, Any], published: dict[str, Any]) -> dict[str, Any]:
    """Published options of the cycle, which another space mixer does not have."""
    return {} if options.get("space_mixer") else published


def _own_levels(options: Mapping[str, Any]) -> bool:
    return any(options.get(name) is not None for name in ("schedule", "levels", "space_mixer"))


def from_published(
    source: str | Path | Mapping[str, Tensor], config: Mapping[str, Any] | None = None, **changes: Any
) -> MgNO:
    """MgNO with published weights, exactly as the published code computes.

    Args:
        source: a state dict, a ``.safetensors``, ``.pt`` or ``.pth`` file, or a folder with one.
        config: the published arguments (``model``, ``num_layer``, ``num_iteration``, ...).
        changes: options of :class:`MgNO` that replace what the configuration says.
    """
    return load_published(source, config, **changes)
