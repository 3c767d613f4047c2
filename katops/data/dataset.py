"""Windows of a file as a torch dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from katops.data.hdf5 import FieldFile
from katops.data.layout import ChannelArray, FileLayout, subsampled_axis
from katops.data.windows import Window, WindowIndex, index_windows
from katops.errors import UserError
from katops.fields import FieldSample

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}


class FieldDataset(Dataset):
    """Windows of every sample of a file, numbered as in :class:`~katops.data.windows.WindowIndex`.

    A steady problem has one window per sample. Channels without a time axis are repeated in every frame of a window; if
    all inputs are such channels (an initial condition, a coefficient) while outputs move, they belong to frame 0, and
    every sample has the one window that starts there.

    Reading is lazy and safe in worker processes under fork, forkserver and spawn.

    Args:
        layout: the parsed file.
        window: frames of input and target; only the default makes sense for a steady problem.
        subsample: keep every ``subsample``-th grid point along each axis.
        dtype: ``torch.float32`` or ``torch.float64``.
        allow_nonfinite: hand out NaN and infinity instead of raising.

    Attributes:
        meta: the description of what is handed out: window, time step between handed-out frames and kept grid points.
        space: sizes of the spatial axes that are handed out.

    Raises:
        UserError: the window is longer than the trajectories or asks a steady problem for frames; ``subsample`` does
            not fit the grid.
    """

    def __init__(
        self,
        layout: FileLayout,
        *,
        window: Window | None = None,
        subsample: int = 1,
        dtype: torch.dtype = torch.float32,
        allow_nonfinite: bool = False,
    ) -> None:
        if dtype not in _DTYPES:
            raise UserError(f"dtype {dtype} cannot be read; allowed: torch.float32, torch.float64")
        if not isinstance(subsample, int) or subsample < 1:
            raise UserError(f"data.subsample must be an integer of at least 1; given: {subsample!r}")
        self.layout = layout
        self.window = window or Window()
        self.dtype = dtype
        self.allow_nonfinite = allow_nonfinite
        self.windows = _index(layout, self.window)
        self.file = FieldFile(layout, subsample=subsample, dtype=_DTYPES[dtype], frames=self.window.span)
        axes = [subsampled_axis(a, n, subsample) for a, n in zip(layout.meta.axes, layout.space, strict=True)]
        step = layout.meta.time_step
        self.meta = replace(
            layout.meta,
            axes=tuple(axes),
            steps_in=self.window.n_in,
            steps_out=self.window.n_out,
            time_step=None if step is None else step * self.window.every,
        )
        self.space = self.file.space

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> FieldSample:
        """One window, without a batch axis."""
        position = index + len(self) if index < 0 else index
        return self.__getitems__([position]).map(lambda values: values[0])

    def __getitems__(self, indices: Sequence[int]) -> FieldSample:
        """A batch of windows, read into one tensor for x and one for y.

        Raises:
            UserError: a value is not finite, or the file changed or is damaged.
            IndexError: there is no such window.
        """
        samples, starts = self.windows.locate(np.asarray(indices))
        window = self.window
        x = self._read(self.layout.inputs, samples, starts, window.n_in)
        y = None
        if self.layout.outputs:
            y = self._read(self.layout.outputs, samples, starts + window.target_offset, window.n_out)
        return FieldSample(
            x=x,
            y=y,
            time=self._lead_time(len(samples)),
            parameters=torch.from_numpy(self.file.read_parameters(samples)) if self.layout.parameters else None,
            index=torch.from_numpy(np.stack([samples, starts], axis=1)),
        )

    def of_samples(self, samples: Sequence[int] | np.ndarray) -> np.ndarray:
        """Indices of all windows of some samples, such as a part of a :class:`~katops.data.loader.Split`."""
        return self.windows.of_samples(np.asarray(samples))

    def _read(self, arrays: Sequence[ChannelArray], samples: np.ndarray, starts: np.ndarray, steps: int) -> Tensor:
        values = torch.empty((len(samples), steps, len(arrays), *self.space), dtype=self.dtype)
        self.file.read(arrays, samples, starts, steps, self.window.every, out=values.numpy())
        if not self.allow_nonfinite:
            self.file.check_finite(values.numpy(), arrays, samples)
        return values

    def _lead_time(self, size: int) -> Tensor | None:
        step = self.layout.meta.time_step
        return None if step is None else torch.full((size,), self.window.lead * step, dtype=self.dtype)


def _index(layout: FileLayout, window: Window) -> WindowIndex:
    one_each = np.ones(layout.n_samples, dtype=np.int64)
    if not layout.time_dependent:
        if window != Window():
            raise UserError(
                f"{layout.path}: no channel has a time axis, so the window must be n_in 1, n_out 1, gap 0, stride 1, "
                f"every 1; given: n_in {window.n_in}, n_out {window.n_out}, gap {window.gap}, stride {window.stride}, "
                f"every {window.every}"
            )
        return WindowIndex(one_each)
    try:
        index = index_windows(window, one_each * layout.n_frames, inputs_only=not layout.outputs)
    except UserError as error:
        raise UserError(f"{layout.path}: {error}") from None
    moving_inputs = any(array.has_time for array in layout.inputs)
    return index if moving_inputs else WindowIndex(one_each)
