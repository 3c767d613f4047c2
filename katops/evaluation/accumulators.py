"""Running sums over the batches of an evaluation, all in float64."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from katops.evaluation.result import Spectra
from katops.fields import FieldMeta
from katops.metrics import channel_relative_l2, relative_l2
from katops.registry import METRICS
from katops.spectrum import radial_spectrum, resolved_wavenumber


class Scores:
    """Errors of one predictor: one float per sample and metric, and a few sums."""

    def __init__(self) -> None:
        # One growing array per metric, not one small tensor per batch: small blocks that live on between the large ones
        # of each batch fragment the heap, and memory then grows with the data set after all.
        self.per_sample = {record.name: array("d") for record in METRICS}
        self.channel_ratios: Tensor | float = 0.0
        self.channel_squares: Tensor | float = 0.0
        self.values_per_channel = 0
        self.steps: np.ndarray | float = 0.0
        self.amplitudes: np.ndarray | float = 0.0
        self.nonfinite = 0

    def add(self, prediction: Tensor, target: Tensor, n_axes: int) -> np.ndarray:
        """Score a batch; returns the relative L2 error of its samples."""
        broken = ~prediction.isfinite().flatten(1).all(1)
        self.nonfinite += int(broken.sum())

        def score(metric: Callable, p: Tensor, t: Tensor, **options: Any) -> Tensor:
            values = metric(p, t, **options)
            values[broken] = math.inf
            return values.cpu()

        for record in METRICS:
            self.per_sample[record.name].extend(score(record.factory, prediction, target, n_axes=n_axes).tolist())
        self.channel_ratios += score(channel_relative_l2, prediction, target, n_axes=n_axes).sum(0)
        squares = (prediction - target).square().movedim(2, 0).flatten(1)
        self.channel_squares += squares.sum(1).cpu()
        self.values_per_channel += squares.shape[1]
        frames = zip(prediction.unbind(1), target.unbind(1), strict=True)
        self.steps += torch.stack([score(relative_l2, p, t, n_axes=n_axes) for p, t in frames]).sum(1).numpy()
        self.amplitudes += score(_amplitude, prediction, target, n_axes=n_axes).sum(0).numpy()
        return np.array(self.per_sample["relative_l2"][-len(target) :])

    def errors(self) -> dict[str, np.ndarray]:
        return {name: np.array(values) for name, values in self.per_sample.items()}

    def channels(self, names: list[str]) -> dict[str, dict[str, float]]:
        samples = len(self.per_sample["relative_l2"])
        ratios = (self.channel_ratios / samples).tolist()
        rmse = (self.channel_squares / self.values_per_channel).sqrt().tolist()
        return {n: {"relative_l2": r, "rmse": s} for n, r, s in zip(names, ratios, rmse, strict=True)}


def _amplitude(prediction: Tensor, target: Tensor, *, n_axes: int) -> Tensor:
    """(batch, frame): the norm of the prediction over that of the target; 1 where both are zero."""
    ours, theirs = (values.flatten(2).norm(dim=2) for values in (prediction, target))
    return torch.where((ours == 0) & (theirs == 0), 1.0, ours / theirs)


class FieldSums:
    """Sums of the model's error map and spectra over the samples with a finite prediction."""

    def __init__(self, meta: FieldMeta) -> None:
        # Wavenumbers of axes in different units cannot be compared; then each axis counts in cycles per its own side.
        one_unit = len({axis.unit for axis in meta.axes}) == 1
        self.lengths = [axis.upper - axis.lower if one_unit else 1.0 for axis in meta.axes]
        self.n_channels = len(meta.outputs)
        self.space: tuple[int, ...] = ()
        self.frames = 0
        self.absolute: Tensor | float = 0.0
        self.power: Tensor | float = 0.0

    def add(self, prediction: Tensor, target: Tensor) -> None:
        self.space = tuple(target.shape[3:])
        finite = prediction.isfinite().flatten(1).all(1)
        if not finite.any():
            return
        prediction, target = prediction[finite].flatten(0, 1), target[finite].flatten(0, 1)
        error = prediction - target
        self.frames += len(error)
        self.absolute += error.abs().sum(0).cpu()
        stacked = torch.stack([target, prediction, error])
        self.power += radial_spectrum(stacked, n_axes=len(self.space), lengths=self.lengths).sum(1).cpu()

    def spectra(self) -> Spectra | None:
        if not self.frames:
            return None
        truth, prediction, error = (self.power / self.frames).numpy()
        return Spectra(truth, prediction, error, resolved_wavenumber(self.space, self.lengths))

    def error_map(self) -> np.ndarray:
        if not self.frames:
            return np.full((self.n_channels, *self.space), math.nan)
        return (self.absolute / self.frames).numpy()


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
