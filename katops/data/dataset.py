"""Windows of one or many files as a torch dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from katops.data.layout import FileLayout
from katops.data.many_files import (
    check_alike,
    check_finite_numbers,
    check_shards,
    scalars_table,
    time_steps,
    times_table,
)
from katops.data.pairs import Pairs, check_lengths
from katops.data.reading.reader import FieldReader, Request
from katops.data.resample import Resample
from katops.data.shared_frames import read_shared
from katops.data.windows import Window, WindowIndex, index_windows
from katops.errors import UserError, did_you_mean
from katops.fields import FieldMeta, FieldSample

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}

Allocate = Callable[..., Tensor]
"""``allocate(shape, dtype=dtype)`` -> a tensor with arbitrary contents, as ``torch.empty``."""


class Places(NamedTuple):
    """Where windows lie, (b,) int64 each: file, sample within it, first frame of the input and of the target."""

    files: np.ndarray
    samples: np.ndarray
    starts: np.ndarray
    targets: np.ndarray


class FieldDataset(Dataset):
    """Windows of every sample, numbered as in :class:`~katops.data.windows.WindowIndex`.

    Samples (trajectories) are counted over all files, file after file, and may differ in length. A steady problem has
    one window per sample. Channels without a time axis are repeated in every frame of a window; if all inputs are such
    channels (an initial condition, a coefficient) while outputs move, they belong to frame 0, and every sample has the
    one window that starts there.

    Reading is lazy and safe in worker processes under fork, forkserver and spawn.

    Args:
        layouts: the parsed file, or several with the same channels and grid.
        window: frames of input and target, the same distance apart in every window, or
            :class:`~katops.data.pairs.Pairs`; only the default makes sense for a steady problem.
        resample: fewer grid points; ``None`` keeps all.
        dtype: ``torch.float32`` or ``torch.float64``.
        allow_nonfinite: hand out NaN and infinity instead of raising.
        exclude: samples that are left out on purpose, because they are damaged or too short. The others keep their
            numbers, so that a split of the samples stays what it is; an excluded sample has no windows.
        memory, memory_budget: what is kept in memory, see :class:`~katops.data.reading.reader.FieldReader`.
        condition: parameters that are handed out as constant channels too, the same number at every grid point, behind
            the constants of the files: models take channels.

    Attributes:
        layouts: the files.
        reader: reads from them.
        n_samples: samples of all files, the excluded ones counted.
        meta: the description of what is handed out: window, time step between handed-out frames (``None`` where it is
            uneven or not that of all files) and grid points after resampling.
        space: sizes of the spatial axes that are handed out.

    Raises:
        UserError: the files do not belong together; the window is longer than a trajectory or asks a steady problem for
            frames; ``resample`` does not fit the grid; a parameter, time or scalar is not finite; ``condition``
            names something else than a parameter; see also :class:`~katops.data.reading.reader.FieldReader`.
    """

    def __init__(
        self,
        layouts: FileLayout | Sequence[FileLayout],
        *,
        window: Window | Pairs | None = None,
        resample: Resample | None = None,
        dtype: torch.dtype = torch.float32,
        allow_nonfinite: bool = False,
        exclude: Sequence[int] = (),
        memory: str = "auto",
        memory_budget: int | None = None,
        condition: Sequence[str] = (),
    ) -> None:
        self._reading = {"dtype": dtype, "allow_nonfinite": allow_nonfinite, "memory": memory}
        self._reading |= {"memory_budget": memory_budget, "resample": resample}
        self._reading |= {"exclude": tuple(exclude), "condition": tuple(condition)}
        if dtype not in _DTYPES:
            raise UserError(f"dtype {dtype} cannot be read; allowed: torch.float32, torch.float64")
        self.layouts = (layouts,) if isinstance(layouts, FileLayout) else tuple(layouts)
        if not self.layouts:
            raise UserError("there is no file to read")
        check_alike(self.layouts)
        check_shards(self.layouts)
        self.window = window or Window()
        self.dtype = dtype
        self.allow_nonfinite = allow_nonfinite
        self._first_samples = np.cumsum([0, *(layout.n_samples for layout in self.layouts)])
        self.n_samples = int(self._first_samples[-1])
        self._included = _included(self.n_samples, exclude)
        if not allow_nonfinite:
            check_finite_numbers(self.layouts, self._included)
        self.windows = self._index()
        self.resample = (resample or Resample()).on(self.layout.meta.axes, self.layout.space)
        self.reader = FieldReader(
            self.layouts,
            resample=self.resample,
            dtype=_DTYPES[dtype],
            frames=self.window.span if self.layout.outputs else self.window.input_span,
            memory=memory,
            memory_budget=memory_budget,
        )
        self.space = self.reader.space
        self._conditions = _columns(self.layout, condition)
        self.meta = self._describe()
        self._parameters = np.concatenate([layout.parameters for layout in self.layouts])
        self._time_steps = time_steps(self.layouts)
        self._times = times_table(self.layouts)
        self._scalars = scalars_table(self.layouts)

    @property
    def layout(self) -> FileLayout:
        """The first file."""
        return self.layouts[0]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> FieldSample:
        """One window, without a batch axis."""
        position = index + len(self) if index < 0 else index
        return self.read([position]).map(lambda values: values[0])

    def read(self, indices: Sequence[int] | np.ndarray, allocate: Allocate = torch.empty) -> FieldSample:
        """A batch of windows, read from the files straight into one tensor for x, one for y and one for the constants.

        Args:
            indices: (b,) numbers of windows, in any order.
            allocate: makes these tensors.

        Raises:
            UserError: a value is not finite, or a file changed or is damaged.
            IndexError: there is no such window.
        """
        return self._read(self.places(indices), self.window, allocate)

    def prefetch(self, indices: Sequence[int] | np.ndarray) -> None:
        """Ask the operating system to get the bytes of these windows ready, unless they are; returns at once."""
        if self.reader.wants_prefetch():
            self.reader.prefetch(*self._requests(self.places(indices), self.window))

    def places(self, flat: Sequence[int] | np.ndarray) -> Places:
        """Where windows lie, by their numbers.

        Raises:
            IndexError: there is no such window.
        """
        samples, starts = self.windows.locate(np.asarray(flat, dtype=np.int64))
        if isinstance(self.window, Pairs):
            starts, distances = self.window.starts[starts], self.window.distances[starts]
            return Places(*self._within_files(samples), starts, starts + distances)
        return Places(*self._within_files(samples), starts, self._targets(starts, self.window))

    def locate(self, flat: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of windows -> (file, sample within the file, first frame), int64 each.

        Raises:
            IndexError: there is no such window.
        """
        return self.places(flat)[:3]

    def with_window(self, window: Window | Pairs) -> FieldDataset:
        """The same files and samples in other windows.

        Raises:
            UserError: a trajectory is shorter than the window.
        """
        return FieldDataset(self.layouts, window=window, **self._reading)

    def samples_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Numbers of the samples (counted over all files) that windows belong to, each once, increasing."""
        return np.unique(self.owners_of(indices))

    def owners_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n,): number of the sample (counted over all files) of each window."""
        return self.windows.locate(np.asarray(indices, dtype=np.int64))[0]

    def of_samples(self, samples: Sequence[int] | np.ndarray) -> np.ndarray:
        """Numbers of all windows of some samples (counted over all files), such as a part of a
        :class:`~katops.data.splits.Split`; excluded samples have none.
        """
        return self.windows.of_samples(np.asarray(samples, dtype=np.int64))

    def conditions(self, files: np.ndarray, samples: np.ndarray) -> Tensor:
        """(n, conditions): the parameters that are handed out as channels, of samples counted within their files."""
        rows = self._parameters[self._first_samples[files] + samples][:, self._conditions]
        return torch.from_numpy(rows).to(self.dtype)

    def trajectory(self, sample: int) -> FieldSample:
        """The whole trajectory of a sample (counted over all files), without a batch axis, to compare a rollout with.

        x holds the first ``n_in`` of every ``window.every``-th frame, y all later ones; ``gap`` and ``stride`` play no
        role. A steady sample is its only window.

        Raises:
            UserError: the sample is excluded.
            IndexError: there is no such sample.
        """
        if not 0 <= sample < self.n_samples:
            raise IndexError(f"sample {sample} is outside 0 to {self.n_samples - 1}")
        if not self._included[sample]:
            raise UserError(f"sample {sample} is excluded; there is no trajectory to hand out")
        files, samples = self._within_files(np.array([sample]))
        n_out = 1
        if self.layout.time_dependent:
            frames = int(self.layouts[files[0]].frames[samples[0]])
            # Only where there are no outputs to read can the trajectory end with the input.
            n_out = max(1, (frames - 1) // self.window.every + 1 - self.window.n_in)
        window = Window(self.window.n_in, n_out, every=self.window.every)
        starts = np.zeros(1, np.int64)
        places = Places(files, samples, starts, self._targets(starts, window))
        return self._read(places, window, torch.empty).map(lambda values: values[0])

    def _targets(self, starts: np.ndarray, window: Window) -> np.ndarray:
        """First target frames; the output of a steady problem belongs to the same moment as its input."""
        return starts + window.target_offset if self.layout.time_dependent else starts

    def _read(self, places: Places, window: Window | Pairs, allocate: Allocate) -> FieldSample:
        files, samples, starts, targets = places
        requests = self._requests(places, window)
        tensors = {}
        for number, request in enumerate(requests):
            shape = (len(files), request.steps, len(self.reader.channels(request.kind)), *self.space)
            tensors[request.kind] = allocate(shape, dtype=self.dtype)
            requests[number] = replace(request, out=tensors[request.kind].numpy())
        if isinstance(window, Pairs):
            read = read_shared(self.reader, requests, same=self.layout.inputs == self.layout.outputs)
        else:
            self.reader.read(*requests)
            read = requests
        if not self.allow_nonfinite:
            for request in read:
                self.reader.check_finite(request)
        distances = targets - starts if isinstance(window, Pairs) else np.full_like(starts, window.every)
        return FieldSample(
            x=tensors["inputs"],
            y=tensors.get("outputs"),
            time=self._lead_time(places, window),
            parameters=self._tensor(self._parameters[self._first_samples[files] + samples]),
            index=torch.from_numpy(np.stack([files, samples, starts, distances], axis=1)),
            constants=self._constants(tensors.get("constants"), files, samples),
            **self._per_frame(files, samples, requests),
        )

    def _requests(self, places: Places, window: Window | Pairs) -> list[Request]:
        """What to read for windows, without the memory to read into."""
        files, samples, starts, targets = places
        requests = [Request("inputs", files, samples, starts, window.n_in, window.every)]
        if self.layout.outputs:
            requests.append(Request("outputs", files, samples, targets, window.n_out, window.every))
        if self.layout.constants:
            requests.append(Request("constants", files, samples, starts))
        return requests

    def _constants(self, stored: Tensor | None, files: np.ndarray, samples: np.ndarray) -> Tensor | None:
        """(b, channel, \\*space): what was read, (b, 1, channel, \\*space), and the conditions."""
        if not self._conditions:
            return None if stored is None else stored[:, 0]
        values = self.conditions(files, samples)
        spread = values.view(*values.shape, *(1,) * len(self.space)).expand(*values.shape, *self.space)
        return spread.contiguous() if stored is None else torch.cat([stored[:, 0], spread], 1)

    def _per_frame(self, files: np.ndarray, samples: np.ndarray, requests: Sequence[Request]) -> dict[str, Tensor]:
        """Times and scalars of the frames that were read."""
        found = {}
        tables = {"times": self._times, "scalars": self._scalars}
        for request in requests:
            if request.kind == "constants":
                continue
            frames = request.starts[:, None] + request.every * np.arange(request.steps)
            for name, table in tables.items():
                if table is not None:
                    key = f"{name}_{request.kind.removesuffix('puts')}"
                    found[key] = self._tensor(table.at(files, samples, frames))
        return found

    def _lead_time(self, places: Places, window: Window | Pairs) -> Tensor | None:
        """Time from the last input to the last target, which need not be in the file; ``None`` where it is unknown."""
        files, samples, starts, targets = places
        last_inputs = starts + window.input_span - 1
        last_targets = targets + (window.n_out - 1) * window.every
        steps = self._time_steps[files]
        if not np.isnan(steps).any():
            return self._tensor((last_targets - last_inputs) * steps)
        if self._times is None or not self.layout.outputs:
            return None
        ends = np.stack([last_inputs, last_targets], axis=1)
        return self._tensor(np.diff(self._times.at(files, samples, ends))[:, 0])

    def _tensor(self, values: np.ndarray) -> Tensor | None:
        """Numbers in the data set's element type; ``None`` where there are none."""
        return torch.from_numpy(values).to(self.dtype) if values.shape[-1] else None

    def _within_files(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        files = np.searchsorted(self._first_samples, samples, side="right") - 1
        return files, samples - self._first_samples[files]

    def _describe(self) -> FieldMeta:
        meta = self.layout.meta
        steps = time_steps(self.layouts) * self.window.every
        channels = {
            kind: tuple(map(self.resample.channel, getattr(meta, kind))) for kind in ("inputs", "outputs", "constants")
        }
        given = [meta.parameters[column] for column in self._conditions]
        channels["constants"] += tuple(given)
        return replace(
            meta,
            **channels,
            condition=tuple(channel.name for channel in given),
            axes=self.resample.axes(meta.axes, self.layout.space),
            steps_in=self.window.n_in,
            steps_out=self.window.n_out,
            time_step=float(steps[0]) if np.allclose(steps, steps[0], rtol=1e-6, atol=0.0) else None,
        )

    def _index(self) -> WindowIndex:
        one_each = self._included.astype(np.int64)
        if not self.layout.time_dependent:
            if isinstance(self.window, Pairs):
                raise UserError(f"{self.layout.path}: no channel has a time axis, so there are no pairs of frames")
            if self.window != Window():
                raise UserError(
                    f"{self.layout.path}: no channel has a time axis, so the window must be n_in 1, n_out 1, gap 0, "
                    f"stride 1, every 1; given: n_in {self.window.n_in}, n_out {self.window.n_out}, gap "
                    f"{self.window.gap}, stride {self.window.stride}, every {self.window.every}"
                )
            return WindowIndex(one_each)
        frames = np.concatenate([layout.frames for layout in self.layouts])
        if isinstance(self.window, Pairs):
            check_lengths(self.window, frames, self._included, self._name)
            return WindowIndex(one_each * len(self.window))
        index = index_windows(
            self.window,
            frames,
            inputs_only=not self.layout.outputs,
            included=self._included,
            name=self._name,
        )
        moving_inputs = any(array.has_time for array in self.layout.inputs)
        return index if moving_inputs else WindowIndex(one_each)

    def _name(self, sample: int) -> str:
        file, within = self._within_files(np.array([sample]))
        counted = f" (sample {sample} of all files)" if len(self.layouts) > 1 else ""
        return f"sample {within[0]} of {self.layouts[file[0]].path}{counted}"


def _columns(layout: FileLayout, names: Sequence[str]) -> list[int]:
    """Positions of parameters."""
    known = [channel.name for channel in layout.meta.parameters]
    for name in names:
        if name not in known:
            there = (
                f"{did_you_mean(str(name), known)} Its parameters: {', '.join(known)}." if known else "; it has none"
            )
            raise UserError(f"data.condition names {name!r}, which is no parameter of {layout.path}{there}")
    return [known.index(name) for name in names]


def _collate(samples: Sequence[FieldSample], *, collate_fn_map: object = None) -> FieldSample:
    """A batch of windows that were read one by one, for torch's own DataLoader."""
    entries = ([getattr(sample, entry.name) for sample in samples] for entry in fields(FieldSample))
    return FieldSample(*(None if values[0] is None else torch.stack(values) for values in entries))


# torch's way to say how a class of one's own becomes a batch; without it a plain DataLoader refuses the samples.
default_collate_fn_map[FieldSample] = _collate


def _included(n_samples: int, exclude: Sequence[int]) -> np.ndarray:
    """(n_samples,) bool."""
    included = np.ones(n_samples, dtype=bool)
    for sample in exclude:
        if not isinstance(sample, int | np.integer) or isinstance(sample, bool) or not 0 <= sample < n_samples:
            raise UserError(f"exclude names sample {sample!r}; the samples are numbered 0 to {n_samples - 1}")
        included[sample] = False
    if not included.any():
        raise UserError(f"exclude leaves none of the {n_samples} samples")
    return included
