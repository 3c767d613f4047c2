"""Coarsening of cell means."""

from torch import Tensor


def block_mean(cells: Tensor, factor: int) -> Tensor:
    """Means of blocks of factor x factor cells of (\\*batch, nx, ny), (\\*batch, nx / factor, ny / factor).

    Added in an order that depends neither on the batch nor on the number of threads.
    """
    columns = sum(cells[..., start::factor] for start in range(factor))
    return sum(columns[..., start::factor, :] for start in range(factor)) / factor**2
