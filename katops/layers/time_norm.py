"""Layer normalisation whose gain and shift are affine in a lead time (Herde et al., arXiv 2405.19101)."""

from collections.abc import Callable
from inspect import signature

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.ops.normalise import normalise
from katops.registry import LAYERS

PAPER = "arXiv:2405.19101"
EPSILON = 1e-5


def check_time(time: Tensor | None, x: Tensor, owner: str) -> Tensor:
    """One lead time per sample, on the device of x; 1 for all samples where there is none.

    Args:
        time: (batch,), or ``None`` for steady problems, whose lead time counts as 1, as published.
        x: its first axis is the batch.
        owner: what the message calls the module.

    Raises:
        UserError: it is no tensor, or the number of times is not that of the samples; one time is never spread over a
            batch.
    """
    if time is None:
        return x.new_ones(x.shape[0])
    if not isinstance(time, Tensor) or time.shape != x.shape[:1]:
        given = tuple(time.shape) if isinstance(time, Tensor) else f"{time!r}, which is no tensor"
        raise UserError(
            f"{owner}: time must have one value per sample, shape ({x.shape[0]},), got {given}; repeat a common time "
            "with torch.full"
        )
    return time.to(x.device)


class AffineInTime(nn.Module):
    """w t + b for every channel, (batch,) -> (batch, channels); parameters (channels, 1) and (channels,)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, time: Tensor) -> Tensor:
        # Written out, since autocast would round the gain of a linear layer.
        return torch.addcmul(self.bias, time.to(self.bias.dtype)[:, None], self.weight[:, 0])


@LAYERS.register(
    "time_layer_norm", kind="norm", summary="layer norm with gain and shift affine in the lead time", paper=PAPER
)
class TimeLayerNorm(nn.Module):
    """y = (w_g t + b_g) (x - mean) / sqrt(variance + eps) + w_b t + b_b, moments over the channels of each point.

    The variance is taken around the mean, never as a difference of squares, so that it stays right where the mean is
    large beside it. Parameters have the published names: ``weight.weight`` w_g, ``weight.bias`` b_g, ``bias.weight``
    w_b, ``bias.bias`` b_b.

    Args:
        channels: width.
        channel_dim: axis of the channels; 1 for fields, -1 for tokens.
        eps: added to the variance.
    """

    def __init__(self, channels: int, channel_dim: int = 1, eps: float = EPSILON) -> None:
        super().__init__()
        self.channels, self.channel_dim, self.eps = channels, channel_dim, eps
        self.weight, self.bias = AffineInTime(channels), AffineInTime(channels)
        self.reset_parameters()

    def reset_parameters(self, gain: float = 1.0) -> None:
        """Gain ``gain`` at time 0 and small slopes in time; the published initialisation has gain 0."""
        for part, offset in ((self.weight, gain), (self.bias, 0.0)):
            nn.init.normal_(part.weight, std=0.02)
            nn.init.constant_(part.bias, offset)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """The norm of x at ``time`` (batch,); 1 for all samples where it is not given.

        Raises:
            UserError: there is not one time per sample.
        """
        time = check_time(time, x, "TimeLayerNorm")
        z = normalise(x.movedim(self.channel_dim, -1), self.eps)
        per_sample = (x.shape[0], *(1,) * (x.ndim - 2), self.channels)
        gain, shift = (part(time).view(per_sample).to(z.dtype) for part in (self.weight, self.bias))
        return torch.addcmul(shift, z, gain).movedim(-1, self.channel_dim)

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        return f"{self.channels}, channel_dim={self.channel_dim}, eps={self.eps}"


class TokenLayerNorm(nn.LayerNorm):
    """Layer norm of tokens (batch, \\*grid, channel) that takes a time and has no use for it."""

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        return super().forward(x)


class TokenNorm(nn.Module):
    """Any norm of fields on tokens (batch, \\*grid, channel); it is given the time if it takes one.

    Args:
        norm_layer: called with the number of channels, makes a norm of (batch, channel, \\*space).
        channels: width.
    """

    def __init__(self, norm_layer: Callable[[int], nn.Module], channels: int) -> None:
        super().__init__()
        self.norm = norm_layer(channels)
        self.takes_time = "time" in signature(self.norm.forward).parameters

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        fields = x.movedim(-1, 1)
        return (self.norm(fields, time) if self.takes_time else self.norm(fields)).movedim(1, -1)
