"""Cosine attention: chunks on the CPU against the definition, values and derivatives of both orders."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.layers.windows import attention_mask, cut, split_heads
from katops.ops import cosine_attention_cpu
from katops.ops.cosine_attention import cosine_attention, cosine_attention_by_torch
from katops.ops.relative_position import collect, spread


def inputs(grid, window, heads, d, shifted=False, batch=2):
    windows = cut(grid, window, shifted)
    tokens = (torch.randn(batch, *windows.padded, heads * d, dtype=torch.float64) for _ in range(3))
    query, key, value = (split_heads(x, windows, heads).requires_grad_() for x in tokens)
    rows, columns = windows.size
    scale = (1 + 9 * torch.rand(heads, dtype=torch.float64)).requires_grad_()
    table = torch.randn(heads, 2 * rows - 1, 2 * columns - 1, dtype=torch.float64).requires_grad_()
    return (query, key, value, scale, table), attention_mask(windows, False, dtype=torch.float64)


def pair_by_pair(query, key, value, scale, table, mask):
    """A loop over windows, heads and queries, with the published mask of -200."""
    y = torch.empty_like(value)
    batch, rows, columns, heads, height, width, _ = query.shape
    places = list(itertools.product(range(height), range(width)))
    for b, r, c, h in itertools.product(range(batch), range(rows), range(columns), range(heads)):
        for i, (row, column) in enumerate(places):
            q, scores = query[b, r, c, h, row, column], []
            for j, (other_row, other_column) in enumerate(places):
                k = key[b, r, c, h, other_row, other_column]
                score = scale[h] * (q @ k) / (q.norm() * k.norm())
                score = score + table[h, row - other_row + height - 1, column - other_column + width - 1]
                if mask is not None and mask[r * columns + c, i, j] < 0:
                    score = score - 200
                scores.append(score)
            weights = torch.stack(scores).softmax(0)
            y[b, r, c, h, row, column] = sum(
                w * value[b, r, c, h, m, n] for w, (m, n) in zip(weights, places, strict=True)
            )
    return y


@pytest.mark.parametrize("shifted", [False, True])
def test_attention_is_that_of_a_loop_over_pairs(shifted):
    given_, mask = inputs((4, 6), 2, heads=2, d=3, shifted=shifted, batch=1)
    with torch.no_grad():
        expected = pair_by_pair(*given_, mask)
        torch.testing.assert_close(cosine_attention_by_torch(*given_, mask), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(cosine_attention(*given_, mask), expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    window=st.integers(1, 4),
    heads=st.integers(1, 3),
    shifted=st.booleans(),
    chunk=st.sampled_from([1, 20, 100, 2**18]),
)
def test_chunks_give_values_and_gradients_of_the_definition(grid, window, heads, shifted, chunk):
    given_, mask = inputs(grid, window, heads, d=2, shifted=shifted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cosine_attention_cpu, "CHUNK", chunk)
        y, expected = cosine_attention(*given_, mask), cosine_attention_by_torch(*given_, mask)
        assert type(y.grad_fn).__name__ == "ChunkedAttentionBackward"
        weight = torch.randn_like(y)
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-11)
        for one, other in zip(*(torch.autograd.grad(each, given_, weight) for each in (y, expected)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_second_derivatives_are_right():
    given_, mask = inputs((3, 3), 2, heads=1, d=2, shifted=True, batch=1)
    assert torch.autograd.gradgradcheck(lambda *each: cosine_attention(*each, mask), given_, fast_mode=True)


def test_second_derivatives_of_a_frozen_layer_are_right():
    (query, *others), mask = inputs((3, 3), 2, heads=1, d=2, batch=1)
    frozen = [tensor.detach() for tensor in others]
    assert torch.autograd.gradgradcheck(lambda q: cosine_attention(q, *frozen, mask), (query,), fast_mode=True)


@pytest.mark.parametrize("way", ["no gradient", "half precision", "dropout", "torch.func"])
def test_definition_runs_where_chunks_have_no_place(way):
    given_, mask = inputs((4, 4), 2, heads=2, d=2)
    if way == "no gradient":
        with torch.no_grad():
            assert cosine_attention(*given_, mask).grad_fn is None
    elif way == "half precision":
        y = cosine_attention(*(each.bfloat16() for each in given_[:3]), *given_[3:], mask)
        assert y.dtype == torch.bfloat16
        assert y.isfinite().all()
    elif way == "dropout":
        assert "Chunked" not in type(cosine_attention(*given_, mask, 0.5).grad_fn).__name__
    else:
        gradient = torch.func.grad(lambda q: cosine_attention(q, *given_[1:], mask).square().sum())(given_[0])
        y = cosine_attention(*given_, mask)
        torch.testing.assert_close(gradient, torch.autograd.grad(y.square().sum(), given_[0])[0])


@settings(max_examples=20, deadline=None)
@given(window=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_table_is_spread_by_difference_of_position_and_collected_by_the_transpose(window):
    rows, columns = window
    n = rows * columns
    table = torch.randn(2, 2 * rows - 1, 2 * columns - 1, dtype=torch.float64)
    row, column = torch.arange(n) // columns, torch.arange(n) % columns
    looked_up = table[:, row[:, None] - row + rows - 1, column[:, None] - column + columns - 1]
    assert torch.equal(spread(table, window), looked_up)
    pairs = torch.randn(2, n, n, dtype=torch.float64)
    torch.testing.assert_close((collect(pairs, window) * table).sum(), (pairs * looked_up).sum())


def test_query_of_length_zero_has_finite_values_and_gradients():
    given_, mask = inputs((2, 2), 2, heads=1, d=2)
    given_ = (torch.zeros_like(given_[0]).requires_grad_(), *given_[1:])
    y = cosine_attention(*given_, mask)
    assert y.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(y.sum(), given_))
