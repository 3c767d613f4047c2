"""How long the steps of a model should be that can take steps of any length."""

from typing import Any

import torch

from katops.bundle import Bundle
from katops.data.loader import batch_loader
from katops.errors import UserError
from katops.metrics import relative_l2
from katops.predictors.forecast import Forecast
from katops.predictors.rollout import check_channels
from katops.training.data import HeldOut, RunData
from katops.training.losses import without_masked


def compare_steps(bundle: Bundle, data: RunData, batch_size: int) -> list[dict[str, Any]]:
    """Errors of the way from the first to the last frame of the validation trajectories in steps of several lengths.

    The steps are the distance of neighbouring frames times 1, 2, 4, ..., and the whole way in one step for each frame.

    Args:
        bundle: the trained model.
        data: of the run.
        batch_size: trajectories per forward pass.

    Returns:
        {"step": lead time, "relative_l2": mean over trajectories and frames in physical units} for each; empty where
        predictions cannot be inputs again or the times are not known. A step of "direct" is the longest: every frame
        in one step.
    """
    try:
        check_channels(bundle.meta)
    except UserError:
        return []
    parts = [part.validation for part in data.parts or (data,) if part.validation is not None]
    windows = [part.direct_from_first() for part in parts]
    found: dict[float, list[float]] = {}
    for held_out in windows:
        for step, error in _errors(bundle, held_out, batch_size):
            found.setdefault(step, []).append(error)
    # Steps that all data sets have; their times may differ.
    common = {step: errors for step, errors in found.items() if len(errors) == len(windows)}
    return [{"step": step, "relative_l2": sum(errors) / len(errors)} for step, errors in sorted(common.items())]


@torch.inference_mode()
def _errors(bundle: Bundle, held_out: HeldOut, batch_size: int) -> list[tuple[float, float]]:
    frames = held_out.dataset.meta.steps_out
    fractions = [(frame + 1) / frames for frame in range(frames)]
    multiples = [2**power for power in range(frames.bit_length()) if 2**power < frames]
    forecasts = {
        multiple / frames: Forecast(bundle.predictor, fractions, step=multiple / frames) for multiple in multiples
    }
    forecasts[1.0] = Forecast(bundle.predictor, fractions)
    sums, samples, last = dict.fromkeys(forecasts, 0.0), 0, None
    for batch in batch_loader(held_out.dataset, held_out.windows, batch_size=batch_size):
        if batch.time is None:
            return []
        constants = () if batch.constants is None else (batch.constants,)
        for part, forecast in forecasts.items():
            prediction = without_masked(forecast(batch.x, batch.time, *constants), batch.y, batch.mask)
            error = relative_l2(prediction.flatten(0, 1), batch.y.flatten(0, 1))
            sums[part] += float(error.unflatten(0, batch.y.shape[:2]).mean(1).sum())
        samples, last = samples + len(batch.x), float(batch.time[0])
    return [(part * last, total / samples) for part, total in sums.items()]
