"""From a path to windows in one call, for training loops of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from katops.data.dataset import FieldDataset
from katops.data.resample import Resample
from katops.data.sources import describe_all
from katops.data.windows import Window


def open_dataset(
    path: str | Path | Sequence[str | Path],
    *,
    window: Window | None = None,
    resample: Resample | None = None,
    dtype: torch.dtype = torch.float32,
    allow_nonfinite: bool = False,
    exclude: Sequence[int] = (),
    memory: str = "auto",
    memory_budget: int | None = None,
    condition: Sequence[str] = (),
    **statement: Any,
) -> FieldDataset:
    """Windows of all samples of a file, a folder, a pattern, or a list of these.

    ``open_dataset("cfd.hdf5", window=Window(n_in=2), inputs=["density"], outputs=["density"])[0].x`` is
    (2, 1, \\*space); :func:`katops.data.batch_loader` makes batches.

    Args:
        path: what to read, see :func:`katops.data.sources.find_files`.
        window, resample, dtype, allow_nonfinite, exclude, memory, memory_budget, condition: see
            :class:`~katops.data.dataset.FieldDataset`.
        statement: what the file does not say itself (``inputs``, ``outputs``, ``axes``, ``boundary``, ...), see
            :func:`katops.data.formats.describe`.

    Raises:
        UserError: a file cannot be read or understood, the files do not belong together, or the window does not fit.
    """
    return FieldDataset(
        describe_all(path, **statement),
        window=window,
        resample=resample,
        dtype=dtype,
        allow_nonfinite=allow_nonfinite,
        exclude=exclude,
        memory=memory,
        memory_budget=memory_budget,
        condition=condition,
    )
