"""Where the chunks of an HDF5 array lie, and whether these places can be right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from katops.errors import UserError

if TYPE_CHECKING:
    import h5py

_MANY_CHUNKS = 2**20
_NO_ROOM = np.empty(0, np.uint8)
_MOST_LOOKED_FOR = 2**15
"""Looking for a chunk takes some 10 us, ten times as long as walking over it."""


@dataclass(frozen=True)
class StoredChunks:
    """The chunks that were written: (n, rank) first elements, (n, 2) first byte in the file and number of bytes."""

    starts: np.ndarray
    extents: np.ndarray

    def __len__(self) -> int:
        return len(self.extents)

    def check(
        self, path: Path, name: str, size: int, shape: Sequence[int], chunks: Sequence[int], chunk_bytes: int | None
    ) -> None:
        """Raise UserError where a chunk lies outside of the file or the array, or has another size than it must."""
        if not len(self):
            return
        aligned = (self.starts % np.array(chunks) == 0).all() and (self.starts < np.array(shape)).all()
        if not aligned or len(np.unique(self.starts, axis=0)) < len(self) or (self.extents < 0).any():
            raise UserError(f"{path} is damaged: the index of the chunks of array {name!r} makes no sense")
        end = int(self.extents.sum(axis=1).max())
        if end > size:
            raise UserError(
                f"{path} is truncated: a chunk of array {name!r} ends at byte {end}, the file has {size}; "
                f"it was copied or written half-way, so copy or make it again"
            )
        if chunk_bytes is not None and (self.extents[:, 1] != chunk_bytes).any():
            raise UserError(
                f"{path} is damaged: array {name!r} has a chunk of another size than the {chunk_bytes} bytes of a chunk"
            )

    def check_index(self, path: Path, name: str, item: h5py.h5d.DatasetID, beat: Callable[[], None]) -> None:
        """Raise UserError where the index has a chunk that is not found by its place: HDF5 would return fill values.

        Of many chunks, a part that is spread evenly is looked for.
        """
        for number in range(0, len(self), 1 + len(self) // _MOST_LOOKED_FOR):
            beat()
            if not _is_found(item, tuple(self.starts[number].tolist())):
                raise UserError(f"{path} is damaged: the index of the chunks of array {name!r} makes no sense")


def _is_found(item: h5py.h5d.DatasetID, start: tuple[int, ...]) -> bool:
    try:
        # The size of the chunk is looked up first, and then there is no room for it: nothing is read.
        item.read_direct_chunk(start, out=_NO_ROOM)
    except ValueError:
        return True
    except (OSError, RuntimeError):
        return False
    return False


def stored_chunks(item: h5py.h5d.DatasetID, user_block: int, beat: Callable[[], None]) -> StoredChunks:
    """Walk the index of the chunks once; ``user_block`` is added to their addresses."""
    found: list[tuple[tuple[int, ...], int, int, int]] = []

    def add(info: h5py.h5d.StoreInfo) -> None:
        found.append(info)
        if len(found) % 1024 == 0:
            beat()

    item.chunk_iter(add)
    starts = np.array([info[0] for info in found], dtype=np.int64).reshape(len(found), item.rank)
    extents = np.array([info[2:4] for info in found], dtype=np.uint64).reshape(len(found), 2).astype(np.int64)
    extents[:, 0] += user_block
    return StoredChunks(starts, extents)


def check_filter(path: Path, name: str, code: int, values: Sequence[int], elements: int, itemsize: int) -> None:
    """Raise UserError where a filter was set up for chunks of another size: those of HDF5 do not look themselves."""
    sizes = {2: {0: itemsize}, 5: {2: elements}, 6: {2: elements, 4: itemsize}, 32000: {2: elements * itemsize}}
    expected = sizes.get(code, {})
    if any(len(values) <= place or values[place] != value for place, value in expected.items()):
        raise UserError(f"{path} is damaged: a filter of array {name!r} was set up for chunks of another size")


def count_missing(shape: Sequence[int], chunks: Sequence[int], stored: int) -> int:
    """Chunks that the shape needs and that were never written."""
    return max(0, prod(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)) - stored)


def is_hardly_written(missing: int, stored: int) -> bool:
    """Whether the shape cannot be meant: a damaged one of 2^50 samples must not be taken at its word."""
    return missing > _MANY_CHUNKS and missing > 1000 * stored


def check_apart(path: Path, extents: Sequence[np.ndarray]) -> None:
    """Raise UserError where two arrays, or two chunks, claim the same bytes."""
    if not extents:
        return
    every = np.concatenate(extents)
    every = every[np.argsort(every[:, 0], kind="stable")]
    if (every[:-1].sum(axis=1) > every[1:, 0]).any():
        raise UserError(f"{path} is damaged: two of its arrays, or two chunks of one, claim the same bytes")
