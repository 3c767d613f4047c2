"""The helper process of :mod:`.probe`: looks into files, so that a crash inside a C library ends this process only."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from katops.data.containers.digest import digest_of_hdf5
from katops.data.containers.errors import one_line
from katops.data.containers.kinds import container_of
from katops.data.storage import StoredTree
from katops.errors import UserError

MEMORY = 8 * 2**30
"""Bytes of address space: a damaged size must not take the memory of the machine."""
HEADER = struct.Struct("<cQ")
"""Of an answer: what it is, and how many bytes follow. Of a question: its length only."""
LENGTH = struct.Struct("<Q")
BEAT, RESULT, REFUSAL = b"b", b"r", b"u"
_BEAT_INTERVAL = 0.02
"""Seconds between two signs of life; they cost a system call each."""
Beat = Callable[[], None]


def look(beat: Beat, path: Path) -> StoredTree:
    """What the file stores, whatever its container."""
    container = container_of(path)
    if container == "hdf5":
        from katops.data.containers import hdf5

        return hdf5.look(path, beat)
    from katops.data.containers.loading import module_of

    if container == "torch":
        _lift_memory_limit()
    return module_of(container).look(path, beat)


def fetch(beat: Beat, path: Path, container: str, name: str, part: tuple = ()) -> Any:
    """The elements of one array, or some of them."""
    if container in ("hdf5", "matlab73"):
        from katops.data.containers import hdf5

        return hdf5.fetch(path, name, part)
    from katops.data.containers.loading import load_array

    return load_array(path, container, name)[(*part, ...)]


def chunks(beat: Beat, path: Path, name: str) -> Any:
    """Where the chunks of an HDF5 array lie."""
    from katops.data.containers import hdf5

    return hdf5.chunks_of(path, name, beat)


def digest(beat: Beat, path: Path) -> str:
    """Of the contents of an HDF5 file; its arrays are read in part."""
    return digest_of_hdf5(path, beat)


_ANSWERS: dict[str, Callable[..., Any]] = {"look": look, "fetch": fetch, "chunks": chunks, "digest": digest}


def main() -> None:
    """Answer questions until the other side closes the pipe."""
    # A key pressed in the terminal reaches both processes; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    questions, answers = _take_pipes()
    _limit_memory()
    while True:
        length = questions.read(LENGTH.size)
        if len(length) < LENGTH.size:
            return
        name, patience, folder, arguments = pickle.loads(questions.read(LENGTH.unpack(length)[0]))
        if folder is not None:
            os.chdir(folder)
        kind, answer = _answer(name, arguments, _Pulse(answers, patience).beat)
        signal.setitimer(signal.ITIMER_REAL, 0)
        content = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
        answers.write(HEADER.pack(kind, len(content)))
        answers.write(content)
        answers.flush()


class _Pulse:
    """Signs of life on the pipe; where they stop, the parent kills this process, and so does its own alarm clock."""

    def __init__(self, answers: BinaryIO, patience: float) -> None:
        self.answers = answers
        # The default action of SIGALRM ends the process even in the middle of a C loop, with the parent long gone.
        self.patience = 2 * patience + 10
        self.last = 0.0
        self.beat()

    def beat(self) -> None:
        now = time.monotonic()
        if now - self.last >= _BEAT_INTERVAL:
            self.last = now
            signal.setitimer(signal.ITIMER_REAL, self.patience)
            self.answers.write(HEADER.pack(BEAT, 0))
            self.answers.flush()


def _answer(name: str, arguments: tuple, beat: Beat) -> tuple[bytes, Any]:
    path = arguments[0]
    try:
        return RESULT, _ANSWERS[name](beat, *arguments)
    except UserError as error:
        return REFUSAL, str(error)
    except MemoryError:
        return REFUSAL, f"{path} is damaged: its structure asks for more memory than {MEMORY // 2**30} GiB"
    except RecursionError:
        return REFUSAL, f"{path} is damaged: its groups are nested without end"
    # Anything may be raised by code that meets bytes which make no sense; the file is to blame.
    except Exception as error:
        return REFUSAL, f"{path} cannot be read, it may be damaged: {type(error).__name__}: {one_line(error)}"


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our ends of the pipes; what libraries print (HDF5 prints its errors) goes nowhere."""
    questions, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    return os.fdopen(questions, "rb"), os.fdopen(answers, "wb")


def _limit_memory() -> None:
    import resource

    # Not every system has this limit.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _lift_memory_limit() -> None:
    """torch reserves more addresses than any damaged file asks for."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


if __name__ == "__main__":
    main()
