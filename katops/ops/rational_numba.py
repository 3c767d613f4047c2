"""The group rational function for numba: vectorised loops over tiles of one group, and the walks over a tensor's tiles.

Polynomials are tuples of coefficients in ascending powers, so that their degrees are part of their types: the compiler
unrolls the recursions below, and each pair of degrees gets machine code of its own. bfloat16 numbers are uint16 bit
patterns.

The sums of a tile are taken in the type of the arithmetic and added to float64 sums of its task. Tasks are fixed parts
of the tensor, added up in order, so that the bits do not depend on who computes them, or on how many do.

Far elements, |x| beyond the limit, overflow in float32. The loops count them, and a tile with far elements is computed
again in float64, with a number in the place of an infinite x so large that float32 cannot tell the result from the
limit. Where that is no help, the entry points return the number of far elements and leave them to the caller.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray, njit, prange, types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic, overload
from numba.np.numpy_support import as_dtype

from katops.ops.rational_kernels import INFINITE

TILE = 4096

# NaN and infinities must stay where they are: no 'nnan', no 'ninf'. An element must not depend on its place in the
# vector: no 'arcp', which approximates the division in the vectorised part of a loop only.
_OPTIONS: dict[str, Any] = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy", "nogil": True}

# Polynomials


def _horner(x, coefficients):
    """sum_k coefficients[k] x^k."""


@overload(_horner)
def _horner_unrolled(x, coefficients):
    zero = as_dtype(x).type(0)
    if len(coefficients) == 0:
        return lambda x, coefficients: zero
    if len(coefficients) == 1:
        return lambda x, coefficients: coefficients[0]
    return lambda x, coefficients: coefficients[0] + x * _horner(x, coefficients[1:])


def _slope(coefficients):
    """The coefficients k c_k of the derivative."""


@overload(_slope)
def _slope_unrolled(coefficients):
    if len(coefficients) < 2:
        return lambda coefficients: ()
    power = as_dtype(coefficients[-1]).type(len(coefficients) - 1)
    return lambda coefficients: _slope(coefficients[:-1]) + (power * coefficients[-1],)  # noqa: RUF005


def _plus_powers(sums, even, odd, square):
    """sums_0 + even, sums_1 + odd, sums_2 + even square, sums_3 + odd square, ..."""


@overload(_plus_powers)
def _plus_powers_unrolled(sums, even, odd, square):
    if len(sums) == 0:
        return lambda sums, even, odd, square: ()
    return lambda sums, even, odd, square: (
        (sums[0] + even,) + _plus_powers(sums[1:], odd, even * square, square)  # noqa: RUF005 - numba needs the sum
    )


def _row(matrix, row, like):
    """A row of a matrix, as many numbers of the same type as ``like``."""


@overload(_row)
def _row_unrolled(matrix, row, like):
    if len(like) == 0:
        return lambda matrix, row, like: ()
    number, last = as_dtype(like[0]).type, len(like) - 1
    return lambda matrix, row, like: _row(matrix, row, like[:-1]) + (number(matrix[row, last]),)  # noqa: RUF005


def _sizes(coefficients):
    """|c_k|."""


@overload(_sizes)
def _sizes_unrolled(coefficients):
    if len(coefficients) == 0:
        return lambda coefficients: ()
    return lambda coefficients: (abs(coefficients[0]),) + _sizes(coefficients[1:])  # noqa: RUF005


def _double(coefficients):
    """The same numbers in float64."""


@overload(_double)
def _double_unrolled(coefficients):
    if len(coefficients) == 0:
        return lambda coefficients: ()
    return lambda coefficients: (np.float64(coefficients[0]),) + _double(coefficients[1:])  # noqa: RUF005


# Elements


def _one(like):
    """1 in the type of ``like``."""


@overload(_one)
def _one_like(like):
    one = as_dtype(like).type(1)
    return lambda like: one


@njit(error_model="numpy")
def _with_sign(size, x):
    """``size`` with the sign bit of x; apart, because 'nsz' would let the compiler forget the sign of a zero."""
    return math.copysign(size, x)


def _read(element, like):
    """An element of x or of the incoming gradient in the type of the arithmetic, that of ``like``."""


@overload(_read)
def _read_as(element, like):
    number = as_dtype(like).type
    if isinstance(element, types.Integer):
        return lambda element, like: number(np.uint32(element << 16).view(np.float32))
    return lambda element, like: number(element)


def _write(array, index, number):
    """Store a number, rounded to the type of the array."""


@overload(_write)
def _write_as(array, index, number):
    if not isinstance(array.dtype, types.Integer):

        def store(array, index, number):
            array[index] = number

        return store

    def round_to_nearest_even(array, index, number):
        bits = np.float32(number).view(np.uint32)
        rounded = np.uint32(np.uint32(bits + np.uint32(0x7FFF) + (np.uint32(bits >> 16) & np.uint32(1))) >> 16)
        quiet_nan = np.uint32(np.uint32(bits >> 16) | np.uint32(0x40))
        array[index] = np.uint16(quiet_nan if number != number else rounded)

    return round_to_nearest_even


# Tiles: neighbouring elements of one group


@njit(**_OPTIONS)
def _value_tile(x, y, p, q, limit, infinite):
    """y = P / Q, with ``infinite`` (unless None) in the place of an infinite x; the number of far elements."""
    far = np.int32(0)
    for i in range(len(x)):
        value = _read(x[i], limit)
        if infinite is not None:
            value = _with_sign(infinite, value) if abs(value) == np.inf else value
        size = abs(value)
        far = np.int32(far + np.int32(size > limit))
        _write(y, i, _horner(value, p) / _horner(size, q))
    return far


@njit(**_OPTIONS)
def _gradient_tile(x, gradient, grad_x, p, q, sums_p, sums_q, limit, infinite):
    """dx = w (P' - f sgn(x) Q') with w = g / Q and f = P / Q, and the sums of w x^i and of w f |x|^j, j >= 1.

    Returns the number of far elements and ``sums_p`` and ``sums_q`` with the tile's added.
    """
    slope_p, slope_q = _slope(p), _slope(q)
    far = np.int32(0)
    for i in range(len(x)):
        value = _read(x[i], limit)
        if infinite is not None:
            value = _with_sign(infinite, value) if abs(value) == np.inf else value
        size = abs(value)
        far = np.int32(far + np.int32(size > limit))
        inverse = q[0] / _horner(size, q)
        weight, f = _read(gradient[i], limit) * inverse, _horner(value, p) * inverse
        slope = _horner(value, slope_p) - f * _with_sign(_horner(size, slope_q), value)
        _write(grad_x, i, weight * slope)
        square, weighted = value * value, weight * f
        sums_p = _plus_powers(sums_p, weight, weight * value, square)
        sums_q = _plus_powers(sums_q, weighted * size, weighted * square, square)
    return far, sums_p, sums_q


@njit(**_OPTIONS)
def _polynomials(coefficients, group):
    """P and Q of a group as tuples."""
    a, b, zeros_a, zeros_b = coefficients
    p = _row(a, group if len(a) > 1 else 0, zeros_a)
    return p, (_one(p[0]),) + _sizes(_row(b, group if len(b) > 1 else 0, zeros_b))  # noqa: RUF005


@njit(**_OPTIONS)
def _values(x, y, group, coefficients, limit, in_double):
    """The values of a tile; the number of far elements that are left to the caller."""
    p, q = _polynomials(coefficients, group)
    far = _value_tile(x, y, p, q, limit, None)
    if far and in_double:
        far = _value_tile(x, y, _double(p), _double(q), np.inf, INFINITE)
    return far


@njit(**_OPTIONS)
def _gradients(tiles, group, coefficients, zeros, limit, in_double, totals):
    """The gradients of a tile, sums added to ``totals``; the number of far elements that are left to the caller."""
    x, gradient, grad_x = tiles
    p, q = _polynomials(coefficients, group)
    far, sums_p, sums_q = _gradient_tile(x, gradient, grad_x, p, q, zeros[0], zeros[1], limit, None)
    if far and in_double:
        far, sums_p64, sums_q64 = _gradient_tile(
            x, gradient, grad_x, _double(p), _double(q), _double(zeros[0]), _double(zeros[1]), np.inf, INFINITE
        )
        _add(totals, sums_p64 + sums_q64)
    else:
        _add(totals, sums_p + sums_q)
    return far


def _add(totals, sums):
    """totals += sums, as many as there are."""


@overload(_add)
def _add_all(totals, sums):
    if len(sums) == 0:
        return lambda totals, sums: None

    def add(totals, sums):
        for k in range(len(sums)):
            totals[k] += sums[k]

    return add


# Walks over the tiles of a part of the tensor


@njit(**_OPTIONS)
def _part(count, task, tasks):
    """First and last of the units that a task works on."""
    return count * task // tasks, count * (task + 1) // tasks


@njit(**_OPTIONS)
def _bounds(tile, groups, inner):
    """Group, first and last element of a tile, in the order of the memory."""
    tiles = (inner + TILE - 1) // TILE
    segment, number = tile // tiles, tile % tiles
    start = segment * inner
    return segment % groups, start + number * TILE, start + min(inner, (number + 1) * TILE)


@njit(**_OPTIONS)
def _gather(x, packed, start, rows, groups, inner):
    """Copy [rows, groups, inner] from x to [groups, rows inner]."""
    for row in range(rows):
        for group in range(groups):
            source = x[start + (row * groups + group) * inner :]
            target = packed[group, row * inner :]
            for i in range(inner):
                target[i] = source[i]


@njit(**_OPTIONS)
def _scatter(packed, x, start, rows, groups, inner):
    """The way back."""
    for row in range(rows):
        for group in range(groups):
            source = packed[group, row * inner :]
            target = x[start + (row * groups + group) * inner :]
            for i in range(inner):
                target[i] = source[i]


@njit(**_OPTIONS)
def _forward_part(x, y, a, b, zeros_a, zeros_b, outer, groups, inner, block, limit, in_double, task, tasks):
    coefficients = a, b, zeros_a, zeros_b
    far = 0
    if block == 0:
        first, last = _part(outer * groups * ((inner + TILE - 1) // TILE), task, tasks)
        for tile in range(first, last):
            group, start, stop = _bounds(tile, groups, inner)
            far += _values(x[start:stop], y[start:stop], group, coefficients, limit, in_double)
        return far
    packed_x, packed_y = np.empty((groups, block * inner), x.dtype), np.empty((groups, block * inner), y.dtype)
    first, last = _part((outer + block - 1) // block, task, tasks)
    for number in range(first, last):
        start, rows = number * block * groups * inner, min(block, outer - number * block)
        _gather(x, packed_x, start, rows, groups, inner)
        for group in range(groups):
            tile_x, tile_y = packed_x[group, : rows * inner], packed_y[group, : rows * inner]
            far += _values(tile_x, tile_y, group, coefficients, limit, in_double)
        _scatter(packed_y, y, start, rows, groups, inner)
    return far


@njit(**_OPTIONS)
def _backward_part(
    x, gradient, grad_x, a, b, zeros_a, zeros_b, start_a, start_b, outer, groups, inner, block, limit, in_double,
    totals, task, tasks,
):  # fmt: skip
    coefficients, zeros = (a, b, zeros_a, zeros_b), (start_a, start_b)
    far = 0
    if block == 0:
        first, last = _part(outer * groups * ((inner + TILE - 1) // TILE), task, tasks)
        for tile in range(first, last):
            group, start, stop = _bounds(tile, groups, inner)
            tiles = x[start:stop], gradient[start:stop], grad_x[start:stop]
            far += _gradients(tiles, group, coefficients, zeros, limit, in_double, totals[task, group])
        return far
    packed_x, packed_dx = np.empty((groups, block * inner), x.dtype), np.empty((groups, block * inner), x.dtype)
    packed_g = np.empty((groups, block * inner), gradient.dtype)
    first, last = _part((outer + block - 1) // block, task, tasks)
    for number in range(first, last):
        start, rows = number * block * groups * inner, min(block, outer - number * block)
        _gather(x, packed_x, start, rows, groups, inner)
        _gather(gradient, packed_g, start, rows, groups, inner)
        for group in range(groups):
            size = rows * inner
            tiles = packed_x[group, :size], packed_g[group, :size], packed_dx[group, :size]
            far += _gradients(tiles, group, coefficients, zeros, limit, in_double, totals[task, group])
        _scatter(packed_dx, grad_x, start, rows, groups, inner)
    return far


@njit(**_OPTIONS)
def _reduce(totals, b, grad_a, grad_b):
    """Add the tasks' sums up in order, and the groups' where they share a row; db_j = -sgn(b_j) sum_j."""
    tasks, groups, _ = totals.shape
    degrees = grad_a.shape[1]
    sums = np.zeros((groups, totals.shape[2]))
    for task in range(tasks):
        sums += totals[task]
    for row in range(len(grad_a)):
        for k in range(degrees):
            grad_a[row, k] = sums[row, k] if len(grad_a) > 1 else sums[:, k].sum()
    for row in range(len(grad_b)):
        for k in range(grad_b.shape[1]):
            total = sums[row, degrees + k] if len(grad_b) > 1 else sums[:, degrees + k].sum()
            grad_b[row, k] = total if b[row, k] < 0 else -total


# Entry points, called with addresses: an integer is cheaper to hand over than an array


@intrinsic
def _pointer(typing_context, address):
    """The address as a pointer for carray."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), generate


