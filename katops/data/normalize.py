"""Per-channel normalisation: part of the model, fitted once, on the training samples only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katops.data.dataset import FieldDataset
from katops.data.statistics.fields import FieldStatistics, field_statistics
from katops.data.statistics.moments import ChannelStatistics
from katops.data.statistics.points import PointMoments, point_statistics
from katops.errors import UserError, did_you_mean
from katops.fields import FieldMeta

KINDS = ("standard", "pointwise", "none")
# Below this ratio of standard deviation to mean, what varies is the rounding of float64 sums, not the data.
_CONSTANT = 1e-12
SIDES = ("input", "output", "constant")


class Normalizer(nn.Module):
    """Affine map of each channel, or of each point of it: encoded = (value - mean) / std, value = mean + std * encoded.

    A new normaliser is the identity (mean 0, std 1); :func:`fit_normalizer` or ``load_state_dict`` give it statistics.
    All frames of a window share the statistics of their channel. The result has the wider of the two element types, so
    half-precision predictions are decoded in float32.

    Args:
        meta: names of the channels and the number of spatial axes.
        dtype: of the statistics.

    Attributes:
        input_mean, input_std: (input channels,) buffers; (input channels, \\*space) where each point has its own.
        output_mean, output_std: (output channels,) buffers, or with \\*space.
        constant_mean, constant_std: (channels that do not change in time,) buffers, or with \\*space.
        input_constant, output_constant, constant_constant: bool buffers; channels without variation, whose std is set
            to 1.
        time_scale: () buffer; the lead time that models see as 1.
        inputs, outputs, constants: names of the channels, in the order of the buffers.
    """

    def __init__(self, meta: FieldMeta, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.n_axes = len(meta.axes)
        self.inputs = tuple(channel.name for channel in meta.inputs)
        self.outputs = tuple(channel.name for channel in meta.outputs)
        self.constants = tuple(channel.name for channel in meta.constants)
        for side, names in self._sides():
            self.register_buffer(f"{side}_mean", torch.zeros(len(names), dtype=dtype))
            self.register_buffer(f"{side}_std", torch.ones(len(names), dtype=dtype))
            self.register_buffer(f"{side}_constant", torch.zeros(len(names), dtype=torch.bool))
        self.register_buffer("time_scale", torch.ones((), dtype=dtype))

    @property
    def constant_channels(self) -> tuple[str, ...]:
        """Names of the channels that do not vary over the training samples; inputs first, each once."""
        flagged = ((names, getattr(self, f"{side}_constant")) for side, names in self._sides())
        return tuple(
            dict.fromkeys(name for names, flags in flagged for name, flag in zip(names, flags, strict=True) if flag)
        )

    @property
    def input_scale(self) -> Tensor:
        """(input channels,) standard deviation of each input, over all points."""
        return _over_points(self.input_std)

    @property
    def output_scale(self) -> Tensor:
        """(output channels,) standard deviation of each output, over all points."""
        return _over_points(self.output_std)

    def encode_input(self, x: Tensor) -> Tensor:
        """Input in physical units -> normalised.

        Args:
            x: (b, steps, channel, \\*space), or folded (b, steps * channel, \\*space) with the frame slowest.

        Raises:
            UserError: the number of axes or of channels is another one.
        """
        mean, std = self._statistics("input", x)
        return (x - mean) / std

    def encode_output(self, y: Tensor) -> Tensor:
        """Output in physical units -> normalised; shapes as in :meth:`encode_input`."""
        mean, std = self._statistics("output", y)
        return (y - mean) / std

    def decode_output(self, y: Tensor) -> Tensor:
        """Normalised output -> physical units; the inverse of :meth:`encode_output`."""
        mean, std = self._statistics("output", y)
        return mean + std * y

    def encode_constants(self, constants: Tensor) -> Tensor:
        """Channels that do not change in time, in physical units -> normalised.

        Args:
            constants: (b, channel, \\*space).

        Raises:
            UserError: the number of axes or of channels is another one.
        """
        if constants.ndim != self.n_axes + 2 or constants.shape[1] != len(self.constants):
            raise UserError(
                f"the constants have shape {tuple(constants.shape)}; expected (batch, {len(self.constants)} channels, "
                f"{self.n_axes} axes of space) ({', '.join(self.constants) or 'none'})"
            )
        mean, std = (self._spread(values, 1, constants) for values in (self.constant_mean, self.constant_std))
        return (constants - mean) / std

    def encode_time(self, time: Tensor) -> Tensor:
        """Lead time -> in units of ``time_scale``."""
        return time / self.time_scale.to(time.dtype)

    def state(self, values: Mapping[str, Sequence[float]]) -> None:
        """Put a stated (mean, standard deviation) in place of the statistics of channels, wherever they occur.

        Raises:
            UserError: there is no such channel, a standard deviation is not positive, or each point has its own.
        """
        known = [name for _, names in self._sides() for name in names]
        for channel, (_, std) in values.items():
            if channel not in known:
                raise UserError(
                    f"data.statistics names {channel!r}, which is no channel{did_you_mean(channel, known)} "
                    f"Channels: {', '.join(dict.fromkeys(known))}."
                )
            if not std > 0:
                raise UserError(f"data.statistics: the standard deviation of {channel!r} is {std}; it must be above 0")
        for side, names in self._sides():
            if getattr(self, f"{side}_mean").ndim > 1 and values:
                raise UserError("data.statistics state one mean for a channel; train with data.normalizer standard")
            for position, name in enumerate(names):
                if name in values:
                    mean, std = values[name]
                    getattr(self, f"{side}_mean")[position] = mean
                    getattr(self, f"{side}_std")[position] = std
                    getattr(self, f"{side}_constant")[position] = False

    def known(self) -> dict[str, tuple[float, float]]:
        """{channel: (mean, standard deviation)}; of outputs where a channel is on both sides."""
        found = {}
        for side, names in self._sides():
            mean, std = getattr(self, f"{side}_mean"), getattr(self, f"{side}_std")
            if mean.ndim == 1:
                found |= dict(zip(names, zip(mean.tolist(), std.tolist(), strict=True), strict=True))
        return found

    def extra_repr(self) -> str:
        return f"{', '.join((*self.inputs, *self.constants))} -> {', '.join(self.outputs)}"

    def _statistics(self, side: str, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std, shaped to broadcast against ``values``."""
        mean, std = getattr(self, f"{side}_mean"), getattr(self, f"{side}_std")
        channels, folded = len(mean), values.ndim == self.n_axes + 2
        if not folded and values.ndim != self.n_axes + 3:
            raise UserError(
                f"the {side} has shape {tuple(values.shape)}; expected (batch, frame, channel, {self.n_axes} axes of "
                f"space) or (batch, frame * channel, {self.n_axes} axes of space)"
            )
        width = values.shape[-self.n_axes - 1]
        if not channels or (width % channels if folded else width != channels):
            names = ", ".join(self.inputs if side == "input" else self.outputs)
            raise UserError(
                f"the {side} of shape {tuple(values.shape)} has {width} channels; expected "
                f"{'a multiple of ' if folded else ''}{channels} ({names})"
            )
        return self._spread(mean, width // channels, values), self._spread(std, width // channels, values)

    def _spread(self, statistic: Tensor, frames: int, values: Tensor) -> Tensor:
        """A statistic of the channels, once per folded frame, shaped to broadcast against ``values``."""
        if statistic.ndim == 1:
            statistic = statistic.view(-1, *(1,) * self.n_axes)
        elif statistic.shape[1:] != values.shape[-self.n_axes :]:
            raise UserError(
                f"the statistics of every point were taken on a grid of {_by(statistic.shape[1:])} points, the fields "
                f"have {_by(values.shape[-self.n_axes :])}; train with data.normalizer standard to use other grids"
            )
        return statistic.repeat(frames, *(1,) * self.n_axes)

    def _sides(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(name of the side, names of its channels)."""
        return tuple(zip(SIDES, (self.inputs, self.outputs, self.constants), strict=True))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Model files from before there were constants and time scales hold none of them: the identity is kept.

        Statistics of every point bring their grid with them.
        """
        if not self.constants:
            for name in ("mean", "std", "constant"):
                key = f"{prefix}constant_{name}"
                state_dict.setdefault(key, getattr(self, f"constant_{name}"))
        state_dict.setdefault(f"{prefix}time_scale", self.time_scale)
        for side, _ in self._sides():
            for name in (f"{side}_mean", f"{side}_std"):
                if (stored := state_dict.get(f"{prefix}{name}")) is not None:
                    setattr(self, name, torch.empty_like(stored))
        super()._load_from_state_dict(state_dict, prefix, *rest)


@dataclass(frozen=True)
class Fit:
    """What one pass over the training samples gives.

    Attributes:
        normalizer: with the statistics of the training samples.
        target_mean: (steps_out, output channels, \\*space), pointwise mean of the targets; the mean baseline.
        count: number of windows that were read.
        statistics: of every channel.
    """

    normalizer: Normalizer
    target_mean: Tensor
    count: int
    statistics: FieldStatistics


def fit_normalizer(
    dataset: FieldDataset,
    indices: Sequence[int] | np.ndarray,
    *,
    kind: str = "standard",
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Mean and standard deviation of every channel over the windows ``indices``, and nothing else.

    A frame counts as often as it occurs in a window, so that the statistics are those of what training sees; it is read
    once. See :func:`katops.data.statistics.fields.field_statistics`.

    Args:
        dataset: where to read; its dtype is that of the statistics.
        indices: windows of the training part.
        kind: "standard"; "pointwise" for statistics of every grid point, which ties the model to the grid and reads the
            windows once more; "none" to keep the identity (the mean of the targets is still taken).
        progress: called with (windows done, all windows).

    Raises:
        UserError: ``kind`` is unknown, there is nothing to read, or a value is not finite (file, sample and channel are
            named).
    """
    check_kind(kind)
    return fit_of(dataset, indices, field_statistics(dataset, indices, progress=progress), kind)


def fit_of(
    dataset: FieldDataset, indices: Sequence[int] | np.ndarray, statistics: FieldStatistics, kind: str = "standard"
) -> Fit:
    """The normaliser with given statistics, in the dtype of the dataset."""
    check_kind(kind)
    fit = fit_from(statistics, dataset.meta, dataset.dtype, identity=kind == "none")
    if kind == "pointwise":
        points = point_statistics(dataset, indices)
        for side in SIDES:
            _store_points(fit.normalizer, side, points[f"{side}s"], dataset.space)
    return fit


def fit_from(statistics: FieldStatistics, meta: FieldMeta, dtype: torch.dtype, *, identity: bool = False) -> Fit:
    """The normaliser with given statistics of the channels of ``meta``, or without any where ``identity``."""
    normalizer = Normalizer(meta, dtype=dtype)
    if not identity:
        rows = (statistics.inputs, statistics.outputs, statistics.constants)
        for side, channels in zip(SIDES, rows, strict=True):
            _store(normalizer, side, channels)
    return Fit(normalizer, torch.from_numpy(statistics.target_mean).to(dtype), statistics.count, statistics)


def check_kind(kind: str) -> None:
    """Refuse a normalisation that does not exist.

    Raises:
        UserError: ``kind`` is unknown.
    """
    if kind not in KINDS:
        raise UserError(f"unknown data.normalizer {kind!r}; allowed: {', '.join(KINDS)}")


def _store(normalizer: Normalizer, side: str, channels: Sequence[ChannelStatistics]) -> None:
    """Fill the buffers of one side."""
    mean = torch.tensor([channel.mean for channel in channels], dtype=torch.float64)
    std = torch.tensor([channel.std for channel in channels], dtype=torch.float64)
    constant = std <= _CONSTANT * mean.abs()
    getattr(normalizer, f"{side}_mean").copy_(mean)
    getattr(normalizer, f"{side}_std").copy_(torch.where(constant, 1.0, std))
    getattr(normalizer, f"{side}_constant").copy_(constant)


def _store_points(normalizer: Normalizer, side: str, points: PointMoments, space: Sequence[int]) -> None:
    """Put the statistics of every point in place of those of the channels; parameters, which come last, keep theirs."""
    for name in ("mean", "std"):
        of_channels = getattr(normalizer, f"{side}_{name}")
        spread = of_channels.view(-1, *(1,) * len(space)).repeat(1, *space)
        if points.count:
            values = points.mean if name == "mean" else points.std
            if name == "std":
                values = torch.where(values <= _CONSTANT * points.mean.abs(), 1.0, values)
            spread[: len(values)] = values.to(spread.dtype)
        setattr(normalizer, f"{side}_{name}", spread)


def _over_points(std: Tensor) -> Tensor:
    return std.flatten(1).square().mean(1).sqrt() if std.ndim > 1 else std


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
