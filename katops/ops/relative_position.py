"""From a value per relative position in a window to one per pair of tokens, and the way back of its gradient.

Both read memory with another length of rows than it was written with, which shifts every row against the one before:
no index and no reversed copy of all pairs.
"""

import torch
from torch import Tensor
from torch.nn import functional

Pair = tuple[int, int]


def spread(table: Tensor, window: Pair) -> Tensor:
    """(heads, 2 rows - 1, 2 columns - 1) -> (heads, n, n), n = rows x columns.

    Entry (query, key) is table[row_q - row_k + rows - 1, column_q - column_k + columns - 1].
    """
    rows, columns = window
    by_column = _differences(table, columns)  # heads, relative row, column_q, column_k
    pairs = _differences(by_column.permute(0, 2, 3, 1), rows)  # heads, column_q, column_k, row_q, row_k
    return pairs.permute(0, 3, 1, 4, 2).reshape(-1, rows * columns, rows * columns)


def collect(pairs: Tensor, window: Pair) -> Tensor:
    """The transpose of :func:`spread`: for every relative position the sum over the pairs that have it."""
    rows, columns = window
    pairs = pairs.view(-1, rows, columns, rows, columns).permute(0, 1, 3, 2, 4)
    by_column = _sums(pairs)  # heads, row_q, row_k, relative column
    return _sums(by_column.permute(0, 3, 1, 2)).transpose(1, 2)


def _differences(x: Tensor, length: int) -> Tensor:
    """(..., 2 length - 1) -> (..., length, length), entry (i, j) = x[i - j + length - 1].

    In copies of reversed x one after another, row i begins i entries further left than in the copy before.
    """
    period = 2 * length - 1
    copies = x.flip(-1).unsqueeze(-2).expand(*x.shape[:-1], length, period).flatten(-2)
    rows = copies[..., length - 1 : length - 1 + length * (period - 1)]
    if length == 1:
        return copies.unsqueeze(-1)
    return rows.unflatten(-1, (length, period - 1))[..., :length]


def _sums(x: Tensor) -> Tensor:
    """The transpose of :func:`_differences`: (..., length, length) -> (..., 2 length - 1)."""
    length = x.shape[-1]
    padded = functional.pad(functional.pad(x, (0, length)).flatten(-2), (0, length))
    differences = padded.unflatten(-1, (length, 2 * length + 1)).sum(-2)  # j - i from 0 up, then the negative ones
    j_minus_i = torch.cat([differences[..., length + 2 :], differences[..., :length]], dim=-1)
    return j_minus_i.flip(-1)
