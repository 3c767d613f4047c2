"""Windows: published sizes, shifts and masks, and the way in and out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.layers.windows import attention_mask, cut, enter, leave, merge_heads, split_heads


def test_published_mask_counts():
    mask = attention_mask(cut((32, 32), 16, True), False)
    assert mask.shape == (4, 256, 256)
    assert (mask < 0).sum((1, 2)).tolist() == [0, 32768, 32768, 49152]


def test_windows_and_shifts_go_by_the_axis():
    assert (cut((32, 8), 16, True).size, cut((32, 8), 16, True).shift) == ((16, 8), (8, 0))
    assert cut((16, 16), 16, True).shift == (0, 0)
    assert cut((32, 32), 16, False).shift == (0, 0)


@settings(max_examples=40, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.integers(1, 5),
    shifted=st.booleans(),
    wrap=st.tuples(st.booleans(), st.booleans()),
)
def test_leaving_undoes_entering(grid, window, shifted, wrap):
    windows = cut(grid, window, shifted, wrap)
    x = torch.randn(2, *grid, 4)
    inside = enter(x, windows)
    assert inside.shape == (2, *windows.padded, 4)
    torch.testing.assert_close(leave(inside, windows), x, rtol=0, atol=0)
    torch.testing.assert_close(merge_heads(split_heads(inside, windows, 2), windows), inside, rtol=0, atol=0)


def positions(windows):
    """(windows, n, 2): where each token of each window comes from, -1 beyond the grid."""
    rows, columns = windows.grid
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1) + 1.0
    inside = split_heads(enter(place[None], windows), windows, 1)
    return inside.flatten(1, 3).flatten(2, 3)[0].long() - 1


@settings(max_examples=40, deadline=None)
@given(grid=st.tuples(st.integers(2, 9), st.integers(2, 9)), window=st.integers(2, 4), wrap=st.booleans())
def test_real_tokens_meet_where_they_are_neighbours_and_nobody_meets_padding(grid, window, wrap):
    windows = cut(grid, window, True, (wrap, wrap))
    mask, where = attention_mask(windows, False), positions(windows)
    meets = torch.ones(len(where), *[where.shape[1]] * 2, dtype=torch.bool) if mask is None else mask == 0
    real = (where >= 0).all(-1)
    assert not meets[~real[:, None, :].expand_as(meets)].any()
    apart = (where[:, :, None] - where[:, None, :]).abs()
    lengths = torch.tensor(grid)
    if wrap:
        apart = torch.minimum(apart, lengths - apart)
    both = real[:, :, None] & real[:, None, :]
    near = (apart < torch.tensor(windows.size)).all(-1)
    assert near[both & meets].all()
    if wrap:
        assert meets[both].all()


def test_padding_is_met_as_published_if_asked_for():
    windows = cut((5, 5), 3, False)
    assert attention_mask(windows, True) is None
    assert (attention_mask(windows, False) < 0).any()


@pytest.mark.parametrize("wrap", [False, True])
def test_periodic_windows_are_not_masked(wrap):
    mask = attention_mask(cut((8, 8), 4, True, (wrap, wrap)), False)
    assert (mask is None) == wrap
