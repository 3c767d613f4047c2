"""Coarsening of cell means."""

import pytest
import torch

from katops.generators.block_mean import block_mean


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_every_block_is_replaced_by_its_mean(factor):
    cells = torch.rand(2, 3 * factor, 4 * factor, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = block_mean(cells, factor)
    assert found.shape == (2, 3, 4)
    first = cells[1, factor : 2 * factor, :factor].mean()
    torch.testing.assert_close(found[1, 1, 0], first, rtol=1e-14, atol=0)
