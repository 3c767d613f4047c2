"""Evaluation of a model and its baselines on a test set, in one pass."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from katops.errors import UserError
from katops.evaluation.accumulators import Clock, FieldSums, Leads, Scores
from katops.evaluation.examples import ExampleKeeper
from katops.evaluation.groups import GroupErrors, spread
from katops.evaluation.result import Evaluation
from katops.fields import FieldMeta, FieldSample

Predictor = Callable[..., Tensor]


@torch.no_grad()
def evaluate(
    predictors: dict[str, Predictor],
    batches: Iterable[FieldSample],
    meta: FieldMeta,
    *,
    examples: int = 3,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score predictors on the batches, in physical units.

    Args:
        predictors: each maps ``(x, time)``, the batch's raw input (batch, steps_in, input channel, \\*space) and its
            lead time (batch,) or ``None``, to the raw output (batch, steps_out, output channel, \\*space); where the
            data have constants, they come third (batch, constant channel, \\*space). The first is the model, the
            others are baselines. The caller puts models into evaluation mode.
        batches: batches with targets, all on one grid; they are read once. What their ``mask`` covers is not judged:
            the prediction is taken to be right there, and relative errors leave the truth there out of their norms,
            too. Channels that are masked as a whole in a sample enter none of its errors; of metrics that are means
            over points, masked points of other channels count as exact.
        examples: how many samples keep their fields: the median, the worst, the best, then the next worst ones.
        progress: called after each batch with the number of samples in it.

    Raises:
        UserError: there are no samples, a target is missing, masked altogether or not finite, or a prediction or a mask
            has the wrong shape.
    """
    if not predictors:
        raise UserError("evaluate() was given no predictor; give the model first, then the baselines")
    groups = meta.output_groups
    scores = {name: Scores(groups) for name in predictors}
    keeper = ExampleKeeper(examples)
    fields = FieldSums(meta)
    leads, clock = Leads(), Clock()
    indices = array("q")
    samples = zero_targets = 0
    for batch in batches:
        target = _checked_target(batch, meta, samples, fields.space)
        mask = _checked_mask(batch, target, meta, samples)
        constants = () if batch.constants is None else (batch.constants,)
        for name, predictor in predictors.items():
            is_model = name == next(iter(predictors))
            with clock.measuring(batch.x, is_model):
                prediction = predictor(batch.x, batch.time, *constants)
            if prediction.shape != target.shape:
                raise UserError(_wrong_shape(name, prediction, target, meta))
            prediction = prediction.to(target)
            if mask is not None:
                prediction = torch.where(mask[:, None], target, prediction)
            errors = scores[name].add(prediction, target, len(meta.axes), mask)
            if is_model:
                fields.add(prediction, target)
                keeper.offer(errors, batch, target, prediction)
        leads.add(batch, meta)
        if batch.index is not None:
            indices.extend(batch.index.flatten().tolist())
        samples += len(target)
        zero_targets += int((target == 0).flatten(1).all(1).sum())
        if progress:
            progress(len(target))
    if samples == 0:
        raise UserError(f"{meta.name}: there is no sample to evaluate; check the split and the file")
    names = [channel.name for channel in meta.outputs]
    by_group = {name: score.groups.errors(meta.steps_out) for name, score in scores.items()}
    errors_of_groups = GroupErrors.of(groups, by_group)
    return Evaluation(
        meta=meta,
        space=fields.space,
        samples=samples,
        errors={name: score.errors() for name, score in scores.items()},
        channels={name: score.channels(names) for name, score in scores.items()},
        constant=next(iter(scores.values())).constant(names),
        groups=errors_of_groups,
        steps={name: score.steps / samples for name, score in scores.items()},
        amplitudes={name: score.amplitudes / samples for name, score in scores.items()},
        lead_times=leads.common,
        spectra=fields.spectra(),
        drift=fields.drift(errors_of_groups.groups or groups),
        error_map=fields.error_map(),
        examples=keeper.choose(),
        indices=np.array(indices).reshape(-1, 4) if indices else None,
        nonfinite={name: score.nonfinite for name, score in scores.items()},
        nonfinite_frames={name: score.nonfinite_frames for name, score in scores.items()},
        zero_targets=zero_targets,
        seconds_per_sample=clock.seconds_per_sample,
    )


def _checked_target(batch: FieldSample, meta: FieldMeta, seen: int, space: tuple[int, ...]) -> Tensor:
    """The batch's target in float64, after checks of its presence, shape and values."""
    if batch.y is None:
        raise UserError(
            f"{meta.name}: the samples have no target to compare with; use prediction instead of evaluation"
        )
    expected = (meta.steps_out, len(meta.outputs))
    if batch.y.ndim != 3 + len(meta.axes) or tuple(batch.y.shape[1:3]) != expected:
        raise UserError(
            f"{meta.name}: the target has shape {tuple(batch.y.shape)}; expected {_layout(len(batch.y), meta, space)}"
        )
    if space and tuple(batch.y.shape[3:]) != space:
        raise UserError(
            f"{meta.name}: sample {seen} has {tuple(batch.y.shape[3:])} points, the samples before it {space}; "
            "evaluate each resolution as a test set of its own"
        )
    broken = ~batch.y.isfinite().flatten(1).all(1)
    if broken.any():
        where = seen + int(broken.nonzero()[0])
        raise UserError(f"{meta.name}: the target of sample {where} holds NaN or infinity; repair or leave it out")
    return batch.y.double()


def _checked_mask(batch: FieldSample, target: Tensor, meta: FieldMeta, seen: int) -> Tensor | None:
    """The batch's mask, (batch, channel, \\*space) or (batch, channel, 1, ...), after checks of shape and values."""
    if batch.mask is None:
        return None
    whole = (len(target), len(meta.outputs), *target.shape[3:])
    if batch.mask.dtype != torch.bool or tuple(batch.mask.shape) not in (whole, whole[:2]):
        raise UserError(
            f"{meta.name}: the mask is {batch.mask.dtype} of shape {tuple(batch.mask.shape)}; expected torch.bool of "
            f"shape {whole[:2]} or {whole} (batch, output channel, and the points where it differs between them)"
        )
    mask = spread(batch.mask.to(target.device), len(meta.axes))
    empty = mask.flatten(1).all(1)
    if empty.any():
        where = seen + int(empty.nonzero()[0])
        raise UserError(f"{meta.name}: all of sample {where} is masked, nothing is left to judge; leave it out")
    return mask


def _wrong_shape(name: str, prediction: Tensor, target: Tensor, meta: FieldMeta) -> str:
    expected = _layout(len(target), meta, tuple(target.shape[3:]))
    return f"predictor {name!r} returned shape {tuple(prediction.shape)}; expected {expected}"


def _layout(batch: int, meta: FieldMeta, space: tuple[int, ...]) -> str:
    """The expected shape in words: ``(batch 4, time 1, channel 2, x 32, y 16)``."""
    axes = (
        [f"{axis.name} {size}" for axis, size in zip(meta.axes, space, strict=True)]
        if space
        else [axis.name for axis in meta.axes]
    )
    return f"({', '.join([f'batch {batch}', f'time {meta.steps_out}', f'channel {len(meta.outputs)}', *axes])})"
