"""Reading many byte ranges of a file to addresses in memory."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from katops.data.reading.handles import Descriptor

# Loading the machine code takes a third of a second, which a short program does not get back.
_CALLS_BEFORE = 32

Loop = Callable[[int, np.ndarray, np.ndarray, np.ndarray, int], int]
Place = Callable[..., bool]


class RangeReader:
    """Reads byte ranges, at first with a loop in Python, when called often with one in machine code.

    The loop in Python asks for Python's lock after every range, and may wait 5 ms for it when the program computes.

    Attributes:
        place: :func:`.ranges_numba._place`, ``None`` before the machine code is there.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._loop: Loop | None = None
        self.place: Place | None = None
        self._lock = threading.Lock()

    def __call__(self, descriptor: Descriptor, offsets: np.ndarray, sizes: np.ndarray, addresses: np.ndarray) -> None:
        """Read ``sizes`` bytes at ``offsets`` to ``addresses``, all (n,) int64 and contiguous, sorted by offset.

        Raises:
            UserError: the file ends before, or the disk fails.
        """
        loop = self._loop or self._find_loop()
        first, count = loop(descriptor.number, offsets, sizes, addresses, 0), len(offsets)
        while first < count:
            # The slow way completes what came short, or says why it cannot be read.
            descriptor.read(memory_at(int(addresses[first]), int(sizes[first])), int(offsets[first]))
            first = loop(descriptor.number, offsets, sizes, addresses, first + 1)

    def _find_loop(self) -> Loop:
        self._calls += 1
        if self._calls > _CALLS_BEFORE and self._lock.acquire(blocking=False):
            self._loop, self.place = _machine_code()
            self._lock.release()
        return self._loop or _read

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()


def memory_at(address: int, size: int) -> memoryview:
    """Writable memory that somebody else keeps alive."""
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def _read(descriptor: int, offsets: np.ndarray, sizes: np.ndarray, addresses: np.ndarray, first: int) -> int:
    preadv = getattr(os, "preadv", None)
    ranges = zip(offsets[first:].tolist(), sizes[first:].tolist(), addresses[first:].tolist(), strict=True)
    for position, (offset, size, address) in enumerate(ranges):
        buffer = (ctypes.c_char * size).from_address(address)
        try:
            got = -1 if preadv is None else preadv(descriptor, (buffer,), offset)
        except OSError:
            got = -1
        if got != size:
            return first + position
    return len(offsets)


def _machine_code() -> tuple[Loop, Place | None]:
    if struct.calcsize("P") != 8:
        return _read, None
    try:
        from katops.data.reading.ranges_numba import compiled

        return compiled()
    except Exception:  # a numba that does not fit numpy, a C library without preadv: the slower ways do the same
        return _read, None
