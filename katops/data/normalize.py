"""Per-channel normalisation: part of the model, fitted once, on the training samples only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from katops.data.dataset import FieldDataset
from katops.errors import UserError
from katops.fields import FieldMeta, FieldSample

KINDS = ("standard", "none")
# Below this ratio of standard deviation to mean, what varies is the rounding of float64 sums, not the data.
_CONSTANT = 1e-12
# Bytes of one batch while fitting; statistics need a float64 copy of it.
_BATCH_BYTES = 8 * 2**20


class Normalizer(nn.Module):
    """Affine map of each channel: encoded = (value - mean) / std, value = mean + std * encoded.

    A new normaliser is the identity (mean 0, std 1); :func:`fit_normalizer` or ``load_state_dict`` give it statistics.
    All frames of a window share the statistics of their channel. The result has the wider of the two element types, so
    half-precision predictions are decoded in float32.

    Args:
        meta: names of the channels and the number of spatial axes.
        dtype: of the statistics.

    Attributes:
        input_mean, input_std: (input channels,) buffers.
        output_mean, output_std: (output channels,) buffers.
        input_constant, output_constant: bool buffers; channels without variation, whose std is set to 1.
        inputs, outputs: names of the channels, in the order of the buffers.
    """

    def __init__(self, meta: FieldMeta, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.n_axes = len(meta.axes)
        self.inputs = tuple(channel.name for channel in meta.inputs)
        self.outputs = tuple(channel.name for channel in meta.outputs)
        for side, names in (("input", self.inputs), ("output", self.outputs)):
            self.register_buffer(f"{side}_mean", torch.zeros(len(names), dtype=dtype))
            self.register_buffer(f"{side}_std", torch.ones(len(names), dtype=dtype))
            self.register_buffer(f"{side}_constant", torch.zeros(len(names), dtype=torch.bool))

    @property
    def constant_channels(self) -> tuple[str, ...]:
        """Names of the channels that do not vary over the training samples; inputs first, each once."""
        sides = ((self.inputs, self.input_constant), (self.outputs, self.output_constant))
        return tuple(
            dict.fromkeys(name for names, flags in sides for name, flag in zip(names, flags, strict=True) if flag)
        )

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

    def extra_repr(self) -> str:
        return f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"

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
        shape = (width, *(1,) * self.n_axes)
        return mean.repeat(width // channels).view(shape), std.repeat(width // channels).view(shape)


@dataclass(frozen=True)
class Fit:
    """What one pass over the training samples gives.

    Attributes:
        normalizer: with the statistics of the training samples.
        target_mean: (steps_out, output channels, \\*space), pointwise mean of the targets; the mean baseline.
        count: number of windows that were read.
    """

    normalizer: Normalizer
    target_mean: Tensor
    count: int


def fit_normalizer(
    dataset: FieldDataset,
    indices: Sequence[int] | np.ndarray,
    *,
    kind: str = "standard",
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Mean and standard deviation of every channel over the windows ``indices``, and nothing else.

    The data are read once, in the order of the file, in batches of about 8 MiB; memory does not depend on their number.
    Batches are merged in float64 with

        delta = mean_b - mean_a,  mean = mean_a + delta n_b / n,  M2 = M2_a + M2_b + delta^2 n_a n_b / n,

    (Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance, eq. 2.1), which stays accurate where
    the mean is much larger than the deviation. std = sqrt(M2 / n).

    Args:
        dataset: where to read; its dtype is that of the statistics.
        indices: windows of the training part.
        kind: "standard", or "none" to keep the identity (the mean of the targets is still taken).
        progress: called with (windows done, all windows).

    Raises:
        UserError: ``kind`` is unknown, there is nothing to read, or a value is not finite (file, sample and channel are
            named).
    """
    if kind not in KINDS:
        raise UserError(f"unknown data.normalizer {kind!r}; allowed: {', '.join(KINDS)}")
    indices = np.sort(np.asarray(indices, dtype=np.int64))
    if not len(indices):
        raise UserError(f"{dataset.layout.path}: there are no training samples to take statistics of")
    if not dataset.layout.outputs:
        raise UserError(f"{dataset.layout.path} is described without outputs, so it cannot be trained on")
    meta = dataset.meta
    moments = {"input": _Moments(len(meta.inputs)), "output": _Moments(len(meta.outputs))}
    target_mean = torch.zeros((meta.steps_out, len(meta.outputs), *dataset.space), dtype=torch.float64)
    batch_size = reading_batch_size(dataset)
    for begin in range(0, len(indices), batch_size):
        batch = _finite_batch(dataset, indices[begin : begin + batch_size])
        done = begin + len(batch.x)
        moments["input"].add(batch.x)
        moments["output"].add(batch.y)
        target_mean += (batch.y.double().mean(0) - target_mean) * (len(batch.y) / done)
        if progress is not None:
            progress(done, len(indices))
    normalizer = Normalizer(meta, dtype=dataset.dtype)
    if kind == "standard":
        for side, moment in moments.items():
            moment.store(normalizer, side)
    return Fit(normalizer, target_mean.to(dataset.dtype), len(indices))


def reading_batch_size(dataset: FieldDataset) -> int:
    """Windows to read at once where only a pass over the data matters: about 8 MiB of them."""
    values = dataset.meta.in_channels + dataset.meta.out_channels
    return max(1, _BATCH_BYTES // (values * prod(dataset.space) * dataset.dtype.itemsize))


def _finite_batch(dataset: FieldDataset, indices: np.ndarray) -> FieldSample:
    """A batch that was checked, whatever the dataset itself allows."""
    batch = dataset.__getitems__(indices)
    if dataset.allow_nonfinite:
        samples = batch.index[:, 0].numpy()
        dataset.file.check_finite(batch.x.numpy(), dataset.layout.inputs, samples)
        dataset.file.check_finite(batch.y.numpy(), dataset.layout.outputs, samples)
    return batch


class _Moments:
    """Running count, mean and sum of squared deviations of each channel, float64."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.squares = torch.zeros(channels, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Merge (b, steps, channel, \\*space)."""
        per_channel = values.double().movedim(2, 0).flatten(1)
        added = per_channel.shape[1]
        variance, mean = torch.var_mean(per_channel, dim=1, correction=0)
        total = self.count + added
        delta = mean - self.mean
        self.mean += delta * (added / total)
        self.squares += variance * added + delta.square() * (self.count * added / total)
        self.count = total

    def store(self, normalizer: Normalizer, side: str) -> None:
        """Fill the buffers of one side."""
        std = (self.squares / self.count).sqrt()
        constant = std <= _CONSTANT * self.mean.abs()
        getattr(normalizer, f"{side}_mean").copy_(self.mean)
        getattr(normalizer, f"{side}_std").copy_(torch.where(constant, 1.0, std))
        getattr(normalizer, f"{side}_constant").copy_(constant)
