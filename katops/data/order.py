"""The order in which samples are read: a pure function of seed and epoch, whoever reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DistributedSampler, Sampler

from katops.data.splits import permutation
from katops.errors import UserError


@dataclass(frozen=True)
class Mixing:
    """How indices of several data sets and trajectories are mixed in an epoch.

    Attributes:
        sources: (n,) which data set each index belongs to, 0, 1, ...
        owners: (n,) which trajectory of all data sets.
        weights: for each data set, how often each of its indices occurs in an epoch: 1 is once, 0.25 a quarter of
            them, another one in every epoch, 2.5 each twice and half of them once more.
        together: as many indices of one trajectory follow each other, so that they share a batch and its reading.

    Raises:
        UserError: a weight is negative or all are too small for a single index.
    """

    sources: np.ndarray
    owners: np.ndarray
    weights: tuple[float, ...]
    together: int = 1

    def __post_init__(self) -> None:
        if any(weight < 0 for weight in self.weights) or not len(self):
            raise UserError(f"the weights {list(self.weights)} of the data sets leave nothing to draw in an epoch")

    @property
    def shares(self) -> list[int]:
        """Indices of each data set in an epoch."""
        sizes = np.bincount(self.sources, minlength=len(self.weights))
        return [round(weight * size) for weight, size in zip(self.weights, sizes.tolist(), strict=True)]

    def __len__(self) -> int:
        return sum(self.shares)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Positions in ``sources``, as many as an epoch has, in the order of this epoch."""
        drawn = np.concatenate([self._of_source(source, seed, epoch) for source in range(len(self.weights))])
        mixed = drawn[permutation(len(drawn), (seed, epoch))]
        if self.together == 1:
            return mixed
        by_owner = mixed[np.argsort(self.owners[mixed], kind="stable")]
        owners = self.owners[by_owner]
        first = np.flatnonzero(np.r_[True, np.diff(owners) != 0])
        place = np.arange(len(owners)) - np.repeat(first, np.diff(np.r_[first, len(owners)]))
        chunk = np.cumsum(place % self.together == 0) - 1
        rank = permutation(int(chunk[-1]) + 1, (seed, epoch, 1))
        return by_owner[np.argsort(rank[chunk], kind="stable")]

    def _of_source(self, source: int, seed: int, epoch: int) -> np.ndarray:
        """Positions of one data set: whole passes over it, and a random part of it for the rest."""
        members, share = np.flatnonzero(self.sources == source), self.shares[source]
        passes, rest = divmod(share, len(members)) if len(members) else (0, 0)
        part = members[permutation(len(members), (seed, epoch, 2, source))[:rest]] if rest else members[:0]
        return np.concatenate([*[members] * passes, part])


class EpochSampler(Sampler[int]):
    """Indices in an order that is a pure function of (seed, epoch), so that a resumed run sees what it would have seen.

    Args:
        indices: what to draw from, each once per epoch.
        seed: of the order.
        shuffle: ``False`` gives the indices as they are, in every epoch.
        mixing: draws them more or less often and keeps those of a trajectory together; for a shuffled order.
    """

    def __init__(
        self,
        indices: Sequence[int] | np.ndarray,
        *,
        seed: int = 0,
        shuffle: bool = True,
        mixing: Mixing | None = None,
    ) -> None:
        self.indices = np.asarray(indices, dtype=np.int64)
        self.seed = seed
        self.shuffle = shuffle
        self.mixing = mixing if shuffle else None
        self.epoch = 0
        self._skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; Lightning calls this before every epoch."""
        self.epoch = epoch

    def skip(self, count: int) -> None:
        """Leave out the first ``count`` indices of the next pass, and of that pass only."""
        self._skipped = count

    def order(self) -> np.ndarray:
        """All indices in the order of this epoch."""
        if not self.shuffle:
            return self.indices
        if self.mixing is not None:
            return self.indices[self.mixing.order(self.seed, self.epoch)]
        return self.indices[permutation(len(self.indices), (self.seed, self.epoch))]

    @property
    def total(self) -> int:
        """Indices of an epoch, those of all processes together."""
        return len(self.indices) if self.mixing is None else len(self.mixing)

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        skipped, self._skipped = self._skipped, 0
        return iter(self._mine()[skipped:].tolist())

    def _mine(self) -> np.ndarray:
        return self.order()


class RankSampler(EpochSampler, DistributedSampler):
    """The share of one process among several: every ``world_size``-th index of the common order, from ``rank`` on.

    The k-th batches of all processes together are the k-th batch of a single process with ``world_size`` times the
    batch size. It counts as torch's ``DistributedSampler`` so that Lightning does not share the share out again.

    Args:
        indices, seed, shuffle, mixing: as in :class:`EpochSampler`, the same in every process.
        rank, world_size: which process this is, of how many.
        even: ``"drop"`` leaves out the last indices of an epoch's order that do not go round (other ones in every
            epoch), so that all processes make the same number of steps; ``"repeat"`` hands the first indices out
            once more for the same end, so that none is left out; ``False`` hands out every index once.

    Raises:
        UserError: there is no such rank, or there are fewer indices than processes, which only repeating helps.
    """

    def __init__(
        self,
        indices: Sequence[int] | np.ndarray,
        *,
        rank: int,
        world_size: int,
        even: str | bool = False,
        seed: int = 0,
        shuffle: bool = True,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__(indices, seed=seed, shuffle=shuffle, mixing=mixing)
        if not 0 <= rank < world_size:
            raise UserError(f"rank {rank} is not one of {world_size} processes, which are counted from 0")
        if even not in (False, "drop", "repeat"):
            raise UserError(f"even is {even!r}; allowed: False, 'drop', 'repeat'")
        if self.total < world_size and even != "repeat":
            raise UserError(f"{self.total} windows cannot be shared by {world_size} processes; use fewer processes")
        self.rank = rank
        self.num_replicas = world_size
        self.even = even

    def __len__(self) -> int:
        shared = self._shared
        return len(range(self.rank, shared, self.num_replicas))

    def _mine(self) -> np.ndarray:
        order = self.order()
        if self.even == "repeat":
            order = np.resize(order, self._shared)
        return order[self.rank : self._shared : self.num_replicas]

    @property
    def _shared(self) -> int:
        """Indices of an epoch that are handed out by all processes together."""
        total, over = self.total, self.total % self.num_replicas
        if self.even == "repeat":
            return total + (self.num_replicas - over if over else 0)
        return total - over if self.even == "drop" else total
