"""The group rational function as a Triton kernel of FlashKAT's design (Raffel & Chen 2025, arXiv 2505.13813): a peer.

    y = P(x) / Q(x),   P(x) = sum_{i=0..5} a_i x^i,   Q(x) = 1 + sum_{j=1..4} |b_j| |x|^j

Forward: one thread block per stretch of elements, coefficients loaded for each element by its group. Backward: the grid
is (tiles of rows, groups); a block walks the columns of its group in tiles of 64 x 64 elements, adds up the ten
coefficient gradients of its tiles and adds these ten to memory with atomics at its end. The order of those atomics, and
with it the last bits of the coefficient gradients, changes from run to run.

Written from the paper's description, and kinder to it than the published code: 8 elements per thread forward instead of
one; backward, sums of a tile instead of tiles of sums (217 registers, no spills on sm_90, instead of 255 and spills);
dx in the type of x instead of float32; half precision converted inside the kernel, not in passes before and after it.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

FORWARD_BLOCK = 1024
TILE_ROWS = 64
TILE_COLUMNS = 64


@triton.jit
def _forward_kernel(
    x_pointer, a_pointer, b_pointer, y_pointer, elements, channels, width, a_stride, b_stride, BLOCK: tl.constexpr
):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < elements
    x = tl.load(x_pointer + offsets, mask=inside, other=0.0).to(tl.float32)
    group = (offsets % channels) // width
    a, b = a_pointer + group * a_stride, b_pointer + group * b_stride
    p = tl.load(a + 5)
    p = p * x + tl.load(a + 4)
    p = p * x + tl.load(a + 3)
    p = p * x + tl.load(a + 2)
    p = p * x + tl.load(a + 1)
    p = p * x + tl.load(a)
    size = tl.abs(x)
    q = tl.abs(tl.load(b + 3))
    q = q * size + tl.abs(tl.load(b + 2))
    q = q * size + tl.abs(tl.load(b + 1))
    q = q * size + tl.abs(tl.load(b))
    q = q * size + 1.0
    tl.store(y_pointer + offsets, (p / q).to(y_pointer.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(
    x_pointer, g_pointer, a_pointer, b_pointer, dx_pointer, da_pointer, db_pointer,
    rows, channels, width, a_stride, b_stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    a, b = a_pointer + group * a_stride, b_pointer + group * b_stride
    a0, a1, a2 = tl.load(a), tl.load(a + 1), tl.load(a + 2)
    a3, a4, a5 = tl.load(a + 3), tl.load(a + 4), tl.load(a + 5)
    b1, b2, b3, b4 = tl.load(b), tl.load(b + 1), tl.load(b + 2), tl.load(b + 3)
    s1, s2, s3, s4 = tl.abs(b1), tl.abs(b2), tl.abs(b3), tl.abs(b4)
    da0, da1, da2, da3, da4, da5 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    db1, db2, db3, db4 = 0.0, 0.0, 0.0, 0.0
    for start in range(0, width, COLUMNS):
        column = start + tl.arange(0, COLUMNS)[None, :]
        inside = (row < rows) & (column < width)
        offsets = row * channels + group * width + column
        x = tl.load(x_pointer + offsets, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(g_pointer + offsets, mask=inside, other=0.0).to(tl.float32)
        size = tl.abs(x)
        sign = tl.where(x < 0, -1.0, 1.0)
        p = ((((a5 * x + a4) * x + a3) * x + a2) * x + a1) * x + a0
        q = (((s4 * size + s3) * size + s2) * size + s1) * size + 1.0
        slope_p = (((5.0 * a5 * x + 4.0 * a4) * x + 3.0 * a3) * x + 2.0 * a2) * x + a1
        slope_q = ((4.0 * s4 * size + 3.0 * s3) * size + 2.0 * s2) * size + s1
        weight = g / q
        f = p / q
        dx = weight * (slope_p - f * sign * slope_q)
        tl.store(dx_pointer + offsets, dx.to(dx_pointer.dtype.element_ty), mask=inside)
        da0 += tl.sum(weight)
        power = weight * x
        da1 += tl.sum(power)
        power *= x
        da2 += tl.sum(power)
        power *= x
        da3 += tl.sum(power)
        power *= x
        da4 += tl.sum(power)
        da5 += tl.sum(power * x)
        power = weight * f * size
        db1 += tl.sum(power)
        power *= size
        db2 += tl.sum(power)
        power *= size
        db3 += tl.sum(power)
        db4 += tl.sum(power * size)
    da, db = da_pointer + group * a_stride, db_pointer + group * b_stride
    tl.atomic_add(da, da0)
    tl.atomic_add(da + 1, da1)
    tl.atomic_add(da + 2, da2)
    tl.atomic_add(da + 3, da3)
    tl.atomic_add(da + 4, da4)
    tl.atomic_add(da + 5, da5)
    tl.atomic_add(db, tl.where(b1 < 0, db1, -db1))
    tl.atomic_add(db + 1, tl.where(b2 < 0, db2, -db2))
    tl.atomic_add(db + 2, tl.where(b3 < 0, db3, -db3))
    tl.atomic_add(db + 3, tl.where(b4 < 0, db4, -db4))


class _FlashRational(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
        x, a, b = x.contiguous(), numerator.float().contiguous(), denominator.float().contiguous()
        ctx.save_for_backward(x, numerator, denominator)
        y = torch.empty_like(x)
        channels, width, a_stride, b_stride = _sizes(x, a, b)
        grid = (triton.cdiv(x.numel(), FORWARD_BLOCK),)
        _forward_kernel[grid](x, a, b, y, x.numel(), channels, width, a_stride, b_stride, BLOCK=FORWARD_BLOCK)
        return y

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, numerator, denominator = ctx.saved_tensors
        a, b = numerator.float().contiguous(), denominator.float().contiguous()
        dx, da, db = torch.empty_like(x), torch.zeros_like(a), torch.zeros_like(b)
        channels, width, a_stride, b_stride = _sizes(x, a, b)
        rows = x.numel() // channels
        grid = (triton.cdiv(rows, TILE_ROWS), channels // width)
        _backward_kernel[grid](
            x, gradient.contiguous(), a, b, dx, da, db, rows, channels, width, a_stride, b_stride,
            ROWS=TILE_ROWS, COLUMNS=TILE_COLUMNS,
        )  # fmt: skip
        return dx, da.to(numerator.dtype), db.to(denominator.dtype)


def flash_rational(x: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
    """y = P(x) / Q(x), differentiable once, in the type of ``x``.

    Args:
        x: (..., channels), float32, bfloat16 or float16.
        numerator: a, (groups or 1, 6); the groups divide the channels.
        denominator: b, (groups or 1, 4).

    Raises:
        ValueError: the sizes do not fit together.
    """
    groups = max(len(numerator), len(denominator))
    if numerator.shape[1:] != (6,) or denominator.shape[1:] != (4,) or x.shape[-1] % groups:
        shapes = [tuple(tensor.shape) for tensor in (x, numerator, denominator)]
        raise ValueError(f"expected (..., channels), (groups or 1, 6), (groups or 1, 4); given: {shapes}")
    return _FlashRational.apply(x, numerator, denominator)


def _sizes(x: Tensor, a: Tensor, b: Tensor) -> tuple[int, int, int, int]:
    """Channels, channels of a group, and the steps from one group's coefficients to the next, 0 where shared."""
    channels = x.shape[-1]
    return channels, channels // max(len(a), len(b)), 6 * (len(a) > 1), 4 * (len(b) > 1)
