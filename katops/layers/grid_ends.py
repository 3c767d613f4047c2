"""What lies beyond the ends of a grid of tokens (batch, rows, columns, channel): further tokens, or zeros."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def complete(x: Tensor, multiple: int, dims: Sequence[int], wrap: Sequence[bool]) -> Tensor:
    """x with axes that are multiples of a number: continued where they wrap, with the last entry repeated elsewhere.

    Args:
        x: any tensor.
        multiple: what the lengths shall be multiples of.
        dims: the axes.
        wrap: for each of them whether it is periodic.
    """
    for dim, periodic in zip(dims, wrap, strict=True):
        length = x.shape[dim]
        missing = -length % multiple
        if missing:
            index = torch.arange(length + missing, device=x.device)
            x = x.index_select(dim, index % length if periodic else index.clamp_max(length - 1))
    return x


def pad_ends(x: Tensor, width: int, wrap: Sequence[bool]) -> Tensor:
    """(batch, channel, rows, columns) with ``width`` more points at both ends of both axes, zeros unless they wrap."""
    for dim, periodic in zip((2, 3), wrap, strict=True):
        if periodic:
            length = x.shape[dim]
            x = x.index_select(dim, torch.arange(-width, length + width, device=x.device) % length)
        else:
            x = functional.pad(x, (0, 0, width, width) if dim == 2 else (width, width))
    return x
