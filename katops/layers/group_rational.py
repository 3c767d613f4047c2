"""The group rational activation and the GR-KAN layers built from it (Yang & Wang 2024, arXiv 2409.10594, section 4)."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from katops.errors import UserError
from katops.ops.rational import group_rational
from katops.ops.rational_shapes import Shape, second_moment
from katops.ops.rational_shapes import shape as named_shape
from katops.registry import LAYERS

PAPER = "arXiv:2409.10594"


def _check_channels(x: Tensor, channels: int, channel_dim: int) -> None:
    if not -x.ndim <= channel_dim < x.ndim or x.shape[channel_dim] != channels:
        raise UserError(f"rational: expected {channels} channels at axis {channel_dim}, got {tuple(x.shape)}")


def _autocast_type(x: Tensor) -> torch.dtype | None:
    """The type that autocast gives to the input of a linear map, where it is on for the device of ``x``."""
    if x.is_meta or x.dtype != torch.float32:
        return None
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


# None of them is taken apart by symbolic tracing, so that feature extractors of timm and torchvision work.
torch.fx.wrap("_check_channels")
torch.fx.wrap("_autocast_type")
torch.fx.wrap("group_rational")


@LAYERS.register(
    "rational", kind="activation", summary="learned P(x) / (1 + sum |b_j| |x|^j) per group of channels", paper=PAPER
)
class GroupRational(nn.Module):
    """y = P(x) / Q(x) with learned coefficients per group of channels, see :func:`katops.ops.rational.group_rational`.

    The parameters have the names and shapes of the published checkpoints: ``weight_numerator`` (1 or groups, m + 1)
    and ``weight_denominator`` (groups, n).

    Args:
        channels: size of the channel axis.
        groups: number of groups; must divide ``channels``.
        shape: what the function looks like at first: a name from :mod:`katops.ops.rational_shapes` or a shape.
        shared_numerator: one numerator for all groups, as published, or one per group.
        channel_dim: axis of the channels: -1 for tokens, 1 for fields and images.

    Raises:
        UserError: the groups do not divide the channels, or the shape has no such name.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 8,
        shape: str | Shape = "gelu",
        shared_numerator: bool = True,
        channel_dim: int = -1,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise UserError(
                f"rational: {groups} groups do not divide {channels} channels; choose a number of groups that does"
            )
        self.channels, self.groups, self.channel_dim = channels, groups, channel_dim
        self.shape = named_shape(shape) if isinstance(shape, str) else shape
        options = {"device": device, "dtype": dtype}
        rows = 1 if shared_numerator else groups
        self.weight_numerator = nn.Parameter(torch.empty(rows, len(self.shape.numerator), **options))
        self.weight_denominator = nn.Parameter(torch.empty(groups, len(self.shape.denominator), **options))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Back to the initial shape."""
        with torch.no_grad():
            self.weight_numerator.copy_(self.weight_numerator.new_tensor(self.shape.numerator))
            self.weight_denominator.copy_(self.weight_denominator.new_tensor(self.shape.denominator))

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Any shape with ``channels`` at ``channel_dim``; the same shape comes out, in ``dtype`` if that is given."""
        _check_channels(x, self.channels, self.channel_dim)
        return group_rational(x, self.weight_numerator, self.weight_denominator, self.channel_dim, dtype)

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        numerator, denominator = self.weight_numerator.shape, self.weight_denominator.shape
        return (
            f"{self.channels}, groups={self.groups}, degrees=({numerator[1] - 1}, {denominator[1]}), "
            f"shared_numerator={numerator[0] == 1}, channel_dim={self.channel_dim}"
        )


