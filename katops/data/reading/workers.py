"""A few threads that read: they belong to one process and are made when there is something to share out."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

_FEWEST, _MOST = 2, 8
# Half a millisecond from the page cache. Less is not worth waiting for a thread that is not given a processor at once.
_WORTH_SHARING = 4 * 2**20

# Looking at memory is about so many times as fast as reading a file.
_FASTER = 8


def is_worth_sharing(n_bytes: int) -> bool:
    """Whether reading so much is shared out among threads."""
    return n_bytes >= _WORTH_SHARING


class Workers:
    """Runs tasks in the calling thread and in up to ``size - 1`` others.

    Args:
        size: threads, the calling one included; the number of processors, 2 to 8, where ``None``.
    """

    def __init__(self, size: int | None = None) -> None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.size = min(max(processors, _FEWEST), _MOST) if size is None else max(1, size)
        self._forget()

    def run(self, tasks: Iterable[Callable[[Scratch], None]], n_bytes: int) -> None:
        """Call every task once with the scratch memory of its thread; the first error is raised."""
        queue = deque(tasks)
        threads = min(self.size, len(queue)) if is_worth_sharing(n_bytes) else 1
        if threads <= 1:
            self._drain(queue)
            return
        pool = self._threads()
        others = [pool.submit(self._drain, queue) for _ in range(threads - 1)]
        try:
            self._drain(queue)
        finally:
            # The caller owns the memory that the others write to: wait for those that have begun, even after an error.
            queue.clear()
            errors = [other.exception() for other in others if not other.cancel()]
        for error in errors:
            if error is not None:
                raise error

    def split(self, function: Callable[[int, int], None], size: int, n_bytes: int) -> None:
        """Call ``function(first, last)`` on parts of ``range(size)``; it goes through ``n_bytes`` in memory."""
        if n_bytes // _FASTER < _WORTH_SHARING:
            function(0, size)
            return
        bounds = np.linspace(0, size, min(size, 2 * self.size) + 1).astype(int).tolist()
        parts = pairwise(bounds)
        self.run([lambda _, a=first, b=last: function(a, b) for first, last in parts], n_bytes // _FASTER)

    def _drain(self, queue: deque[Callable[[Scratch], None]]) -> None:
        scratch = self._scratch_of_thread()
        # A float64 too large for float32 becomes inf, which the check for finite values reports better than numpy.
        with np.errstate(over="ignore", invalid="ignore"):
            while True:
                try:
                    task = queue.popleft()
                except IndexError:
                    return
                try:
                    task(scratch)
                except BaseException:
                    queue.clear()
                    raise

    def _threads(self) -> ThreadPoolExecutor:
        if self._process != os.getpid():
            # Threads do not survive a fork, and a lock may have been held by one of them.
            self._forget()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.size - 1, thread_name_prefix="katops-read")
            return self._pool

    def _scratch_of_thread(self) -> Scratch:
        if not hasattr(self._local, "scratch"):
            self._local.scratch = Scratch()
        return self._local.scratch

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._pool: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.size = state["size"]
        self._forget()


class Scratch:
    """Memory of one thread that is reused from read to read."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def take(self, n_bytes: int) -> np.ndarray:
        """(n_bytes,) uint8 with arbitrary contents; valid until the next call."""
        if len(self._memory) < n_bytes:
            self._memory = np.empty(n_bytes, np.uint8)
        return self._memory[:n_bytes]
