"""What every backend of the group rational function provides, and the numbers they share.

The equations are in :mod:`katops.ops.rational`. Kernels see plain dense tensors as [outer, groups, inner] blocks of
memory (:mod:`katops.ops.memory_layout`) and know nothing of autograd.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from katops.ops.memory_layout import GroupLayout

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]

# More of them per group run by the definition: kernels keep all of them in registers.
MOST_COEFFICIENTS = 64

# What stands for infinity where float32 input is computed in float64: the quotient there is that of the limit after
# rounding to float32, and its sixth power still fits.
INFINITE = 2.0**160


class RationalKernels(Protocol):
    """Forward and backward on one device."""

    def supports(self, x: torch.dtype, compute: torch.dtype, y: torch.dtype) -> bool:
        """Whether input of type ``x``, arithmetic in ``compute`` and output of type ``y`` are served."""

    def forward(
        self, x: Tensor, numerator: Tensor, denominator: Tensor, layout: GroupLayout, dtype: torch.dtype
    ) -> Tensor:
        """y = P(x) / Q(x), rounded once to ``dtype``, in a new tensor with the strides of ``x``.

        Args:
            x: dense and not empty.
            numerator, denominator: (groups or 1, m + 1) and (groups or 1, n), contiguous, 2 <= m + 1 + n <= 64.
            layout: where the groups of ``x`` lie.
            dtype: the type of y.
        """

    def prepare(self, dtypes: Sequence[torch.dtype], degrees: tuple[int, int]) -> None:
        """Compile ahead what training with input of these types and these degrees needs."""

    def backward(
        self,
        x: Tensor,
        gradient: Tensor,
        numerator: Tensor,
        denominator: Tensor,
        layout: GroupLayout,
        needs: tuple[bool, bool, bool],
    ) -> Gradients:
        """The gradients of x, numerator and denominator, each like its tensor; None where it is not needed.

        Args:
            gradient: of y: the shape and strides of ``x``, the type of y.
        """


def compute_type(*types: torch.dtype) -> torch.dtype:
    """The type of the arithmetic: the widest of the given ones, float32 at least."""
    widest = torch.float32
    for dtype in types:
        if dtype != widest:
            widest = torch.promote_types(widest, dtype)
    return widest


def far_limit(compute: torch.dtype, numerator_degree: int, denominator_degree: int) -> float:
    """The |x| beyond which powers of x may overflow: a power of two whose highest power uses half of the exponents.

    2^12 in float32 for degrees 5 and 4. The second derivative divides by Q twice, and Q^2 has to fit as well.
    """
    degree = max(numerator_degree, denominator_degree, 1)
    largest_exponent = math.frexp(torch.finfo(compute).max)[1]
    return 2.0 ** (largest_exponent // (2 * degree))
