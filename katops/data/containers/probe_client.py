"""The parent's side of the helper process: start it, ask it, end it."""

from __future__ import annotations

import atexit
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import Any

from katops.data.containers.probe_server import BEAT, HEADER, LENGTH, REFUSAL
from katops.errors import UserError

_PROGRAM = "import sys; sys.argv[0] = 'katops'; from katops.data.containers.probe_server import main; main()"
"""With the name of the command line, ``import katops`` leaves torch and the models alone."""


class Helper:
    """A helper process that belongs to this process alone, started when it is first asked.

    Threads take turns. A forked child starts one of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._complaints: Any = None
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @property
    def pid(self) -> int | None:
        """Process id, ``None`` where none is running."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def ask(self, question: str, patience: float, path: Any, *arguments: Any) -> Any:
        """The answer of :mod:`katops.data.containers.probe_server` to a question about a file.

        Raises:
            UserError: the answer is a refusal, or the helper crashed or fell silent for ``patience`` seconds.
        """
        with self._lock:
            try:
                kind, answer = self._exchange((question, patience, _folder(), (path, *arguments)), patience)
            except _Silence:
                self._kill()
                raise UserError(
                    f"{path} is damaged, or the disk it is on does not answer: reading its structure did not come "
                    f"back within {patience:g} s"
                ) from None
            except (EOFError, BrokenPipeError):
                raise UserError(f"{path} is damaged: {self._cause()} while reading its structure") from None
            except BaseException:
                # Half an answer may be in the pipe (KeyboardInterrupt).
                self._kill()
                raise
        if kind == REFUSAL:
            raise UserError(answer)
        return answer

    def close(self) -> None:
        """End the helper process; the next question starts another."""
        with self._lock:
            self._kill()

    def _exchange(self, question: tuple, patience: float) -> tuple[bytes, Any]:
        if self.pid is None:
            self._kill()
            self._start()
        content = pickle.dumps(question)
        self._process.stdin.write(LENGTH.pack(len(content)) + content)
        self._process.stdin.flush()
        while True:
            kind, length = HEADER.unpack(self._receive(HEADER.size, patience))
            if kind != BEAT:
                return kind, pickle.loads(self._receive(length, patience))

    def _receive(self, length: int, patience: float) -> bytearray:
        pipe = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        received = bytearray(length)
        view = memoryview(received)
        while view:
            if not poll.poll(1000 * patience):
                raise _Silence
            count = os.readv(pipe, [view])
            if not count:
                raise EOFError
            view = view[count:]
        return received

    def _start(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path),
            # The helper calculates nothing; without this, importing numpy starts threads.
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the helper
        # -P: nothing is imported from the folder one happens to work in.
        command = [sys.executable, "-P", "-c", _PROGRAM]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, env=environment
        )

    def _cause(self) -> str:
        code = self._process.wait()
        self._complaints.seek(0)
        complaints = self._complaints.read().decode(errors="replace").strip()
        self._kill()
        if complaints:
            raise RuntimeError(f"the helper process for reading files cannot run: {complaints}")
        if code == -signal.SIGALRM:
            return "the library that reads it did not come back"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the library that reads it crashed ({name})"

    def _kill(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def _forget(self) -> None:
        """In a forked child: the helper is the parent's, and so may be the state of the lock."""
        self._lock = threading.Lock()
        if self._process is not None:
            # Known to have ended, as far as this process is concerned: it cannot wait for it.
            self._process.returncode = 0
            self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._complaints):
            try:
                pipe.close()
            except BrokenPipeError:
                continue
        self._process = None


def _folder() -> str | None:
    """Where relative paths begin; ``None`` where that folder has been removed."""
    with suppress(OSError):
        return os.getcwd()
    return None


class _Silence(Exception):
    """No sign of life."""


HELPER = Helper()
"""The helper of this process."""
