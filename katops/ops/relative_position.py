"""From a value per relative position in a window to one per pair of tokens, and the way back of its gradient."""

from torch import Tensor
from torch.nn import functional

Pair = tuple[int, int]


def spread(table: Tensor, window: Pair) -> Tensor:
    """(heads, 2 rows - 1, 2 columns - 1) -> (heads, n, n), n = rows x columns.

    Entry (query, key) is table[row_q - row_k + rows - 1, column_q - column_k + columns - 1]: sliding windows of the
    table, which need no index.
    """
    rows, columns = window
    sliding = table.unfold(1, rows, 1).unfold(2, columns, 1).flip(3, 4)
    return sliding.reshape(table.shape[0], rows * columns, rows * columns)


def collect(pairs: Tensor, window: Pair) -> Tensor:
    """The transpose of :func:`spread`: for every relative position the sum over the pairs that have it."""
    rows, columns = window
    pairs = pairs.view(-1, rows, columns, rows, columns).flip(3, 4)
    by_column = _sum_of_antidiagonals(pairs.transpose(2, 3))
    return _sum_of_antidiagonals(by_column.permute(0, 3, 1, 2)).transpose(1, 2)


def _sum_of_antidiagonals(x: Tensor) -> Tensor:
    """(..., w, w) -> (..., 2 w - 1), entry a = sum over i + j = a.

    Behind w zeros per row, the same memory read with one entry less per row has row i shifted by i.
    """
    w = x.shape[-1]
    padded = functional.pad(x, (0, w)).flatten(-2)
    return padded[..., : w * (2 * w - 1)].unflatten(-1, (w, 2 * w - 1)).sum(-2)
