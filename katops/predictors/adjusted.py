"""A predictor for a data set whose levels and times are not those that the model learned."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from katops.data.adjustment import Adjustment
from katops.fields import Channel, FieldMeta

Predictor = Callable[..., Tensor]


def adjusted(predictor: Predictor, adjustment: Adjustment, meta: FieldMeta) -> Predictor:
    """The predictor in the units of a data set: f(x, t, c) -> f(x - o, t * factor, c - o) + o.

    Args:
        predictor: maps x (batch, steps_in, input channels, \\*space), time (batch,) and, where there are some,
            constants (batch, constant channels, \\*space) to (batch, frames, output channels, \\*space).
        adjustment: levels o and time factor of the data set.
        meta: names the channels.

    Returns:
        The predictor itself where nothing is to be adjusted.
    """
    if not adjustment:
        return predictor
    x_level, y_level, c_level = (
        _levels(channels, adjustment, len(meta.axes)) for channels in (meta.inputs, meta.outputs, meta.constants)
    )

    def predict(x: Tensor, time: Tensor | None = None, constants: Tensor | None = None) -> Tensor:
        lead = None if time is None else time * adjustment.time_factor
        further = () if constants is None else (constants - c_level.to(constants),)
        y = predictor(x - x_level.to(x), lead, *further)
        return y + y_level.to(y)

    return predict


def _levels(channels: Sequence[Channel], adjustment: Adjustment, axes: int) -> Tensor:
    """(channel, 1, ...) with one 1 for each axis."""
    levels = [adjustment.offset.get(channel.name, 0.0) for channel in channels]
    return torch.tensor(levels, dtype=torch.float64).view(-1, *(1,) * axes)
