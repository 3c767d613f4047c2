"""Cosine attention on the CPU in chunks whose scores stay in the cache, forward and backward.

torch's own attention has no fast kernel there for a bias that is to be learned. Per chunk, with q' = s q / |q| and
k' = k / |k|,

    P = softmax(q' k'^T + bias + mask),   y = P v
    dS = P (dy v^T - sum_d y dy),   dq' = dS k',   dk' = dS^T q',   dv = P^T dy,   dbias = sum over windows of dS

and dq = s / |q| (dq' - q' <q', dq'> / s^2), ds = sum <q', dq'> / s. Beside the inputs and y only P is kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from katops.ops.eager_mode import derivatives_of
from katops.ops.relative_position import collect, spread

# Scores in a chunk; in float32 they take 2 MiB.
CHUNK = 2**19
# Below it the length of a query or key counts as this.
SHORTEST = 1e-12


class ChunkedAttention(torch.autograd.Function):
    """forward(query, key, value, scale, table, mask, definition), see :mod:`katops.ops.cosine_attention`.

    ``definition`` computes the same in plain torch; derivatives of derivatives are its.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: Tensor,
        table: Tensor,
        mask: Tensor | None,
        definition: Callable[..., Tensor],
    ) -> Tensor:
        q_factor, k_factor = _factors(query, key, scale)
        q, k, v = _split(query, q_factor), _split(key, k_factor), _split(value)
        bias = spread(table, query.shape[4:6])
        weights, y = q.new_empty(len(q), *bias.shape[1:]), torch.empty_like(q)
        plan = _plan(len(q), bias, mask)
        scores = weights.new_empty(max(plan.sizes), *bias.shape[1:])
        pieces = (x.split(plan.sizes) for x in (q, k.transpose(1, 2), v, weights, y))
        for part, q_, k_, v_, p_, y_ in zip(plan.parts, *pieces, strict=True):
            s = scores[: len(q_)]
            torch.bmm(q_, k_, out=s)
            by_window = s.view(part.windows, -1, *bias.shape[1:]).add_(bias[part.heads])
            if mask is not None:
                by_window.add_(mask[part.masks, None])
            torch.softmax(s, dim=-1, out=p_)
            torch.bmm(p_, v_, out=y_)
        tokens = _as_tokens(query)
        tokens.copy_(y.view(query.shape))
        ctx.save_for_backward(query, key, value, scale, table, mask, q_factor, k_factor, weights, tokens)
        ctx.definition, ctx.plan = definition, plan
        return tokens

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, scale, table, mask, q_factor, k_factor, weights, y = ctx.saved_tensors
        if torch.is_grad_enabled():
            inputs = (query, key, value, scale, table)
            return *derivatives_of(ctx.definition, inputs, gradient, mask), None, None
        q, k = _split(query, q_factor), _split(key, k_factor)
        # One more column, so that the product of the two is dy v^T - sum_d y dy.
        g, v = _split(gradient, extra=-(y * gradient).sum(-1, keepdim=True)), _split(value, extra=1.0)
        dq, dk, dv = (torch.empty_like(q) for _ in range(3))
        n = q.shape[1]
        plan, dbias = ctx.plan, scale.new_zeros(len(scale), n, n)
        scores = weights.new_empty(max(plan.sizes), n, n)
        inputs = (x.split(plan.sizes) for x in (q, k, v.transpose(1, 2), g, g[..., :-1], weights))
        results = (x.split(plan.sizes) for x in (dq, dk, dv))
        for part, q_, k_, v_, g_, dy_, p_, dq_, dk_, dv_ in zip(plan.parts, *inputs, *results, strict=True):
            ds = scores[: len(q_)]
            torch.bmm(p_.transpose(1, 2), dy_, out=dv_)
            torch.bmm(g_, v_, out=ds)
            ds.mul_(p_)
            for of_window in ds.view(part.windows, -1, n, n):
                dbias[part.heads].add_(of_window)
            torch.bmm(ds, k_, out=dq_)
            torch.bmm(ds.transpose(1, 2), q_, out=dk_)
        along_q, along_k = ((x * dx).sum(-1, keepdim=True).view(q_factor.shape) for x, dx in ((q, dq), (k, dk)))
        s = scale.view(-1, 1, 1, 1)
        dscale = along_q.sum((0, 1, 2, 4, 5, 6)) / scale
        dq, dk = (
            dx.view(query.shape).addcmul_(x.view(query.shape), along, value=-1)
            for x, dx, along in ((q, dq, along_q / s / s), (k, dk, along_k))
        )
        joined = (_joined(dq, q_factor), _joined(dk, k_factor), _joined(dv.view(query.shape)))
        return *joined, dscale, collect(dbias, query.shape[4:6]), None, None


@dataclass(frozen=True)
class _Part:
    """Neighbouring matrices of scores: all heads of some windows, or some heads of one window.

    Attributes:
        windows: how many.
        heads: which of every window's.
        masks: which of the masks, if there are some.
    """

    windows: int
    heads: slice
    masks: slice


@dataclass(frozen=True)
class _Plan:
    """The parts, one after another, and the number of matrices of each."""

    parts: tuple[_Part, ...]
    sizes: tuple[int, ...]


def _plan(matrices: int, bias: Tensor, mask: Tensor | None) -> _Plan:
    parts = tuple(_parts(matrices // len(bias), bias, 1 if mask is None else len(mask)))
    return _Plan(parts, tuple(part.windows * (part.heads.stop - part.heads.start) for part in parts))


def _parts(windows: int, bias: Tensor, masks: int) -> Iterator[_Part]:
    heads, n, _ = bias.shape
    at_once = max(1, CHUNK // n**2)
    # Masks recur from sample to sample; a part begins and ends with none of them left out.
    some = max(1, at_once // heads)
    some = (
        min(some, windows)
        if masks == 1
        else max(size for size in range(1, masks + 1) if masks % size == 0 and size <= some)
    )
    for window in range(0, windows, some):
        count, first = min(some, windows - window), window % masks
        for head in range(0, heads, at_once):
            yield _Part(count, slice(head, min(heads, head + at_once)), slice(first, first + count))


def _factors(query: Tensor, key: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """s / |q| and 1 / |k| for every token and head."""
    q_length, k_length = (torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(SHORTEST) for x in (query, key))
    return scale.view(-1, 1, 1, 1) / q_length, k_length.reciprocal_()


def _split(x: Tensor, factor: Tensor | None = None, extra: Tensor | float | None = None) -> Tensor:
    """A view of tokens, times a factor, as (windows heads, n, d) in that order; ``extra`` is one more column."""
    *outer, height, width, d = x.shape
    split = x.new_empty(*outer, height, width, d if extra is None else d + 1)
    if extra is not None:
        split[..., :-1], split[..., -1:] = x, extra
    elif factor is not None:
        torch.mul(x, factor, out=split)
    else:
        split.copy_(x)
    return split.view(-1, height * width, split.shape[-1])


def _joined(x: Tensor, factor: Tensor | None = None) -> Tensor:
    """Inverse of :func:`_split`: a view of tokens."""
    tokens = _as_tokens(x)
    return tokens.copy_(x) if factor is None else torch.mul(x, factor, out=tokens)


def _as_tokens(like: Tensor) -> Tensor:
    """Uninitialised tokens (batch, \\*grid, heads d), seen in the shape of ``like``."""
    batch, rows, columns, heads, height, width, d = like.shape
    return like.new_empty(batch, rows, height, columns, width, heads, d).permute(0, 1, 3, 5, 2, 4, 6)
