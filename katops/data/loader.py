"""Splits by sample, an order of samples that can be resumed, and batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from katops.data.dataset import FieldDataset
from katops.errors import UserError
from katops.fields import FieldSample

Share = int | float | None


@dataclass(frozen=True)
class Split:
    """Sample numbers of each part, ascending and disjoint, int64."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    n_samples: int,
    *,
    train: Share = None,
    validation: Share = 0.1,
    test: Share = 0.1,
    seed: int = 0,
    shuffle: bool = True,
) -> Split:
    """Share samples (whole trajectories) out.

    The test part is taken from the end of the (shuffled) order, the validation part before it, the training part from
    the beginning: with another number of training samples, validation and test stay what they are.

    Args:
        n_samples: samples in the file.
        train, validation, test: an integer counts samples; a float is a share of ``n_samples``, rounded down; ``None``,
            for one of them, takes what the others leave. Where the three are shares that add up to 1, the training
            part takes what rounding leaves.
        seed: of the order; the split is a pure function of the arguments.
        shuffle: ``False`` keeps the order of the file.

    Raises:
        UserError: the parts do not fit the file, or the training part is empty.
    """
    shares = {"train": train, "validation": validation, "test": test}
    sizes = {name: _size(name, share, n_samples) for name, share in shares.items()}
    _fill(sizes, shares, n_samples)
    total = sum(sizes.values())
    if total > n_samples:
        parts = " + ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(f"data.split needs {parts} = {total} samples, but there are {n_samples}; make a part smaller")
    if not sizes["train"]:
        raise UserError(f"data.split leaves no training sample of the {n_samples}; make validation or test smaller")
    order = _permutation(n_samples, (seed,)) if shuffle else np.arange(n_samples)
    test_from = n_samples - sizes["test"]
    validation_from = test_from - sizes["validation"]
    return Split(
        train=np.sort(order[: sizes["train"]]),
        validation=np.sort(order[validation_from:test_from]),
        test=np.sort(order[test_from:]),
    )


def _size(name: str, share: Share, n_samples: int) -> int:
    if share is None:
        return 0
    if isinstance(share, bool) or not isinstance(share, int | float) or share < 0:
        raise UserError(f"data.split.{name} must be a number of samples or a share from 0.0 to 1.0; given: {share!r}")
    if isinstance(share, int):
        return share
    if share > 1.0:
        raise UserError(
            f"data.split.{name} is {share}; a float is a share up to 1.0, a number of samples is an integer"
        )
    # 0.3 * 10 is 2.9999999999999996 in floating point; the share meant is 3 samples.
    return int(share * n_samples + 1e-9)


def _fill(sizes: dict[str, int], shares: dict[str, Share], n_samples: int) -> None:
    """Give what is left to the part that asks for the rest."""
    left = max(n_samples - sum(sizes.values()), 0)
    rest = [name for name, share in shares.items() if share is None]
    if len(rest) > 1:
        raise UserError(f"data.split leaves {' and '.join(rest)} open; only one of them can take the rest")
    if rest:
        sizes[rest[0]] = left
    elif all(isinstance(share, float) for share in shares.values()) and abs(sum(shares.values()) - 1.0) < 1e-9:
        sizes["train"] += left


def _permutation(size: int, key: tuple[int, ...]) -> np.ndarray:
    """The same for ever: numpy promises to keep the raw stream of a bit generator, not that of ``permutation``."""
    draws = np.random.PCG64(np.random.SeedSequence(key)).random_raw(size)
    return np.argsort(draws, kind="stable")


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

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        order = self.indices
        if self.shuffle:
            order = order[_permutation(len(order), (self.seed, self.epoch))]
        return iter(order.tolist())


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
            return self.dataset.__getitems__(indices)
        except UserError as error:
            return UserError(*error.args)


class BatchLoader(DataLoader):
    """A DataLoader that raises the :class:`UserError` of a worker process with its own sentence."""

    def __iter__(self) -> Iterator[FieldSample]:
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def batch_loader(
    dataset: FieldDataset,
    indices: Sequence[int] | np.ndarray | None = None,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 0,
    drop_last: bool = False,
    start_method: str | None = None,
) -> BatchLoader:
    """Batches as :class:`~katops.fields.FieldSample` with a leading batch axis, in page-locked memory beside a GPU.

    Args:
        dataset: what to read.
        indices: windows to use, e.g. ``dataset.of_samples(split.train)``; all where ``None``.
        batch_size: windows per batch.
        shuffle: a new order in every epoch, see :class:`EpochSampler`.
        seed: of the order.
        workers: reading processes; 0 reads in this process, which is the fastest for files without compression.
        drop_last: leave out a last batch that is not full.
        start_method: "fork", "forkserver" or "spawn"; the platform's default where ``None``.

    Raises:
        UserError: there is nothing to read, or not one full batch with ``drop_last``.
    """
    indices = np.arange(len(dataset)) if indices is None else np.asarray(indices)
    if not len(indices):
        raise UserError(f"{dataset.layout.path}: there is no sample to read; the part of the split is empty")
    if drop_last and batch_size > len(indices):
        raise UserError(
            f"train.batch_size is {batch_size}, but there are {len(indices)} windows to train on; make it smaller"
        )
    options: dict[str, Any] = {}
    if workers:
        options = {"persistent_workers": True, "multiprocessing_context": start_method}
    return BatchLoader(
        _ErrorsAsValues(dataset),
        batch_size=batch_size,
        sampler=EpochSampler(indices, seed=seed, shuffle=shuffle),
        num_workers=workers,
        collate_fn=_as_is,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
        # Its own generator: otherwise every epoch draws from the global one, and the model's dropout depends on it.
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


def _as_is(batch: Any) -> Any:
    """``FieldDataset.__getitems__`` has made the batch already."""
    return batch
