"""Batches of windows: read ahead in a thread or in worker processes, shared between ranks, continued after a stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from katops.data.dataset import FieldDataset
from katops.data.order import EpochSampler, Mixing, RankSampler
from katops.data.reading.buffers import BufferRing
from katops.data.reading.read_ahead import read_ahead
from katops.errors import UserError
from katops.fields import FieldSample

_POSITION = {
    "indices": "number of windows",
    "seed": "seed",
    "shuffle": "shuffling",
    "batch_size": "batch size",
    "world_size": "number of processes",
}


class _ErrorsAsValues(Dataset):
    """Hands a :class:`UserError` over instead of raising it.

    torch would wrap what a worker process raises into a message with a traceback, no longer one sentence.
    """

    def __init__(self, dataset: FieldDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> FieldSample | UserError:
        try:
            return self.dataset.read(indices)
        except UserError as error:
            return UserError(*error.args)


class BatchLoader(DataLoader):
    """Batches, and the position among them: what a training needs that is continued in the middle of an epoch.

    A :class:`UserError` that comes from a worker process as a value is raised. An iteration takes the epoch from the
    sampler when its first batch is asked for. Iterations may be nested.

    Args:
        dataset: what to read.
        timeout: seconds that a batch may take; 0 waits for ever.
        options: see :class:`torch.utils.data.DataLoader`.
    """

    def __init__(self, dataset: Dataset, *, timeout: float = 0.0, **options: Any) -> None:
        workers = options.get("num_workers", 0)
        processes = {"timeout": timeout, "worker_init_fn": only_parents_end} if workers else {}
        super().__init__(dataset, **options, **processes)
        self._patience = timeout or None
        self._epoch = self._handed_out = 0
        self._continues = False

    def __iter__(self) -> Iterator[Any]:
        epoch = getattr(self.sampler, "epoch", 0)
        position = self._handed_out if self._continues and epoch == self._epoch else 0
        self._epoch, self._handed_out, self._continues = epoch, position, False
        # A generator: the order is taken when the first batch is asked for, and Lightning sets the epoch after iter().
        batches = self._batches(position)
        with closing(batches):
            for batch in batches:
                position += 1
                self._epoch, self._handed_out = epoch, position
                yield batch
                # Its memory is used again as soon as nobody holds it.
                del batch

    def _batches(self, first: int) -> Iterator[Any]:
        """The batches from a place on."""
        if first:
            self.sampler.skip(first * self.batch_size)
        yield from _raising(super().__iter__())

    def state_dict(self) -> dict[str, Any]:
        """The position: the epoch, the batches of it that were handed out, and what makes the order.

        It is the same in all processes, so that the checkpoint of one of them serves all.
        """
        return {**self._order(), "epoch": self._epoch, "batches": self._handed_out}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a position: the next iteration leaves out the batches that were handed out already, unless the
        epoch was set to another one before; all later iterations are whole.

        Raises:
            UserError: the position is that of other data, another seed, batch size or number of processes.
        """
        for name, ours in self._order().items():
            if state.get(name) != ours:
                raise UserError(
                    f"the position in the data cannot be continued: the {_POSITION[name]} was {state.get(name)} when "
                    f"it was saved and is {ours} now; resume with the data and settings of the saved run"
                )
        epoch, batches = state.get("epoch"), state.get("batches")
        if not isinstance(epoch, int) or not isinstance(batches, int) or epoch < 0 or not 0 <= batches <= len(self):
            raise UserError(
                f"the saved position in the data, batch {batches!r} of epoch {epoch!r}, does not exist; an epoch has "
                f"{len(self)} batches"
            )
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        self._epoch, self._handed_out, self._continues = epoch, batches, True

    def _order(self) -> dict[str, Any]:
        """What the order of the batches depends on; Lightning may have put another sampler in place of ours."""
        sampler = self.sampler
        return {
            "indices": getattr(sampler, "total", len(sampler)),
            "seed": getattr(sampler, "seed", None),
            "shuffle": getattr(sampler, "shuffle", None),
            "batch_size": self.batch_size,
            "world_size": getattr(sampler, "num_replicas", 1),
        }


