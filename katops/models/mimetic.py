"""Mimetic initialisation of self-attention (Trockman & Kolter 2023, arXiv 2305.09828)."""

import torch
from torch import Tensor, nn

# Strength of the random and of the diagonal part, for queries with keys and for values with the projection.
QUERY_KEY = (0.7, 0.7)
VALUE_PROJECTION = (0.4, -0.4)


@torch.no_grad()
def initialise_mimetic(attention: nn.Module) -> None:
    """Weights whose products look like those of trained transformers.

        W_Q^T W_K   = best approximation of rank head_dim to 0.7 Z + 0.7 I, drawn anew for every head
        W_proj W_V  = 0.4 Z - 0.4 I,   entries of Z uniform with variance 1 / width

    (equations 3 and 5, with the constants of the published KAT). Biases are left as they are.

    Args:
        attention: timm's ``Attention``, with ``qkv``, ``proj``, ``num_heads`` and ``head_dim``.
    """
    width, head_dim = attention.proj.weight.shape[0], attention.head_dim
    query, key, value = attention.qkv.weight.chunk(3)
    for head in range(attention.num_heads):
        rows = slice(head * head_dim, (head + 1) * head_dim)
        left, right = _factors(_nearly_diagonal(width, *QUERY_KEY))
        query[rows], key[rows] = left.T[:head_dim], right[:head_dim]
    left, right = _factors(_nearly_diagonal(width, *VALUE_PROJECTION))
    value.copy_(right)
    attention.proj.weight.copy_(left)


def _nearly_diagonal(width: int, random: float, diagonal: float) -> Tensor:
    uniform = (2 * torch.rand(width, width) - 1) * (3 / width) ** 0.5
    return random * uniform + diagonal * torch.eye(width)


def _factors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """L and R with L R = matrix, columns of L and rows of R ordered by singular value, largest first."""
    left, singular_values, right = torch.linalg.svd(matrix)
    root = singular_values.sqrt()
    return left * root, root[:, None] * right
