"""Statistics of several data sets that are learned together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from katops.data.aligned import AlignedDataset
from katops.data.dataset import FieldDataset
from katops.data.statistics.fields import FieldStatistics
from katops.data.statistics.moments import ChannelStatistics
from katops.fields import FieldMeta


@dataclass(frozen=True)
class Share:
    """What one data set contributes.

    Attributes:
        dataset: whose channels.
        statistics: of what is read from its files.
        weight: how often each of its windows is drawn.
    """

    dataset: FieldDataset | AlignedDataset
    statistics: FieldStatistics
    weight: float = 1.0


def joint_statistics(shares: Sequence[Share], meta: FieldMeta) -> FieldStatistics:
    """Statistics of every channel of ``meta`` over all windows, each counted as often as it is drawn.

    With the counts n_d (windows times weight), means m_d and deviations s_d of the data sets d:

        m = sum n_d m_d / sum n_d,      s^2 = sum n_d (s_d^2 + (m_d - m)^2) / sum n_d.

    A channel that a data set does not have counts with the values it is filled with, unless it is masked there: then
    nothing is known of it, and the other data sets decide.
    """
    sides = {kind: [channel.name for channel in getattr(meta, kind)] for kind in ("inputs", "outputs", "constants")}
    rows = {kind: tuple(_joint(shares, kind, name) for name in names) for kind, names in sides.items()}
    means = [_target_mean(shares, name, meta.steps_out) for name in sides["outputs"]]
    target_mean = np.stack(means, 1)
    return FieldStatistics(**rows, target_mean=target_mean, count=sum(share.statistics.count for share in shares))


def _joint(shares: Sequence[Share], kind: str, name: str) -> ChannelStatistics:
    told = [_of_channel(share, kind, name) for share in _knowing(shares, name)]
    counts = _counts(_knowing(shares, name))
    means, stds = (np.array([getattr(row, key) for row in told]) for key in ("mean", "std"))
    mean = float((counts * means).sum() / counts.sum())
    variance = float((counts * (stds**2 + (means - mean) ** 2)).sum() / counts.sum())
    return ChannelStatistics(
        name,
        sum(row.count for row in told),
        mean,
        variance**0.5,
        min(row.minimum for row in told),
        max(row.maximum for row in told),
    )


def _knowing(shares: Sequence[Share], name: str) -> Sequence[Share]:
    """The data sets that decide about a channel; all, where none knows anything of it."""
    return [share for share in shares if not _unknown(share, name)] or shares


def _counts(shares: Sequence[Share]) -> np.ndarray:
    return np.array([share.weight * share.statistics.count for share in shares])


def _unknown(share: Share, name: str) -> bool:
    """Whether a channel is filled and masked everywhere, so that its values mean nothing."""
    dataset = share.dataset
    return isinstance(dataset, AlignedDataset) and name in dataset.fill and dataset.mask.get(name, "") is None


def _of_channel(share: Share, kind: str, name: str) -> ChannelStatistics:
    found = next((row for row in getattr(share.statistics, kind) if row.name == name), None)
    offset = _offset(share, name)
    if found is not None:
        moved = {key: getattr(found, key) - offset for key in ("mean", "minimum", "maximum")}
        return replace(found, **moved)
    values = np.asarray(share.dataset.fill[name], dtype=np.float64) - offset
    numbers = (float(values.mean()), float(values.std()), float(values.min()), float(values.max()))
    return ChannelStatistics(name, share.statistics.count * int(np.prod(share.dataset.space)), *numbers)


def _target_mean(shares: Sequence[Share], name: str, steps: int) -> np.ndarray:
    """(steps_out, \\*space): mean of an output channel over the targets."""
    knowing = _knowing(shares, name)
    means = [_mean_of(share, name, steps) - _offset(share, name) for share in knowing]
    return np.average(np.stack(means), axis=0, weights=_counts(knowing))


def _mean_of(share: Share, name: str, steps: int) -> np.ndarray:
    stored = [row.name for row in share.statistics.outputs]
    if name in stored:
        return share.statistics.target_mean[:, stored.index(name)]
    return np.broadcast_to(share.dataset.fill[name], (steps, *share.dataset.space))


def _offset(share: Share, name: str) -> float:
    return share.dataset.adjustment.offset.get(name, 0.0) if isinstance(share.dataset, AlignedDataset) else 0.0
