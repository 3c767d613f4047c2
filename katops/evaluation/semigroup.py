r"""Whether a model of time keeps the semigroup: a step of 2t is two steps of t.

Solutions of an autonomous equation satisfy :math:`S_{2t} = S_t \circ S_t`. A model that takes the lead time is free not
to, and which of the two is nearer to the truth says how it should be stepped.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from katops.errors import UserError
from katops.evaluation.groups import RATIOS, GroupErrors, group_errors, spread
from katops.evaluation.result import finite_or_none
from katops.fields import FieldMeta, FieldSample
from katops.metrics import constant_in_space
from katops.predictors.rollout import check_channels, following

CURVES = ("one_step", "two_steps", "distance")
# Errors that differ by less than this share are equal: predictions are float32 numbers.
EQUAL = 1e-3
# Times of frames are float32 numbers, too.
SAME_TIME = 1e-3


@dataclass(frozen=True)
class Semigroup:
    """Predictions of u(2t) from the first frame of trajectories, with one step of 2t and with two steps of t.

    Attributes:
        times: (n,), the lead times 2t, increasing.
        errors: by lead time (in place of frames) and channel group, of "one_step" and "two_steps" against the truth;
            "distance" is that between the two predictions, divided by the norm of the truth.
        samples: number of trajectories.
        time_unit: of ``times``.
        constant: groups whose truth is constant in space; means over the groups leave them out, unless all are.
    """

    times: np.ndarray
    errors: GroupErrors = field(repr=False)
    samples: int
    time_unit: str = ""
    constant: tuple[str, ...] = ()

    def mean(self, curve: str) -> np.ndarray:
        """(n,): relative L2 of a curve, mean over the samples and then over the groups that are judged."""
        counted = [name not in self.constant for name in self.errors.groups]
        by_group = self.errors.mean(curve)[:, counted if any(counted) else slice(None)]
        judged = ~np.isnan(by_group)
        return np.where(judged, by_group, 0).sum(1) / np.maximum(judged.sum(1), 1)

    @property
    def one_step_wins(self) -> np.ndarray:
        """(n,) bool: whether one step is at least as good as two."""
        return self.mean("one_step") <= self.mean("two_steps") * (1 + EQUAL)

    @property
    def better_up_to(self) -> float | None:
        """The lead time 2t up to which one step is never worse than two; ``None`` where it is at the first already."""
        lost = np.flatnonzero(~self.one_step_wins)
        last = (int(lost[0]) if len(lost) else len(self.times)) - 1
        return None if last < 0 else float(self.times[last])

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON; non-finite becomes ``None``."""
        means = {curve: self.mean(curve).tolist() for curve in CURVES}
        head = {"samples": self.samples, "times": self.times.tolist(), "time_unit": self.time_unit}
        tail = {"group_errors": self.errors.to_dict(), "one_step_better_up_to": self.better_up_to}
        return finite_or_none({**head, "relative_l2": means, **tail})


@torch.no_grad()
def semigroup(
    predictor: Callable[..., Tensor],
    trajectories: Iterable[FieldSample],
    meta: FieldMeta,
    *,
    progress: Callable[[int], None] | None = None,
) -> Semigroup:
    """Compare one step of 2t with two steps of t, for every even later frame of the trajectories and 2t its lead time.

    Args:
        predictor: maps (x, time) to (batch, 1, output channel, \\*space) in physical units, for x (batch, 1, input
            channel, \\*space) and any lead time (batch,); constants (batch, constant channel, \\*space) come third
            where the data have some. The caller puts models into evaluation mode.
        trajectories: batches of whole trajectories, all with frames at the same times: x the first frame, y all later
            ones, ``time`` the lead time of the last, or ``times_in`` and ``times_out``. They are read once.
        meta: names the channels.
        progress: called after each batch with the number of trajectories in it.

    Raises:
        UserError: there is no trajectory, or one has fewer than two later frames, no times, or other times than those
            before it; an input channel is not predicted.
    """
    check_channels(meta)
    values = {curve: {metric: array("d") for metric in RATIOS} for curve in CURVES}
    times = None
    samples = 0
    varies = torch.zeros(len(meta.outputs), dtype=torch.bool)
    for batch in trajectories:
        leads = _lead_times(batch, meta)
        if times is not None and (leads.shape != times.shape or not np.allclose(leads, times, rtol=SAME_TIME)):
            raise UserError(f"{meta.name}: trajectory {samples} has frames at other times than those before it")
        times = leads
        compared = [_compare(predictor, batch, place, lead, meta) for place, lead in enumerate(leads.tolist())]
        for curve, table in values.items():
            for metric, numbers in table.items():
                found = torch.cat([errors[curve][metric] for errors in compared], 1)
                numbers.extend(found.flatten().tolist())
        varies |= ~constant_in_space(batch.y, n_axes=len(meta.axes)).all(1).all(0).cpu()
        samples += len(batch.x)
        if progress:
            progress(len(batch.x))
    if times is None:
        raise UserError(f"{meta.name}: there is no trajectory to compare steps on")
    shape = (samples, len(times), len(meta.output_groups))
    errors = {curve: {m: np.array(v).reshape(shape) for m, v in table.items()} for curve, table in values.items()}
    found = GroupErrors.of(meta.output_groups, errors)
    constant = tuple(name for name, places in found.groups.items() if not varies[list(places)].any())
    return Semigroup(times, found, samples, meta.time_unit, constant)


def _lead_times(batch: FieldSample, meta: FieldMeta) -> np.ndarray:
    """Lead times of the second, fourth, ... later frame."""
    frames = 0 if batch.y is None else batch.y.shape[1]
    if frames < 2:
        raise UserError(f"{meta.name}: two steps need trajectories of at least 3 frames; given: {frames + 1}")
    if batch.times_in is not None and batch.times_out is not None:
        leads = (batch.times_out.double() - batch.times_in[:, -1:].double()).cpu().numpy()
    elif batch.time is not None:
        leads = batch.time.double().cpu().numpy()[:, None] * np.arange(1, frames + 1) / frames
    else:
        raise UserError(f"{meta.name}: the trajectories have no times, so that no step has a length")
    if not np.allclose(leads, leads[:1], rtol=SAME_TIME):
        raise UserError(f"{meta.name}: the trajectories have frames at different times")
    return leads[0, 1::2]


def _compare(
    predictor: Callable[..., Tensor], batch: FieldSample, place: int, lead: float, meta: FieldMeta
) -> dict[str, dict[str, Tensor]]:
    """{curve: {metric: (batch, 1, group)}} at one lead time."""
    constants = () if batch.constants is None else (batch.constants,)
    whole, half = (batch.x.new_full((len(batch.x),), length) for length in (lead, lead / 2))
    one = predictor(batch.x, whole, *constants)
    middle = predictor(batch.x, half, *constants)
    two = predictor(following(batch.x, middle, meta), half, *constants)
    truth = batch.y[:, 2 * place + 1 : 2 * place + 2].double()
    one, two = one.to(truth), two.to(truth)
    mask = None if batch.mask is None else spread(batch.mask.to(truth.device), len(meta.axes))
    # A prediction that is off by the distance has that distance for its error.
    predictions = {"one_step": one, "two_steps": two, "distance": truth + (one - two)}
    return {curve: group_errors(values, truth, meta.output_groups, mask) for curve, values in predictions.items()}