@dataclass(frozen=True)
class Variant:
    """What a machine code is made for.

    Args:
        x, y: the numpy types of input and output: float32, float64, or uint16 for bfloat16.
        compute: float32 or float64.
        degrees: of numerator and denominator.
        in_double: whether far elements are computed in float64, instead of being left to the caller.
        parallel: whether numba's threads share the tasks.
    """

    x: type
    y: type
    compute: type
    degrees: tuple[int, int]
    in_double: bool
    parallel: bool


def compile_forward(variant: Variant) -> Callable[..., int]:
    """``(x, y, a, b, rows_a, rows_b, outer, groups, inner, block, limit, tasks) -> number of far elements left``."""
    x_type, y_type, compute, in_double = variant.x, variant.y, variant.compute, variant.in_double
    m, n = variant.degrees
    zeros_a, zeros_b = (compute(0),) * (m + 1), (compute(0),) * n
    each = prange if variant.parallel else range

    def forward(x_at, y_at, a_at, b_at, rows_a, rows_b, outer, groups, inner, block, limit, tasks):
        size = outer * groups * inner
        x, y = carray(_pointer(x_at), size, x_type), carray(_pointer(y_at), size, y_type)
        a, b = carray(_pointer(a_at), (rows_a, m + 1), compute), carray(_pointer(b_at), (rows_b, n), compute)
        far = np.zeros(tasks, np.int64)
        for task in each(tasks):
            far[task] = _forward_part(
                x, y, a, b, zeros_a, zeros_b, outer, groups, inner, block, compute(limit), in_double, task, tasks
            )
        return far.sum()

    return _compile(forward, 4, 6, variant.parallel)


