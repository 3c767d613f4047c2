"""How long the steps of a model should be that can take steps of any length."""

from typing import Any

import torch

from katops.bundle import Bundle
from katops.data.loader import batch_loader
from katops.data.pairs import Pairs
from katops.errors import UserError
from katops.metrics import relative_l2
from katops.predictors.adjusted import adjusted
from katops.predictors.forecast import Forecast
from katops.predictors.keeping import keeping
from katops.predictors.rollout import check_channels
from katops.training.losses import both_without_masked
from katops.training.run_data import HeldOut, RunData


def compare_steps(bundle: Bundle, data: RunData, batch_size: int) -> list[dict[str, Any]]:
    """Errors of the last frame of the validation trajectories, reached from the first in one step, in two, in four, ...

    Args:
        bundle: the trained model.
        data: of the run; data sets of it without pairs of frames, such as steady ones, are left out.
        batch_size: trajectories per forward pass.

    Returns:
        {"step": lead time of a step, "relative_l2": mean over trajectories in physical units} for each length down to
        the distance of neighbouring frames, the shortest first; empty where predictions cannot be inputs again, the
        times are not known or there is nothing to validate with. Lead times are those that the model learns, where data
        sets have time scales of their own.
    """
    try:
        check_channels(bundle.meta)
    except UserError:
        return []
    parts = [
        part.validation
        for part in data.parts or (data,)
        if part.validation is not None and isinstance(part.dataset.window, Pairs)
    ]
    found: dict[float, list[float]] = {}
    for held_out in parts:
        for step, error in _errors(bundle, held_out.in_units_of_the_files().direct_from_first(), batch_size):
            found.setdefault(float(f"{step:.5g}"), []).append(error)
    # Steps that all data sets have, times being float32 numbers; their ends may differ.
    common = {step: errors for step, errors in found.items() if len(errors) == len(parts)}
    return [{"step": step, "relative_l2": sum(errors) / len(errors)} for step, errors in sorted(common.items())]


@torch.inference_mode()
def _errors(bundle: Bundle, held_out: HeldOut, batch_size: int) -> list[tuple[float, float]]:
    frames = held_out.dataset.meta.steps_out
    counts = [2**power for power in range(frames.bit_length()) if 2**power <= frames]
    bundle.predictor.eval()
    predictor = keeping(bundle.predictor, getattr(held_out.dataset, "mask", {}))
    forecasts = {
        count: adjusted(Forecast(predictor, [1.0], step=1 / count), held_out.adjustment, bundle.meta)
        for count in counts
    }
    sums, samples, last = dict.fromkeys(counts, 0.0), 0, 1.0
    for batch in batch_loader(held_out.dataset, held_out.windows, batch_size=batch_size):
        if batch.time is None:
            return []
        constants = () if batch.constants is None else (batch.constants,)
        for count, forecast in forecasts.items():
            prediction = forecast(batch.x, batch.time, *constants)
            prediction, target = both_without_masked(prediction, batch.y[:, -1:], batch.mask)
            sums[count] += float(relative_l2(prediction.flatten(1, 2), target.flatten(1, 2)).sum())
        samples, last = samples + len(batch.x), float(batch.time[0])
    last *= held_out.adjustment.time_factor
    return [(last / count, total / samples) for count, total in sums.items()]
