"""The definition of the group rational function as a backend: any device and type, in plain torch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from katops.ops.memory_layout import GroupLayout, flat
from katops.ops.rational_definition import rational_gradients, rational_value
from katops.ops.rational_kernels import Gradients


class TorchRational:
    """See :class:`katops.ops.rational_kernels.RationalKernels`."""

    def supports(self, x: torch.dtype, compute: torch.dtype, y: torch.dtype) -> bool:
        return True

    def prepare(self, dtypes: Sequence[torch.dtype], degrees: tuple[int, int]) -> None:
        """Nothing is compiled."""

    def forward(
        self, x: Tensor, numerator: Tensor, denominator: Tensor, layout: GroupLayout, dtype: torch.dtype
    ) -> Tensor:
        y = rational_value(flat(x).view(layout), numerator, denominator, 1, dtype)
        return y.as_strided(x.shape, x.stride())

    def backward(
        self,
        x: Tensor,
        gradient: Tensor,
        numerator: Tensor,
        denominator: Tensor,
        layout: GroupLayout,
        needs: tuple[bool, bool, bool],
    ) -> Gradients:
        grad_x, grad_a, grad_b = rational_gradients(
            flat(x).view(layout), flat(gradient).view(layout), numerator, denominator, 1
        )
        given = (grad_x.as_strided(x.shape, x.stride()), grad_a, grad_b)
        return tuple(tensor if needed else None for tensor, needed in zip(given, needs, strict=True))


def load(device: torch.device) -> TorchRational:
    """For any device."""
    return TorchRational()
