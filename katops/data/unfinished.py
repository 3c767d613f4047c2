"""A large file while it is written: its fields are filled block by block, and an interruption costs one block."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import h5py
import numpy as np

from katops.data.writing import mark_complete
from katops.errors import UserError
from katops.files import locked, write_text


@dataclass
class Journal:
    """What is in the unfinished file.

    Attributes:
        identity: what it will hold; another identity starts anew.
        block_bytes: of the fields that are written together.
        size: bytes of the file.
        offsets: position of the first byte of each field.
        checksums: by field, CRC-32 of each block that is on the disk, by its first sample.
    """

    identity: str
    block_bytes: int
    size: int
    offsets: dict[str, int]
    checksums: dict[str, dict[str, int]] = field(default_factory=dict)


class UnfinishedFile:
    """The folder ``<output>.partial/`` with the file that will become ``output``.

    Only the head of the file is written by HDF5; it is whole and on the disk before the first field is. The fields are
    plain bytes at known places: no state of HDF5's library is lost when the process ends, and a full disk is an
    ordinary error.

    Args:
        output: the file.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f"{output.name}.partial")
        self.path = self.folder / "data.h5"
        self._journal_path = self.folder / "journal.json"
        self._descriptor = -1

    @contextmanager
    def begun(self, identity: str, block_bytes: int, create: Callable[[Path], None]) -> Iterator[Journal]:
        """The journal of what was begun with this identity, or a new one with ``block_bytes``.

        Args:
            identity: what decides the contents.
            block_bytes: see :class:`Journal`.
            create: writes the head of the file where there is nothing to go on with.

        Raises:
            UserError: another process is writing the same file, or the disk is full.
        """
        lock = self._lock()
        try:
            journal = self._journal(identity)
            if journal is None:
                journal = self._create(identity, block_bytes, create)
            self._descriptor = os.open(self.path, os.O_RDWR)
            yield journal
        except OSError as error:
            raise UserError(
                f"cannot write {str(self.output)!r}: {error.strerror or error}; what was finished is kept in "
                f"{str(self.folder)!r}, the same command goes on from there"
            ) from error
        finally:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            os.close(lock)

    def write(self, journal: Journal, name: str, first: int, values: np.ndarray) -> None:
        """Put samples first, first + 1, ... of a field on the disk, and remember their checksum.

        Args:
            journal: from :meth:`begun`.
            name: the field.
            first: number of the first sample.
            values: (samples, ...), C-contiguous, of the field's element type.
        """
        view = memoryview(values.reshape(-1).view(np.uint8))
        sample_bytes = values.nbytes // len(values)
        position = journal.offsets[name] + first * sample_bytes
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], position + done)
        journal.checksums.setdefault(name, {})[str(first)] = zlib.crc32(view)

    def save(self, journal: Journal) -> None:
        """Make sure that what was written so far survives."""
        os.fsync(self._descriptor)
        write_text(self._journal_path, json.dumps(asdict(journal)))

    def read_back(self, journal: Journal, name: str, first: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Samples of a field as they are in the file, from the disk where the system allows that to be asked for.

        Raises:
            UserError: their checksum is not that of what was written.
        """
        values = np.empty(shape, dtype)
        view = memoryview(values.reshape(-1).view(np.uint8))
        position, done = journal.offsets[name] + first * (values.nbytes // len(values)), 0
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, position, len(view), os.POSIX_FADV_DONTNEED)
        while done < len(view):
            part = os.pread(self._descriptor, len(view) - done, position + done)
            if not part:
                break
            view[done : done + len(part)] = part
            done += len(part)
        if done < len(view) or zlib.crc32(view) != journal.checksums[name][str(first)]:
            raise UserError(
                f"{self.path}: field {name!r} from sample {first} on is not what was written; the disk or the memory "
                f"of this machine is damaged"
            )
        return values

    def finish(self) -> None:
        """Give the file its name."""
        mark_complete(self.path)
        os.fsync(self._descriptor)
        os.replace(self.path, self.output)
        # The lock goes last: another process that waits for it must not find half a folder.
        for name in (self._journal_path, self.folder / "lock"):
            with suppress(OSError):
                name.unlink()
        with suppress(OSError):
            self.folder.rmdir()

    def _create(self, identity: str, block_bytes: int, create: Callable[[Path], None]) -> Journal:
        with suppress(FileNotFoundError):
            self._journal_path.unlink()
        create(self.path)
        with h5py.File(self.path, "r", locking=False) as file:
            offsets = {name: dataset.id.get_offset() for name, dataset in file["fields"].items()}
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            os.fsync(descriptor)
            journal = Journal(identity, block_bytes, os.fstat(descriptor).st_size, offsets)
        finally:
            os.close(descriptor)
        write_text(self._journal_path, json.dumps(asdict(journal)))
        return journal

    def _journal(self, identity: str) -> Journal | None:
        """What was begun under the same identity, if it is still there."""
        try:
            journal = Journal(**json.loads(self._journal_path.read_text(encoding="utf-8")))
            usable = journal.identity == identity and self.path.stat().st_size == journal.size
        except (OSError, ValueError, TypeError):
            return None
        return journal if usable else None

    def _lock(self) -> int:
        """The folder, made if it is missing, for this process alone."""
        descriptor = locked(self.folder / "lock")
        if descriptor is None:
            raise UserError(f"another process is writing {str(self.output)!r}; wait for it, or choose another output")
        return descriptor
