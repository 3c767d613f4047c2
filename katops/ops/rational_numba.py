"""The group rational function for numba: vectorised loops over tiles of one group, and the walks over a tensor's tiles.

Polynomials are tuples of coefficients in ascending powers, so that their degrees are part of their types, and each pair
of degrees gets machine code of its own. bfloat16 numbers are uint16 bit patterns.

The sums of a tile are taken in the type of the arithmetic and added to float64 sums of its task. Tasks are fixed parts
of the tensor, added up in order, so that the bits do not depend on who computes them, or on how many do. Very short
tiles are first put together: every tile pays for adding up its vectors of sums.

Far elements, |x| beyond the limit, overflow in float32. The loops count them, and a tile with far elements is computed
again in float64, with a number in the place of an infinite x so large that float32 cannot tell the result from the
limit. Where that is no help, the number of far elements is written down and they are left to the caller.

The entry points are C functions of one table of integers (:mod:`katops.ops.cpu_team`): addresses and sizes. All of it
is in one file because numba's cache on the disk looks at the file of the entry points only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic, overload
from numba.np.numpy_support import as_dtype

from katops.ops.rational_kernels import INFINITE

TILE = 4096

# NaN and infinities must stay where they are: no 'nnan', no 'ninf'. An element must not depend on its place in the
# vector: no 'arcp', which approximates the division in the vectorised part of a loop only.
_FLAGS = ("contract", "reassoc", "nsz")
_OPTIONS: dict[str, Any] = {"fastmath": set(_FLAGS), "error_model": "numpy"}
# Only the entry points are called from outside: no wrappers for the parts, which take a third of the compiling.
_PART = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# A call would cost as much as the arithmetic of a short tile.
_INLINE = {**_PART, "forceinline": True}

# Polynomials. Written in the compiler's own language: recursion over tuples would take numba several times as long.


def _elements(builder, coefficients, count):
    return [builder.extract_value(coefficients, index) for index in range(count)]


def _times(builder, one, other):
    return builder.fmul(one, other, flags=_FLAGS)


def _plus(builder, one, other):
    return builder.fadd(one, other, flags=_FLAGS)


def _tuple_of(number, count):
    return types.UniTuple(number, count) if count else types.Tuple(())


@intrinsic
def _horner(typing_context, x, coefficients):
    """sum_k coefficients[k] x^k, of the type of x; zero without coefficients."""

    def generate(context, builder, signature, arguments):
        x, numbers = arguments[0], _elements(builder, arguments[1], len(coefficients))
        value = numbers[-1] if numbers else ir.Constant(x.type, 0.0)
        for number in reversed(numbers[:-1]):
            value = _plus(builder, number, _times(builder, x, value))
        return value

    return x(x, coefficients), generate


@intrinsic
def _slope(typing_context, coefficients):
    """The coefficients k c_k of the derivative."""

    def generate(context, builder, signature, arguments):
        numbers = _elements(builder, arguments[0], len(coefficients))
        slopes = [
            _times(builder, ir.Constant(number.type, float(power)), number) for power, number in enumerate(numbers)
        ]
        return context.make_tuple(builder, signature.return_type, slopes[1:])

    return _tuple_of(coefficients.dtype, len(coefficients) - 1)(coefficients), generate


@intrinsic
def _plus_powers(typing_context, sums, even, odd, square):
    """sums_0 + even, sums_1 + odd, sums_2 + even square, sums_3 + odd square, ..."""

    def generate(context, builder, signature, arguments):
        terms, added = list(arguments[1:3]), []
        for number in _elements(builder, arguments[0], len(sums)):
            added.append(_plus(builder, number, terms[0]))
            terms = [terms[1], _times(builder, terms[0], arguments[3])]
        return context.make_tuple(builder, signature.return_type, added)

    return sums(sums, even, odd, square), generate


@intrinsic
def _row(typing_context, address, row, like):
    """A row of a matrix at an address, as many numbers of the same type as ``like``."""

    def generate(context, builder, signature, arguments):
        if not len(like):
            return context.make_tuple(builder, like, [])
        kind = context.get_value_type(like.dtype)
        first = builder.mul(arguments[1], ir.Constant(arguments[1].type, len(like)))
        matrix = builder.inttoptr(arguments[0], kind.as_pointer())
        places = [builder.add(first, ir.Constant(first.type, index)) for index in range(len(like))]
        return context.make_tuple(builder, like, [builder.load(builder.gep(matrix, [place])) for place in places])

    return like(types.int64, types.int64, like), generate


@intrinsic
def _with_one(typing_context, coefficients, like):
    """(1, |c_1|, |c_2|, ...) in the type of ``like``: Q, given the coefficients of the denominator."""

    def generate(context, builder, signature, arguments):
        numbers = _elements(builder, arguments[0], len(coefficients))
        sizes = [builder.call(builder.module.declare_intrinsic("llvm.fabs", [n.type]), [n]) for n in numbers]
        one = ir.Constant(context.get_value_type(like.dtype), 1.0)
        return context.make_tuple(builder, signature.return_type, [one, *sizes])

    return _tuple_of(like.dtype, len(coefficients) + 1)(coefficients, like), generate


@intrinsic
def _double(typing_context, coefficients):
    """The same numbers in float64."""

    def generate(context, builder, signature, arguments):
        numbers = _elements(builder, arguments[0], len(coefficients))
        wide = [n if n.type == ir.DoubleType() else builder.fpext(n, ir.DoubleType()) for n in numbers]
        return context.make_tuple(builder, signature.return_type, wide)

    return _tuple_of(types.float64, len(coefficients))(coefficients), generate


# Elements


@njit(error_model="numpy")
def _with_sign(size, x):
    """``size`` with the sign bit of x; apart, because 'nsz' would let the compiler forget the sign of a zero."""
    return math.copysign(size, x)


def _read(element, like):
    """An element of x or of the incoming gradient in the type of the arithmetic, that of ``like``."""


@overload(_read, jit_options=_PART)
def _read_as(element, like):
    number = as_dtype(like).type
    if isinstance(element, types.Integer):
        return lambda element, like: number(np.uint32(element << 16).view(np.float32))
    return lambda element, like: number(element)


def _write(array, index, number):
    """Store a number, rounded to the type of the array."""


@overload(_write, jit_options=_PART)
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


@njit(**_INLINE)
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


@njit(**_INLINE)
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


@njit(**_INLINE)
def _polynomials(coefficients, group):
    """P and Q of a group as tuples."""
    a_at, rows_a, like_a, b_at, rows_b, like_b = coefficients
    p = _row(a_at, group if rows_a > 1 else 0, like_a)
    return p, _with_one(_row(b_at, group if rows_b > 1 else 0, like_b), p)


@njit(**_INLINE)
def _values(x, y, group, coefficients, limit, in_double):
    """The values of a tile; the number of far elements that are left to the caller."""
    p, q = _polynomials(coefficients, group)
    far = _value_tile(x, y, p, q, limit, None)
    if far and in_double:
        far = _values_in_double(x, y, p, q)
    return far


@njit(**_PART)
def _values_in_double(x, y, p, q):
    return _value_tile(x, y, _double(p), _double(q), np.inf, INFINITE)


@njit(**_INLINE)
def _gradients(tiles, group, coefficients, zeros, limit, in_double, totals):
    """The gradients of a tile, sums added to ``totals``; the number of far elements that are left to the caller."""
    x, gradient, grad_x = tiles
    p, q = _polynomials(coefficients, group)
    far, sums_p, sums_q = _gradient_tile(x, gradient, grad_x, p, q, zeros[0], zeros[1], limit, None)
    if far and in_double:
        return _gradients_in_double(tiles, p, q, zeros, totals)
    _add(totals, sums_p + sums_q)
    return far


@njit(**_PART)
def _gradients_in_double(tiles, p, q, zeros, totals):
    x, gradient, grad_x = tiles
    starts = _double(zeros[0]), _double(zeros[1])
    far, sums_p, sums_q = _gradient_tile(
        x, gradient, grad_x, _double(p), _double(q), starts[0], starts[1], np.inf, INFINITE
    )
    _add(totals, sums_p + sums_q)
    return far


def _add(totals, sums):
    """totals += sums, as many as there are."""


@overload(_add, jit_options=_PART)
def _add_all(totals, sums):
    if len(sums) == 0:
        return lambda totals, sums: None

    def add(totals, sums):
        for k in range(len(sums)):
            totals[k] += sums[k]

    return add


# Memory by address: views made of pointers cost nothing, slices of arrays more than the arithmetic of a short tile


@intrinsic
def _pointer(typing_context, address):
    """The address as a pointer for carray."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), generate


