"""Predictors without training, which a model has to beat. They work on physical units, not on normalised fields."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import FieldMeta
from katops.layers.spatial import check_field

_LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Persistence(nn.Module):
    """Nothing changes: every output frame is the last input frame, y_t = x_last.

    forward(x, time=None): (batch, steps_in * input channels, \\*space) to
    (batch, steps_out * output channels, \\*space), frame slowest.

    Args:
        meta: names the channels; outputs are found among the inputs by name.

    Raises:
        UserError: an output channel is not among the input channels.
    """

    def __init__(self, meta: FieldMeta) -> None:
        super().__init__()
        inputs = [channel.name for channel in meta.inputs]
        absent = [channel.name for channel in meta.outputs if channel.name not in inputs]
        if absent:
            raise UserError(
                f"persistence cannot predict {', '.join(absent)} of {meta.name!r}: not among the inputs "
                f"{', '.join(inputs)}; compare with the mean field instead"
            )
        self.in_channels, self.out_channels = meta.in_channels, meta.out_channels
        self.boundary = meta.boundary
        last_frame = (meta.steps_in - 1) * len(inputs)
        self._sources = [last_frame + inputs.index(channel.name) for channel in meta.outputs] * meta.steps_out

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        check_field(x, self.in_channels, len(self.boundary), "persistence")
        return x[:, self._sources]


class MeanField(nn.Module):
    """Always the same answer: y = mean of the training targets, per point or per channel.

    forward(x, time=None): (batch, \\*, \\*space) -> (batch, channel, \\*space). A mean field given on another grid is
    resampled linearly between cell centres, and kept constant beyond the outermost ones.

    Args:
        mean: (channel, \\*space) or (channel,); one entry per output channel of every output frame.

    Raises:
        UserError: ``mean`` has no channel axis or more than three spatial axes, or another number of them than x.
    """

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        if not 1 <= mean.ndim <= 4:
            raise UserError(
                f"mean field: expected (channel,) or (channel, *space) with 1 to 3 axes, got {tuple(mean.shape)}"
            )
        self.out_channels = mean.shape[0]
        self.register_buffer("mean", mean.detach().clone())

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        space = x.shape[2:]
        mean = self.mean
        if mean.ndim == 1:
            mean = mean.reshape(-1, *[1] * len(space))
        elif mean.ndim - 1 != len(space):
            raise UserError(
                f"mean field: it has {mean.ndim - 1} spatial axes, the input {tuple(x.shape)} has {len(space)}"
            )
        elif mean.shape[1:] != space:
            mean = F.interpolate(mean[None], size=tuple(space), mode=_LINEAR_MODES[len(space)], align_corners=False)[0]
        return mean.expand(x.shape[0], self.out_channels, *space).to(torch.result_type(x, mean))
