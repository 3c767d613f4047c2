"""Work done in a background thread, a little ahead of whoever wants the results."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from katops.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


class _Failure(NamedTuple):
    error: BaseException


class _End:
    """Nothing comes after this."""


class _Belt:
    """Carries results from the thread to the consumer; at most ``depth`` of them are made before they are wanted."""

    def __init__(self, depth: int) -> None:
        self.results: queue.SimpleQueue = queue.SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._stopped = False

    def wait_for_room(self) -> bool:
        """Whether a further result is wanted; waits until that is known."""
        self._room.acquire()
        return not self._stopped

    def make_room(self) -> None:
        self._room.release()

    def stop(self) -> None:
        self._stopped = True
        self._room.release()


def read_ahead(
    jobs: Iterator[Job],
    work: Callable[[Job], Result],
    advise: Callable[[Job], None],
    depth: int = 2,
    timeout: float | None = None,
) -> Iterator[Result]:
    """Yield ``work(job)`` for every job in order, worked out in a thread that is up to ``depth`` results ahead.

    What the work raises is raised here. The thread ends when the iterator is exhausted, closed or garbage collected. A
    forked process has no such thread: there the iterator raises, and closing it does nothing.

    Args:
        jobs: taken one by one, in the thread.
        work: called in the thread.
        advise: called in the thread with the job after the one that is worked on next.
        depth: results that may wait.
        timeout: seconds that a result may take; ``None`` waits for ever.

    Raises:
        UserError: a result has taken longer; the thread is left behind.
    """
    belt, process = _Belt(depth), os.getpid()
    thread = threading.Thread(target=_run, args=(belt, jobs, work, advise), name="katops-read-ahead", daemon=True)
    thread.start()
    waits = True
    try:
        while True:
            if os.getpid() != process:
                raise RuntimeError("an iterator over batches does not survive a fork; start a new one")
            try:
                result = belt.results.get(timeout=timeout)
            except queue.Empty:
                # It cannot be waited for: what it is waiting for itself, a file system perhaps, does not answer.
                waits = False
                raise UserError(
                    f"reading a batch has taken more than {timeout:g} s; look at the file system, or allow more with "
                    f"data.timeout (0: any)"
                ) from None
            if isinstance(result, _Failure):
                try:
                    raise result.error
                finally:
                    # The error refers to this frame: without a circle both are freed at once.
                    del result
            if isinstance(result, _End):
                return
            belt.make_room()
            yield result
            # The batch may be in memory that is used again as soon as nobody holds it.
            del result
    finally:
        if os.getpid() == process:
            belt.stop()
            # The garbage collector may run this in the thread itself.
            if waits and threading.current_thread() is not thread:
                thread.join()


def _run(belt: _Belt, jobs: Iterator[Job], work: Callable[[Job], Result], advise: Callable[[Job], None]) -> None:
    try:
        following = next(jobs, None)
        while following is not None and belt.wait_for_room():
            job, following = following, next(jobs, None)
            if following is not None:
                # What is wrong with that job is told when its turn comes.
                with contextlib.suppress(UserError):
                    advise(following)
            belt.results.put(work(job))
        belt.results.put(_End())
    except BaseException as error:
        belt.results.put(_Failure(error))
