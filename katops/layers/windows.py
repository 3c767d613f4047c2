"""Windows on a grid of tokens: their sizes and shifts, the way into them and back, and which tokens may not meet.

Tokens are (batch, rows, columns, channel). A window has n = rows x columns of its own tokens, row by row; windows are
counted row by row, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from katops.ops.relative_position import Pair

# Added to the score of two tokens that may not meet. Scores of cosine attention lie between -100 and 116, so that
# nothing is left of a masked one, and a padded token without any real token to look at gets a number, not NaN.
MASKED = -1e4
# Masks of a stage that are kept: two cuts of each of a few grids.
KEPT = 8


@dataclass(frozen=True)
class Windows:
    """How one layer cuts a grid into windows.

    Attributes:
        grid: tokens per axis.
        size: tokens of a window per axis.
        shift: by how many tokens the windows are shifted on each axis.
        wrap: whether windows reach across the ends of the axis, which is periodic then.
    """

    grid: Pair
    size: Pair
    shift: Pair
    wrap: tuple[bool, bool]

    @property
    def counts(self) -> Pair:
        """Windows per axis; the last one may reach beyond the grid."""
        rows, columns = (-(-length // size) for length, size in zip(self.grid, self.size, strict=True))
        return rows, columns

    @property
    def padded(self) -> Pair:
        """Tokens per axis with those beyond the grid."""
        rows, columns = (count * size for count, size in zip(self.counts, self.size, strict=True))
        return rows, columns

    @property
    def pads(self) -> bool:
        """Whether windows reach beyond the grid."""
        return self.padded != self.grid


def cut(grid: Sequence[int], window_size: int, shifted: bool, wrap: Sequence[bool] = (False, False)) -> Windows:
    """Windows of ``window_size`` tokens per axis, or of as many as the axis has; shifted by half of that if asked for.

    An axis that has no more tokens than a window is not shifted.
    """
    rows, columns = grid
    size = (min(window_size, rows), min(window_size, columns))
    half = window_size // 2 if shifted else 0
    shift = (half if rows > window_size else 0, half if columns > window_size else 0)
    return Windows((rows, columns), size, shift, (bool(wrap[0]), bool(wrap[1])))


def enter(x: Tensor, windows: Windows) -> Tensor:
    """Tokens as windows see them: shifted, zeros beyond the grid, (batch, \\*grid, c) -> (batch, \\*padded, c).

    Windows that wrap shift the grid and have the zeros behind it; others shift the zeros along with it, as published.
    """
    x = _roll(x, windows, -1, wrap=True)
    if windows.pads:
        rows, columns = (after - before for after, before in zip(windows.padded, windows.grid, strict=True))
        x = functional.pad(x, (0, 0, 0, columns, 0, rows))
    return _roll(x, windows, -1, wrap=False)


def leave(x: Tensor, windows: Windows) -> Tensor:
    """Inverse of :func:`enter`."""
    x = _roll(x, windows, 1, wrap=False)
    if windows.pads:
        x = x[:, : windows.grid[0], : windows.grid[1]]
    return _roll(x, windows, 1, wrap=True)


def split_heads(x: Tensor, windows: Windows, num_heads: int) -> Tensor:
    """(batch, \\*padded, heads d) -> a view (batch, window rows, window columns, heads, rows, columns, d)."""
    (rows, columns), (height, width) = windows.counts, windows.size
    per_head = x.shape[-1] // num_heads
    return x.view(x.shape[0], rows, height, columns, width, num_heads, per_head).permute(0, 1, 3, 5, 2, 4, 6)


def merge_heads(x: Tensor, windows: Windows) -> Tensor:
    """Inverse of :func:`split_heads`."""
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(x.shape[0], *windows.padded, x.shape[3] * x.shape[6])


def attention_mask(
    windows: Windows, padded_keys: bool, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor | None:
    """What is added to the scores, (windows, n, n): 0, or :data:`MASKED` for a query and a key that may not meet.

    Tokens of a shifted window that lie at opposite ends of an axis do not meet, unless the windows wrap. Nobody meets
    a token beyond the grid, unless ``padded_keys``.

    Returns:
        ``None`` where all may meet.
    """
    masked = None
    if any(shift and not wrap for shift, wrap in zip(windows.shift, windows.wrap, strict=True)):
        rows, columns = (_regions(windows, axis, device) for axis in (0, 1))
        region = _by_window(3 * rows[:, None] + columns, windows)
        masked = region[:, :, None] != region[:, None, :]
    if windows.pads and not padded_keys:
        rows, columns = (_real(windows, axis, device) for axis in (0, 1))
        beyond = ~_by_window(rows[:, None] & columns, windows)[:, None, :]
        masked = beyond if masked is None else masked | beyond
    if masked is None:
        return None
    n = windows.size[0] * windows.size[1]
    return torch.zeros(1, dtype=dtype, device=device).masked_fill(masked, MASKED).expand(-1, n, -1)


class AttentionMasks:
    """:func:`attention_mask`, made once for each cut, device and precision and kept for the next forward passes.

    Of more than :data:`KEPT` the oldest one goes. Copies and pickles begin empty.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], Tensor | None] = {}

    def __call__(self, windows: Windows, padded_keys: bool, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """See :func:`attention_mask`."""
        key = (windows, padded_keys, device, dtype)
        # A tracer's tensors have no values.
        if torch.compiler.is_compiling():
            return attention_mask(*key)
        if key not in self._kept:
            if len(self._kept) == KEPT:
                del self._kept[next(iter(self._kept))]
            # Otherwise a training could not keep the mask of an evaluation for its backward pass.
            with torch.inference_mode(False):
                self._kept[key] = attention_mask(*key)
        return self._kept[key]

    def __reduce__(self) -> "tuple[type[AttentionMasks], tuple[()]]":
        return AttentionMasks, ()


def _roll(x: Tensor, windows: Windows, sign: int, *, wrap: bool) -> Tensor:
    axes = [axis for axis in (0, 1) if windows.shift[axis] and windows.wrap[axis] == wrap]
    if not axes:
        return x
    return torch.roll(x, [sign * windows.shift[axis] for axis in axes], [axis + 1 for axis in axes])


def _regions(windows: Windows, axis: int, device: torch.device | None) -> Tensor:
    """0 for tokens of windows that lie within the grid, 1 and 2 for those of the last window, before and behind the
    end of the axis."""
    length, size, shift = windows.padded[axis], windows.size[axis], windows.shift[axis]
    position = torch.arange(length, device=device)
    if not shift or windows.wrap[axis]:
        return torch.zeros_like(position)
    return (position >= length - size).long() + (position >= length - shift).long()


def _real(windows: Windows, axis: int, device: torch.device | None) -> Tensor:
    """Whether a place holds a token of the grid."""
    length, shift = windows.padded[axis], 0 if windows.wrap[axis] else windows.shift[axis]
    return (torch.arange(length, device=device) + shift) % length < windows.grid[axis]


def _by_window(values: Tensor, windows: Windows) -> Tensor:
    """(rows, columns) -> (windows, n)."""
    (rows, columns), (height, width) = windows.counts, windows.size
    return values.view(rows, height, columns, width).transpose(1, 2).reshape(rows * columns, height * width)