def compile_backward(variant: Variant, sums: bool) -> Callable[..., int]:
    """``(x, g, dx, a, b, da, db, rows_a, rows_b, outer, groups, inner, block, limit, tasks) -> far elements left``.

    Args:
        variant: the gradient has the type of y.
        sums: whether the gradients of the coefficients are needed.
    """
    x_type, y_type, compute, in_double = variant.x, variant.y, variant.compute, variant.in_double
    m, n = variant.degrees
    zeros_a, zeros_b = (compute(0),) * (m + 1), (compute(0),) * n
    start_a, start_b, count = (zeros_a, zeros_b, m + 1 + n) if sums else ((), (), 0)
    each = prange if variant.parallel else range

    def backward(
        x_at, g_at, dx_at, a_at, b_at, da_at, db_at, rows_a, rows_b, outer, groups, inner, block, limit, tasks
    ):
        size = outer * groups * inner
        x, gradient = carray(_pointer(x_at), size, x_type), carray(_pointer(g_at), size, y_type)
        grad_x = carray(_pointer(dx_at), size, x_type)
        a, b = carray(_pointer(a_at), (rows_a, m + 1), compute), carray(_pointer(b_at), (rows_b, n), compute)
        totals = np.zeros((tasks, groups, count))
        far = np.zeros(tasks, np.int64)
        for task in each(tasks):
            far[task] = _backward_part(
                x, gradient, grad_x, a, b, zeros_a, zeros_b, start_a, start_b, outer, groups, inner, block,
                compute(limit), in_double, totals, task, tasks,
            )  # fmt: skip
        if count > 0:
            grad_a = carray(_pointer(da_at), (rows_a, m + 1), compute)
            _reduce(totals, b, grad_a, carray(_pointer(db_at), (rows_b, n), compute))
        return far.sum()

    return _compile(backward, 7, 6, variant.parallel)


def _compile(function: Callable[..., int], addresses: int, sizes: int, parallel: bool) -> Dispatcher:
    """The function for integer arguments, a float, and an integer; cached on disk where there is a place for it."""
    signature = types.int64(*[types.int64] * (addresses + sizes), types.float64, types.int64)
    try:
        return njit(signature, parallel=parallel, cache=True, **_OPTIONS)(function)
    except Exception:  # of whatever kind: no folder to write to, a full disk, a damaged file
        return njit(signature, parallel=parallel, **_OPTIONS)(function)
