"""Mean, deviation and range of channels, accumulated in float64 over fields that come in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ChannelStatistics:
    """Statistics of one channel over the windows of the training samples.

    Attributes:
        name: the channel.
        count: values, each counted as often as it occurs in a window.
        mean, std: std = sqrt(mean((value - mean)^2)).
        minimum, maximum: of the values.
        delta_mean, delta_std: of the increments between frames that lie ``window.every`` apart, each pair once;
            ``None`` where no two such frames were read.
    """

    name: str
    count: int
    mean: float
    std: float
    minimum: float
    maximum: float
    delta_mean: float | None = None
    delta_std: float | None = None

    @property
    def rms(self) -> float:
        """Root of the mean square."""
        return float(np.hypot(self.mean, self.std))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "rms": self.rms}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ChannelStatistics:
        """Inverse of :meth:`to_dict`.

        Raises:
            KeyError, TypeError: something is missing or not a number.
        """
        numbers = {name: float(values[name]) for name in ("mean", "std", "minimum", "maximum")}
        deltas = {name: None if values[name] is None else float(values[name]) for name in ("delta_mean", "delta_std")}
        return cls(name=str(values["name"]), count=int(values["count"]), **numbers, **deltas)


@dataclass(frozen=True)
class FieldMoments:
    """Mean, variance and range of each field of a batch, (b, channel) float64, each over ``size`` points."""

    means: np.ndarray
    variances: np.ndarray
    minima: np.ndarray
    maxima: np.ndarray
    size: int

    @classmethod
    def of(cls, fields: Tensor) -> FieldMoments:
        """The moments of fields (b, channel, \\*space), in two passes, the second one over the deviations."""
        flat = fields.flatten(2)
        minima, maxima = flat.amin(-1).double(), flat.amax(-1).double()
        deviations = flat.to(torch.float64, copy=True)
        means = deviations.mean(-1)
        deviations -= means[..., None]
        # As a product of matrices: several times faster than torch.var_mean.
        variances = torch.einsum("bcp,bcp->bc", deviations, deviations) / flat.shape[-1]
        return cls(means.numpy(), variances.numpy(), minima.numpy(), maxima.numpy(), flat.shape[-1])


class Moments:
    """Running count, mean and sum of squared deviations of each channel, float64, and the range.

    Batches are merged with

        delta = mean_b - mean_a,  mean = mean_a + delta n_b / n,  M2 = M2_a + M2_b + delta^2 n_a n_b / n,

    (Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance, eq. 2.1), which stays accurate where
    the mean is much larger than the deviation. std = sqrt(M2 / n).
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(channels)
        self.squares = np.zeros(channels)
        self.minimum = np.full(channels, np.inf)
        self.maximum = np.full(channels, -np.inf)

    def add(self, fields: FieldMoments, weights: np.ndarray | None = None) -> None:
        """Merge a batch, field i counted ``weights[i]`` times (once where ``None``)."""
        weights = np.ones(len(fields.means), np.int64) if weights is None else weights
        counted = weights > 0
        if not counted.any():
            return
        added = int(weights.sum()) * fields.size
        share = (weights / weights.sum())[:, None]
        mean = (share * fields.means).sum(0)
        squares = added * (share * (fields.variances + np.square(fields.means - mean))).sum(0)
        total = self.count + added
        delta = mean - self.mean
        self.mean += delta * (added / total)
        self.squares += squares + np.square(delta) * (self.count * (added / total))
        self.count = total
        self.minimum = np.minimum(self.minimum, fields.minima[counted].min(0))
        self.maximum = np.maximum(self.maximum, fields.maxima[counted].max(0))

    @property
    def std(self) -> np.ndarray:
        """(channels,)."""
        return np.sqrt(self.squares / max(self.count, 1))

    def statistics(self, names: Sequence[str], deltas: Moments) -> tuple[ChannelStatistics, ...]:
        """The result by channel; ``deltas`` are the moments of the increments."""
        rows = []
        for position, name in enumerate(names):
            increments = (float(deltas.mean[position]), float(deltas.std[position])) if deltas.count else (None, None)
            numbers = (self.mean, self.std, self.minimum, self.maximum)
            rows.append(
                ChannelStatistics(name, self.count, *(float(values[position]) for values in numbers), *increments)
            )
        return tuple(rows)
