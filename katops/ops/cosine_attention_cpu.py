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

# Scores in a chunk; in float32 they take 1 MiB.
CHUNK = 2**18
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
        scores = weights.new_empty(plan.largest, *bias.shape[1:])
        for part in plan.parts:
            s, p = scores[: part.size], weights[part.matrices]
            torch.bmm(q[part.matrices], k[part.matrices].transpose(1, 2), out=s)
            part.by_window(s).add_(bias[part.heads])
            if mask is not None:
                s.add_(mask[part.mask])
            torch.softmax(s, dim=-1, out=p)
            torch.bmm(p, v[part.matrices], out=y[part.matrices])
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
        dbias, scores = scale.new_zeros(len(scale), n, n), weights.new_empty(ctx.plan.largest, n, n)
        for part in ctx.plan.parts:
            ds, p, dy = scores[: part.size], weights[part.matrices], g[part.matrices]
            torch.bmm(p.transpose(1, 2), dy[..., :-1], out=dv[part.matrices])
            torch.bmm(dy, v[part.matrices].transpose(1, 2), out=ds)
            ds.mul_(p)
            by_window = part.by_window(ds)
            dbias[part.heads].add_(by_window[0] if len(by_window) == 1 else by_window.sum(0))
            torch.bmm(ds, k[part.matrices], out=dq[part.matrices])
            torch.bmm(ds.transpose(1, 2), q[part.matrices], out=dk[part.matrices])
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
    """Neighbouring matrices of scores, of all windows and heads: all heads of some windows, or some of one window.

    Attributes:
        matrices: which of all.
        heads: which of every window's.
        mask: the number of the mask that they share, if there is one.
    """

    matrices: slice
    heads: slice
    mask: int

    @property
    def size(self) -> int:
        """Number of matrices."""
        return self.matrices.stop - self.matrices.start

    def by_window(self, x: Tensor) -> Tensor:
        """(size, n, n) -> (windows, heads, n, n)."""
        return x.view(-1, self.heads.stop - self.heads.start, *x.shape[1:])


@dataclass(frozen=True)
class _Plan:
    """The parts, one after another, and the size of the largest."""

    parts: tuple[_Part, ...]
    largest: int


def _plan(matrices: int, bias: Tensor, mask: Tensor | None) -> _Plan:
    parts = tuple(_parts(matrices, bias, mask))
    return _Plan(parts, max(part.size for part in parts))


def _parts(matrices: int, bias: Tensor, mask: Tensor | None) -> Iterator[_Part]:
    heads, n, _ = bias.shape
    at_once = max(1, CHUNK // n**2)
    if at_once < heads or mask is not None:
        at_once = min(at_once, heads)
        for window in range(matrices // heads):
            for head in range(0, heads, at_once):
                some = slice(head, min(heads, head + at_once))
                start = window * heads
                yield _Part(
                    slice(start + some.start, start + some.stop), some, window % len(mask) if mask is not None else 0
                )
    else:
        at_once -= at_once % heads
        for start in range(0, matrices, at_once):
            yield _Part(slice(start, min(matrices, start + at_once)), slice(0, heads), 0)


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
