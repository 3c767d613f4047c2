"""Looking for NaN and infinity in what was read, at the speed of memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Loading the machine code takes a third of a second, which a short program does not get back.
_CALLS_BEFORE = 32
# Bytes that numpy looks at in one go: what it writes meanwhile, a bool for each number, stays in the cache.
_LOOK = 2**20

Largest = Callable[[np.ndarray, np.unsignedinteger], int]


class FiniteCheck:
    """Tells whether numbers are finite, at first with numpy, when called often with machine code (half the time)."""

    def __init__(self) -> None:
        self._calls = 0
        self._largest: Largest | None = None

    def __call__(self, values: np.ndarray) -> bool:
        """Whether all of float32 or float64 values, (n,) and contiguous, are finite."""
        self._calls += 1
        if self._calls == _CALLS_BEFORE:
            self._largest = _machine_code()
        if self._largest is None or not len(values):
            at_once = _LOOK // values.itemsize
            return all(np.isfinite(values[first : first + at_once]).all() for first in range(0, len(values), at_once))
        # Without the sign, the bits of a finite number are less than those of infinity, those of NaN are not.
        bits = np.dtype(f"u{values.itemsize}").type
        infinity = np.array(np.inf, values.dtype).view(bits)
        return self._largest(values.view(bits), bits(np.iinfo(bits).max >> 1)) < infinity

    def __getstate__(self) -> dict:
        return {}

    def __setstate__(self, state: dict) -> None:
        self.__init__()


def _machine_code() -> Largest | None:
    try:
        from katops.data.reading.finite_numba import compiled

        return compiled()
    except Exception:  # a numba that does not fit numpy: numpy does the same
        return None
