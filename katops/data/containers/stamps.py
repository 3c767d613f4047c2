"""By what a changed file is noticed."""

from __future__ import annotations

import os
from pathlib import Path


def stamp_of(path: str | Path) -> tuple[int, int]:
    """(bytes, modification time in ns); of a folder, the bytes and the latest time of the files in it.

    Raises:
        FileNotFoundError: it does not exist.
    """
    status = os.stat(path)
    if not os.path.isdir(path):
        return status.st_size, status.st_mtime_ns
    size, latest = 0, status.st_mtime_ns
    for folder, _, names in os.walk(path):
        for name in names:
            inner = os.stat(os.path.join(folder, name))
            size += inner.st_size
            latest = max(latest, inner.st_mtime_ns)
    return size, latest
