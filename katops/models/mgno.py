"""MgNO: a neural operator whose linear operators are multigrid V-cycles (He, Liu and Xu, arXiv 2310.19809).

Each layer maps a vector of functions to the next one, without lifting or decoding networks:

    u_{l+1} = act(W_l u_l + B_l u_l + b_l)        W_l: V-cycle, B_l + b_l: pointwise channel mixer
    y       = Q u_L                               Q: pointwise linear

The boundary condition, the number of spatial axes and the grid all live in the V-cycle.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, normalise_boundary
from katops.layers.activation import build_activation
from katops.layers.multigrid import MultigridCycle
from katops.layers.spatial import channels_last, check_field, number_of_axes
from katops.models.build import register_operator
from katops.models.mgno_published import load_published

PAPER = "arXiv:2310.19809"
# The published V-cycle for Darcy flow, without post-smoothing; 64 points give levels of 64, 32, 16, 8 and 4 points.
SCHEDULE = ((1, 0), (1, 0), (1, 0), (1, 0), (2, 0))


class MgNO(nn.Module):
    """Multigrid neural operator, (batch, in_channels, \\*space) -> (batch, out_channels, \\*space) on any grid.

    Args:
        in_channels, out_channels: channels of input and output.
        hidden_channels: width of the functions between the layers.
        n_layers: number of layers.
        schedule: (pre, post) smoothing steps per level, finest first; its length is the number of grids; five levels
            as in :data:`SCHEDULE` by default.
        boundary: ``dirichlet``, ``neumann`` or ``periodic`` for all sides, or per axis, or per side of each axis.
        spatial_dims: 1, 2 or 3; by default the number of axes spelled out in ``boundary``, or 2.
        act_layer: activation, see :func:`katops.layers.activation.build_activation`.
        norm_layer: norm inside the V-cycles, called with the number of channels; ``None`` keeps them linear.
        mlp_layer: channel mixer beside each V-cycle, called with in_features= and out_features=, acts on the last axis.
        pointwise: whether there is such a channel mixer.
        space_mixer: replaces the V-cycle; called with (in_channels, out_channels, boundary=...). The options of the
            V-cycle (``schedule``, ``norm_layer``, ``bias``, ``published_*``) are then refused.
        bias: a constant per channel in every smoothing stencil.
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
        boundary: Boundary = "dirichlet",
        spatial_dims: int | None = None,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        norm_layer: Callable[[int], nn.Module] | None = None,
        mlp_layer: Callable[..., nn.Module] = nn.Linear,
        pointwise: bool = True,
        space_mixer: Callable[..., nn.Module] | None = None,
        bias: bool = False,
        add_input: bool = False,
        published_widths: Sequence[int] | None = None,
        published_norm_grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        sizes = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "hidden_channels": hidden_channels,
            "n_layers": n_layers,
        }
        for name, value in sizes.items():
            if value < 1:
                raise UserError(f"MgNO: {name} must be at least 1, got {value}")
        if spatial_dims not in (None, 1, 2, 3):
            raise UserError(f"MgNO: spatial_dims must be 1, 2 or 3, got {spatial_dims}")
        if add_input and in_channels != out_channels:
            raise UserError(f"MgNO: add_input needs equal channels, got {in_channels} in and {out_channels} out")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.boundary = normalise_boundary(boundary, spatial_dims or number_of_axes(boundary), STENCIL_BOUNDARIES)
        self.add_input = add_input
        if not pointwise and mlp_layer is not nn.Linear:
            raise UserError("MgNO: mlp_layer has no effect with pointwise=False; leave one of them out")
        widths = [in_channels] + [hidden_channels] * n_layers
        given = {
            "schedule": schedule,
            "norm_layer": norm_layer,
            "bias": bias,
            "published_widths": published_widths,
            "published_norm_grid": published_norm_grid,
        }
        idle = [name for name, value in given.items() if value] if space_mixer else []
        if idle:
            raise UserError(
                f"MgNO: {', '.join(idle)} belong to the V-cycle and have no effect with another space_mixer; give them "
                f"as options of the space_mixer"
            )
        cycle = {**given, "schedule": SCHEDULE if schedule is None else schedule}
        mixer, options = (MultigridCycle, cycle) if space_mixer is None else (space_mixer, {})
        pairs = list(pairwise(widths))
        self.mixers = nn.ModuleList(mixer(*pair, boundary=self.boundary, **options) for pair in pairs)
        self.pointwise = nn.ModuleList(
            mlp_layer(in_features=inputs, out_features=outputs) if pointwise else None for inputs, outputs in pairs
        )
        self.activations = nn.ModuleList(build_activation(act_layer, outputs, channel_dim=1) for _, outputs in pairs)
        self.projection = nn.Linear(hidden_channels, out_channels)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """y for x; ``time`` belongs to the contract of operator models and has no influence here."""
        check_field(x, self.in_channels, len(self.boundary), type(self).__name__)
        u = channels_last(x)
        for mixer, pointwise, act in zip(self.mixers, self.pointwise, self.activations, strict=True):
            v = mixer(u)
            u = act(v if pointwise is None else v + _on_channels(pointwise, u))
        y = _on_channels(self.projection, u).contiguous()
        return y + x if self.add_input else y


def _on_channels(mixer: nn.Module, u: Tensor) -> Tensor:
    """Apply a channel mixer, which acts on the last axis, to (batch, channel, \\*space)."""
    return mixer(u.movedim(1, -1)).movedim(-1, 1)


@register_operator(summary="multigrid neural operator, all sizes given as options", paper=PAPER)
def mgno(**options: Any) -> MgNO:
    """MgNO with the defaults of the class."""
    return MgNO(**options)


@register_operator(summary="multigrid neural operator, 4 layers of width 24", paper=PAPER)
def mgno_tiny(**options: Any) -> MgNO:
    """For a laptop: trains on thousands of 64 x 64 fields in minutes on a CPU."""
    return MgNO(**{"hidden_channels": 24, "n_layers": 4, **options})


@register_operator(summary="multigrid neural operator, 5 layers of width 32", paper=PAPER)
def mgno_small(**options: Any) -> MgNO:
    """About the size that the paper reports for Darcy flow (0.57 M parameters there, on six grids)."""
    return MgNO(**{"hidden_channels": 32, "n_layers": 5, **options})


@register_operator(summary="multigrid neural operator, 6 layers of width 64", paper=PAPER)
def mgno_base(**options: Any) -> MgNO:
    """For a GPU, and grids of 128 points per axis and more."""
    return MgNO(**{"hidden_channels": 64, "n_layers": 6, **options})


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
