"""What a file stores, found out in a helper process that may crash or hang where this one must not."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.containers.probe_client import HELPER
from katops.data.storage import StoredTree

PATIENCE = 60.0
"""Seconds without a sign of life after which a file counts as one that HDF5 cannot read."""


@dataclass(frozen=True, eq=False)
class ChunkMap:
    """Where the chunks of an array lie.

    Attributes:
        offsets: int64 over the grid of chunks, position of a chunk's first byte in the file; -1 where it was never
            written.
        sizes: int64 over the grid of chunks, bytes a chunk takes in the file.
    """

    offsets: np.ndarray
    sizes: np.ndarray


def probe(path: str | Path, *, patience: float = PATIENCE) -> StoredTree:
    """What a file stores: every array with its place, every attribute, the elements of small arrays.

    The first call of a process starts a helper process (0.3 s), which serves all later calls.

    Args:
        path: the file, or a zarr folder.
        patience: seconds to wait for a sign of life; there is one for each object that is looked at.

    Raises:
        UserError: the file is missing, of a kind that is not read, truncated, being written, or damaged (also where
            the library that reads it crashes or does not come back).
    """
    path = Path(path)
    tree = HELPER.ask("look", patience, path)
    return replace(tree, fetch=functools.partial(fetch, path, tree.container))


def fetch(path: Path, container: str, name: str, part: tuple = ()) -> np.ndarray:
    """The elements of one array, read by the helper process.

    Args:
        path: the file.
        container: how it is stored.
        name: path of the array.
        part: slices and integers, what of it is wanted; all where empty.

    Raises:
        UserError: they cannot be read.
    """
    return HELPER.ask("fetch", PATIENCE, path, container, name, part)


@dataclass(frozen=True)
class HelpersArray:
    """An array that the helper process reads when it is sliced, see :data:`katops.data.storage.FRAGILE_FILTERS`."""

    path: Path
    container: str
    name: str

    def __getitem__(self, part: Any) -> np.ndarray:
        """As numpy slices."""
        return fetch(self.path, self.container, self.name, part if isinstance(part, tuple) else (part,))


def chunk_map(path: str | Path, dataset: str, *, patience: float = PATIENCE) -> ChunkMap:
    """Where the chunks of a chunked HDF5 array lie.

    Raises:
        UserError: the index of the chunks is damaged, or points out of the file.
    """
    return ChunkMap(*HELPER.ask("chunks", patience, Path(path), dataset))


def digest_in_helper(path: Path, patience: float = PATIENCE) -> str:
    """Digest of the contents of an HDF5 file, see :func:`katops.data.fingerprints.fingerprint`.

    Raises:
        UserError: the file cannot be read.
    """
    return HELPER.ask("digest", patience, path)
