"""A short name for the contents of a data file, to tell later whether a model was trained on this very file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np

from katops.data.layout import FileLayout, attributes_of
from katops.data.opening import open_file, reading

_MOST_BYTES = 2**20
"""Bytes that are read of one sample; enough to tell data sets apart, and fast for samples of any size."""


def fingerprint(source: str | Path | FileLayout) -> str:
    """SHA-256 over the size of the file, its root attributes, and path, shape, type and three samples of each array.

    The samples are the first, the middle and the last one, each up to 1 MiB, so that a file of any size takes
    milliseconds. It notices another seed, another resolution, a cut or a regenerated file; it does not notice a change
    inside a sample that is not read, and is no protection against intent.

    Args:
        source: the file, in any HDF5 layout, or its description.

    Returns:
        64 hexadecimal digits; the name and the date of the file do not matter.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(source.path if isinstance(source, FileLayout) else source)
    digest = hashlib.sha256(str(path.stat().st_size if path.exists() else 0).encode())
    with open_file(path) as file, reading(path):
        digest.update(json.dumps(attributes_of(file), sort_keys=True).encode())
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in sorted(names):
            _add_array(digest, name, file[name])
    return digest.hexdigest()


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
