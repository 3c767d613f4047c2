"""Running sums over the batches of an evaluation, all in float64."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from katops.evaluation.drift import Drift
from katops.evaluation.groups import Groups, GroupScores, hide
from katops.evaluation.result import Spectra
from katops.fields import FieldMeta, FieldSample
from katops.metrics import PER_DEVIATION, channel_present, channel_relative_l2, constant_in_space, relative_l2
from katops.registry import METRICS
from katops.spectrum import radial_spectrum, resolved_wavenumber


class Scores:
    """Errors of one predictor: one float per sample and metric, and a few sums."""

    def __init__(self, groups: Groups) -> None:
        # One growing array per metric, not one small tensor per batch: small blocks that live on between the large ones
        # of each batch fragment the heap, and memory then grows with the data set after all.
        self.per_sample = {record.name: array("d") for record in METRICS}
        self.groups = GroupScores(groups)
        self.channel_ratios: Tensor | float = 0.0
        self.channel_samples: Tensor | float = 0.0
        self.channel_judged: Tensor | bool = False
        self.channel_varies: Tensor | bool = False
        self.channel_squares: Tensor | float = 0.0
        self.channel_values: Tensor | float = 0.0
        self.steps: np.ndarray | float = 0.0
        self.amplitudes: np.ndarray | float = 0.0
        self.nonfinite = 0
        self.nonfinite_frames: np.ndarray | int = 0

    def add(self, prediction: Tensor, target: Tensor, n_axes: int, mask: Tensor | None = None) -> np.ndarray:
        """Score a batch; returns the relative L2 error of its samples.

        Args:
            prediction, target: (batch, frame, channel, \\*space).
            n_axes: number of spatial axes.
            mask: (batch, channel, \\*space), True = not judged; zero on both sides, it adds to no norm.
        """
        broken = ~prediction.isfinite().flatten(2).all(2)
        self.nonfinite += int(broken.any(1).sum())
        self.nonfinite_frames += broken.sum(0).cpu().numpy()
        self.groups.add(prediction, target, mask)
        judged = target.new_ones(target.shape[0], target.shape[2], dtype=torch.bool)
        values = torch.full_like(judged, target[0, :, 0].numel(), dtype=target.dtype)
        if mask is not None:
            prediction, target = hide(prediction, mask), hide(target, mask)
            hidden = mask.flatten(2).double().mean(2)
            judged, values = hidden < 1, values * (1 - hidden)
        # What is masked as a whole is zero now, and counts as constant.
        constant = constant_in_space(target, n_axes=n_axes)
        for record in METRICS:
            errors = _of_judged(record.factory, prediction, target, judged, n_axes)
            errors[broken.any(1)] = math.inf
            if record.name in PER_DEVIATION:
                errors[constant.flatten(1).all(1)] = math.nan
            self.per_sample[record.name].extend(errors.tolist())
        ratios = channel_relative_l2(prediction, target, n_axes=n_axes)
        ratios[broken.any(1)] = math.inf
        compared = judged & channel_present(target, n_axes=n_axes)
        self.channel_ratios += torch.where(compared, ratios, 0).sum(0).cpu()
        self.channel_samples += compared.sum(0).cpu()
        self.channel_judged |= judged.any(0).cpu()
        self.channel_varies |= ~constant.all(1).all(0).cpu()
        self.channel_squares += (prediction - target).square().movedim(2, 0).flatten(1).sum(1).cpu()
        self.channel_values += values.sum(0).cpu()
        self.steps += _per_frame(relative_l2, prediction, target, broken, n_axes)
        self.amplitudes += _per_frame(_amplitude, prediction, target, broken, n_axes)
        return np.array(self.per_sample["relative_l2"][-len(target) :])

    def errors(self) -> dict[str, np.ndarray]:
        return {name: np.array(values) for name, values in self.per_sample.items()}

    def channels(self, names: list[str]) -> dict[str, dict[str, float]]:
        """Of the channels that are judged in any sample; a relative error is NaN where the target is zero in all."""
        ratios = (self.channel_ratios / self.channel_samples).tolist()
        rmse = (self.channel_squares / self.channel_values).sqrt().tolist()
        table = zip(names, ratios, rmse, self.channel_judged.tolist(), strict=True)
        return {name: {"relative_l2": ratio, "rmse": root} for name, ratio, root, judged in table if judged}

    def constant(self, names: list[str]) -> tuple[str, ...]:
        """Channels that are judged, and whose target is constant in space in all frames of all samples."""
        table = zip(names, self.channel_judged.tolist(), self.channel_varies.tolist(), strict=True)
        return tuple(name for name, judged, varies in table if judged and not varies)


def _of_judged(metric: Callable, prediction: Tensor, target: Tensor, judged: Tensor, n_axes: int) -> Tensor:
    """A metric of each sample over the channels that are judged in it, (batch,) on the CPU."""
    if judged.all():
        return metric(prediction, target, n_axes=n_axes).cpu()
    errors = target.new_empty(len(target))
    patterns, which = judged.unique(dim=0, return_inverse=True)
    for place, channels in enumerate(patterns):
        rows = which == place
        errors[rows] = metric(prediction[rows][:, :, channels], target[rows][:, :, channels], n_axes=n_axes)
    return errors.cpu()


def _per_frame(metric: Callable, prediction: Tensor, target: Tensor, broken: Tensor, n_axes: int) -> np.ndarray:
    """(frames,): sums over the batch; infinite in frames where a sample is not finite."""
    frames = zip(prediction.unbind(1), target.unbind(1), broken.unbind(1), strict=True)
    sums = [metric(p, t, n_axes=n_axes).masked_fill(bad, math.inf).sum() for p, t, bad in frames]
    return torch.stack(sums).cpu().numpy()


def _amplitude(prediction: Tensor, target: Tensor, *, n_axes: int) -> Tensor:
    """(batch,): the norm of the prediction over that of the target; 1 where both are zero."""
    ours, theirs = (values.flatten(1).norm(dim=1) for values in (prediction, target))
    return torch.where((ours == 0) & (theirs == 0), 1.0, ours / theirs)


class FieldSums:
    """Sums of the model's error map, spectra and means, frame by frame, over the samples whose frame is finite.

    Each frame is worked on by itself: transforms of a whole trajectory would need many times its memory.
    """

    def __init__(self, meta: FieldMeta) -> None:
        # Wavenumbers of axes in different units cannot be compared; then each axis counts in cycles per its own side.
        one_unit = len({axis.unit for axis in meta.axes}) == 1
        self.lengths = [axis.upper - axis.lower if one_unit else 1.0 for axis in meta.axes]
        self.n_channels = len(meta.outputs)
        self.space: tuple[int, ...] = ()
        self.samples = np.zeros(meta.steps_out)
        self.absolute: Tensor | float = 0.0
        self.power: list[Tensor | float] = [0.0] * meta.steps_out
        self.means = np.zeros((3, meta.steps_out, self.n_channels))

    def add(self, prediction: Tensor, target: Tensor) -> None:
        self.space = tuple(target.shape[3:])
        finite = prediction.isfinite().flatten(2).all(2)
        for frame, rows in enumerate(finite.unbind(1)):
            if rows.any():
                self._add_frame(frame, prediction[rows, frame], target[rows, frame])

    def _add_frame(self, frame: int, prediction: Tensor, target: Tensor) -> None:
        error = prediction - target
        self.samples[frame] += len(error)
        self.absolute += error.abs().sum(0).cpu()
        stacked = torch.stack([target, prediction, error])
        self.power[frame] += radial_spectrum(stacked, n_axes=len(self.space), lengths=self.lengths).sum(1).cpu()
        truth, ours, difference = stacked.flatten(3).mean(3)
        self.means[:, frame] += torch.stack([truth, ours, difference.abs()]).sum(1).cpu().numpy()

    def spectra(self) -> Spectra | None:
        """Over all samples and frames; ``None`` where none is finite."""
        if not self.samples.any():
            return None
        truth, prediction, error = (sum(self.power) / self.samples.sum()).numpy()
        return Spectra(truth, prediction, error, resolved_wavenumber(self.space, self.lengths))

    def drift(self, groups: Groups) -> Drift | None:
        """Frame by frame; ``None`` where no frame is finite."""
        if not self.samples.any():
            return None
        # A frame without a finite sample divides by NaN, and has it in every place.
        samples = np.where(self.samples, self.samples, math.nan)
        like = next(power for power in self.power if isinstance(power, Tensor))
        power = np.stack(
            [(like * 0 + entry).numpy() / count for entry, count in zip(self.power, samples, strict=True)], 1
        )
        means = self.means / samples[:, None]
        names = ("truth", "prediction")
        return Drift(
            groups=dict(groups),
            power=dict(zip(names, power, strict=False)),
            mean=dict(zip(names, means, strict=False)),
            mean_error=means[2],
            resolved=resolved_wavenumber(self.space, self.lengths),
        )

    def error_map(self) -> np.ndarray:
        if not self.samples.any():
            return np.full((self.n_channels, *self.space), math.nan)
        return (self.absolute / self.samples.sum()).numpy()


class Leads:
    """Lead time of each output frame after the last input frame, where all samples have the same ones."""

    def __init__(self) -> None:
        self.found: np.ndarray | None = None
        self.differ = False

    def add(self, batch: FieldSample, meta: FieldMeta) -> None:
        leads = _lead_times(batch, meta)
        if leads is None:
            self.differ = True
            return
        self.found = leads[0] if self.found is None else self.found
        # Times are float32 numbers since the beginning of the file.
        tolerance = 1e-3 * np.abs(self.found).max()
        self.differ = self.differ or not np.allclose(leads, self.found, rtol=0.0, atol=tolerance)

    @property
    def common(self) -> np.ndarray | None:
        """(frames,), ``None`` where they are unknown or not those of all samples."""
        return None if self.differ else self.found


def _lead_times(batch: FieldSample, meta: FieldMeta) -> np.ndarray | None:
    """(batch, frames)."""
    if batch.times_in is not None and batch.times_out is not None:
        return (batch.times_out.double() - batch.times_in[:, -1:].double()).cpu().numpy()
    if batch.time is None or (meta.time_step is None and meta.steps_out > 1):
        return None
    before_last = np.arange(meta.steps_out)[::-1] * (meta.time_step or 0.0)
    return batch.time.double().cpu().numpy()[:, None] - before_last


class Clock:
    """Wall time of the model, without its first batch unless that is the only one."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, float]] = []

    @contextmanager
    def measuring(self, x: Tensor, counts: bool) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if counts:
            if x.device.type != "cpu":
                torch.accelerator.synchronize(x.device)
            self.batches.append((len(x), time.perf_counter() - started))

    @property
    def seconds_per_sample(self) -> float:
        batches = self.batches[1:] or self.batches
        return sum(seconds for _, seconds in batches) / sum(samples for samples, _ in batches)
