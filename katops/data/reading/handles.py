"""Open files: few at a time, each in the process that opened it, never a file that changed."""

from __future__ import annotations

import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from katops.data.layout import FileLayout
from katops.errors import UserError

if TYPE_CHECKING:
    import h5py

_MOST_OPEN = 64
# Chunk caches of all datasets of a file together; above it memory would grow with the number of datasets.
_ALL_CACHES = 256 * 2**20
_SLOTS = (521, 2053, 8209, 32771, 100003)
"""Primes; some 10 slots for each chunk that is held keep hash collisions rare (HDF5 documentation, H5Pset_cache)."""


class Handles:
    """Descriptors and HDF5 files by position in ``layouts``; the least recently used are closed.

    What is handed out stays open as long as the caller keeps it, also when it falls out of the list meanwhile.
    """

    def __init__(self, layouts: Sequence[FileLayout]) -> None:
        # Names, not paths: a path is turned into a name at every call of the system.
        self._paths = [str(layout.path) for layout in layouts]
        self._stamps = [tuple(layout.stamp) for layout in layouts]
        self._parts = [layout.parts for layout in layouts]
        self._forget()

    def descriptor(self, number: int) -> Descriptor:
        """The file opened for ``pread``."""
        return self._open(("descriptor", number), lambda: Descriptor(self._paths[number], self._stamps[number]))

    def hdf5(self, number: int) -> OpenHdf5:
        """The file opened by h5py."""
        return self._open(("hdf5", number), lambda: OpenHdf5(self._paths[number]))

    def check_unchanged(self, numbers: Iterable[int]) -> None:
        """Compare size and date of files, and of those that they are put together from, with what they were.

        Raises:
            UserError: a file was removed, moved or changed.
        """
        for number in numbers:
            path = self._paths[number]
            try:
                status = os.stat(path)
            except OSError as error:
                raise UserError(
                    f"{path} was there when it was described and cannot be found now: {error.strerror}"
                ) from error
            _compare(path, self._stamps[number], status)
            for part in self._parts[number]:
                _check_part(path, *part)

    def close(self) -> None:
        """Close what is open."""
        self._forget()

    def _open(self, key: tuple[str, int], make: Any) -> Any:
        if self._process != os.getpid():
            # Dropping them in a forked child closes the child's copies only; the lock may have been held at the fork.
            self._forget()
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = make()
                if len(self._entries) > _MOST_OPEN:
                    self._entries.popitem(last=False)
            else:
                self._entries.move_to_end(key)
            return entry

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_stamps": self._stamps, "_parts": self._parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


class Descriptor:
    """An open file, closed when nobody holds this object any more."""

    def __init__(self, path: str, stamp: tuple[int, int]) -> None:
        self.path = path
        self.number = -1
        try:
            self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise UserError(f"{path} cannot be opened: {error.strerror}") from error
        # The file of that name may be another one than a moment ago.
        _compare(path, stamp, os.fstat(self.number))

    def read(self, view: memoryview, offset: int) -> None:
        """Fill the memory with what lies at ``offset``.

        Raises:
            UserError: the file ends before, or the disk fails.
        """
        try:
            while len(view):
                # The kernel may stop early (2 GiB per call, signals); at the end of the file it returns nothing.
                got = _read_into(self.number, view, offset)
                if not got:
                    raise UserError(
                        f"{self.path} ends at byte {offset}, in the middle of an array; it was truncated while in "
                        f"use, so copy or make it again"
                    )
                view, offset = view[got:], offset + got
        except OSError as error:
            raise UserError(f"{self.path} cannot be read at byte {offset}: {error.strerror}") from error

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


def check_most_open(layout: FileLayout) -> None:
    """Refuse a file that is put together from more files than this process may have open: HDF5 keeps all of them open.

    Raises:
        UserError: HDF5 would hand out fill values in place of some of them.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if layout.parts and allowed != resource.RLIM_INFINITY and len(layout.parts) + _MOST_OPEN > allowed:
        raise UserError(
            f"{layout.path} is put together from {len(layout.parts)} files, and this process may have {allowed} files "
            f"open; raise that (ulimit -n {len(layout.parts) + 2 * _MOST_OPEN}), or name those files instead"
        )


class OpenHdf5:
    """An HDF5 file and the datasets in use; looking a dataset up by name costs more than reading a small field."""

    def __init__(self, path: str) -> None:
        from katops.data.containers.opening import open_file

        self.path = path
        self.file = open_file(path)
        self._lock = threading.Lock()
        self._datasets: OrderedDict[str, h5py.Dataset] = OrderedDict()

    def dataset(self, name: str, touched: int) -> h5py.Dataset:
        """A dataset whose chunk cache holds ``touched`` chunks.

        HDF5 decompresses a chunk again whenever it no longer fits the cache, which costs two orders of magnitude.
        """
        with self._lock:
            found = self._datasets.get(name)
            if found is not None:
                self._datasets.move_to_end(name)
                return found
            found, cache = self._find(name, touched)
            self._datasets[name] = found
            while len(self._datasets) > max(1, _ALL_CACHES // max(cache, 2**16)):
                self._datasets.popitem(last=False)
            return found

    def _find(self, name: str, touched: int) -> tuple[h5py.Dataset, int]:
        import h5py

        dataset = self.file[name]
        if dataset.chunks is None:
            return dataset, 0
        cache = min(max(touched * prod(dataset.chunks) * dataset.dtype.itemsize, 2**20), _ALL_CACHES)
        # An array that is open already keeps the cache that it has.
        del dataset
        slots = next((prime for prime in _SLOTS if prime >= 10 * touched), _SLOTS[-1])
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access.set_chunk_cache(slots, cache, 0.75)
        return h5py.Dataset(h5py.h5d.open(self.file.id, name.encode(), access)), cache


def _read_into(descriptor: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, (view,), offset)
    data = os.pread(descriptor, len(view), offset)
    view[: len(data)] = data
    return len(data)


def _compare(path: str, stamp: tuple[int, int], status: os.stat_result) -> None:
    now = (status.st_size, status.st_mtime_ns)
    if now != stamp and os.path.isfile(path):
        raise UserError(
            f"{path} has changed since it was described ({stamp[0]} bytes then, {now[0]} bytes now); "
            f"start again with the new file"
        )


def _check_part(path: str, part: str, size: int, modified: int) -> None:
    """HDF5 hands out fill values in place of a part that is gone."""
    try:
        status = os.stat(part)
    except OSError as error:
        raise UserError(
            f"{path} is put together from other files, of which {part} is missing now ({error.strerror}); put it back"
        ) from error
    if (status.st_size, status.st_mtime_ns) != (size, modified):
        raise UserError(
            f"{part}, a part of {path}, has changed since it was described ({size} bytes then, {status.st_size} bytes "
            f"now); start again with the new file"
        )
