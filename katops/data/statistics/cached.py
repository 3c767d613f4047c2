"""Statistics and checks of the values that are made once and kept beside the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from katops.data.dataset import FieldDataset
from katops.data.fingerprints import fingerprint
from katops.data.normalize import Fit, check_kind, fit_of
from katops.data.statistics.fields import FieldStatistics, field_statistics, read_frames, reading_passes
from katops.data.statistics.moments import ChannelStatistics
from katops.data.statistics.store import StatisticsStore
from katops.data.statistics.window_frames import TouchedFrames

Progress = Callable[[int, int], None]

_SIDES = ("inputs", "outputs", "constants")
# To be counted up where the same data would give other statistics.
_VERSION = 1


def cached_fit(
    dataset: FieldDataset,
    indices: Sequence[int] | np.ndarray,
    kind: str = "standard",
    progress: Progress | None = None,
) -> Fit:
    """As :func:`katops.data.normalize.fit_normalizer`, but the training windows are read in the first run only.

    What was found is kept in ``<data file or folder>.katops-statistics.json`` (see
    :class:`.store.StatisticsStore`), one entry for each combination of data (by fingerprint), channels,
    windows, resampling and element type. It is used while every file still has the fingerprint, the size and the date
    that it had; then it gives the same bits as reading, and says that every value is finite.

    Args:
        dataset: where to read.
        indices: windows of the training part.
        kind: "standard", "pointwise" or "none".
        progress: called with (windows done, all windows).

    Raises:
        UserError: see :func:`katops.data.normalize.fit_normalizer`.
    """
    check_kind(kind)
    return fit_of(dataset, indices, cached_statistics(dataset, indices, progress), kind)


def cached_statistics(
    dataset: FieldDataset, indices: Sequence[int] | np.ndarray, progress: Progress | None = None
) -> FieldStatistics:
    """As :func:`katops.data.statistics.fields.field_statistics`, read once and kept; see :func:`cached_fit`."""
    store, key = StatisticsStore(dataset.layouts), _key("statistics", dataset, indices)
    statistics = _known_statistics(store, key, dataset)
    if statistics is None:
        statistics = field_statistics(dataset, indices, progress=progress)
        values = {side: [channel.to_dict() for channel in getattr(statistics, side)] for side in _SIDES}
        about = {"stamps": _stamps(dataset), "count": statistics.count, "dtype": str(dataset.dtype)}
        about |= {"files": [layout.path.name for layout in dataset.layouts], "window": asdict(dataset.window)}
        store.add(key, {**about, **values}, statistics.target_mean)
    elif progress is not None:
        progress(statistics.count, statistics.count)
    return statistics


def check_values(dataset: FieldDataset, indices: Sequence[int] | np.ndarray, progress: Progress | None = None) -> None:
    """Read windows once, unless an earlier run did and no file has changed since.

    Args:
        dataset: where to read; one that allows values that are not finite is not looked at.
        indices: windows of a part.
        progress: called with (windows done, all windows).

    Raises:
        UserError: a value is not finite; the message names file, sample and channel.
    """
    if dataset.allow_nonfinite or not len(indices):
        return
    store, key = StatisticsStore(dataset.layouts), _key("finite", dataset, indices)
    found = store.find(key)
    if found is None or found[0].get("stamps") != _stamps(dataset):
        _read_all(dataset, indices, progress)
        store.add(key, {"stamps": _stamps(dataset), "count": len(indices), "finite": True})
    elif progress is not None:
        progress(len(indices), len(indices))


def _read_all(dataset: FieldDataset, indices: Sequence[int] | np.ndarray, progress: Progress | None) -> None:
    windows = TouchedFrames(dataset, indices)
    for block in windows.blocks():
        for kind, frames, _ in reading_passes(dataset, windows, block):
            for _ in read_frames(dataset, kind, frames):
                pass  # it was checked while it was read
        if progress is not None:
            progress(block.stop, len(windows))


def _known_statistics(store: StatisticsStore, key: str, dataset: FieldDataset) -> FieldStatistics | None:
    found = store.find(key)
    if found is None or found[1] is None or found[0].get("stamps") != _stamps(dataset):
        return None
    values, target_mean = found
    rows = {side: tuple(ChannelStatistics.from_dict(row) for row in values[side]) for side in _SIDES}
    return FieldStatistics(**rows, target_mean=target_mean, count=int(values["count"]))


def _key(purpose: str, dataset: FieldDataset, indices: Sequence[int] | np.ndarray) -> str:
    """What decides the result, as 64 hexadecimal digits."""
    channels = [[asdict(array) for array in getattr(layout, side)] for layout in dataset.layouts for side in _SIDES]
    content: dict[str, Any] = {
        "purpose": purpose,
        "version": _VERSION,
        "files": [fingerprint(layout) for layout in dataset.layouts],
        "channels": channels,
        "window": asdict(dataset.window),
        "resample": asdict(dataset.resample),
        "condition": list(dataset.meta.condition),
        "dtype": str(dataset.dtype),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for numbers in dataset.locate(np.sort(np.asarray(indices, dtype=np.int64))):
        digest.update(numbers.astype("<i8").tobytes())
    return digest.hexdigest()


def _stamps(dataset: FieldDataset) -> list[list[int]]:
    return [stamp for layout in dataset.layouts for stamp in layout.stamps]
