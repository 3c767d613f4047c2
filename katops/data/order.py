"""The order in which samples are read: a pure function of seed and epoch, whoever reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import DistributedSampler, Sampler

from katops.data.splits import permutation
from katops.errors import UserError


class EpochSampler(Sampler[int]):
    """Indices in an order that is a pure function of (seed, epoch), so that a resumed run sees what it would have seen.

    Args:
        indices: what to draw from, each once per epoch.
        seed: of the order.
        shuffle: ``False`` gives the indices as they are, in every epoch.
    """

    def __init__(self, indices: Sequence[int] | np.ndarray, *, seed: int = 0, shuffle: bool = True) -> None:
        self.indices = np.asarray(indices, dtype=np.int64)
        self.seed = seed
        self.shuffle = shuffle
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
        return self.indices[permutation(len(self.indices), (self.seed, self.epoch))]

    def __len__(self) -> int:
        return len(self.indices)

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
        indices, seed, shuffle: as in :class:`EpochSampler`, the same in every process.
        rank, world_size: which process this is, of how many.
        even: ``"drop"`` leaves out the last indices of an epoch's order that do not go round (other ones in every
            epoch), so that all processes make the same number of steps; ``False`` hands out every index.

    Raises:
        UserError: there is no such rank, or there are fewer indices than processes.
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
    ) -> None:
        super().__init__(indices, seed=seed, shuffle=shuffle)
        if not 0 <= rank < world_size:
            raise UserError(f"rank {rank} is not one of {world_size} processes, which are counted from 0")
        if even not in (False, "drop"):
            raise UserError(f"even is {even!r}; allowed: False, 'drop'")
        if len(self.indices) < world_size:
            raise UserError(
                f"{len(self.indices)} windows cannot be shared by {world_size} processes; use fewer processes"
            )
        self.rank = rank
        self.num_replicas = world_size
        self.even = even

    def __len__(self) -> int:
        shared = self._shared
        return len(range(self.rank, shared, self.num_replicas))

    def _mine(self) -> np.ndarray:
        return self.order()[self.rank : self._shared : self.num_replicas]

    @property
    def _shared(self) -> int:
        """Indices of an epoch that are handed out by all processes together."""
        total = len(self.indices)
        return total - total % self.num_replicas if self.even else total
