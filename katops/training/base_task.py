"""What the LightningModules of every task share: fingerprint of the data, sharding, exact means over processes."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import lightning
from torch import Tensor, nn

from katops.distributed import current
from katops.training.sharding import shard


class Task(lightning.LightningModule):
    """A network that learns.

    Args:
        fingerprint: of the training data; kept in checkpoints, so that a run is never continued on other data.
    """

    def __init__(self, fingerprint: str) -> None:
        super().__init__()
        self.fingerprint = fingerprint

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The module with the parameters."""

    @abstractmethod
    def size_of(self, batch: Any) -> int:
        """Samples in a batch."""

    @abstractmethod
    def sample_names(self, batch: Any) -> list[int | str]:
        """What the samples of a batch are called in messages."""

    def configure_model(self) -> None:
        """Spread the parameters over the processes, where the strategy is the one that does (Lightning calls this)."""
        if self._device_mesh is not None:
            shard(self.network, self.device_mesh["data_parallel"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the training data, and how many have shared them."""
        checkpoint["data_fingerprint"] = self.fingerprint
        checkpoint["processes"] = current().size


class ValidationValues:
    """One value per validation sample, whichever process it is worked out in, and their mean.

    The sum is rounded once (:func:`math.fsum`), so that the mean does not depend on how the samples are shared out. A
    sample that two processes have, so that all have as many, counts once.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[int, ...], float] = {}

    def add(self, keys: Iterable[tuple[int, ...]], values: Tensor) -> None:
        """Take the values (batch,) of samples with these keys, which are the same in every process."""
        self._values.update(zip(keys, values.double().tolist(), strict=True))

    def mean(self) -> float:
        """Over the samples of all processes; every process must ask, and all begin anew."""
        found: Mapping[tuple[int, ...], float] = {}
        for values in current().gather(self._values):
            found = {**found, **values}
        self._values = {}
        return math.fsum(found.values()) / len(found)
