"""Digests of the contents of a file. Those of HDF5 files are made by the helper process of :mod:`.probe`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from katops.data.containers.values import plain_value

if TYPE_CHECKING:
    import h5py

_MOST_BYTES = 2**20
"""Bytes that are read of one sample, or of one place in a file; enough to tell data sets apart."""


def digest_of_hdf5(path: Path, beat: Callable[[], None]) -> str:
    """SHA-256 over size, root attributes, and path, shape, type and three samples of each array."""
    import h5py

    from katops.data.containers.opening import open_file, reading

    digest = hashlib.sha256(str(path.stat().st_size).encode())
    with open_file(path) as file, reading(path):
        attributes = {name: _attribute(value) for name, value in file.attrs.items()}
        digest.update(json.dumps(attributes, sort_keys=True).encode())
        names: list[str] = []

        def look(name: str, item: h5py.HLObject) -> None:
            beat()
            if isinstance(item, h5py.Dataset):
                names.append(name)

        file.visititems(look)
        for name in sorted(names):
            beat()
            _add_array(digest, name, file[name])
    return digest.hexdigest()


def digest_of_bytes(path: Path) -> str:
    """SHA-256 over the size and up to 1 MiB at the beginning, in the middle and at the end; a folder's over its files.

    Of a folder, the files are taken in the order of their names inside it; the first, middle and last one are read.
    """
    if not path.is_dir():
        return _digest_of_file(path)
    files = sorted(
        os.path.relpath(os.path.join(folder, name), path) for folder, _, names in os.walk(path) for name in names
    )
    digest = hashlib.sha256()
    for number, name in enumerate(files):
        is_read = number in (0, len(files) // 2, len(files) - 1) or name.endswith((".json", ".zarray", ".zattrs"))
        content = _digest_of_file(path / name) if is_read else str((path / name).stat().st_size)
        digest.update(f"{name}\0{content}\0".encode())
    return digest.hexdigest()


def _digest_of_file(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for begin in sorted({0, max(0, size // 2 - _MOST_BYTES // 2), max(0, size - _MOST_BYTES)}):
            file.seek(begin)
            digest.update(file.read(_MOST_BYTES))
    return digest.hexdigest()


def _attribute(value: object) -> object:
    """As models remember it: the rows of a matrix as text."""
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return [str(row) for row in value.tolist()]
    return plain_value(value)


def _add_array(digest: hashlib._Hash, name: str, dataset: h5py.Dataset) -> None:
    digest.update(f"{name} {dataset.shape} {dataset.dtype.str}".encode())
    if not dataset.size:
        return
    if dataset.ndim == 0:
        digest.update(_as_bytes(dataset[()]))
        return
    for sample in sorted({0, len(dataset) // 2, len(dataset) - 1}):
        digest.update(_as_bytes(dataset[_head(dataset, sample)]))


def _head(dataset: h5py.Dataset, sample: int) -> tuple[int | slice, ...]:
    """Selection of the leading part of a sample, at most 1 MiB: leading axes are fixed at 0, then one is cut."""
    selection: list[int | slice] = [sample]
    rest = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64))
    for size in dataset.shape[1:]:
        rest //= size
        room = max(1, _MOST_BYTES // rest)
        if room >= size:
            break
        selection.append(slice(0, room) if room > 1 else 0)
        if room > 1:
            break
    return tuple(selection)


def _as_bytes(value: object) -> bytes:
    array = np.asarray(value)
    # Text of variable length arrives as Python objects.
    return repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes()
