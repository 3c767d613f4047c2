"""Loops for numba over B-splines as piecewise polynomials.

Between two knots only degree + 1 functions are not zero, each a polynomial in u = x - origin. Their coefficients are
tabled first, by the recursion over the degree on polynomials instead of numbers; what lies beyond the range of the grid
is a piece like the others (a tangent, a constant or nothing), so that the loop over the data has no cases: find the
piece, evaluate. ``powers`` is the tuple (0, ..., degree), so that the degree is part of its type and a constant of the
machine code, which is kept on the disk.

A piece is ``table[input, piece]`` of shape (power, function), with its origin and the number of its first function,
which is negative, or leaves too few functions behind it, where the piece lies over the ghost knots.
"""

import numpy as np
from numba import njit

LINEAR, CLAMP, ZERO = 0, 1, 2

_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}


def _cached(function):
    """An entry point, whose machine code is kept on the disk where there is a place for it."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder that can be written to
        return njit(**_OPTIONS)(function)


@njit(**_OPTIONS)
def _knot(knots, i, j):
    """Knot j of input i, continued with the last gap on either side: what exists does not depend on these."""
    last = knots.shape[1] - 1
    if j < 0:
        return knots[i, 0] + j * (knots[i, 1] - knots[i, 0])
    if j > last:
        return knots[i, last] + (j - last) * (knots[i, last] - knots[i, last - 1])
    return knots[i, j]


@njit(**_OPTIONS)
def _fill_piece(knots, i, span, powers, piece):
    """Coefficients, in powers of x - t_span, of the functions span - degree, ..., span."""
    degree = len(powers) - 1
    piece[:] = 0
    piece[0, degree] = 1
    start = _knot(knots, i, span)
    for p in range(1, degree + 1):
        for j in range(degree - p, degree + 1):
            m = span - degree + j
            low, high = _knot(knots, i, m), _knot(knots, i, m + p + 1)
            rise = 1 / (_knot(knots, i, m + p) - low)
            fall = 1 / (high - _knot(knots, i, m + 1))
            for r in range(p, -1, -1):
                # The function j is overwritten from the highest power down, j + 1 is still of one degree less.
                own = piece[r, j] * (start - low) * rise
                if r > 0:
                    own += piece[r - 1, j] * rise
                if j < degree:
                    own += piece[r, j + 1] * (high - start) * fall
                    if r > 0:
                        own -= piece[r - 1, j + 1] * fall
                piece[r, j] = own


@njit(**_OPTIONS)
def _tabulate(knots, powers, mode):
    """(breaks, origins, firsts, table), as many pieces as breaks and one before them."""
    degree = len(powers) - 1
    inputs, last = knots.shape[0], knots.shape[1] - 1
    begin, end = (0, last) if mode == ZERO else (degree, last - degree)
    count = end - begin
    breaks = knots[:, begin : end + 1].copy()
    origins = np.zeros((inputs, count + 2), knots.dtype)
    firsts = np.zeros(count + 2, np.int64)
    table = np.zeros((inputs, count + 2, degree + 1, degree + 1), knots.dtype)
    for piece in range(count):
        firsts[piece + 1] = begin + piece - degree
    firsts[0], firsts[count + 1] = firsts[1], firsts[count]
    for i in range(inputs):
        for piece in range(count):
            _fill_piece(knots, i, begin + piece, powers, table[i, piece + 1])
            origins[i, piece + 1] = breaks[i, piece]
        origins[i, 0], origins[i, count + 1] = breaks[i, 0], breaks[i, count]
        if mode == ZERO:
            continue
        width = breaks[i, count] - breaks[i, count - 1]
        for j in range(degree + 1):
            table[i, 0, 0, j] = table[i, 1, 0, j]
            value, slope = table[i, count, degree, j], degree * table[i, count, degree, j]
            for r in range(degree - 1, -1, -1):
                value = value * width + table[i, count, r, j]
                if r > 0:
                    slope = slope * width + r * table[i, count, r, j]
            table[i, count + 1, 0, j] = value
            if mode == LINEAR:
                table[i, 0, 1, j] = table[i, 1, 1, j]
                table[i, count + 1, 1, j] = slope
    return breaks, origins, firsts, table


@njit(**_OPTIONS)
def _find(breaks, i, value, mode):
    """The piece of a value: how many breaks are not above it. The end of a range belongs to the piece before."""
    piece = np.int32(0)  # as wide as the comparisons, which the compiler then makes all at once
    for j in range(breaks.shape[1]):
        piece += np.int32(value >= breaks[i, j])
    if mode != ZERO and value == breaks[i, breaks.shape[1] - 1]:
        piece -= np.int32(1)
    return piece


@njit(**_OPTIONS)
def _value_of(table, i, piece, powers, u, j):
    degree = len(powers) - 1
    total = table[i, piece, degree, j]
    for r in range(degree - 1, -1, -1):
        total = total * u + table[i, piece, r, j]
    return total


@njit(**_OPTIONS)
def _slope_of(table, i, piece, powers, u, j):
    degree = len(powers) - 1
    total = degree * table[i, piece, degree, j]
    for r in range(degree - 1, 0, -1):
        total = total * u + r * table[i, piece, r, j]
    return total


@njit(**_OPTIONS)
def _local(origins, i, piece, value, mode, pieces):
    """x - origin; zero beyond a clamped end, where nothing depends on it: an infinite x times 0 would be none."""
    if mode == CLAMP and (piece == 0 or piece == pieces - 1):
        return origins[i, piece] - origins[i, piece]
    return value - origins[i, piece]


@_cached
def values(x, knots, powers, mode, out):
    """B_m(x_ni) into ``out`` (rows, inputs, functions); x is (rows, inputs)."""
    degree = len(powers) - 1
    breaks, origins, firsts, table = _tabulate(knots, powers, mode)
    rows, inputs, functions = out.shape
    for n in range(rows):
        for i in range(inputs):
            value = x[n, i]
            # What is no number is none in all functions.
            rest = value if value != value else x.dtype.type(0)
            for m in range(functions):
                out[n, i, m] = rest
            piece = _find(breaks, i, value, mode)
            u, first = _local(origins, i, piece, value, mode, len(firsts)), firsts[piece]
            if 0 <= first < functions - degree:
                for j in range(degree + 1):
                    out[n, i, first + j] = _value_of(table, i, piece, powers, u, j)
            else:
                for j in range(max(0, -first), min(degree + 1, functions - first)):
                    out[n, i, first + j] = _value_of(table, i, piece, powers, u, j)


@_cached
def gradient(x, incoming, knots, powers, mode, out):
    """sum_m incoming_nim B_m'(x_ni) into ``out`` (rows, inputs)."""
    degree = len(powers) - 1
    breaks, origins, firsts, table = _tabulate(knots, powers, mode)
    rows, inputs, functions = incoming.shape
    for n in range(rows):
        for i in range(inputs):
            value = x[n, i]
            piece = _find(breaks, i, value, mode)
            u, first = _local(origins, i, piece, value, mode, len(firsts)), firsts[piece]
            total = value if value != value else x.dtype.type(0)
            if 0 <= first < functions - degree:
                for j in range(degree + 1):
                    total += _slope_of(table, i, piece, powers, u, j) * incoming[n, i, first + j]
            else:
                for j in range(max(0, -first), min(degree + 1, functions - first)):
                    total += _slope_of(table, i, piece, powers, u, j) * incoming[n, i, first + j]
            out[n, i] = total