def only_parents_end(_: int) -> None:
    """In a reading process: have SIGTERM end it only where it comes from the training, and SIGUSR1 never.

    SLURM and torchrun send them to all processes of a job. The training saves then, and for that its readers must go
    on; it ends them itself. A thread takes the signals, since that is told who has sent them; systems where it is not,
    such as macOS, have neither launcher.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    signals = {signal.SIGTERM, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    parent = os.getppid()

    def wait() -> None:
        while True:
            given = signal.sigwaitinfo(signals)
            if given.si_signo == signal.SIGTERM and given.si_pid == parent:
                os._exit(0)

    threading.Thread(target=wait, name="katops-signals", daemon=True).start()


class FieldLoader(BatchLoader):
    """Batches of a :class:`~katops.data.dataset.FieldDataset`; see :func:`batch_loader`."""

    def __init__(self, dataset: Dataset, **options: Any) -> None:
        super().__init__(dataset, **options)
        self._ring = BufferRing()
        self._passes_of_workers = 0

    def _batches(self, first: int) -> Iterator[FieldSample]:
        return self._from_workers(first) if self.num_workers else self._from_thread(first)

    def _from_thread(self, first: int) -> Iterator[FieldSample]:
        dataset, ring = self.dataset, self._ring
        if self._patience:
            # What is held in memory is read before any batch has a time limit.
            dataset.reader.load()

        def read(indices: list[int]) -> FieldSample:
            batch = dataset.read(indices, ring.take)
            return batch.pin_memory() if ring.pin_memory else batch

        jobs = islice(iter(self.batch_sampler), first, None)
        return read_ahead(jobs, read, dataset.prefetch, timeout=self._patience)

    def _from_workers(self, first: int) -> Iterator[FieldSample]:
        if first and hasattr(self.sampler, "skip"):
            self.sampler.skip(first * self.batch_size)
            first = 0
        if (self.multiprocessing_context or multiprocessing).get_start_method() == "fork":
            # What is held in memory is read once and shared, not once by every process.
            self.dataset.dataset.reader.load()
        # Persistent workers serve one pass at a time; a second one that begins meanwhile gets workers of its own.
        batches = iter(self._get_iterator() if self._passes_of_workers else DataLoader.__iter__(self))
        self._passes_of_workers += 1
        try:
            yield from islice(_raising(batches), first, None)
        finally:
            self._passes_of_workers -= 1


def _raising(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in _answering(batches):
        if isinstance(batch, UserError):
            try:
                raise batch
            finally:
                # The error refers to this frame: a circle that would keep the worker processes for a while.
                del batch
        yield batch
        del batch


def _answering(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; what torch says of a worker process that hangs or was killed in one sentence."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError) as error:
            raise worker_failure(error) or error from None
        yield batch
        del batch


def worker_failure(error: Exception) -> UserError | None:
    """What torch says of a reading process that hangs or was killed, in one sentence; ``None`` of other errors.

    torch notices the end of a process by a signal, so that the error is raised wherever the program is just then.
    """
    text = " ".join(str(error).split())
    if "DataLoader timed out" in text:
        return UserError(
            f"a process that reads data has not answered ({text}); look at the file system, or allow more seconds for "
            f"a batch with data.timeout (0: any)"
        )
    killed = "DataLoader worker" in text and ("exited unexpectedly" in text or "is killed" in text)
    # The batch itself is fetched from the process that has made it.
    if killed or isinstance(error, ConnectionError | EOFError):
        return UserError(
            f"a process that reads data was ended from outside ({text}), for want of memory perhaps; use fewer "
            f"data.workers or a smaller train.batch_size"
        )
    return None


def batch_loader(
    dataset: FieldDataset,
    indices: Sequence[int] | np.ndarray | None = None,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    mixing: Mixing | None = None,
    workers: int = 0,
    drop_last: bool = False,
    timeout: float = 0.0,
    start_method: str | None = None,
    rank: int = 0,
    world_size: int = 1,
    even: str | bool = False,
) -> FieldLoader:
    """Batches as :class:`~katops.fields.FieldSample` with a leading batch axis, in page-locked memory beside a GPU.

    The batches are a pure function of the arguments, the epoch and the rank; they do not depend on ``workers``.
    ``loader.sampler.set_epoch`` chooses the order of the next pass, ``state_dict`` and ``load_state_dict`` keep the
    position for a run that is resumed. Lightning calls all three.

    Args:
        dataset: what to read.
        indices: windows to use, e.g. ``dataset.of_samples(split.train)``; all where ``None``.
        batch_size: windows per batch (of this process).
        shuffle: a new order in every epoch, see :class:`~katops.data.order.EpochSampler`.
        seed: of the order.
        mixing: how often windows are drawn and which follow each other, see :class:`~katops.data.order.Mixing`.
        workers: reading processes. 0 reads in this process, two batches ahead in a thread, which is the fastest unless
            the files are compressed.
        drop_last: leave out a last batch that is not full.
        timeout: seconds that a batch may take before it is an error; 0 waits for ever.
        start_method: of the processes: "fork", "forkserver" or "spawn"; the platform's default where ``None``.
        rank, world_size, even: which process of a distributed run this is, of how many, and whether all get the same
            number of windows, see :class:`~katops.data.order.RankSampler`.

    Raises:
        UserError: there is nothing to read, not one full batch with ``drop_last``, or no such rank.
    """
    indices = np.arange(len(dataset)) if indices is None else np.asarray(indices)
    if not len(indices):
        raise UserError(f"{dataset.layout.path}: there is no sample to read; the part of the split is empty")
    options: dict[str, Any] = {}
    if workers:
        options = {"persistent_workers": True, "multiprocessing_context": start_method}
    if world_size == 1:
        sampler = EpochSampler(indices, seed=seed, shuffle=shuffle, mixing=mixing)
    else:
        process = {"rank": rank, "world_size": world_size, "even": even}
        sampler = RankSampler(indices, seed=seed, shuffle=shuffle, mixing=mixing, **process)
    if drop_last and batch_size > len(sampler):
        share = "" if world_size == 1 else f" in each of the {world_size} processes"
        raise UserError(
            f"train.batch_size is {batch_size}, but there are {len(sampler)} windows to train on{share}; "
            f"make it smaller"
        )
    return FieldLoader(
        _ErrorsAsValues(dataset) if workers else dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        timeout=timeout,
        collate_fn=_as_is,
        # Without workers the batches are read into page-locked memory straight away.
        pin_memory=workers > 0 and torch.cuda.is_available(),
        drop_last=drop_last,
        # Its own generator: otherwise every epoch draws from the global one, and the model's dropout depends on it.
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


def _as_is(batch: Any) -> Any:
    """The data set has made the batch already."""
    return batch
