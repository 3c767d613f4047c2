"""What is done for each window, in machine code, without asking for Python's lock between two of them."""

import numpy as np
from numba import njit, types

_INT64 = types.int64
# preadv of the C library; the lists of pieces are pairs of 64-bit integers (address, bytes).
_preadv = types.ExternalFunction("preadv", _INT64(types.int32, _INT64, types.int32, _INT64))
_SIGNATURE = _INT64(_INT64, _INT64[::1], _INT64[::1], _INT64[::1], _INT64)
_PLACE_SIGNATURE = types.boolean(*[_INT64[::1]] * 7, *[_INT64] * 7)
# The kernel takes 1024 pieces and 2 GiB per call.
_MOST_PIECES, _MOST_BYTES = 512, 2**30


def _read(descriptor, offsets, sizes, addresses, first):
    """Read from range ``first`` on; returns the range that failed or came short, or the number of ranges.

    Ranges that follow one another in the file are one system call.
    """
    pieces = np.empty((_MOST_PIECES, 2), np.int64)
    count = len(offsets)
    while first < count:
        pieces[0, 0], pieces[0, 1] = addresses[first], sizes[first]
        used, total, following = 1, sizes[first], first + 1
        while following < count and offsets[following] == offsets[first] + total and total < _MOST_BYTES:
            if addresses[following] == pieces[used - 1, 0] + pieces[used - 1, 1]:
                pieces[used - 1, 1] += sizes[following]
            elif used < _MOST_PIECES:
                pieces[used, 0], pieces[used, 1] = addresses[following], sizes[following]
                used += 1
            else:
                break
            total += sizes[following]
            following += 1
        if _preadv(descriptor, pieces.ctypes.data, used, offsets[first]) != total:
            return first
        first = following
    return first


def _place(
    offsets, addresses, samples, starts, slots, frames, bases,
    sample_stride, frame_stride, place, slot_bytes, step_bytes, steps, every,
):  # fmt: skip
    """Where the frames of windows lie in a file of contiguous arrays, and where they belong in memory.

    Fills ``offsets`` and ``addresses`` with ``steps`` entries per window, 1 where the whole window is one; returns
    whether all windows are inside of the trajectories, of ``frames`` frames.
    """
    entry = 0
    for k in range(len(samples)):
        sample, start = samples[k], starts[k]
        if not (0 <= sample < len(frames) and start >= 0 and start + (steps - 1) * every < frames[sample]):
            return False
        offset = bases[sample] if len(bases) > 1 else bases[0] + sample * sample_stride
        offset += start * frame_stride
        address = place + slots[k] * slot_bytes
        for _ in range(len(offsets) // len(samples)):
            offsets[entry], addresses[entry] = offset, address
            offset += every * frame_stride
            address += step_bytes
            entry += 1
    return True


def compiled():
    """The two functions; cached on disk where there is a place for it."""
    try:
        return (
            njit(_SIGNATURE, nogil=True, cache=True)(_read),
            njit(_PLACE_SIGNATURE, nogil=True, cache=True)(_place),
        )
    except RuntimeError:
        return njit(_SIGNATURE, nogil=True)(_read), njit(_PLACE_SIGNATURE, nogil=True)(_place)
