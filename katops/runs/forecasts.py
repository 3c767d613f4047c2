"""Which frames an evaluation or a prediction asks a model for, beside the windows of its training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from katops.bundle import Bundle
from katops.data.windows import WHOLE_TRAJECTORY, Window
from katops.errors import UserError
from katops.predictors.forecast import Forecast
from katops.predictors.rollout import Rollout, rollout_window

Predictor = Callable[..., Any]
AUTO = "auto"
# Parts of a time step that a time may lie beside a frame of the file.
_NEAR = 1e-3


@dataclass(frozen=True)
class Request:
    """What is asked for, in each trajectory.

    Attributes:
        rollout: frames of a rollout, the predictions being the next inputs; of the step of the training.
        times: lead times at which to predict, increasing, in the time unit of the data.
        step: longest step on the way to a time: a lead time, or "auto" for the one that did best on the validation
            samples; ``None``: each time in one step.
        start: frame at which the input begins.
        like: the training data set whose levels and times the file has; ``None``: the one that it resembles most.

    Raises:
        UserError: both a rollout and times are asked for, or a number is out of its range.
    """

    rollout: int | None = None
    times: tuple[float, ...] | None = None
    step: float | str | None = None
    start: int = 0
    like: str | None = None

    def __post_init__(self) -> None:
        if self.rollout is not None and self.rollout < 1:
            raise UserError(f"a rollout has at least 1 frame; given: {self.rollout}")
        if self.rollout is not None and self.times is not None:
            raise UserError("give either rollout, a number of frames, or times, lead times to predict at")
        if self.step is not None and self.times is None:
            raise UserError("step is for predictions at chosen times; give them too")
        if self.times is not None:
            check_times(self.times)
        if isinstance(self.step, str) and self.step != AUTO:
            raise UserError(f"step must be a lead time or {AUTO!r}; given: {self.step!r}")

    @property
    def given(self) -> bool:
        """Whether anything is asked for but the windows of the training."""
        return self.rollout is not None or self.times is not None

    def in_learned_time(self, factor: float) -> "Request":
        """The same with lead times multiplied by the time factor of a data set, see ``katops.data.adjustment``."""
        times = None if self.times is None else tuple(time * factor for time in self.times)
        step = self.step * factor if isinstance(self.step, float | int) else self.step
        return replace(self, times=times, step=step)

    def words(self) -> str:
        """For titles."""
        if self.rollout is not None:
            return f"rollout of {self.rollout} frames"
        listed = (
            f"{len(self.times)} times up to {self.times[-1]:g}" if len(self.times) > 1 else f"time {self.times[0]:g}"
        )
        return f"{listed}, {'direct' if self.step is None else f'steps of {self.step}'}"


def check_times(times: Sequence[float]) -> None:
    """Refuse times that are not increasing from above 0 on.

    Raises:
        UserError: they are not.
    """
    good = bool(times) and all(math.isfinite(time) for time in times)
    if not good or any(later <= earlier for earlier, later in pairwise((0.0, *times))):
        raise UserError(f"the times to predict at must increase from above 0 on; given: {list(times)}")


def comparison_window(request: Request, training: Window, time_step: float | None) -> Window:
    """One window in each trajectory with the frames to compare with.

    For times these are the frames at their common distances: for 0.2 and 0.5, every 0.1 up to 0.5.

    Args:
        request: what is asked for.
        training: the frames that calls of the model were apart in its training.
        time_step: of the frames in the file.

    Raises:
        UserError: the file has no even time step, or no frame at one of the times.
    """
    if request.times is None:
        return rollout_window(training, request.rollout, request.start)
    frames = _frames_at(request.times, time_step)
    every = reduce(math.gcd, frames)
    return Window(n_out=frames[-1] // every, every=every, first=request.start, stride=WHOLE_TRAJECTORY)


def input_window(request: Request, training: Window) -> Window:
    """One window in each trajectory with the frames to predict from."""
    if request.times is None:
        return rollout_window(training, request.rollout, request.start)
    return Window(first=request.start, stride=WHOLE_TRAJECTORY)


def predictor_of(request: Request, bundle: Bundle, frames: int) -> Predictor:
    """The predictor that compares with ``frames`` evenly spaced frames, the time of the last one being given."""
    if request.times is None:
        return Rollout(bundle.predictor, frames)
    last = request.times[-1]
    step = _step(request, bundle)
    fractions = [(frame + 1) / frames for frame in range(frames)]
    # Steps end at the asked times, as in predictions, not at every frame that is compared.
    stops = [round(time / last * frames) / frames for time in request.times]
    return Forecast(bundle.predictor, fractions, step=None if step is None else step / last, stops=stops)


def predictor_at_times(request: Request, bundle: Bundle) -> Predictor:
    """The predictor of the asked frames, without answers to compare with."""
    if request.times is None:
        return Rollout(bundle.predictor, request.rollout)
    last, step = request.times[-1], _step(request, bundle)
    fractions = [time / last for time in request.times]
    return Forecast(bundle.predictor, fractions, step=None if step is None else step / last, last=last)


def direct_forecast(bundle: Bundle, frames: int) -> Predictor:
    """Every one of ``frames`` evenly spaced frames in one step."""
    return Forecast(bundle.predictor, [(frame + 1) / frames for frame in range(frames)])


def _step(request: Request, bundle: Bundle) -> float | None:
    if request.step != AUTO:
        return request.step
    steps = bundle.header.get("training", {}).get("steps")
    if not steps:
        raise UserError(
            "the model file does not say which step does best: it was trained without pairs of frames or without "
            "validation samples; give a lead time as step"
        )
    return min(steps, key=lambda entry: entry["relative_l2"])["step"]


def _frames_at(times: Sequence[float], time_step: float | None) -> list[int]:
    """Frames after the input, of lead times."""
    if time_step is None:
        raise UserError("the frames of the file are not the same time apart, so there is no frame at a chosen time")
    exact = np.asarray(times) / time_step
    frames = np.rint(exact).astype(int)
    beside = np.flatnonzero((np.abs(exact - frames) > _NEAR) | (frames < 1))
    if len(beside):
        raise UserError(
            f"there is no frame {times[beside[0]]:g} after the input to compare with: frames are {time_step:g} apart; "
            f"katops predict takes any time"
        )
    return frames.tolist()
