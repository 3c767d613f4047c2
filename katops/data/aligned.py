"""A data set as a model of more channels sees it: channels that its files lack, and outputs that are not learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from katops.data.adjustment import NOT_ADJUSTED, Adjustment
from katops.data.analytic_fields import analytic_field
from katops.data.dataset import Allocate, FieldDataset, Places
from katops.data.pairs import Pairs
from katops.data.windows import Window
from katops.errors import UserError, did_you_mean
from katops.fields import Channel, FieldMeta, FieldSample

Mask = Mapping[str, str | None]
"""Output channel -> the input channel that is not zero where the output is masked; ``None``: masked everywhere."""

KINDS = ("inputs", "outputs", "constants")


class AlignedDataset(Dataset):
    """The windows of a :class:`~katops.data.dataset.FieldDataset` in other channels.

    A model that learns from several data sets has the channels of all of them. A channel that a data set lacks is
    filled with a known field (the density of an incompressible fluid is 1), and an output of which it says nothing is
    masked: ``FieldSample.mask`` is true there, so that it is neither learned nor judged.

    Args:
        dataset: what to read.
        inputs, outputs, constants: names of the channels to hand out, in this order; those of ``dataset`` and of
            ``fill``.
        fill: channels that the files lack: a number, a field (\\*space), or the name of an analytic one.
        mask: outputs that are not learned, see :data:`Mask`.
        lead_time: of a steady problem, for models that take one.
        adjustment: levels that are subtracted, from filled channels too, and the factor of lead times, so that data
            sets that differ in them can be learned together.

    Attributes:
        source: the data set that is read.
        meta: the description of what is handed out.

    Raises:
        UserError: a channel is neither in the files nor filled, or in both; a masked output is none; the problem is not
            steady, so that it has lead times of its own.
    """

    def __init__(
        self,
        dataset: FieldDataset,
        *,
        inputs: Sequence[str],
        outputs: Sequence[str],
        constants: Sequence[str] = (),
        fill: Mapping[str, float | str | np.ndarray] | None = None,
        mask: Mask | None = None,
        lead_time: float | None = None,
        adjustment: Adjustment = NOT_ADJUSTED,
    ) -> None:
        self.source, self.adjustment = dataset, adjustment
        self.mask, self.lead_time = dict(mask or {}), lead_time
        points = [axis.coordinates(size) for axis, size in zip(dataset.meta.axes, dataset.space, strict=True)]
        self.fill = {
            name: analytic_field(value)(points) if isinstance(value, str) else value
            for name, value in (fill or {}).items()
        }
        self._names = {"inputs": tuple(inputs), "outputs": tuple(outputs), "constants": tuple(constants)}
        if lead_time is not None and dataset.layout.time_dependent:
            raise UserError(
                f"data.lead_time is for steady problems; the fields of {dataset.layout.path} change in time and have "
                f"lead times of their own"
            )
        self._check_fill()
        self._check_mask()
        channels = {kind: self._channels(kind) for kind in KINDS}
        self.meta: FieldMeta = replace(dataset.meta, **channels)

    # What is the same in other channels.
    n_samples = property(lambda self: self.source.n_samples)
    space = property(lambda self: self.source.space)
    window = property(lambda self: self.source.window)
    layouts = property(lambda self: self.source.layouts)
    layout = property(lambda self: self.source.layout)
    reader = property(lambda self: self.source.reader)
    dtype = property(lambda self: self.source.dtype)
    allow_nonfinite = property(lambda self: self.source.allow_nonfinite)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> FieldSample:
        """One window, without a batch axis."""
        position = index + len(self) if index < 0 else index
        return self.read([position]).map(lambda values: values[0])

    def places(self, indices: Sequence[int] | np.ndarray) -> Places:
        """See :meth:`FieldDataset.places`."""
        return self.source.places(indices)

    def prefetch(self, indices: Sequence[int] | np.ndarray) -> None:
        """See :meth:`FieldDataset.prefetch`."""
        self.source.prefetch(indices)

    def of_samples(self, samples: Sequence[int] | np.ndarray) -> np.ndarray:
        """See :meth:`FieldDataset.of_samples`."""
        return self.source.of_samples(samples)

    def samples_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """See :meth:`FieldDataset.samples_of`."""
        return self.source.samples_of(indices)

    def owners_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """See :meth:`FieldDataset.owners_of`."""
        return self.source.owners_of(indices)

    def with_window(self, window: Window | Pairs) -> AlignedDataset:
        """The same channels in other windows."""
        return self.over(self.source.with_window(window))

    def over(self, dataset: FieldDataset) -> AlignedDataset:
        """Another data set of the same channels in the same manner."""
        return self._of(dataset, self.adjustment)

    def without_adjustment(self) -> AlignedDataset:
        """The same windows in the units of the files."""
        return self._of(self.source, NOT_ADJUSTED)

    def _of(self, dataset: FieldDataset, adjustment: Adjustment) -> AlignedDataset:
        return AlignedDataset(
            dataset, **self._names, fill=self.fill, mask=self.mask, lead_time=self.lead_time, adjustment=adjustment
        )

    def read(self, indices: Sequence[int] | np.ndarray, allocate: Allocate = torch.empty) -> FieldSample:
        """A batch of windows; see :meth:`FieldDataset.read`."""
        sample = self.source.read(indices, allocate)
        constants = sample.constants
        if self.meta.constants:
            constants = self._complete(
                "constants", constants if constants is None else constants[:, None], len(indices)
            )
            constants = constants[:, 0]
        return replace(
            sample,
            x=self._complete("inputs", sample.x, len(indices)),
            y=None if sample.y is None else self._complete("outputs", sample.y, len(indices)),
            constants=constants,
            time=self._lead_times(sample),
            mask=self._masked(sample),
        )

    def _lead_times(self, sample: FieldSample) -> Tensor | None:
        time = sample.time
        if self.lead_time is not None:
            time = torch.full((len(sample.x),), self.lead_time, dtype=self.dtype)
        return time if time is None else time * self.adjustment.time_factor

    def _complete(self, kind: str, fields: Tensor | None, batch: int) -> Tensor:
        """(batch, steps, channel of the files, \\*space) -> the same with the filled ones, in the order of ``meta``."""
        stored = [channel.name for channel in getattr(self.source.meta, kind)]
        wanted = [channel.name for channel in getattr(self.meta, kind)]
        if stored == wanted and not self.adjustment.offset:
            return fields
        steps = 1 if fields is None else fields.shape[1]
        complete = torch.empty((batch, steps, len(wanted), *self.space), dtype=self.dtype)
        for position, name in enumerate(wanted):
            if name in stored:
                complete[:, :, position] = fields[:, :, stored.index(name)]
            else:
                complete[:, :, position] = torch.as_tensor(self.fill[name]).to(self.dtype)
            if name in self.adjustment.offset:
                complete[:, :, position] -= self.adjustment.offset[name]
        return complete

    def _masked(self, sample: FieldSample) -> Tensor | None:
        if not self.mask:
            return None
        everywhere = [channel.name in self.mask for channel in self.meta.outputs]
        batch = len(sample.x)
        mask = torch.tensor(everywhere).expand(batch, -1).contiguous()
        if all(source is None for source in self.mask.values()):
            return mask
        mask = mask.view(batch, -1, *(1,) * len(self.space)).repeat(1, 1, *self.space)
        inputs = [channel.name for channel in self.source.meta.inputs]
        for position, channel in enumerate(self.meta.outputs):
            source = self.mask.get(channel.name)
            if source is not None:
                mask[:, position] = sample.x[:, -1, inputs.index(source)] != 0
        return mask

    def _channels(self, kind: str) -> tuple[Channel, ...]:
        """Of the files where they have it, and a plain one for what is filled; parameters come last."""
        there = {channel.name: channel for channel in getattr(self.source.meta, kind)}
        given = tuple(there[name] for name in self.source.meta.condition) if kind == "constants" else ()
        for name in self._names[kind]:
            if (name in there) == (name in self.fill):
                state = "both in the files and in data.fill" if name in there else "not there and not in data.fill"
                raise UserError(f"data.{kind} names {name!r}, which is {state} of {self.source.layout.path}")
        return (*(there.get(name) or Channel(name) for name in self._names[kind]), *given)

    def _check_fill(self) -> None:
        named = {name for names in self._names.values() for name in names}
        for name, value in self.fill.items():
            if name not in named:
                raise UserError(f"data.fill gives {name!r}, which is no channel{did_you_mean(name, named)}")
            shape = np.shape(value)
            if shape not in ((), tuple(self.space)):
                raise UserError(f"data.fill gives {name!r} as {shape} values, but the grid has {tuple(self.space)}")

    def _check_mask(self) -> None:
        stored = [channel.name for channel in self.source.meta.inputs]
        for name, where in self.mask.items():
            if name not in self._names["outputs"]:
                raise UserError(f"data.mask names {name!r}{did_you_mean(name, self._names['outputs'])} Outputs: "
                                f"{', '.join(self._names['outputs'])}.")  # fmt: skip
            if where is not None and where not in stored:
                raise UserError(
                    f"data.mask: {name!r} is to be masked where {where!r} is not zero, which is no input of the files; "
                    f"they have {', '.join(stored)}"
                )
