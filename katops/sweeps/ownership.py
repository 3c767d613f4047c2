"""Whose a trial is: a locked file, which the kernel unlocks when its process ends in whatever way.

Locks of other machines are not seen on every shared file system. There the owner's sign of life counts: it touches the
file every few seconds, and a trial is free when that has not been seen for two minutes. Two machines that take a trial
at the same moment both write themselves down; it belongs to the one that stands there a moment later.
"""

import os
import platform
import threading
import time
from contextlib import suppress
from pathlib import Path

from katops.files import locked
from katops.sweeps.mounts import is_of_this_machine_alone

BEAT = 10.0
"""Seconds between two signs of life."""
STALE = 120.0
"""Seconds without one after which the owner on another machine counts as gone."""
SETTLED = 1.0
"""Seconds after which everybody who saw a trial free at the same moment has written itself down."""


class Ownership:
    """The right to run a trial, until :meth:`release`, the end of a ``with`` block, or that of the process."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    @classmethod
    def take(cls, path: Path) -> "Ownership | None":
        """Own what the file stands for; ``None`` where another process does.

        Raises:
            UserError: the file system has no locks, or cannot be written to.
        """
        descriptor = locked(path)
        if descriptor is None:
            return None
        if _is_foreign(descriptor) and _age(path) < STALE:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _machine().encode(), 0)
        if not is_of_this_machine_alone(path) and not _is_confirmed(descriptor, path):
            os.close(descriptor)
            return None
        return cls(descriptor, path)

    def __enter__(self) -> "Ownership":
        return self

    def __exit__(self, *raised: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others take it; once is enough."""
        if self._ended.is_set():
            return
        self._ended.set()
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(OSError):  # a file system that is away for a moment; the next sign may come through
                os.utime(self._path)


def last_sign(path: Path) -> float | None:
    """When an owner on another machine, whose lock is not seen here, last gave a sign of life; else ``None``."""
    descriptor = locked(path)
    if descriptor is None:
        return None
    try:
        return path.stat().st_mtime if _is_foreign(descriptor) else None
    finally:
        os.close(descriptor)


def _is_foreign(descriptor: int) -> bool:
    """Whether a process of another machine wrote itself down and has not signed off."""
    return os.pread(descriptor, 256, 0).decode() not in ("", _machine())


def _is_confirmed(descriptor: int, path: Path) -> bool:
    """Whether no other machine, whose lock is not seen here, has written itself down at the same moment."""
    os.fsync(descriptor)
    time.sleep(SETTLED)
    # Opened anew, since a network file system may answer what this process itself has written.
    return path.read_text(encoding="utf-8") == _machine()


def _age(path: Path) -> float:
    """Seconds since the last sign of life, by the clock of the file system."""
    probe = path.with_name(f".{path.name}.{os.getpid()}.now")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()


def _machine() -> str:
    """One running kernel: locks are seen by all its processes, in whatever container."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text(encoding="utf-8").strip() if boot.is_file() else platform.node()
