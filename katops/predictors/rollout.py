"""A predictor applied to its own predictions, frame after frame."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from katops.data.windows import WHOLE_TRAJECTORY, Window
from katops.errors import UserError
from katops.fields import FieldMeta
from katops.predictors.fields import FieldPredictor


class Rollout:
    """``frames`` frames from the first window of inputs: the predictions of a call are inputs of the next one.

    With u_k the frames known so far and G the predictor, u_{k+1..k+m} = G(u_{k-n+1..k}) for its n input and m output
    frames, until there are enough. Constants stay what they are, the lead time of a call is the one of training.

    Args:
        predictor: of frames that follow its inputs without a gap.
        frames: how many, at least 1; a multiple of ``meta.steps_out`` or not.

    Raises:
        UserError: an input channel is not predicted.
    """

    def __init__(self, predictor: FieldPredictor, frames: int) -> None:
        check_channels(predictor.meta)
        self.predictor = predictor
        self.frames = frames

    def __call__(self, x: Tensor, time: Tensor | None = None, constants: Tensor | None = None) -> Tensor:
        """x (batch, steps_in, input channels, \\*space) -> (batch, frames, output channels, \\*space).

        Args:
            x: first frames, in physical units.
            time: lead time to the last of the ``frames`` frames (batch,), as a window of that length has it.
            constants: (batch, constant channels, \\*space).
        """
        if time is None and getattr(self.predictor.model, "takes_time", False):
            raise UserError("a rollout of this model needs the time between the frames; state data.time_step")
        steps = self.predictor.meta.steps_out
        calls = -(-self.frames // steps)
        lead = None if time is None else time * (steps / self.frames)
        parts = unroll(self.predictor, x, lead, constants, calls)
        return torch.cat(list(parts), 1)[:, : self.frames]


def unroll(
    predictor: FieldPredictor, x: Tensor, time: Tensor | None, constants: Tensor | None, calls: int
) -> Iterator[Tensor]:
    """The predictions of each of ``calls`` calls, (batch, steps_out, output channels, \\*space); gradients flow.

    Args:
        predictor: every input channel is among its outputs.
        x: (batch, steps_in, input channels, \\*space).
        time: lead time of one call, (batch,).
        constants: (batch, constant channels, \\*space).
        calls: at least 1.
    """
    for call in range(calls):
        y = predictor(x, time, constants)
        yield y
        if call < calls - 1:
            x = following(x, y, predictor.meta)


def following(x: Tensor, y: Tensor, meta: FieldMeta) -> Tensor:
    """The input of the next call: the last frames of the input x and of its prediction y."""
    outputs = [channel.name for channel in meta.outputs]
    sources = [outputs.index(channel.name) for channel in meta.inputs]
    return torch.cat([x, y[:, :, sources].to(x.dtype)], 1)[:, -x.shape[1] :]


def check_channels(meta: FieldMeta) -> None:
    """Whether predictions can be inputs again.

    Raises:
        UserError: an input channel is not predicted.
    """
    outputs = {channel.name for channel in meta.outputs}
    unknown = [channel.name for channel in meta.inputs if channel.name not in outputs]
    if unknown:
        raise UserError(
            f"a rollout of {meta.name!r} needs {', '.join(unknown)} in every step, which the model does not predict; "
            f"name it among the outputs, or in data.constants if it does not change in time"
        )


def check_gap(window: Window) -> None:
    """Whether predicted frames follow the inputs at once.

    Raises:
        UserError: the window has a gap.
    """
    if window.gap:
        raise UserError(
            f"a rollout needs frames that follow each other, but data.window.gap is {window.gap}; train with "
            f"every: {(window.gap + 1) * window.every} instead"
        )


def rollout_window(window: Window, frames: int, start: int = 0) -> Window:
    """One window in each trajectory: the input frames from ``start`` on, and ``frames`` frames to compare with.

    Args:
        window: of the training.
        frames: of the rollout, counted in frames of the window (``every`` apart).
        start: first frame of the input, in frames of the file.

    Raises:
        UserError: the window has a gap.
    """
    check_gap(window)
    return replace(window, n_out=frames, first=start, stride=WHOLE_TRAJECTORY)
