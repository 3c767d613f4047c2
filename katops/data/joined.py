"""Chunks of the waves of PDEgym: the solutions and the speeds lie in files of their own and become one data set.

As published, a folder holds ``solution_0.nc``, ``solution_1.nc``, ... and ``c_0.nc`` with the speeds of all samples. A
small HDF5 file refers to both (virtual datasets), so that everything that reads one file reads them, and no field is
copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from katops.data.containers.probe import probe
from katops.data.formats.netcdf_conventions import variables
from katops.data.storage import StoredArray
from katops.data.writing import hdf5_file
from katops.errors import UserError
from katops.files import atomic_path

_CHUNK = re.compile(r"(solution|c)_(\d+)")
_RANKS = {"solution": 4, "c": 3}
_ATTRIBUTE = "katops_joined"
_Arrays = dict[str, list[tuple[Path, StoredArray]]]


def with_joined_waves(files: Sequence[Path]) -> list[Path]:
    """The same files, where chunks of solutions and of speeds in one folder are replaced by a file that refers to both.

    That file lies in the folder, under a name with a dot in front, or in the user's cache folder (``XDG_CACHE_HOME``)
    where the folder may not be written to. It is made anew when a chunk has changed.

    Raises:
        UserError: a chunk between others is missing, or there are fewer speeds than solutions.
    """
    found = list(files)
    for folder in dict.fromkeys(path.parent for path in files):
        chunks = {name: _numbered([path for path in files if path.parent == folder], name) for name in _RANKS}
        if not all(chunks.values()) or not _are_waves(chunks):
            continue
        joined = _join(folder, {name: list(parts.values()) for name, parts in _checked(folder, chunks).items()})
        parts = [path for numbered in chunks.values() for path in numbered.values()]
        found = [joined if path == parts[0] else path for path in found if path not in parts[1:]]
    return found


def _numbered(files: Sequence[Path], name: str) -> dict[int, Path]:
    """Chunks of an array by their numbers, ascending."""
    matches = [(path, _CHUNK.fullmatch(path.stem)) for path in files]
    return dict(sorted((int(match[2]), path) for path, match in matches if match and match[1] == name))


def _are_waves(chunks: dict[str, dict[int, Path]]) -> bool:
    """Whether the files hold what their names say; other files may have such names too."""
    return all(
        {key: len(array.shape) for key, array in variables(probe(path)).items()} == {name: _RANKS[name]}
        for name, parts in chunks.items()
        for path in parts.values()
    )


def _checked(folder: Path, chunks: dict[str, dict[int, Path]]) -> dict[str, dict[int, Path]]:
    for name, parts in chunks.items():
        # The speeds count samples from the first chunk on.
        missing = sorted(set(range(max(parts) + 1)) - parts.keys())
        if missing:
            raise UserError(
                f"{folder} holds {', '.join(path.name for path in parts.values())}, but not {name}_{missing[0]}.nc, so "
                f"that solutions and speeds cannot be matched; get that file too"
            )
    return chunks


def _join(folder: Path, chunks: dict[str, list[Path]]) -> Path:
    """The file that joins these chunks, made where there is none yet."""
    arrays = {name: [(path, probe(path).array(name)) for path in parts] for name, parts in chunks.items()}
    counts = {name: sum(array.shape[0] for _, array in parts) for name, parts in arrays.items()}
    if counts["c"] < counts["solution"]:
        raise UserError(
            f"{folder} holds {counts['solution']} solutions and {counts['c']} speeds; get the other files of speeds"
        )
    names = [path.name for parts in chunks.values() for path in parts]
    stamps = json.dumps([[path.name, *_stamp(path)] for parts in chunks.values() for path in parts])
    beside = folder / f".katops-joined-{_digest(*names)}.h5"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "katops" / "joined"
    instead = cache / f"{folder.resolve().name}-{_digest(str(folder.resolve()), *names)}.h5"
    for place in (beside, instead):
        if _holds(place, stamps):
            return place
    try:
        _write(beside, arrays, counts["solution"], stamps)
    except UserError:
        _write(instead, arrays, counts["solution"], stamps)
        return instead
    return beside


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _holds(place: Path, stamps: str) -> bool:
    """Whether a file joins these very chunks already."""
    return place.is_file() and probe(place).attributes.get(_ATTRIBUTE) == stamps


def _write(place: Path, arrays: _Arrays, n_samples: int, stamps: str) -> None:
    layouts = {name: _virtual(name, parts, n_samples, place.parent) for name, parts in arrays.items()}
    with atomic_path(place) as temporary, hdf5_file(temporary) as (file, _):
        for name, layout in layouts.items():
            file.create_virtual_dataset(name, layout)
        file.attrs[_ATTRIBUTE] = stamps


def _virtual(name: str, parts: Sequence[tuple[Path, StoredArray]], n_samples: int, folder: Path) -> h5py.VirtualLayout:
    """The first samples of the chunks, one after the other."""
    first = parts[0][1]
    layout = h5py.VirtualLayout((n_samples, *first.shape[1:]), np.dtype(first.dtype))
    for path, array, start, stop in _places(parts, n_samples):
        if array.shape[1:] != first.shape[1:]:
            raise UserError(f"{path}: {name!r} has shape {array.shape}, in {parts[0][0].name} it has {first.shape}")
        # Beside the chunks their names are enough, so that the folder can be moved.
        where = path.name if path.parent == folder else str(path.resolve())
        layout[start:stop] = h5py.VirtualSource(where, name, array.shape, np.dtype(array.dtype))[: stop - start]
    return layout


def _places(parts: Sequence[tuple[Path, StoredArray]], n_samples: int) -> Iterator[tuple[Path, StoredArray, int, int]]:
    """(file, array, first sample, end) of the chunks that hold the first samples."""
    start = 0
    for path, array in parts:
        stop = min(start + array.shape[0], n_samples)
        if stop > start:
            yield path, array, start, stop
        start = stop