@intrinsic
def _call(typing_context, address):
    """The number that a C function without arguments returns."""

    def generate(context, builder, signature, arguments):
        function = builder.inttoptr(arguments[0], ir.FunctionType(ir.IntType(32), []).as_pointer())
        return builder.call(function, [])

    return types.int32(types.int64), generate


def _bytes(kind):
    """Size of an element of a type."""


@overload(_bytes, jit_options=_PART)
def _bytes_of(kind):
    size = as_dtype(kind.dtype).itemsize
    return lambda kind: size


@njit(**_INLINE)
def _view(address, start, count, kind):
    """``count`` elements from the ``start``-th on."""
    return carray(_pointer(address + start * _bytes(kind)), count, kind)


@njit(**_INLINE)
def _own_tasks(table):
    """First task of this thread, and the distance to its next ones; all of them together are the tasks."""
    if table[0] == 0:
        return table[2], table[3]
    return np.int64(_call(table[0])), np.int64(_call(table[1]))


@njit(**_INLINE)
def _part(count, task, tasks):
    """First and last of the units that a task works on."""
    return count * task // tasks, count * (task + 1) // tasks


@njit(**_PART)
def _gather(x_at, start, packed, rows, groups, inner, kind):
    """Copy [rows, groups, inner] from x to [groups, rows inner]."""
    for row in range(rows):
        for group in range(groups):
            source = _view(x_at, start + (row * groups + group) * inner, inner, kind)
            target = _view(packed, (group * rows + row) * inner, inner, kind)
            for i in range(inner):
                target[i] = source[i]


