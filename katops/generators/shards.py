"""The folder in which an unfinished file lies: whole shards, a manifest that tells what they are, and a lock."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from katops.errors import UserError
from katops.files import atomic_path, write_text

OWN_FILES = ("shard-*.npz", "assembled.h5", "exported", ".*.partial", "manifest.json")


class BeingGenerated(UserError):
    """Another process is generating the same file; whoever waits for it has nothing left to do."""


class ShardFolder:
    """The finished shards of ``<output>``, in ``<output>.partial/``.

    A shard holds the arrays of ``shard_size`` consecutive samples and appears under its name only when it is whole, so
    that a process may be killed at any moment and the next one goes on with what is there.

    Args:
        output: the file that the shards will become.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output.with_name(f"{output.name}.partial")
        self.assembled = self.path / "assembled.h5"
        self.exported = self.path / "exported"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone; it is made if it is missing. The lock ends with the process, however that ends.

        Raises:
            BeingGenerated: another process holds it.
            UserError: the folder cannot be made.
        """
        try:
            descriptor = self._acquire()
        except OSError as error:
            raise UserError(f"cannot write {str(self.path)!r}: {error.strerror or error}") from error
        try:
            yield
        finally:
            os.close(descriptor)

    def _acquire(self) -> int:
        lock = self.path / "lock"
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # the process before us has just removed the folder
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode() or "unknown"
                os.close(descriptor)
                raise BeingGenerated(
                    f"another process (pid {holder}) is generating {str(self.output)!r}; "
                    "wait for it, or choose another output"
                ) from None
            if _is_at(lock, descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return descriptor
            os.close(descriptor)  # locked a file that was removed in the meantime

    def manifest(self) -> dict[str, Any] | None:
        """What the shards here belong to, or ``None`` where nothing was begun.

        Raises:
            UserError: it cannot be read.
        """
        path = self.path / "manifest.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{str(path)!r} cannot be read ({error}); remove the folder to start anew") from error

    def begin(self, manifest: dict[str, Any]) -> None:
        """Write the manifest of a new file."""
        write_text(self.path / "manifest.json", json.dumps(manifest, indent=1))

    def shard(self, number: int) -> Path:
        """Where shard ``number`` lies or will lie."""
        return self.path / f"shard-{number:06d}.npz"

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Store a shard, all or nothing.

        Raises:
            UserError: it cannot be written.
        """
        with atomic_path(self.shard(number)) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **arrays)

    def load(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of a shard; the checksums in the file are verified.

        Raises:
            UserError: the shard was damaged after it had been written. It is removed, so that it will be made anew.
        """
        path = self.shard(number)
        try:
            with np.load(path, allow_pickle=False) as shard:
                return dict(shard)
        except (BadZipFile, ValueError, EOFError) as error:
            path.unlink()
            raise UserError(f"{str(path)!r} was damaged and is removed; run the same command again") from error

    def clear(self) -> None:
        """Remove everything that was written here except the lock."""
        for pattern in OWN_FILES:
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder; call it while the lock is held. Files of others are left where they are."""
        self.clear()
        (self.path / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # somebody else's file, or the next process, is in it
            self.path.rmdir()


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that now has this name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
