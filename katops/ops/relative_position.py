"""From a value per relative position in a window to one per pair of tokens, and the way back of its gradient."""

import torch
from torch import Tensor

Pair = tuple[int, int]


def spread(table: Tensor, window: Pair) -> Tensor:
    """(heads, 2 rows - 1, 2 columns - 1) -> (heads, n, n), n = rows x columns.

    Entry (query, key) is table[row_q - row_k + rows - 1, column_q - column_k + columns - 1]: sliding windows of the
    table, which need no index.
    """
    rows, columns = window
    sliding = table.unfold(1, rows, 1).unfold(2, columns, 1).flip(3, 4)
    return sliding.reshape(-1, rows * columns, rows * columns)


def collect(pairs: Tensor, window: Pair) -> Tensor:
    """The transpose of :func:`spread`: for every relative position the sum over the pairs that have it."""
    rows, columns = window
    heads = len(pairs)
    pairs = pairs.view(heads, rows, columns, rows, columns).flip(3, 4)
    by_column = torch.ops.aten.unfold_backward(pairs, (heads, rows, 2 * columns - 1, rows), 2, columns, 1)
    return torch.ops.aten.unfold_backward(by_column, (heads, 2 * rows - 1, 2 * columns - 1), 1, rows, 1)
