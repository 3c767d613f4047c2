"""Patches and the blocks on skip connections: known answers."""

import torch
from torch.nn import functional

from katops.layers.convnext_block import ConvNeXtBlock
from katops.layers.grid_ends import complete, pad_ends
from katops.layers.patches import PatchMerging, PatchRecovery, PatchUnmerging
from katops.layers.resnet_block import ResNetBlock
from katops.layers.time_norm import TokenNorm


def no_norm(channels):
    return TokenNorm(lambda channels: torch.nn.Identity(), channels)


def test_merging_reads_down_the_columns_and_unmerging_along_the_rows():
    merge, unmerge = PatchMerging(1, no_norm, (False, False)), PatchUnmerging(2, no_norm)
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).view(1, 2, 2, 1)
    torch.nn.init.zeros_(merge.reduction.weight)
    for corner, value in enumerate((0.0, 2.0, 1.0, 3.0)):
        merge.reduction.weight.data[0] = functional.one_hot(torch.tensor(corner), 4)
        assert merge(x, torch.ones(1))[0, 0, 0, 0] == value
    unmerge.upsample.weight.data = torch.tensor([[1.0, 0], [2.0, 0], [3.0, 0], [4.0, 0]])
    torch.nn.init.ones_(unmerge.mixup.weight)
    one = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert unmerge(one, torch.ones(1), (2, 2)).flatten().tolist() == [1, 2, 3, 4]
    assert unmerge(one, torch.ones(1), (1, 2)).flatten().tolist() == [1, 2]


def test_recovery_is_a_transposed_convolution_and_a_convolution():
    recovery = PatchRecovery(6, 3, 4, (False, False))
    x = torch.randn(2, 3, 5, 6)
    field = functional.conv_transpose2d(
        x.permute(0, 3, 1, 2), recovery.projection.weight, recovery.projection.bias, stride=4
    )
    expected = functional.conv2d(field, recovery.mixup.weight, padding=2)
    torch.testing.assert_close(recovery(x, (12, 20)), expected, rtol=1e-4, atol=1e-5)
    cropped = functional.conv2d(field[..., :10, :19], recovery.mixup.weight, padding=2)
    torch.testing.assert_close(recovery(x, (10, 19)), cropped, rtol=1e-4, atol=1e-5)


def test_grids_are_completed_by_wrapping_or_by_the_last_entry():
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3)
    assert complete(x, 4, (2,), (True,)).flatten().tolist() == [1, 2, 3, 1]
    assert complete(x, 4, (2,), (False,)).flatten().tolist() == [1, 2, 3, 3]
    assert complete(x, 3, (2,), (False,)) is x
    assert complete(x[..., :1], 4, (2,), (True,)).flatten().tolist() == [1, 1, 1, 1]


def test_ends_wrap_also_on_grids_smaller_than_the_margin():
    x = torch.tensor([[1.0, 2.0]]).view(1, 1, 1, 2)
    assert pad_ends(x, 3, (False, True))[0, 0, 3].tolist() == [2, 1, 2, 1, 2, 1, 2, 1]
    assert pad_ends(x, 1, (False, False)).sum() == 3


def test_convnext_block_is_what_its_docstring_says():
    block = ConvNeXtBlock(4, no_norm)
    torch.nn.init.ones_(block.weight)
    x = torch.randn(2, 9, 8, 4)
    y = functional.conv2d(x.permute(0, 3, 1, 2), block.dwconv.weight, block.dwconv.bias, padding=3, groups=4)
    y = block.pwconv2(functional.gelu(block.pwconv1(y.permute(0, 2, 3, 1))))
    torch.testing.assert_close(block(x, torch.ones(2)), x + y)


def test_blocks_that_wrap_commute_with_shifts():
    x = torch.randn(2, 6, 5, 4)
    for block in (ConvNeXtBlock(4, no_norm, wrap=(True, True)), ResNetBlock(4, (True, True)).eval()):
        if isinstance(block, ConvNeXtBlock):
            torch.nn.init.ones_(block.weight)
        shifted = block(torch.roll(x, (2, 1), (1, 2)), torch.ones(2))
        torch.testing.assert_close(shifted, torch.roll(block(x, torch.ones(2)), (2, 1), (1, 2)))
