"""Telling the operating system what will be read next, as long as it does not have it in memory anyway."""

from __future__ import annotations

import os
from collections.abc import Sequence

from katops.data.reading.handles import Handles

# Ranges of a batch that are looked up in the cache; a system call each.
_LOOKED_UP = 16
# After so many batches that were found in the cache, one in so many is looked at.
_CONVINCED, _ONE_IN = 4, 16


class Advice:
    """Has the bytes of the next batch read in the background, unless they are found in the cache.

    Asking for what is there already costs a third of reading it. So a few ranges are looked up first, and where several
    batches after one another were found, the next ones are mostly left alone.
    """

    def __init__(self) -> None:
        self._found = self._passed = 0

    def is_due(self) -> bool:
        """Whether the next batch should be looked at; without effect where the system takes no advice."""
        if not hasattr(os, "posix_fadvise"):
            return False
        self._passed += 1
        return self._found < _CONVINCED or self._passed % _ONE_IN == 0

    def give(self, ranges: Sequence[tuple[int, int, int]], handles: Handles) -> None:
        """Ask for (file, offset, bytes); returns at once."""
        some = ranges[:: -(-len(ranges) // _LOOKED_UP) or 1]
        if all(_is_cached(handles.descriptor(file).number, offset, size) for file, offset, size in some):
            self._found += 1
            return
        self._found = 0
        for file, offset, size in ranges:
            os.posix_fadvise(handles.descriptor(file).number, offset, size, os.POSIX_FADV_WILLNEED)

    def __getstate__(self) -> dict:
        return {}

    def __setstate__(self, state: dict) -> None:
        self.__init__()


def _is_cached(descriptor: int, offset: int, size: int) -> bool:
    """Whether the last byte of a range can be had without the disk; ``False`` where the system does not tell."""
    try:
        return os.preadv(descriptor, [bytearray(1)], offset + size - 1, os.RWF_NOWAIT) == 1
    except (OSError, AttributeError):
        return False