@LAYERS.register(
    "group_rational_linear", kind="channel mixer", summary="GR-KAN layer, y = W F(x) + b with F rational", paper=PAPER
)
class GroupRationalLinear(nn.Module):
    """One GR-KAN layer, y = W F(x) + b with F a group rational function (equation 12), (..., in) -> (..., out).

    Every edge from input i to output j carries the function w_ji F_g(i): a Kolmogorov-Arnold layer whose functions are
    shared, up to scale, by a group of inputs. The weights keep the variance: Var[w] = alpha / in_features with
    alpha = 1 / E[F(z)^2], z ~ N(0, 1) (section 4.3), alpha being computed from the coefficients by quadrature.

    Args:
        in_features, out_features: widths.
        groups, shape, shared_numerator: see :class:`GroupRational`.
        bias: whether b is there.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        groups: int = 8,
        shape: str | Shape = "silu",
        shared_numerator: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        options = {"device": device, "dtype": dtype}
        self.act = GroupRational(in_features, groups, shape, shared_numerator, **options)
        self.fc = nn.Linear(in_features, out_features, bias=bias, **options)
        keep_variance(self.fc, self.act.shape)

    def reset_parameters(self) -> None:
        """Initial shape and weights that keep the variance."""
        self.act.reset_parameters()
        keep_variance(self.fc, self.act.shape)

    def forward(self, x: Tensor) -> Tensor:
        # autocast would round between the two anyway; rounding at once saves a pass over memory
        return self.fc(self.act(x, _autocast_type(x)))


@LAYERS.register(
    "group_rational_kan", kind="channel mixer", summary="two GR-KAN layers in place of a transformer's MLP", paper=PAPER
)
class GroupRationalKAN(nn.Module):
    """y = W2 F2(W1 F1(x) + b1) + b2: two GR-KAN layers in the place of an MLP, (..., in) -> (..., out).

    F1 starts as the identity and F2 as ``shape``, so that at first this is the MLP with that activation. Signature and
    parts (``act1 drop1 fc1 act2 norm drop2 fc2``) are those of timm's ``Mlp`` and of the published checkpoints.

    Args:
        in_features: width of the input.
        hidden_features: width in between; that of the input where it is not given.
        out_features: width of the output; that of the input where it is not given.
        act_layer: given by transformers to every MLP; not used, F2 is what ``shape`` says.
        norm_layer: called with the hidden width, between F2 and the second linear map; none by default.
        bias: of both linear maps.
        drop: dropout rate after each rational function.
        use_conv: 1x1 convolutions on (batch, channel, height, width) instead of linear maps on the last axis.
        groups, shape, shared_numerator: see :class:`GroupRational`.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable | None = None,
        norm_layer: Callable[[int], nn.Module] | None = None,
        bias: bool = True,
        drop: float = 0.0,
        use_conv: bool = False,
        groups: int = 8,
        shape: str | Shape = "gelu",
        shared_numerator: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        options = {"device": device, "dtype": dtype}
        hidden, out = hidden_features or in_features, out_features or in_features
        channel_dim = 1 if use_conv else -1

        def linear(inputs: int, outputs: int) -> nn.Module:
            if use_conv:
                return nn.Conv2d(inputs, outputs, 1, bias=bias, **options)
            return nn.Linear(inputs, outputs, bias=bias, **options)

        self.act1 = GroupRational(in_features, groups, "identity", shared_numerator, channel_dim, **options)
        self.drop1 = nn.Dropout(drop)
        self.fc1 = linear(in_features, hidden)
        self.act2 = GroupRational(hidden, groups, shape, shared_numerator, channel_dim, **options)
        self.norm = nn.Identity() if norm_layer is None else norm_layer(hidden)
        self.drop2 = nn.Dropout(drop)
        self.fc2 = linear(hidden, out)
        self.init_weights()

    def init_weights(self) -> None:
        """Weights that keep the variance; timm's transformers call this after their own initialisation."""
        keep_variance(self.fc1, self.act1.shape)
        keep_variance(self.fc2, self.act2.shape)

    def reset_parameters(self) -> None:
        """Initial shapes and weights."""
        self.act1.reset_parameters()
        self.act2.reset_parameters()
        self.init_weights()

    def forward(self, x: Tensor) -> Tensor:
        # as above, where dropout does not scale in between
        dropped = self.training and self.drop1.p > 0
        x = self.fc1(self.drop1(self.act1(x, None if dropped else _autocast_type(x))))
        return self.fc2(self.drop2(self.norm(self.act2(x))))


def keep_variance(linear: nn.Linear | nn.Conv2d, shape: Shape) -> None:
    """Draw the weights behind a rational function F so that Var[W F(z)] = 1 for z ~ N(0, 1); biases are zero.

    Var[w] = 1 / (fan_in E[F(z)^2]), Yang & Wang 2024, section 4.3.
    """
    fan_in = linear.weight[0].numel()
    nn.init.normal_(linear.weight, std=1 / math.sqrt(fan_in * second_moment(shape.numerator, shape.denominator)))
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
