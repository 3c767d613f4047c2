"""Errors of channel groups, frame by frame: what belongs together is measured together, and nothing else with it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from katops.metrics import EPS

RATIOS = ("relative_l1", "relative_l2")
# Relative errors up to this are the rounding of float32 fields.
EXACT = 1e-6

Groups = Mapping[str, tuple[int, ...]]
"""Name of a group -> positions of its output channels; see :attr:`katops.fields.FieldMeta.output_groups`."""


def group_errors(prediction: Tensor, target: Tensor, groups: Groups, mask: Tensor | None = None) -> dict[str, Tensor]:
    r"""Relative errors of each sample, frame and group, in physical units.

    .. math:: \frac{\sum |p - t|}{\sum |t|} \quad\text{and}\quad \Bigl(\frac{\sum (p - t)^2}{\sum t^2}\Bigr)^{1/2}

    over the channels and points of the group that are not masked (Poseidon, arXiv:2405.19101, takes the first of
    normalised fields).

    Args:
        prediction, target: (batch, frame, channel, \*space).
        groups: what is summed together.
        mask: (batch, channel, \*space) or (batch, channel, 1, ...), True = not judged; ``None``: everything is.

    Returns:
        {"relative_l1", "relative_l2"}, (batch, frame, group) each: infinite where a value of the frame is not finite,
        NaN where the target is masked or zero in the whole group, so that a relative error has no meaning.
    """
    if mask is not None:
        prediction, target = hide(prediction, mask), hide(target, mask)
    members = target.new_tensor([[i in group for group in groups.values()] for i in range(target.shape[2])])
    broken = ~prediction.isfinite().flatten(2).all(2)
    found = {}
    for name, order in zip(RATIOS, (1, 2), strict=True):

        def total(values: Tensor, order: int = order) -> Tensor:
            return torch.linalg.vector_norm(values.flatten(3), ord=order, dim=3) ** order @ members

        error, scale = total(prediction - target), total(target)
        error[broken] = torch.inf
        ratio = (error / scale.clamp_min(EPS**order)) ** (1 / order)
        found[name] = torch.where(scale == 0, torch.nan, ratio)
    return found


def hide(values: Tensor, mask: Tensor) -> Tensor:
    """Values (batch, frame, channel, \\*space) with zeros where the mask is True."""
    return values.masked_fill(mask[:, None], 0.0)


def spread(mask: Tensor, n_axes: int) -> Tensor:
    """A mask (batch, channel) or (batch, channel, \\*space) with an axis, perhaps of length 1, for each of space."""
    return mask if mask.ndim > 2 else mask.reshape(*mask.shape, *[1] * n_axes)


class GroupScores:
    """The errors of one predictor over the batches: one float per sample, frame, group and metric."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        # One growing array per metric, see :class:`katops.evaluation.accumulators.Scores`.
        self.values = {name: array("d") for name in RATIOS}

    def add(self, prediction: Tensor, target: Tensor, mask: Tensor | None) -> None:
        """Score a batch; see :func:`group_errors`."""
        for name, errors in group_errors(prediction, target, self.groups, mask).items():
            self.values[name].extend(errors.flatten().tolist())

    def errors(self, frames: int) -> dict[str, np.ndarray]:
        """{metric: (samples, frames, groups)}."""
        return {name: np.array(v).reshape(-1, frames, len(self.groups)) for name, v in self.values.items()}


@dataclass(frozen=True)
class GroupErrors:
    """Errors of all predictors by channel group and frame.

    Attributes:
        groups: the groups that were judged; those that are masked or zero in all samples are left out.
        left_out: names of the others.
        errors: {predictor: {"relative_l1", "relative_l2": (samples, frames, groups)}}; NaN where a sample is not
            judged.
    """

    groups: dict[str, tuple[int, ...]]
    left_out: tuple[str, ...]
    errors: dict[str, dict[str, np.ndarray]] = field(repr=False)

    @classmethod
    def of(cls, groups: Groups, errors: dict[str, dict[str, np.ndarray]]) -> GroupErrors:
        """Leave the groups out of which no sample was judged; which they are depends on the target alone."""
        one = next(iter(errors.values()))["relative_l1"]
        judged = ~np.isnan(one).all((0, 1))
        kept = {name: group for (name, group), there in zip(groups.items(), judged, strict=True) if there}
        left_out = tuple(name for name in groups if name not in kept)
        return cls(
            kept, left_out, {who: {m: e[:, :, judged] for m, e in table.items()} for who, table in errors.items()}
        )

    @property
    def channels(self) -> list[int]:
        """Positions of the output channels that were judged, increasing."""
        return sorted(position for group in self.groups.values() for position in group)

    def mean(self, predictor: str, metric: str = "relative_l2") -> np.ndarray:
        """(frames, groups): over the judged samples; NaN where there is none."""
        errors = self.errors[predictor][metric]
        count = (~np.isnan(errors)).sum(0)
        return np.where(count, np.nansum(errors, 0) / np.maximum(count, 1), np.nan)

    def median(self, predictor: str, metric: str = "relative_l2") -> np.ndarray:
        """(frames, groups): the error of some judged sample (nearest rank); NaN where there is none."""
        ordered = np.sort(self.errors[predictor][metric], 0)  # NaN comes last
        middle = np.maximum(((~np.isnan(ordered)).sum(0) + 1) // 2 - 1, 0)
        return np.take_along_axis(ordered, middle[None], 0)[0]

    def worse_frames(self, model: str, baseline: str) -> dict[str, list[int]]:
        """{group: frames, counted from 1, in which the model's mean relative L2 error is not the smaller one}.

        Without the groups that the baseline predicts exactly in all frames, such as the density of an incompressible
        flow: there is nothing to be better at.
        """
        pairs = zip(self.groups, self.mean(model).T, self.mean(baseline).T, strict=True)
        return {name: not_smaller(ours, theirs) for name, ours, theirs in pairs if (theirs > EXACT).any()}

    def to_dict(self) -> dict[str, Any]:
        """{predictor: {group: {metric: {"mean", "median": one number per frame}}}}."""
        return {
            predictor: {
                name: {
                    metric: {
                        key: getattr(self, key)(predictor, metric)[:, place].tolist() for key in ("mean", "median")
                    }
                    for metric in RATIOS
                }
                for place, name in enumerate(self.groups)
            }
            for predictor in self.errors
        }


def not_smaller(ours: np.ndarray, theirs: np.ndarray) -> list[int]:
    """Positions, counted from 1, at which ours is not the smaller one; where neither is a number nobody is judged."""
    return (np.flatnonzero(~(ours < theirs) & ~np.isnan(theirs)) + 1).tolist()
