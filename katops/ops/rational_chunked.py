"""The group rational function on the CPU in plain torch, chunk by chunk, so that what is in between stays in the cache.

A chunk is a matrix [rows, elements] whose rows belong to one group each. Its sums are taken per row in the type of the
arithmetic and added up in float64, chunk after chunk: the bits do not depend on the number of threads.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from katops.ops.memory_layout import GroupLayout
from katops.ops.rational_definition import rational_gradients, rational_value
from katops.ops.rational_kernels import Gradients, compute_type, far_limit
from katops.ops.rational_torch import TorchRational

# So many elements that the cost of calling torch is small, so few that the buffers stay in the cache.
_CHUNK = 131072
# Fewer are not worth cutting. Torch adds up so few in one thread; more, and a single sum, in an order that depends on
# the number of threads.
_SMALL = 16384


def load(device: torch.device) -> "ChunkedRational":
    """It runs on every CPU."""
    return ChunkedRational()


class ChunkedRational:
    """Plain torch with buffers of a chunk's size in place of tensors of x's size."""

    def supports(self, x: torch.dtype, compute: torch.dtype, y: torch.dtype) -> bool:
        """Every combination of types."""
        return True

    def prepare(self, dtypes: Sequence[torch.dtype], degrees: tuple[int, int]) -> None:
        """Nothing is compiled."""

    def forward(
        self, x: Tensor, numerator: Tensor, denominator: Tensor, layout: GroupLayout, dtype: torch.dtype
    ) -> Tensor:
        """See :meth:`RationalKernels.forward`."""
        if x.numel() <= _SMALL:
            return TorchRational().forward(x, numerator, denominator, layout, dtype)
        y = torch.empty_like(x, dtype=dtype)
        compute = compute_type(x.dtype, numerator.dtype, denominator.dtype)
        buffers = torch.empty(4, _CHUNK, dtype=compute)
        for groups, chunks in _chunks_by_group(layout):
            polynomials = _Polynomials(numerator, denominator, groups, compute)
            for chunk in chunks:
                value, size, p, q = (chunk.matrix(buffer) for buffer in buffers)
                value.view(chunk.shape).copy_(chunk.part(x))
                if polynomials.overflow(torch.abs(value, out=size)):
                    result = rational_value(value, polynomials.a, polynomials.b, 1, dtype)
                else:
                    result = _horner(value, polynomials.p, p).div_(_horner(size, polynomials.q, q))
                chunk.part(y).copy_(result.view(chunk.shape))
        return y

    def backward(
        self,
        x: Tensor,
        gradient: Tensor,
        numerator: Tensor,
        denominator: Tensor,
        layout: GroupLayout,
        needs: tuple[bool, bool, bool],
    ) -> Gradients:
        """See :meth:`RationalKernels.backward`."""
        if x.numel() <= _SMALL:
            return TorchRational().backward(x, gradient, numerator, denominator, layout, needs)
        grad_x = torch.empty_like(x) if needs[0] else None
        compute = compute_type(x.dtype, numerator.dtype, denominator.dtype)
        buffers = torch.empty(6, _CHUNK, dtype=compute)
        totals = [torch.zeros(tensor.shape, dtype=torch.float64) for tensor in (numerator, denominator)]
        for groups, chunks in _chunks_by_group(layout):
            polynomials = _Polynomials(numerator, denominator, groups, compute)
            for chunk in chunks:
                matrices = [chunk.matrix(buffer) for buffer in buffers]
                for matrix, tensor in zip(matrices, (x, gradient), strict=False):
                    matrix.view(chunk.shape).copy_(chunk.part(tensor))
                if polynomials.overflow(torch.abs(matrices[0], out=matrices[2])):
                    slope, *sums = rational_gradients(*matrices[:2], polynomials.a, polynomials.b, 1)
                else:
                    slope, *sums = _gradients(*matrices, polynomials, needs)
                if grad_x is not None:
                    chunk.part(grad_x).copy_(slope.view(chunk.shape))
                for total, chunk_sums, needed in zip(totals, sums, needs[1:], strict=True):
                    if needed:
                        rows = total[groups] if len(total) > 1 else total
                        rows += chunk_sums.double().sum_to_size(rows.shape)
        sums = (total.to(like.dtype) for total, like in zip(totals, (numerator, denominator), strict=True))
        return tuple(one if needed else None for one, needed in zip((grad_x, *sums), needs, strict=True))


class _Chunk(NamedTuple):
    """Part of a dense tensor: rows of one group each, as (rows, pieces of memory, elements of a piece)."""

    shape: tuple[int, int, int]
    strides: tuple[int, int, int]
    offset: int

    def part(self, dense: Tensor) -> Tensor:
        """The elements where they are."""
        return dense.as_strided(self.shape, self.strides, dense.storage_offset() + self.offset)

    def matrix(self, buffer: Tensor) -> Tensor:
        """The beginning of a buffer, with a row for each row."""
        rows, pieces, length = self.shape
        return buffer[: rows * pieces * length].view(rows, pieces * length)


def _chunks_by_group(layout: GroupLayout) -> Iterator[tuple[slice, Iterator[_Chunk]]]:
    """Ranges of groups, and chunks with a row for each group of the range (or several for a range of one)."""
    _, groups, inner = layout
    if inner > _SMALL:
        for group in range(groups):
            yield slice(group, group + 1), _chunks_of_group(layout, group)
        return
    together = min(groups, _CHUNK // inner)
    for first in range(0, groups, together):
        last = min(first + together, groups)
        yield slice(first, last), _chunks_of_groups(layout, first, last)


def _chunks_of_groups(layout: GroupLayout, first: int, last: int) -> Iterator[_Chunk]:
    """For short pieces of memory: several of ``outer`` at a time."""
    outer, groups, inner = layout
    rows = max(1, _CHUNK // ((last - first) * inner))
    for start in range(0, outer, rows):
        shape = (last - first, min(rows, outer - start), inner)
        yield _Chunk(shape, (inner, groups * inner, 1), (start * groups + first) * inner)


def _chunks_of_group(layout: GroupLayout, group: int) -> Iterator[_Chunk]:
    """For long pieces of memory: parts of one, in two rows, so that torch does not take it for a single sum."""
    outer, groups, inner = layout
    for number in range(group, outer * groups, groups):
        for start in range(0, inner, _CHUNK):
            half, odd = divmod(min(_CHUNK, inner - start), 2)
            yield _Chunk((2, 1, half), (half, half, 1), number * inner + start)
            if odd:
                yield _Chunk((1, 1, 1), (1, 1, 1), number * inner + start + 2 * half)


class _Polynomials:
    """The coefficients of a range of groups.

    ``a`` and ``b`` are the rows, ``p`` and ``q`` the coefficients of each power of x and |x| as columns, ``slope_p``
    and ``slope_q`` those of the derivatives.
    """

    def __init__(self, numerator: Tensor, denominator: Tensor, groups: slice, compute: torch.dtype) -> None:
        self.a, self.b = ((t[groups] if len(t) > 1 else t).to(compute) for t in (numerator, denominator))
        self.p = self.a[..., None].unbind(1)
        self.q = (torch.ones(1, 1, dtype=compute), *self.b.abs()[..., None].unbind(1))
        self.slope_p, self.slope_q = (
            [power * column for power, column in enumerate(columns)][1:] for columns in (self.p, self.q)
        )
        # -0.0 counts as positive
        self.sign_b = torch.where(self.b < 0, -1, 1).to(compute)
        self._limit = far_limit(compute, len(self.p) - 1, len(self.q) - 1)

    def overflow(self, size: Tensor) -> bool:
        """Whether some |x| is beyond the limit, or NaN."""
        return not size.max().item() <= self._limit


def _horner(x: Tensor, columns: tuple[Tensor, ...] | list[Tensor], out: Tensor) -> Tensor:
    """sum_k columns[k] x^k in ``out``; zero without columns."""
    if len(columns) < 2:
        return out.copy_(columns[0]) if columns else out.zero_()
    torch.addcmul(columns[-2], x, columns[-1], out=out)
    for column in reversed(columns[:-2]):
        torch.addcmul(column, out, x, out=out)
    return out


def _gradients(
    x: Tensor,
    gradient: Tensor,
    size: Tensor,
    f: Tensor,
    weight: Tensor,
    slope: Tensor,
    polynomials: _Polynomials,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """dx = w (P' - f sgn(x) Q') with w = g / Q and f = P / Q, and per row sum w x^i and -sgn(b_j) sum w f |x|^j.

    All but ``x``, ``gradient`` and ``size`` = |x| are room for what is computed on the way.
    """
    q = _horner(size, polynomials.q, weight)
    _horner(x, polynomials.p, f).div_(q)
    torch.div(gradient, q, out=weight)
    grad_x = gradient
    if needs[0]:
        _horner(x, polynomials.slope_p, grad_x)
        slope_q = _horner(size, polynomials.slope_q, slope).copysign_(x)
        grad_x.addcmul_(f, slope_q, value=-1).mul_(weight)
    weighted = torch.mul(f, weight, out=f)
    sums_a = _sums_of_powers(weight, x, len(polynomials.p)) if needs[1] else None
    if not needs[2]:
        return grad_x, sums_a, None
    return grad_x, sums_a, _sums_of_powers(weighted.mul_(size), size, len(polynomials.q) - 1) * -polynomials.sign_b


def _sums_of_powers(weight: Tensor, x: Tensor, count: int) -> Tensor:
    """(rows, count): the sums over each row of weight x^k; the weight is used up."""
    sums = weight.new_empty(len(weight), count)
    for power, column in enumerate(sums.unbind(-1)):
        torch.sum(weight.mul_(x) if power else weight, -1, out=column)
    return sums
