"""The normaliser of a run, whatever its windows are read from."""

from collections.abc import Callable, Sequence

import numpy as np

from katops.data.aligned import AlignedDataset
from katops.data.dataset import FieldDataset
from katops.data.joint_statistics import Share, joint_statistics
from katops.data.mixture import MixedDataset
from katops.data.normalize import Fit, fit_from
from katops.data.statistics.cached import cached_fit, cached_statistics, check_values
from katops.errors import UserError

Progress = Callable[[int, int], None]
Single = FieldDataset | AlignedDataset


def fit_parts(
    parts: Sequence[tuple[Single, np.ndarray, float]],
    dataset: Single | MixedDataset,
    kind: str,
    progress: Progress | None = None,
) -> Fit:
    """Statistics of the training windows of one or several data sets.

    Args:
        parts: (data set, its training windows, how often each is drawn).
        dataset: all of them together, or the only one.
        kind: see :func:`katops.data.normalize.fit_normalizer`; "initial" is "standard" here.
        progress: called with (windows done, all windows).

    Raises:
        UserError: a value is not finite; statistics of every point are asked for of filled or mixed channels.
    """
    kind = "standard" if kind == "initial" else kind
    if isinstance(dataset, FieldDataset):
        return cached_fit(dataset, parts[0][1], kind=kind, progress=progress)
    if kind == "pointwise":
        raise UserError("data.normalizer pointwise is for one data set without data.fill and data.mask; take standard")
    total, done = sum(len(windows) for _, windows, _ in parts), 0
    shares = []
    for part, windows, weight in parts:
        report = None if progress is None else _shifted(progress, done, total)
        shares.append(Share(part, cached_statistics(_source(part), windows, report), weight))
        done += len(windows)
    return fit_from(joint_statistics(shares, dataset.meta), dataset.meta, dataset.dtype, identity=kind == "none")


def check_read(dataset: Single | MixedDataset, windows: np.ndarray) -> None:
    """Read windows of a held-out part once; see :func:`katops.data.statistics.cached.check_values`."""
    check_values(_source(dataset), windows)


def _source(dataset: Single) -> FieldDataset:
    return dataset.source if isinstance(dataset, AlignedDataset) else dataset


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    return lambda count, _: progress(done + count, total)
