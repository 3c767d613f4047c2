"""Frames at chosen times from a predictor that takes the lead time: in one step each, or in many."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from katops.errors import UserError
from katops.predictors.fields import FieldPredictor
from katops.predictors.rollout import check_channels, following

# Times that differ by less than this part of the last one are the same: sums of decimal fractions are not exact.
_SAME = 1e-6


class Forecast:
    """The states at times t_1 < t_2 < ... after the input, by a predictor G(t) of one frame.

    Direct, every time in one step from the input: u(t_k) = G(t_k) u(0). Autoregressive, where ``step`` is given: from
    one time to the next in as many equal steps as are needed for none to be longer than ``step``, u(t_k) =
    G(h)^n u(t_{k-1}) with n h = t_k - t_{k-1}. Times between the ends of two steps are reached by a shorter
    step from the first of them, from which the way does not go on.

    Args:
        predictor: of one frame.
        fractions: t_k as fractions of the last one, increasing, above 0, ending with 1.
        step: longest step as a fraction of the last time; ``None`` for direct predictions.
        last: the last time, where the caller does not give it.
        stops: the fractions at which steps end, the last one being 1; all of them where ``None``.

    Raises:
        UserError: the predictor predicts several frames in a call, the times do not increase, or predictions cannot be
            inputs again.
    """

    def __init__(
        self,
        predictor: FieldPredictor,
        fractions: Sequence[float],
        *,
        step: float | None = None,
        last: float | None = None,
        stops: Sequence[float] | None = None,
    ) -> None:
        meta = predictor.meta
        if meta.steps_out != 1 or not getattr(predictor.model, "takes_time", False):
            raise UserError(
                "only a model of one frame that takes the lead time can be asked for chosen times, such as scot_*; "
                "this one makes rollouts of the steps that it was trained with"
            )
        times = [0.0, *fractions]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise UserError(f"the times of a forecast must increase from 0 on; given: {list(fractions)}")
        if step is not None:
            check_channels(meta)
            if step <= 0:
                raise UserError(f"the step of a forecast must be above 0; given: {step}")
        self.predictor = predictor
        self.fractions, self.step, self.last = tuple(fractions), step, last
        self.stops = tuple(fractions if stops is None or step is None else stops)

    @property
    def calls(self) -> list[int]:
        """Calls of the predictor from one stop to the next; 1 each for direct predictions."""
        if self.step is None:
            return [1] * len(self.fractions)
        gaps = [later - earlier for earlier, later in pairwise((0.0, *self.stops))]
        return [max(1, math.ceil(gap / self.step - _SAME)) for gap in gaps]

    def __call__(self, x: Tensor, time: Tensor | None = None, constants: Tensor | None = None) -> Tensor:
        """x (batch, steps_in, input channels, \\*space) -> (batch, frames, output channels, \\*space).

        Args:
            x: input, in physical units.
            time: lead time of the last frame, (batch,).
            constants: (batch, constant channels, \\*space).

        Raises:
            UserError: there is no lead time.
        """
        if self.last is not None:
            time = torch.full((len(x),), self.last, dtype=x.dtype, device=x.device)
        if time is None:
            raise UserError("the times of the frames are not known; state data.time_step, or the times to predict at")
        frames = self._direct(x, time, constants) if self.step is None else self._stepping(x, time, constants)
        return torch.cat(list(frames), 1)

    def _direct(self, x: Tensor, time: Tensor, constants: Tensor | None) -> Iterator[Tensor]:
        for fraction in self.fractions:
            yield self.predictor(x, time * fraction, constants)

    def _stepping(self, x: Tensor, time: Tensor, constants: Tensor | None) -> Iterator[Tensor]:
        reached = 0.0
        for stop, calls in zip(self.stops, self.calls, strict=True):
            lead = (stop - reached) / calls
            for call in range(calls):
                start, end = reached + call * lead, reached + (call + 1) * lead
                for fraction in self.fractions:
                    if start + _SAME < fraction < end - _SAME:
                        yield self.predictor(x, time * (fraction - start), constants)
                y = self.predictor(x, time * lead, constants)
                if any(abs(fraction - end) <= _SAME for fraction in self.fractions):
                    yield y
                x = following(x, y, self.predictor.meta)
            reached = stop
