"""The backends of the B-spline basis on the CPU; on other devices the definition runs, which compilers fuse."""

import importlib
from typing import Protocol

import torch
from torch import Tensor

from katops.ops.bspline_definition import basis_by_definition
from katops.ops.dispatch import Backend, Dispatcher


class BasisKernels(Protocol):
    """What a backend of the B-spline basis provides."""

    def supports(self, *types: torch.dtype) -> bool:
        """Whether it computes with these types."""

    def values(self, x: Tensor, knots: Tensor, degree: int, extrapolation: str) -> Tensor:
        """The basis, (..., inputs) -> (..., inputs, functions)."""

    def gradient(self, x: Tensor, gradient: Tensor, knots: Tensor, degree: int, extrapolation: str) -> Tensor:
        """sum_m gradient_m B_m'(x), of the shape of x."""


class PlainTorch:
    """The definition as a backend."""

    def supports(self, *types: torch.dtype) -> bool:
        return True

    def values(self, x: Tensor, knots: Tensor, degree: int, extrapolation: str) -> Tensor:
        return basis_by_definition(x, knots, degree, extrapolation)

    def gradient(self, x: Tensor, gradient: Tensor, knots: Tensor, degree: int, extrapolation: str) -> Tensor:
        return (gradient * basis_by_definition(x, knots, degree, extrapolation, 1)).sum(-1)


def _load_numba(device: torch.device) -> BasisKernels:
    return importlib.import_module("katops.ops.bspline_cpu").load(device)


BSPLINE: Dispatcher[BasisKernels] = Dispatcher(
    "bspline_basis",
    [Backend("numba", ("cpu",), 1, _load_numba), Backend("torch", (), 0, lambda device: PlainTorch())],
)
