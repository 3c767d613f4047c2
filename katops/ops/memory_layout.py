"""Tensors as contiguous [outer, groups, inner] blocks of memory, whatever their axes and strides."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class GroupLayout(NamedTuple):
    """Memory order of a dense tensor: for each of ``outer``, for each of ``groups``, ``inner`` elements in a row."""

    outer: int
    groups: int
    inner: int


def as_dense(x: Tensor) -> Tensor:
    """``x`` itself where its memory has neither gaps nor overlaps, else a copy with the strides of ``empty_like(x)``.

    A channels-last image and a transposed matrix are dense; a slice and an expanded tensor are not.
    """
    if x.is_neg():
        x = x.resolve_neg()
    return x if x.is_contiguous() or _memory_order(x) is not None else x.clone()


def with_strides_of(tensor: Tensor, dense: Tensor) -> Tensor:
    """``tensor`` laid out in memory like ``dense``, a dense tensor of the same shape; a copy only where it differs."""
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    same = all(
        one == other or size == 1 for one, other, size in zip(tensor.stride(), dense.stride(), dense.shape, strict=True)
    )
    return tensor if same else torch.empty_like(dense, dtype=tensor.dtype).copy_(tensor)


def group_layout(dense: Tensor, channel_dim: int, groups: int) -> GroupLayout:
    """Where the groups of neighbouring channels lie in the memory of a dense tensor.

    Channels last, (..., C): outer = product of the other axes, inner = C / groups. Channels first and contiguous,
    (B, C, H, W): outer = B, inner = C / groups H W.
    """
    if groups == 1:
        return GroupLayout(1, 1, dense.numel())
    order = range(dense.ndim) if dense.is_contiguous() else _memory_order(dense)
    sizes = [dense.shape[axis] for axis in order]
    position = list(order).index(channel_dim % dense.ndim)
    return GroupLayout(
        math.prod(sizes[:position]), groups, sizes[position] // groups * math.prod(sizes[position + 1 :])
    )


def flat(dense: Tensor) -> Tensor:
    """The elements of a dense tensor in memory order, without a copy."""
    return dense.as_strided((dense.numel(),), (1,))


def _memory_order(x: Tensor) -> list[int] | None:
    """The axes from the slowest to the fastest in memory; None where the memory has gaps or overlaps."""
    strides = x.stride()
    # axes of size 1 have arbitrary strides; as the slowest ones they disturb nobody
    order = sorted(range(x.ndim), key=lambda axis: (x.shape[axis] != 1, -strides[axis]))
    expected = 1
    for axis in reversed(order):
        if x.shape[axis] != 1 and strides[axis] != expected:
            return None
        expected *= x.shape[axis]
    return order
