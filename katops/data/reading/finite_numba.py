"""The look for NaN and infinity in machine code: one pass without memory of its own, without Python's lock."""

from numba import njit, types

_SIGNATURES = [bits(bits[::1], bits) for bits in (types.uint32, types.uint64)]


def _largest(numbers, mask):
    """The largest of ``numbers & mask``, (n,) of at least one."""
    found = numbers[0] & mask
    # By index: only then does the compiler make vector instructions of it.
    for place in range(len(numbers)):
        found = max(found, numbers[place] & mask)
    return found


def compiled():
    """The loop; cached on disk where there is a place for it."""
    try:
        return njit(_SIGNATURES, nogil=True, cache=True)(_largest)
    except RuntimeError:
        return njit(_SIGNATURES, nogil=True)(_largest)