@njit(**_PART)
def _scatter(packed, x_at, start, rows, groups, inner, kind):
    """The way back."""
    for row in range(rows):
        for group in range(groups):
            source = _view(packed, (group * rows + row) * inner, inner, kind)
            target = _view(x_at, start + (row * groups + group) * inner, inner, kind)
            for i in range(inner):
                target[i] = source[i]


# Walks over the tiles of a task


@njit(**_PART)
def _forward_tiles(x_at, y_at, kinds, coefficients, groups, inner, limit, in_double, first, last):
    """Tiles of at most TILE elements as they lie in memory; the number of far elements that are left to the caller."""
    tiles = (inner + TILE - 1) // TILE
    segment, number = first // tiles, first % tiles
    group, start = segment % groups, segment * inner + number * TILE
    far = 0
    for _ in range(first, last):
        count = min(TILE, inner - number * TILE)
        x, y = _view(x_at, start, count, kinds[0]), _view(y_at, start, count, kinds[1])
        far += _values(x, y, group, coefficients, limit, in_double)
        start, number = start + count, number + 1
        if number == tiles:
            number, group = 0, group + 1 if group + 1 < groups else 0
    return far


@njit(**_PART)
def _forward_blocks(x_at, y_at, kinds, coefficients, sizes, limit, in_double, first, last):
    """Blocks of rows, the elements of each group put together, so that they lie in memory as one row of long runs."""
    outer, groups, inner, block = sizes
    packed_x, packed_y = np.empty(groups * block * inner, kinds[0]), np.empty(groups * block * inner, kinds[1])
    x_here, y_here = packed_x.ctypes.data, packed_y.ctypes.data
    far = 0
    for number in range(first, last):
        start, rows = number * block * groups * inner, min(block, outer - number * block)
        _gather(x_at, start, x_here, rows, groups, inner, kinds[0])
        count = rows * inner
        tiles = groups * ((count + TILE - 1) // TILE)
        far += _forward_tiles(x_here, y_here, kinds, coefficients, groups, count, limit, in_double, 0, tiles)
        _scatter(y_here, y_at, start, rows, groups, inner, kinds[1])
    return far


@njit(**_PART)
def _backward_tiles(addresses, kinds, coefficients, zeros, groups, inner, limit, in_double, totals, first, last):
    """See :func:`_forward_tiles`."""
    x_at, g_at, dx_at = addresses
    tiles = (inner + TILE - 1) // TILE
    segment, number = first // tiles, first % tiles
    group, start = segment % groups, segment * inner + number * TILE
    far = 0
    for _ in range(first, last):
        count = min(TILE, inner - number * TILE)
        x, dx = _view(x_at, start, count, kinds[0]), _view(dx_at, start, count, kinds[0])
        here = x, _view(g_at, start, count, kinds[1]), dx
        far += _gradients(here, group, coefficients, zeros, limit, in_double, totals[group])
        start, number = start + count, number + 1
        if number == tiles:
            number, group = 0, group + 1 if group + 1 < groups else 0
    return far


@njit(**_PART)
def _backward_blocks(addresses, kinds, coefficients, zeros, sizes, limit, in_double, totals, first, last):
    """See :func:`_forward_blocks`."""
    outer, groups, inner, block = sizes
    x_at, g_at, dx_at = addresses
    elements = groups * block * inner
    packed_x, packed_dx = np.empty(elements, kinds[0]), np.empty(elements, kinds[0])
    packed_g = np.empty(elements, kinds[1])
    here = packed_x.ctypes.data, packed_g.ctypes.data, packed_dx.ctypes.data
    far = 0
    for number in range(first, last):
        start, rows = number * block * groups * inner, min(block, outer - number * block)
        _gather(x_at, start, here[0], rows, groups, inner, kinds[0])
        _gather(g_at, start, here[1], rows, groups, inner, kinds[1])
        count = rows * inner
        tiles = groups * ((count + TILE - 1) // TILE)
        far += _backward_tiles(here, kinds, coefficients, zeros, groups, count, limit, in_double, totals, 0, tiles)
        _scatter(here[2], dx_at, start, rows, groups, inner, kinds[0])
    return far


# Entry points


@dataclass(frozen=True)
class Variant:
    """What a machine code is made for.

    Args:
        x, y: the numpy types of input and output: float32, float64, or uint16 for bfloat16.
        compute: float32 or float64.
        degrees: of numerator and denominator.
        limit: elements beyond it are far.
        in_double: whether far elements are computed in float64, instead of being left to the caller.
    """

    x: type
    y: type
    compute: type
    degrees: tuple[int, int]
    limit: float
    in_double: bool


def compile_forward(variant: Variant) -> CFunc:
    """The loop with the entries x, y, a, b, far, rows_a, rows_b, outer, groups, inner, block, tasks.

    ``block`` rows are put together, none if it is 0; ``far`` is a number per task, of the far elements left over.
    """
    kinds, compute, in_double = (variant.x, variant.y), variant.compute, variant.in_double
    m, n = variant.degrees
    zeros_a, zeros_b, limit = (compute(0),) * (m + 1), (compute(0),) * n, compute(variant.limit)

    def forward(table):
        entry = carray(table, 16)
        rows_a, rows_b, outer = entry[9], entry[10], entry[11]
        groups, inner, block, tasks = entry[12], entry[13], entry[14], entry[15]
        coefficients, sizes = (entry[6], rows_a, zeros_a, entry[7], rows_b, zeros_b), (outer, groups, inner, block)
        far = _view(entry[8], 0, tasks, np.int64)
        task, step = _own_tasks(entry)
        while task < tasks:
            if block == 0:
                first, last = _part(outer * groups * ((inner + TILE - 1) // TILE), task, tasks)
                far[task] = _forward_tiles(
                    entry[4], entry[5], kinds, coefficients, groups, inner, limit, in_double, first, last
                )
            else:
                first, last = _part((outer + block - 1) // block, task, tasks)
                far[task] = _forward_blocks(
                    entry[4], entry[5], kinds, coefficients, sizes, limit, in_double, first, last
                )
            task += step

    return _compile(forward)


def compile_backward(variant: Variant, sums: bool) -> CFunc:
    """The loop with the entries x, g, dx, a, b, totals, far, rows_a, rows_b, outer, groups, inner, block, tasks.

    At ``totals`` are float64 zeros [tasks, groups, m + 1 + n], to which the sums are added.

    Args:
        variant: the gradient has the type of y.
        sums: whether the gradients of the coefficients are needed.
    """
    kinds, compute, in_double = (variant.x, variant.y), variant.compute, variant.in_double
    m, n = variant.degrees
    zeros_a, zeros_b, limit = (compute(0),) * (m + 1), (compute(0),) * n, compute(variant.limit)
    start_a, start_b, count = (zeros_a, zeros_b, m + 1 + n) if sums else ((), (), 0)

    def backward(table):
        entry = carray(table, 18)
        rows_a, rows_b, outer = entry[11], entry[12], entry[13]
        groups, inner, block, tasks = entry[14], entry[15], entry[16], entry[17]
        addresses, sizes = (entry[4], entry[5], entry[6]), (outer, groups, inner, block)
        coefficients, zeros = (entry[7], rows_a, zeros_a, entry[8], rows_b, zeros_b), (start_a, start_b)
        totals = carray(_pointer(entry[9]), (tasks, groups, count), np.float64)
        far = _view(entry[10], 0, tasks, np.int64)
        task, step = _own_tasks(entry)
        while task < tasks:
            if block == 0:
                first, last = _part(outer * groups * ((inner + TILE - 1) // TILE), task, tasks)
                far[task] = _backward_tiles(
                    addresses, kinds, coefficients, zeros, groups, inner, limit, in_double, totals[task], first, last
                )
            else:
                first, last = _part((outer + block - 1) // block, task, tasks)
                far[task] = _backward_blocks(
                    addresses, kinds, coefficients, zeros, sizes, limit, in_double, totals[task], first, last
                )
            task += step

    return _compile(backward)


def compile_reduction(variant: Variant) -> CFunc:
    """The function with the entries totals, b, da, db, rows_a, rows_b, groups, tasks.

    It adds the sums of the tasks up in order, and those of the groups that share a row; db_j = -sgn(b_j) sum_j.
    """
    compute = variant.compute
    m, n = variant.degrees

    def reduction(table):
        entry = carray(table, 12)
        rows_a, rows_b, groups, tasks = entry[8], entry[9], entry[10], entry[11]
        totals = carray(_pointer(entry[4]), (tasks, groups, m + 1 + n), np.float64)
        b = carray(_pointer(entry[5]), (rows_b, n), compute)
        grad_a = carray(_pointer(entry[6]), (rows_a, m + 1), compute)
        grad_b = carray(_pointer(entry[7]), (rows_b, n), compute)
        for row in range(rows_a):
            for k in range(m + 1):
                grad_a[row, k] = _total(totals, row, k, rows_a)
        for row in range(rows_b):
            for k in range(n):
                total = _total(totals, row, m + 1 + k, rows_b)
                grad_b[row, k] = total if b[row, k] < 0 else -total

    return _compile(reduction)


@njit(**_PART)
def _total(totals, row, column, rows):
    """The sum over the tasks, and over the groups if they share one row."""
    tasks, groups, _ = totals.shape
    first, last = (row, row + 1) if rows > 1 else (0, groups)
    total = 0.0
    for group in range(first, last):
        for task in range(tasks):
            total += totals[task, group, column]
    return total


def _compile(function: Callable[[Any], None]) -> CFunc:
    """The function of a table as one of C; cached on disk where there is a place for it."""
    signature = types.void(types.CPointer(types.int64))
    try:
        compiled = cfunc(signature, cache=True, **_OPTIONS)(function)
    except Exception:  # of whatever kind: no folder to write to, a full disk, a damaged file
        compiled = cfunc(signature, **_OPTIONS)(function)
    return compiled
