"""Memory for batches that is used again, so that it costs no page faults and is page-locked beside a GPU."""

from __future__ import annotations

import mmap
import sys
import threading
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Batches that are kept at a time: those being filled, in the queue and in use, each with x and y.
_SLOTS = 16


class BufferRing:
    """Hands out uninitialised tensors in memory that nobody uses any more.

    Beside a GPU the tensors are page-locked, and torch's own allocator is the ring: it waits for the copies to the GPU
    that were started from a tensor. Otherwise a slot is used again only when no tensor or array refers to it, so that
    batches which are kept never change.

    Args:
        pin_memory: whether to lock pages; where there is a GPU if ``None``.
    """

    def __init__(self, pin_memory: bool | None = None) -> None:
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._forget()

    def take(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """A contiguous tensor with arbitrary contents."""
        if self.pin_memory:
            return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
        n_bytes = prod(shape) * dtype.itemsize
        if not n_bytes:
            return torch.empty(tuple(shape), dtype=dtype)
        with self._lock:
            return torch.from_numpy(self._slot(n_bytes)[:n_bytes]).view(dtype).view(tuple(shape))

    def _slot(self, n_bytes: int) -> np.ndarray:
        for place in range(len(self._slots)):
            if len(self._slots[place]) == n_bytes and _references(self._slots, place) == self._idle:
                self._slots.append(self._slots.pop(place))
                return self._slots[-1]
        slot = _pages(n_bytes)
        # Forget the oldest: its memory is freed as soon as nobody uses it.
        del self._slots[: max(0, len(self._slots) + 1 - _SLOTS)]
        self._slots.append(slot)
        return slot

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._slots: list[np.ndarray] = []
        self._idle = _references([np.empty(1, np.uint8)], 0)

    def __getstate__(self) -> dict[str, Any]:
        return {"pin_memory": self.pin_memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.pin_memory = state["pin_memory"]
        self._forget()


def _pages(n_bytes: int) -> np.ndarray:
    """(n_bytes,) uint8 from the begin of a page on: the kernel copies a fifth faster to there than to any address."""
    return np.frombuffer(mmap.mmap(-1, n_bytes), np.uint8)


def _references(slots: list[np.ndarray], place: int) -> int:
    """How often a slot is referred to, this list and this call included; every view of it counts."""
    return sys.getrefcount(slots[place])
