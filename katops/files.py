"""Writing files so that a reader sees the old one or the new one, never half of one."""

import errno
import fcntl
import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from katops.errors import UserError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``; it takes the place of ``path`` when the block ends without an exception.

    The contents are on the disk (fsync) before the name is, so that a crash at any moment leaves a whole file. The
    folder is made if it is missing.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner may read
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    except UserError:
        raise
    except Exception as error:  # writers in C++ and Rust have words of their own for a disk that is full
        if _is_full(path.parent):
            raise UserError(f"cannot write {str(path)!r}: {os.strerror(errno.ENOSPC)}") from error
        raise
    finally:
        with suppress(OSError):  # it has been renamed, or could not be made
            temporary.unlink()


def _is_full(folder: Path) -> bool:
    """Whether less is left than a page of memory, while the part of a file that could be written is still there."""
    return shutil.disk_usage(folder).free <= mmap.PAGESIZE


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def locked(path: Path) -> int | None:
    """Open a file, made if it is missing, and lock it for this process until the descriptor is closed.

    The kernel takes the lock away when the process ends in whatever way.

    Returns:
        the descriptor; ``None`` where another process has the lock.

    Raises:
        UserError: the file cannot be written, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise UserError(
            f"{str(path.parent)!r} is on a file system without file locks ({error.strerror}); choose another folder"
        ) from error
    return descriptor
