"""Attention by the cosine of queries and keys, with a bias for their relative position, in many windows at once.

    y = softmax(s_h <q / |q|, k / |k|> + b_h(position of q - position of k) + mask) v

Tensors are (batch, window rows, window columns, heads, rows, columns, d), in any order of memory: views of tokens
(batch, \\*grid, heads d). A window has n = rows x columns tokens.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from katops.ops.cosine_attention_cpu import ChunkedAttention
from katops.ops.eager_mode import trains_on_the_cpu
from katops.ops.relative_position import spread

# Below it the length of a query or key counts as this.
SHORTEST = 1e-12


def cosine_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: Tensor,
    table: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """y for all windows, in the shape of ``query``.

    In training on the CPU, window after window while the scores are in the cache, with a backward pass of its own and
    derivatives of any order; otherwise by torch's ``scaled_dot_product_attention``, whose fast kernels on the CPU
    cannot learn a bias.

    Args:
        query, key, value: see above.
        scale: s, (heads,), positive.
        table: b, (heads, 2 rows - 1, 2 columns - 1), see :func:`katops.ops.relative_position.spread`.
        mask: added to the scores, (windows, n, n), the same for all samples and heads; no gradient.
        dropout: rate of dropout of the attention weights.
    """
    inputs = (query, key, value, scale, table)
    learns = dropout == 0 and query.numel() > 0 and any(tensor.requires_grad for tensor in inputs)
    if learns and trains_on_the_cpu(*inputs):
        return ChunkedAttention.apply(*inputs, mask, _step_by_step)
    if torch._C._are_functorch_transforms_active():
        # The choice of a kernel does not see there which parameters outside are to be learned.
        return _step_by_step(*inputs, mask, dropout)
    return cosine_attention_by_torch(*inputs, mask, dropout)


def _step_by_step(*arguments: Any) -> Tensor:
    """The definition without fused kernels, which have no second derivatives."""
    with sdpa_kernel(SDPBackend.MATH):
        return cosine_attention_by_torch(*arguments)


def cosine_attention_by_torch(
    query: Tensor, key: Tensor, value: Tensor, scale: Tensor, table: Tensor, mask: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """The same by torch's own attention: the definition."""
    batch, rows, columns, heads, height, width, d = query.shape
    count, n = rows * columns, height * width
    bias = spread(table, (height, width))
    query = functional.normalize(query, dim=-1, eps=SHORTEST) * scale.to(query.dtype)[:, None, None, None]
    key = functional.normalize(key, dim=-1, eps=SHORTEST)
    if mask is None:
        shape, added = (batch * count, heads, n, d), bias[None]
    else:
        # Windows and heads as one axis, so that neither the bias nor the mask is repeated for the samples.
        shape, added = (batch, count * heads, n, d), (mask[:, None] + bias).view(1, count * heads, n, n)
    query, key, value = (part.reshape(shape) for part in (query, key, value))
    added = added.to(query.dtype)
    y = functional.scaled_dot_product_attention(query, key, value, attn_mask=added, dropout_p=dropout, scale=1.0)
    y = y.reshape(batch, rows, columns, heads, height, width, d)
    # Exporters put other kernels in, whose results lie in memory in another order: no view of them may be recorded.
    return y.clone(memory_format=torch.contiguous_format) if torch.compiler.is_exporting() else y
