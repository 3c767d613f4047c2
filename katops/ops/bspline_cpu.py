"""The B-spline basis on the CPU by compiled loops: the few functions that are not zero, by their triangular scheme."""

import importlib
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from katops.ops.dispatch import BackendUnavailable

_CODES = {"linear": 0, "clamp": 1, "zero": 2}


class NumbaBasis:
    """Loops over the inputs; one thread, since a table is small."""

    def supports(self, *types: torch.dtype) -> bool:
        return set(types) <= {torch.float32, torch.float64}

    def values(self, x: Tensor, knots: Tensor, degree: int, extrapolation: str) -> Tensor:
        inputs, functions = len(knots), knots.shape[1] - degree - 1
        out = x.new_empty(x.numel() // max(inputs, 1), inputs, functions)
        table = knots.detach().contiguous().numpy()
        _loops().values(_plain(x, inputs), table, tuple(range(degree + 1)), _CODES[extrapolation], out.numpy())
        return out.view(*x.shape, functions)

    def gradient(self, x: Tensor, gradient: Tensor, knots: Tensor, degree: int, extrapolation: str) -> Tensor:
        inputs, functions = len(knots), knots.shape[1] - degree - 1
        out = x.new_empty(x.numel() // max(inputs, 1), inputs)
        incoming = gradient.detach().resolve_neg().reshape(-1, inputs, functions).contiguous().numpy()
        table = knots.detach().contiguous().numpy()
        powers = tuple(range(degree + 1))
        _loops().gradient(_plain(x, inputs), incoming, table, powers, _CODES[extrapolation], out.numpy())
        return out.view(x.shape)


def load(device: torch.device) -> NumbaBasis:
    """The loops.

    Raises:
        BackendUnavailable: numba cannot be imported.
    """
    try:
        _loops()
    except ImportError as error:
        raise BackendUnavailable(f"numba cannot be imported ({error})") from None
    return NumbaBasis()


@cache
def _loops() -> ModuleType:
    return importlib.import_module("katops.ops.bspline_numba")


def _plain(x: Tensor, inputs: int):
    return x.detach().resolve_neg().reshape(-1, inputs).contiguous().numpy()
