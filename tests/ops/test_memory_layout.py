"""Dense tensors as [outer, groups, inner] blocks of memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.ops.memory_layout import as_dense, flat, group_layout, with_strides_of


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_block_of_memory_belongs_to_one_group(data: st.DataObject) -> None:
    groups, per_group = data.draw(st.integers(1, 4), "groups"), data.draw(st.integers(1, 3), "channels per group")
    shape = data.draw(st.lists(st.integers(1, 4), max_size=3), "other axes")
    channel_dim = data.draw(st.integers(0, len(shape)), "channel axis")
    shape.insert(channel_dim, groups * per_group)
    order = data.draw(st.permutations(range(len(shape))), "memory order")
    group = torch.arange(groups).repeat_interleave(per_group)
    group = group.view([-1 if axis == channel_dim else 1 for axis in range(len(shape))]).expand(shape)
    x = group.permute(order).contiguous().permute([order.index(axis) for axis in range(len(shape))])
    assert torch.equal(x, group)
    assert as_dense(x) is x
    layout = group_layout(x, channel_dim, groups)
    blocks = flat(x).view(layout)
    assert torch.equal(blocks, torch.arange(groups)[:, None].expand(layout))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("contiguous", (2, 4, 2 * 15)), ("channels last", (2 * 15, 4, 2)), ("transposed", (2, 4, 2 * 15))],
)
def test_images_are_blocks_in_their_own_memory_order(name: str, expected: tuple[int, int, int]) -> None:
    x = torch.randn(2, 8, 3, 5)
    x = {
        "contiguous": x,
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(2, 3),
    }[name]
    assert as_dense(x) is x
    assert group_layout(x, 1, 4) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[:, :4],
        lambda x: x[..., ::2],
        lambda x: x[:, :1].expand(3, 8, 6),
        lambda x: x.as_strided((3, 4), (2, 1)),
        lambda x: torch.view_as_complex(torch.randn(3, 6, 2)).conj().imag,
    ],
    ids=["slice", "stride 2", "expanded", "overlapping", "negated"],
)
def test_other_memory_is_copied_to_the_strides_of_empty_like(make) -> None:
    x = make(torch.randn(3, 8, 6))
    dense = as_dense(x)
    assert torch.equal(dense, x)
    assert dense.stride() == torch.empty_like(x).stride()
    assert not dense.is_neg()
    assert flat(dense).numel() == x.numel()


def test_a_storage_offset_is_no_reason_for_a_copy() -> None:
    x = torch.randn(25)[1:].view(3, 8)
    assert as_dense(x) is x
    assert torch.equal(flat(x), x.flatten())


def test_a_gradient_is_laid_out_like_the_input() -> None:
    x = torch.randn(2, 8, 3, 5).contiguous(memory_format=torch.channels_last)
    for gradient in (torch.randn(2, 8, 3, 5), torch.ones(()).expand(2, 8, 3, 5), torch.randn_like(x)):
        given = with_strides_of(gradient.bfloat16(), x)
        assert given.stride() == x.stride()
        assert given.dtype == torch.bfloat16
        assert torch.equal(given, gradient.bfloat16())
    same = torch.randn_like(x)
    assert with_strides_of(same, x) is same
