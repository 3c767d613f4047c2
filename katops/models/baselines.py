"""Predictors without training, which a model has to beat. They work on physical units, not on normalised fields."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import Axis, FieldMeta
from katops.layers.spatial import check_field


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
        self.boundary = meta.stencil_boundary
        last_frame = (meta.steps_in - 1) * len(inputs)
        self._sources = [last_frame + inputs.index(channel.name) for channel in meta.outputs] * meta.steps_out

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        check_field(x, self.in_channels, len(self.boundary), "persistence")
        return x[:, self._sources]


class MeanField(nn.Module):
    """Always the same answer: y = mean of the training targets, per point or per channel.

    forward(x, time=None): (batch, \\*, \\*space) -> (batch, channel, \\*space). A mean field given on another grid is
    interpolated linearly between its points: around a periodic axis, and constant beyond the outermost ones of the
    others.

    Args:
        mean: (channel, \\*space) or (channel,); one entry per output channel of every output frame.
        axes: where the points of a grid lie; cell centres between walls where ``None``.

    Raises:
        UserError: ``mean`` has no channel axis or more than three spatial axes, or another number of them than x; the
            points of an uneven grid are as many as one of the two grids needs, not both.
    """

    def __init__(self, mean: Tensor, axes: Sequence[Axis] | None = None) -> None:
        super().__init__()
        if not 1 <= mean.ndim <= 4:
            raise UserError(
                f"mean field: expected (channel,) or (channel, *space) with 1 to 3 axes, got {tuple(mean.shape)}"
            )
        self.out_channels = mean.shape[0]
        self.axes = tuple(axes or (Axis(str(position)) for position in range(mean.ndim - 1)))
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
            for position, (axis, size) in enumerate(zip(self.axes, space, strict=True), start=1):
                mean = _interpolated(mean, position, axis, size)
        return mean.expand(x.shape[0], self.out_channels, *space).to(torch.result_type(x, mean))


def _interpolated(values: Tensor, position: int, axis: Axis, size: int) -> Tensor:
    """Values along one axis at the ``size`` points that the axis has on another grid."""
    if values.shape[position] == size:
        return values
    period = axis.upper - axis.lower if axis.boundary[0] == "periodic" else None
    old, new = axis.coordinates(values.shape[position]), axis.coordinates(size)
    # One column of weights per old point: interpolation is linear in the values.
    columns = [np.interp(new, old, unit, period=period) for unit in np.eye(len(old))]
    weights = torch.as_tensor(np.stack(columns, axis=1), dtype=values.dtype, device=values.device)
    return torch.tensordot(weights, values, dims=([1], [position])).movedim(0, position)
