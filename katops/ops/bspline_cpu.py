"""The B-spline basis on the CPU by compiled loops: the few functions that are not zero, by their triangular scheme."""

from functools import cache

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
        out = x.new_zeros(x.numel() // max(inputs, 1), inputs, functions)
        loop, _ = _loops(degree)
        loop(_plain(x, inputs), knots.detach().contiguous().numpy(), _CODES[extrapolation], out.numpy())
        return out.view(*x.shape, functions)

    def gradient(self, x: Tensor, gradient: Tensor, knots: Tensor, degree: int, extrapolation: str) -> Tensor:
        inputs, functions = len(knots), knots.shape[1] - degree - 1
        out = x.new_empty(x.numel() // max(inputs, 1), inputs)
        incoming = gradient.detach().resolve_neg().reshape(-1, inputs, functions).contiguous().numpy()
        _, loop = _loops(degree)
        loop(_plain(x, inputs), incoming, knots.detach().contiguous().numpy(), _CODES[extrapolation], out.numpy())
        return out.view(x.shape)


def load(device: torch.device) -> NumbaBasis:
    """The loops.

    Raises:
        BackendUnavailable: numba cannot be imported, or compiles nothing here.
    """
    try:
        _loops(3)
    except ImportError as error:
        raise BackendUnavailable(f"numba cannot be imported ({error})") from None
    except Exception as error:
        raise BackendUnavailable(f"numba cannot compile here ({type(error).__name__}: {error})") from None
    return NumbaBasis()


@cache
def _loops(degree: int):
    from katops.ops.bspline_numba import make_loops

    return make_loops(degree)


def _plain(x: Tensor, inputs: int):
    return x.detach().resolve_neg().reshape(-1, inputs).contiguous().numpy()
