"""Finding out that a process of the job is gone, before a collective operation has waited for it for hours.

Gloo notices a process that has ended by its closed connection, NCCL does not, and neither notices one that hangs or a
machine that is cut off. So each process counts up a number in the store that all of them share, and looks at that of
the process after it.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed as dist

from katops.distributed.processes import Processes

INTERVAL = 2.0
LOST_AFTER = 30.0
LATE = 4
"""So many intervals without a turn mean that this process was suspended."""
GRACE = 5.0
"""Seconds in which the main thread may find out by itself; it says more."""
LOSS = 1


class Heartbeat:
    """Counts, and ends this process where another one of the job does not count any more.

    Args:
        store: of the job, as :func:`torch.distributed.rendezvous.rendezvous` gives it.
        processes: of the job.
        interval: seconds from one count to the next.
        lost_after: seconds without a count after which a process is taken to be gone.
    """

    def __init__(
        self, store: dist.Store, processes: Processes, interval: float = INTERVAL, lost_after: float = LOST_AFTER
    ) -> None:
        # A connection of its own: the one of the process group waits, and while it waits it is not shared.
        self._store = dist.PrefixStore("katops", store.clone())
        self._processes = processes
        self._interval = interval
        self._lost_after = lost_after
        self._stopped = threading.Event()
        self._answered = time.monotonic()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Count while the block runs."""
        runs = {"katops-heartbeat": self._run, "katops-heartbeat-watch": self._watch}
        threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in runs.items()]
        for thread in threads:
            thread.start()
        ending = "failed"
        try:
            yield
            ending = "left"
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join(self._interval)
            # Where the store does not answer, saying good-bye would wait for it.
            if not threads[0].is_alive():
                self._say(ending, self._processes.rank)

    def knows(self) -> bool:
        """Whether a process is known to be gone."""
        try:
            return bool(self._read("lost") or self._read("failed"))
        except RuntimeError:
            return True

    def tells(self) -> bool:
        """Whether this is the first process that tells of the loss; ``True`` where nobody can be asked."""
        try:
            return self._store.add("told", 1) == 1
        except RuntimeError:
            return True

    def sentence(self) -> str:
        """Which process is gone, as far as it is known."""
        try:
            who = self._read("lost") or self._read("failed")
        except RuntimeError:
            who = None
        return self._loss("another process" if who is None else f"process {who}")

    def _loss(self, name: str) -> str:
        return (
            f"{name} of the {self._processes.size} of this job is gone (its own message, if any, says why), so this "
            f"one ends too; what was saved is kept, and --resume continues from it"
        )

    def _run(self) -> None:
        watched = (self._processes.rank + 1) % self._processes.size
        seen, since, count = None, time.monotonic(), 0
        while not self._stopped.wait(self._interval):
            count += 1
            if time.monotonic() - self._answered > LATE * self._interval:
                since = time.monotonic()  # this process has been asleep, so that nothing is known of the others
            try:
                self._store.set(f"beat/{self._processes.rank}", str(count))
                beat, left = self._read(f"beat/{watched}"), self._read(f"left/{watched}")
                gone = self._read("lost") or self._read("failed")
            except RuntimeError:  # the store has gone with the process that held it
                gone = beat = left = "0"
            self._answered = time.monotonic()
            if beat != seen or left:
                seen, since = beat, time.monotonic()
            elif time.monotonic() - since > self._lost_after:
                self._say("lost", watched)
                gone = str(watched)
            if gone:
                if not self._stopped.wait(GRACE):
                    self._end(self.sentence(), self.tells())
                return

    def _watch(self) -> None:
        """End this process where the store itself has not answered for too long: its machine is cut off, or hangs."""
        awake = time.monotonic()
        while not self._stopped.wait(self._interval):
            now = time.monotonic()
            if now - awake > LATE * self._interval:
                self._answered = now  # all have been asleep
            awake = now
            if now - self._answered > self._lost_after:
                self._end(self._loss("the process or machine that the others meet at"), True)
                return

    def _end(self, sentence: str, tells: bool) -> None:
        """End this process from the thread; the main one may wait for ever in a collective operation."""
        if tells:
            print(f"error: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - the process ends here
        os._exit(LOSS)

    def _say(self, key: str, rank: int) -> None:
        try:
            self._store.set(key, str(rank))
            self._store.set(f"{key}/{rank}", "1")
        except RuntimeError:
            return

    def _read(self, key: str) -> str | None:
        return self._store.get(key).decode() if self._store.check([key]) else None
