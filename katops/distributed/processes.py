"""The processes of a job, and what they have to say to each other beside gradients."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from katops.errors import ToldElsewhere, UserError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """Which process this is, of how many.

    Attributes:
        rank: number of this process in the job, from 0.
        size: processes of the job.
        local_rank: number of this process on its machine; it uses the GPU of that number.
        local_size: processes on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Machines of the job; all have as many processes."""
        return self.size // self.local_size

    def first(self, work: Callable[[], Result]) -> Result:
        """What ``work()`` returns in process 0, in all processes; the others wait and do nothing.

        The result travels pickled, between the processes of this job only.

        Raises:
            UserError: ``work`` raised one in process 0.
            ToldElsewhere: the same, in the other processes.
        """
        if self.size == 1:
            return work()
        outcome: list[Any] = [None]
        error: UserError | None = None
        if self.is_first:
            try:
                outcome = [(True, work())]
            except UserError as mistake:
                error, outcome = mistake, [(False, str(mistake))]
        dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
        succeeded, value = outcome[0]
        if not succeeded:
            raise error or ToldElsewhere(value)
        return value

    def alone(self, work: Callable[[], Result]) -> Result | None:
        """What ``work()`` returns in process 0, ``None`` in the others, which wait until it is done.

        Raises:
            UserError, ToldElsewhere: see :meth:`first`.
        """
        results = []
        self.first(lambda: results.append(work()))
        return results[0] if results else None

    def together(self, work: Callable[[], Result]) -> Result:
        """What ``work()`` returns in each process, once all of them have done it.

        Raises:
            UserError: ``work`` raised one here, and in no process of a lower rank.
            ToldElsewhere: it raised one in another process, which tells it.
        """
        if self.size == 1:
            return work()
        value, error = None, None
        try:
            value = work()
        except UserError as mistake:
            error = mistake
        failed = [rank for rank, failure in enumerate(self.gather(error is not None)) if failure]
        if not failed:
            return value
        if failed[0] == self.rank:
            raise error
        raise ToldElsewhere(f"process {failed[0]} of {self.size} tells what is wrong")

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes, of a tensor on the CPU."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


def current() -> Processes:
    """The processes that were joined (:func:`katops.distributed.joined`); this one alone where there are no others."""
    if not dist.is_available() or not dist.is_initialized():
        return Processes()
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    return Processes(dist.get_rank(), dist.get_world_size(), local_rank, local_size)
