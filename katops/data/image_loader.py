"""Batches of preprocessed images; order and augmentation are functions of seed, epoch and image, so runs can resume."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from katops.data.images import ImageSet
from katops.data.loader import BatchLoader
from katops.data.order import RankSampler
from katops.errors import UserError


class ImageBatch(NamedTuple):
    """Images (B, C, H, W), normalised; labels (B,), int64; and the numbers (B,) of the images in their set."""

    images: Tensor
    labels: Tensor
    index: Tensor


class _Images(Dataset):
    """Images by (number, epoch), transformed with random numbers that depend on both and on the seed alone."""

    def __init__(self, source: ImageSet, mode: str, transform: Callable[[Any], Tensor], seed: int | None) -> None:
        self.source = source
        self.mode = mode
        self.transform = transform
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        index, epoch = key
        try:
            image = self.source.read(index, self.mode)
        except UserError as error:
            return UserError(*error.args)  # torch would wrap what a worker raises into a traceback
        if self.seed is None:
            return ImageBatch(self.transform(image), int(self.source.labels[index]), index)
        with _random_numbers_from(self.seed, epoch, index):
            return ImageBatch(self.transform(image), int(self.source.labels[index]), index)


class _NumberAndEpoch(RankSampler):
    """An order of images that tells each of them the epoch."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((index, self.epoch) for index in super().__iter__())


@contextmanager
def _random_numbers_from(*key: int) -> Iterator[None]:
    """Python's, numpy's and torch's generators started from ``key``, and put back afterwards.

    timm's and torchvision's transforms draw from the global generators. Without this a resumed run would see other
    images than an uninterrupted one, and so would a run with another number of workers.
    """
    python, numpy_generator, pytorch = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()
    seeds = np.random.SeedSequence(key).generate_state(3)
    try:
        random.seed(int(seeds[0]))
        np.random.set_bit_generator(np.random.PCG64(int(seeds[1])))
        torch.default_generator.manual_seed(int(seeds[2]))
        yield
    finally:
        random.setstate(python)
        np.random.set_bit_generator(numpy_generator)
        torch.set_rng_state(pytorch)


def image_loader(
    source: ImageSet,
    indices: np.ndarray,
    transform: Callable[[Any], Tensor],
    *,
    mode: str,
    batch_size: int,
    training: bool = False,
    seed: int = 0,
    workers: int = 0,
    timeout: float = 0.0,
    rank: int = 0,
    world_size: int = 1,
) -> BatchLoader:
    """Batches as :class:`ImageBatch`.

    Args:
        source: where the images are.
        indices: numbers of the images to use.
        transform: PIL image -> tensor (C, H, W).
        mode: Pillow's mode of the images, "L" or "RGB".
        batch_size: images per batch.
        training: a new order in every epoch, random numbers for the transform, and full batches only.
        seed: of order and random numbers.
        workers: reading processes; the batches do not depend on their number.
        timeout: seconds that a batch may take to be read by them; 0 waits for ever.
        rank, world_size: which process of a distributed run this is, of how many. All get as many images: a few are
            left out of a training epoch, or handed out twice otherwise.
    """
    return BatchLoader(
        _Images(source, mode, transform, seed if training else None),
        batch_size=batch_size,
        sampler=_NumberAndEpoch(
            indices,
            seed=seed,
            shuffle=training,
            rank=rank,
            world_size=world_size,
            even="drop" if training else "repeat",
        ),
        num_workers=workers,
        timeout=timeout,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        drop_last=training,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def _collate(samples: list[Any]) -> Any:
    """A batch, or the first error among its samples."""
    errors = [sample for sample in samples if isinstance(sample, UserError)]
    return errors[0] if errors else default_collate(samples)
