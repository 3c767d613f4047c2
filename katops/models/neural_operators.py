"""FNO, TFNO and U-NO of the ``neuraloperator`` package, behind the contract of operator models.

The nets themselves are that package's; here are the choice of their sizes, a margin on axes that are not periodic
(a Fourier transform takes every field for periodic), grids that they do not take by themselves, and a state dict that
holds tensors only.
"""

import contextlib
import io
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, normalise_boundary
from katops.layers.spatial import check_field, number_of_axes
from katops.models.build import register_net
from katops.models.padding import crop, extend, margins

FNO_PAPER = "arXiv:2010.08895"
TFNO_PAPER = "arXiv:2310.00120"
UNO_PAPER = "arXiv:2204.11127"
# U-NO of five layers, as wide and as fine as its input, then down to a quarter of the points and back.
UNO_WIDTHS = (1, 2, 2, 2, 1)
UNO_SCALINGS = (1.0, 0.5, 0.5, 2.0, 2.0)
UNO_COARSENING = 4
MARGIN = 0.1
TFNO_RANK = 0.1


class NeuralOperator(nn.Module):
    """What the three have in common: (batch, in_channels, \\*space) -> (batch, out_channels, \\*space) on any grid.

    The net sees the field with a margin at the upper end of every axis that is not periodic, where the last value is
    repeated; the margin is a fraction of the axis, so it stays the same part of the domain on every grid.

    Args:
        in_channels, out_channels: channels of input and output.
        boundary: decides which axes are periodic; the nets know no other condition.
        spatial_dims: 1, 2 or 3; by default the number of axes spelled out in ``boundary``, or 2.
        margin: fraction of the length of an axis, at least 0.
        multiple: what the net needs the lengths of the axes to be multiples of.

    Raises:
        UserError: a size is not positive, the margin is negative or infinite, or the ``neuraloperator`` package is
            missing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        boundary: Boundary,
        spatial_dims: int | None,
        margin: float,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        if not 0 <= margin < math.inf:
            raise UserError(f"{type(self).__name__}: margin must be a finite number of at least 0, got {margin}")
        self.in_channels, self.out_channels = in_channels, out_channels
        n_axes = number_of_axes(boundary, spatial_dims=spatial_dims)
        self.boundary = normalise_boundary(boundary, n_axes, STENCIL_BOUNDARIES)
        self.margin, self.multiple = margin, multiple
        # The package puts the arguments of its constructors among the tensors.
        self.register_state_dict_post_hook(_drop_metadata)

    def _modes(self, modes: int | Sequence[int]) -> list[int]:
        """Modes per axis in the package's counting, both signs together.

        Raises:
            UserError: another number of axes, or none of them.
        """
        per_axis = [modes] * len(self.boundary) if isinstance(modes, int) else list(modes)
        if len(per_axis) != len(self.boundary) or min(per_axis) < 1:
            raise UserError(
                f"{type(self).__name__}: modes {modes!r}: give one number of at least 1 for all axes, or one for each "
                f"of the {len(self.boundary)} axes"
            )
        return [2 * count for count in per_axis]

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """y for x; ``time`` belongs to the contract of operator models and has no influence here."""
        check_field(x, self.in_channels, len(self.boundary), type(self).__name__)
        space = x.shape[2:]
        extra = margins(space, self.boundary, self.margin, self.multiple)
        # Fourier transforms have no half precision on every device and size.
        with torch.autocast(x.device.type, enabled=False):
            y = self.net(extend(x.to(self._dtype), extra, self.boundary))
        return crop(y, space).to(torch.result_type(x, y))

    @property
    def _dtype(self) -> torch.dtype:
        return next(parameter.dtype for parameter in self.parameters() if not parameter.is_complex())

    def _apply(self, function: Any, recurse: bool = True) -> nn.Module:
        """Complex weights follow the precision of the real ones; torch's ``double()`` leaves them as they are."""
        super()._apply(function, recurse)
        wanted = self._dtype.to_complex()
        return super()._apply(lambda tensor: tensor.to(wanted) if tensor.is_complex() else tensor, recurse)


