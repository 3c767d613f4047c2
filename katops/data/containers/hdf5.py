"""HDF5 files, netCDF-4 and MATLAB 7.3 included: what they store. Runs in the helper process of :mod:`.probe`."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

from katops.data.containers.chunks import stored_chunks
from katops.data.containers.hdf5_walk import Walk, elements_of, user_block_of
from katops.data.containers.matlab73 import as_matlab
from katops.data.containers.opening import open_file, reading, stamp_of
from katops.data.storage import StoredTree
from katops.errors import UserError


def look(path: Path, beat: Callable[[], None]) -> StoredTree:
    """Everything an HDF5 file stores, in the order of creation where the file keeps it, else by name.

    Args:
        path: the file.
        beat: called for every object that is looked at.

    Raises:
        UserError: the file is missing, truncated, damaged or being written.
    """
    stamp = stamp_of(path)
    _check_unlocked(path)
    with open_file(path) as file, reading(path):
        walk = Walk(path, file, stamp[0], beat)
        walk.look_around()
        is_matlab = file.userblock_size == 512 and walk.has_matlab_classes
        tree = StoredTree(path, "hdf5", stamp, walk.attributes, walk.groups, walk.arrays, broken=walk.broken)
    if stamp_of(path) != stamp:
        raise UserError(f"{path} is still being written: it changed while it was looked at; wait until it is whole")
    return as_matlab(tree) if is_matlab else tree


def fetch(path: Path, name: str, part: tuple = ()) -> np.ndarray:
    """The elements of an array, or some of them; text as str."""
    with open_file(path) as file, reading(path):
        return elements_of(file[name], part)


def chunks_of(path: Path, name: str, beat: Callable[[], None]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (-1 where a chunk was never written) and sizes of the chunks of an array, over the grid of chunks."""
    with open_file(path) as file, reading(path):
        dataset = file[name]
        if dataset.chunks is None:
            raise UserError(f"{path}: array {name.lstrip('/')!r} is not stored in chunks")
        found = stored_chunks(dataset.id, user_block_of(file), beat)
        is_filtered = dataset.id.get_create_plist().get_nfilters() > 0
        chunk_bytes = None if is_filtered else prod(dataset.chunks) * dataset.dtype.itemsize
        found.check(path, name.lstrip("/"), stamp_of(path)[0], dataset.shape, dataset.chunks, chunk_bytes)
        grid = tuple(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        offsets, sizes = np.full(grid, -1, np.int64), np.zeros(grid, np.int64)
        places = tuple((found.starts // np.array(dataset.chunks)).T)
        offsets[places], sizes[places] = found.extents.T
        return offsets, sizes


def _check_unlocked(path: Path) -> None:
    """HDF5 holds a lock on a file that it writes; the header of older versions of the format does not tell."""
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path} is still being written: another program has it open for that; wait until it is closed"
            ) from None
        except OSError:
            # File systems without locks.
            return
