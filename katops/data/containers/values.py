"""Attributes as plain Python values, and which arrays are small enough to be read at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from katops.data.storage import StoredArray

_LARGEST_LIST = 16 * 2**20
"""Bytes of an array without or with one axis: coordinates, times, parameters of samples."""
_LARGEST_ARRAY = 64 * 2**10
_MOST_BYTES = 64 * 2**20
_MOST_ARRAYS = 4000


class Budget:
    """How many small arrays of a file are read when it is looked at."""

    def __init__(self) -> None:
        self.bytes = 0
        self.arrays = 0

    def allows(self, array: StoredArray) -> bool:
        """Whether the elements of this array are to be read; if so, they are counted."""
        # Text is counted as 16 bytes each.
        size = array.size * (16 if array.dtype == "|O" else np.dtype(array.dtype).itemsize)
        limit = _LARGEST_LIST if len(array.shape) <= 1 else _LARGEST_ARRAY
        # Single numbers, such as a parameter in each of thousands of groups, are always read.
        full = self.arrays >= _MOST_ARRAYS and array.size > 1
        if size > limit or self.bytes + size > _MOST_BYTES or full:
            return False
        self.bytes += size
        self.arrays += array.size > 1
        return True


def plain_value(value: Any) -> Any:
    """An attribute as str, int, float, bool, list or ``None``."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray | list):
        return [plain_value(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        return plain_value(value.item())
    if isinstance(value, str | int | float | bool):
        return value
    # h5py.Empty is not imported here: files of other kinds need no h5py.
    return None if type(value).__name__ == "Empty" else str(value)
