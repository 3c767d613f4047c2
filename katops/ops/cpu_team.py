"""Threads for compiled loops on the CPU: the ones that torch itself computes with.

A second pool of threads beside torch's would fight it for the cores: threads that have finished go on spinning for a
while, so that an operation of torch and one of another pool, taking turns, each wait for the other's threads to sleep.

A loop is a C function of one argument, a table of 64-bit integers. Its first four entries are set here and say which
part of the work is its own: the addresses of the functions that tell a thread's number and the number of threads, or
zeros, in which case the third and the fourth entry are these numbers. What follows is up to the loop.
"""

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

# In a forked child the threads of the parent do not exist, and what waits for them waits for ever.
_PROCESS = os.getpid()


class Sequential:
    """The calling thread does everything."""

    def run(self, function: int, entries: Sequence[int], threads: int) -> None:
        """Call the function at an address, with the table that these entries complete."""
        _call(function)(_table(0, 0, 0, 1, *entries))


SEQUENTIAL = Sequential()


class OpenMP:
    """The team of GNU's OpenMP, torch's on Linux.

    Args:
        library: where its functions are found.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._parallel = library.GOMP_parallel
        self._parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self._parallel.restype = None
        functions = (library.omp_get_thread_num, library.omp_get_num_threads)
        self._who = [ctypes.cast(function, ctypes.c_void_p).value for function in functions]

    def run(self, function: int, entries: Sequence[int], threads: int) -> None:
        """Every thread of the team calls the function, which asks who it is: a team may be smaller than asked for."""
        self._parallel(function, _table(*self._who, 0, 0, *entries), threads, 0)


class Threads:
    """Python's threads, for systems without GNU's OpenMP; ctypes lets go of the interpreter's lock."""

    def __init__(self) -> None:
        self._pools = cache(lambda threads: ThreadPoolExecutor(threads - 1, thread_name_prefix="katops"))

    def run(self, function: int, entries: Sequence[int], threads: int) -> None:
        """The calling thread takes the first part, the others the rest."""
        call = _call(function)
        tables = [_table(0, 0, number, threads, *entries) for number in range(threads)]
        others = [self._pools(threads).submit(call, table) for table in tables[1:]]
        call(tables[0])
        for other in others:
            other.result()


@cache
def team() -> OpenMP | Threads:
    """The threads of this process."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    return OpenMP(library) if library is not None and hasattr(library, "GOMP_parallel") else Threads()


def is_forked() -> bool:
    """Whether this process is a forked child of the one that imported katops."""
    return os.getpid() != _PROCESS


@cache
def _call(function: int) -> ctypes._CFuncPtr:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)


def _table(*entries: int) -> ctypes.Array:
    return (ctypes.c_int64 * len(entries))(*entries)
