"""Several data sets as one: pretraining on a mix of equations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from katops.data.aligned import AlignedDataset
from katops.data.dataset import Allocate, FieldDataset
from katops.data.layout import FileLayout
from katops.data.pairs import Pairs
from katops.data.windows import Window
from katops.errors import UserError
from katops.fields import Axis, FieldMeta, FieldSample

Source = FieldDataset | AlignedDataset


class MixedDataset(Dataset):
    """The windows of several data sets with the same channels on the same grid, one after the other.

    Samples and windows are numbered through: those of the first data set, of the second, and so on. Batches may hold
    windows of several of them.

    Args:
        parts: the data sets; channels and their order, the number of axes and the sizes of the grid agree.

    Attributes:
        parts: the data sets.
        meta: what all have in common: boundary "none" where they differ, no parameters, a time step if all have it.
        first_windows, first_samples: (parts + 1,) numbers of the first window and sample of each part.

    Raises:
        UserError: the parts do not fit together.
    """

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = tuple(parts)
        if not self.parts:
            raise UserError("there is no data set to mix")
        self.meta = _common(self.parts)
        self.first_windows = np.cumsum([0, *(len(part) for part in self.parts)])
        self.first_samples = np.cumsum([0, *(part.n_samples for part in self.parts)])
        self._first_files = np.cumsum([0, *(len(part.layouts) for part in self.parts)])

    @property
    def n_samples(self) -> int:
        """Samples of all parts, the excluded ones counted."""
        return int(self.first_samples[-1])

    @property
    def space(self) -> tuple[int, ...]:
        """Sizes of the spatial axes that are handed out."""
        return self.parts[0].space

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the fields."""
        return self.parts[0].dtype

    @property
    def window(self) -> Window | Pairs:
        """The window of the first part."""
        return self.parts[0].window

    @property
    def layout(self) -> FileLayout:
        """The first file of the first part."""
        return self.parts[0].layout

    @property
    def layouts(self) -> tuple[FileLayout, ...]:
        """The files of all parts."""
        return tuple(layout for part in self.parts for layout in part.layouts)

    @property
    def reader(self) -> _Readers:
        """The readers of the parts."""
        return _Readers(self.parts)

    def __len__(self) -> int:
        return int(self.first_windows[-1])

    def __getitem__(self, index: int) -> FieldSample:
        """One window, without a batch axis."""
        position = index + len(self) if index < 0 else index
        return self.read([position]).map(lambda values: values[0])

    def read(self, indices: Sequence[int] | np.ndarray, allocate: Allocate = torch.empty) -> FieldSample:
        """A batch of windows, in the order asked for; see :meth:`FieldDataset.read`."""
        groups = self._by_part(indices)
        # Memory of the ring is for whole batches; the parts of one are put together.
        samples = [(number, rows, self.parts[number].read(within)) for number, rows, within in groups]
        if len(samples) == 1:
            number, _, sample = samples[0]
            return replace(sample, index=self._numbered(sample.index, number), parameters=None)
        order = torch.from_numpy(np.argsort(np.concatenate([rows for _, rows, _ in samples]), kind="stable"))
        return self._together(samples, order, allocate)

    def prefetch(self, indices: Sequence[int] | np.ndarray) -> None:
        """See :meth:`FieldDataset.prefetch`."""
        for number, _, within in self._by_part(indices):
            self.parts[number].prefetch(within)

    def of_samples(self, samples: Sequence[int] | np.ndarray) -> np.ndarray:
        """Numbers of all windows of some samples."""
        return np.concatenate(
            [
                self.parts[number].of_samples(within) + self.first_windows[number]
                for number, _, within in _split(self.first_samples, samples)
            ]
            or [np.empty(0, np.int64)]
        )

    def samples_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Numbers of the samples that windows belong to, each once, increasing."""
        return np.unique(self.owners_of(indices))

    def owners_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n,): number of the sample of each window."""
        owners = np.empty(len(indices), np.int64)
        for number, rows, within in self._by_part(indices):
            owners[rows] = self.parts[number].owners_of(within) + self.first_samples[number]
        return owners

    def with_window(self, window: Window | Pairs) -> MixedDataset:
        """The same parts in other windows."""
        return MixedDataset([part.with_window(window) for part in self.parts])

    def _by_part(self, indices: Sequence[int] | np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(part, rows of the batch, numbers of its windows) of every part in a batch."""
        return _split(self.first_windows, indices)

    def _numbered(self, index: Tensor, number: int) -> Tensor:
        """Provenance with files counted over all parts."""
        index = index.clone()
        index[:, 0] += int(self._first_files[number])
        return index

    def _together(
        self, samples: list[tuple[int, np.ndarray, FieldSample]], order: Tensor, allocate: Allocate
    ) -> FieldSample:
        """The batches of the parts as one, rows in the order of the batch."""

        def joined(values: list[Tensor | None], out: bool = False) -> Tensor | None:
            if any(value is None for value in values):
                return None
            stacked = torch.cat(values)
            if not out:
                return stacked[order]
            target = allocate(tuple(stacked.shape), dtype=stacked.dtype)
            return torch.index_select(stacked, 0, order, out=target)

        batches = [sample for _, _, sample in samples]
        masks = [sample.mask for sample in batches]
        return FieldSample(
            x=joined([sample.x for sample in batches], out=True),
            y=joined([sample.y for sample in batches], out=True),
            constants=joined([sample.constants for sample in batches]),
            time=joined([sample.time for sample in batches]),
            times_in=joined([sample.times_in for sample in batches]),
            times_out=joined([sample.times_out for sample in batches]),
            index=joined([self._numbered(sample.index, number) for number, _, sample in samples]),
            mask=None if all(mask is None for mask in masks) else joined(self._alike(batches)),
        )

    def _alike(self, batches: Sequence[FieldSample]) -> list[Tensor]:
        """The masks of batches of which some may have none, or one for every point."""
        shape = max((batch.mask.shape[1:] for batch in batches if batch.mask is not None), key=len)
        outputs = len(self.meta.outputs)
        masks = []
        for batch in batches:
            mask = torch.zeros((len(batch.x), outputs), dtype=torch.bool) if batch.mask is None else batch.mask
            mask = mask.view(*mask.shape, *(1,) * (len(shape) + 1 - mask.ndim))
            masks.append(mask.expand(len(batch.x), *shape))
        return masks


class _Readers:
    """The readers of several parts, as far as loaders ask for them."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.readers = [part.reader for part in parts]

    def load(self) -> None:
        """Read now what is kept in memory."""
        for reader in self.readers:
            reader.load()


def _split(firsts: np.ndarray, numbers: Sequence[int] | np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(part, positions in ``numbers``, numbers within the part) for every part that occurs."""
    numbers = np.asarray(numbers, dtype=np.int64)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < firsts[-1]:
        raise IndexError(f"{numbers.min()} to {numbers.max()} is outside 0 to {firsts[-1] - 1}")
    parts = np.searchsorted(firsts, numbers, side="right") - 1
    found = []
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        found.append((int(part), rows, numbers[rows] - firsts[part]))
    return found


def _common(parts: Sequence[Source]) -> FieldMeta:
    """What is true of all parts.

    Raises:
        UserError: they differ in frames of a window, channels or grid.
    """
    first = parts[0]
    for part in parts[1:]:
        ours, theirs = ((p.meta.steps_in, p.meta.steps_out) for p in (first, part))
        if ours != theirs:
            raise UserError(
                f"data.mix: windows of {part.layout.path} have {theirs[0]} frames in and {theirs[1]} out, those of "
                f"{first.layout.path} {ours[0]} and {ours[1]}; one model takes the same number everywhere"
            )
        for kind in ("inputs", "outputs", "constants"):
            ours, theirs = ([channel.name for channel in getattr(p.meta, kind)] for p in (first, part))
            if ours != theirs:
                raise UserError(
                    f"data.mix: the {kind} of {part.layout.path} are {theirs}, those of {first.layout.path} {ours}; "
                    f"name the same ones in the same order, and give those that a file lacks in data.fill"
                )
        if tuple(part.space) != tuple(first.space):
            raise UserError(
                f"data.mix: {part.layout.path} has {_by(part.space)} points, {first.layout.path} {_by(first.space)}; "
                f"bring them to one grid with data.subsample"
            )
    steps = {part.meta.time_step for part in parts}
    known: dict[str, Any] = {"parameters": (), "scalars": (), "time_step": steps.pop() if len(steps) == 1 else None}
    names = list(dict.fromkeys(part.meta.name for part in parts))
    licences = list(dict.fromkeys(part.meta.licence for part in parts if part.meta.licence))
    citations = list(dict.fromkeys(part.meta.citation for part in parts if part.meta.citation))
    return replace(
        first.meta,
        name=" + ".join(names),
        axes=tuple(_common_axis([part.meta.axes[place] for part in parts]) for place in range(len(first.meta.axes))),
        licence="; ".join(licences),
        citation="; ".join(citations),
        **known,
    )


def _common_axis(axes: Sequence[Axis]) -> Axis:
    first = axes[0]
    same = all(axis.boundary == first.boundary for axis in axes)
    return first if same else replace(first, boundary=("none", "none"))


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