def _drop_metadata(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    state.pop("_metadata", None)


def neuraloperator() -> ModuleType:
    """``neuralop.models``.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import neuralop.models
    except ImportError as error:
        raise UserError(
            f'fno, tfno and uno need the neuraloperator package: pip install "katops[baselines]" ({error})'
        ) from error
    return neuralop.models


def check_sizes(owner: str, **sizes: int) -> None:
    """Raises :class:`UserError` unless all are at least 1."""
    for name, value in sizes.items():
        if value < 1:
            raise UserError(f"{owner}: {name} must be at least 1, got {value}")


class FNO(NeuralOperator):
    """Fourier neural operator (Li et al., arXiv 2010.08895): layers of act(W u + F^-1(R F u)) on the lowest modes.

    The grid's coordinates are appended to the input, as published. With ``rank`` the tensors R are Tucker-factorised
    (TFNO: Kossaifi et al., arXiv 2310.00120).

    Args:
        hidden_channels: width.
        n_layers: Fourier layers.
        modes: wavenumbers kept per axis and sign, one number for all axes or one for each; what a grid does not
            resolve is left out there.
        rank: parameters of a factorised tensor as a fraction of the dense one's, in (0, 1]; ``None``: dense.
        margin: see :class:`NeuralOperator`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        hidden_channels: int = 32,
        n_layers: int = 4,
        modes: int | Sequence[int] = 12,
        rank: float | None = None,
        boundary: Boundary = "dirichlet",
        spatial_dims: int | None = None,
        margin: float = MARGIN,
    ) -> None:
        super().__init__(in_channels, out_channels, boundary=boundary, spatial_dims=spatial_dims, margin=margin)
        check_sizes("FNO", in_channels=in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        check_sizes("FNO", n_layers=n_layers)
        if rank is not None and not 0 < rank <= 1:
            raise UserError(f"FNO: rank must be above 0 and at most 1, got {rank}")
        self.net = neuraloperator().FNO(
            n_modes=tuple(self._modes(modes)),
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
            **({} if rank is None else {"factorization": "Tucker", "rank": rank}),
        )


class UNO(NeuralOperator):
    """U-shaped neural operator (Rahman, Ross, Azizzadenesheli, arXiv 2204.11127).

    Five Fourier layers on grids of 1, 1/2, 1/4, 1/2 and 1 times the points, 1, 2, 2, 2 and 1 times as wide, with skips.

    Args:
        hidden_channels: width of the outer layers.
        modes: wavenumbers kept per axis and sign on the finest grid; half and a quarter of them on the coarser ones.
        margin: see :class:`NeuralOperator`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        hidden_channels: int = 32,
        modes: int | Sequence[int] = 12,
        boundary: Boundary = "dirichlet",
        spatial_dims: int | None = None,
        margin: float = MARGIN,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            boundary=boundary,
            spatial_dims=spatial_dims,
            margin=margin,
            multiple=UNO_COARSENING,
        )
        check_sizes("UNO", in_channels=in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        finest = self._modes(modes)
        scale, per_layer = 1.0, []
        for scaling in UNO_SCALINGS:
            # A layer works at the coarser of the two grids that it joins.
            per_layer.append([max(2, round(count * min(scale, scale * scaling))) for count in finest])
            scale *= scaling
        # The package announces every block that it makes.
        with contextlib.redirect_stdout(io.StringIO()):
            self.net = neuraloperator().UNO(
                in_channels=in_channels,
                out_channels=out_channels,
                hidden_channels=hidden_channels,
                lifting_channels=2 * hidden_channels,
                projection_channels=2 * hidden_channels,
                n_layers=len(UNO_SCALINGS),
                uno_out_channels=[hidden_channels * factor for factor in UNO_WIDTHS],
                uno_n_modes=per_layer,
                uno_scalings=[[scaling] * len(finest) for scaling in UNO_SCALINGS],
                channel_mlp_skip="linear",
            )


@register_net(summary="Fourier neural operator, from the neuraloperator package", paper=FNO_PAPER)
def fno(**options: Any) -> FNO:
    """FNO with the defaults of the class."""
    return FNO(**options)


@register_net(summary="FNO with Tucker-factorised weights, from the neuraloperator package", paper=TFNO_PAPER)
def tfno(**options: Any) -> FNO:
    """FNO with rank 0.1."""
    return FNO(**{"rank": TFNO_RANK, **options})


@register_net(summary="U-shaped neural operator, from the neuraloperator package", paper=UNO_PAPER)
def uno(**options: Any) -> UNO:
    """U-NO with the defaults of the class."""
    return UNO(**options)
