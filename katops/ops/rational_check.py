"""Whether the group rational function computes right on a device: its numbers against the equations in float64."""

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from katops.ops.dispatch import Dispatcher
from katops.ops.memory_layout import GroupLayout
from katops.ops.rational_accuracy import Errors, Results, errors
from katops.ops.rational_kernels import RationalKernels, compute_type

# Enough elements that backends with a path of their own for small tensors do not take it.
LAYOUT = GroupLayout(outer=512, groups=8, inner=12)
NOT_A_NUMBER = 1e30


@dataclass(frozen=True)
class RationalCheck:
    """Forward and backward pass of one small tensor.

    Args:
        dtype: of the input and the output; the coefficients are float32.
        backend: the one that ran.
        errors: of y, dx and the coefficients' gradients: the largest deviation from float64 as a part of what rounding
            explains, so that up to 1 is right; 1e30 where the result is not a number.
        first_seconds: of the first forward and backward pass, compilation included.
        seconds: of the second.
        problem: why there are no numbers, where a backend raised what it must not.
    """

    dtype: str
    backend: str = ""
    errors: dict[str, float] = field(default_factory=dict)
    first_seconds: float = 0.0
    seconds: float = 0.0
    problem: str = ""

    @property
    def right(self) -> bool:
        """Whether every number is."""
        return not self.problem and all(error <= 1 for error in self.errors.values())


def check_rational(dispatcher: Dispatcher[RationalKernels], device: torch.device, dtype: torch.dtype) -> RationalCheck:
    """Run the backend that is chosen for tensors of this type, twice, and compare.

    Values of x are normal, some beyond the range where powers of x are formed in float32; the numerator is shared by
    the groups, the denominator is not.
    """
    x, gradient, numerator, denominator = _inputs(dtype)
    tensors = [tensor.to(device) for tensor in (x, gradient, numerator, denominator)]
    _, first_seconds = _run(dispatcher, *tensors)
    results, seconds = _run(dispatcher, *tensors)
    backend, _ = dispatcher.choose(device, (dtype, compute_type(dtype), dtype))
    parts = _parts_of_allowed(errors(results, x, numerator, denominator, gradient), dtype)
    return RationalCheck(str(dtype).removeprefix("torch."), backend, parts, first_seconds, seconds)


def _inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (LAYOUT.outer, LAYOUT.groups * LAYOUT.inner)
    x = 2 * torch.randn(shape, generator=generator)
    x[0, -4:] = torch.tensor([-1e10, -1e4, 1e4, 1e10])
    gradient = torch.randn(shape, generator=generator)
    numerator = torch.randn(1, 6, generator=generator)
    denominator = torch.randn(LAYOUT.groups, 4, generator=generator)
    denominator[0, 0] = 0
    return x.to(dtype), gradient.to(dtype), numerator, denominator


def _run(
    dispatcher: Dispatcher[RationalKernels], x: Tensor, gradient: Tensor, numerator: Tensor, denominator: Tensor
) -> tuple[Results, float]:
    """The results, copied to the CPU, and the time until they were there."""
    types = (x.dtype, compute_type(x.dtype), x.dtype)
    start = time.perf_counter()
    y = dispatcher.run("forward", x.device, types, (x, numerator, denominator, LAYOUT, x.dtype), None)
    arguments = (x, gradient, numerator, denominator, LAYOUT, (True, True, True))
    gradients = dispatcher.run("backward", x.device, types, arguments, None)
    results = Results(y.cpu(), *(tensor.cpu() for tensor in gradients))
    return results, time.perf_counter() - start


def _parts_of_allowed(found: Errors, dtype: torch.dtype) -> dict[str, float]:
    """Errors as parts of what rounding explains: a few roundings in float32, and one to the type of the result."""
    rounding = torch.finfo(torch.float32).eps
    rounding_of_result = torch.finfo(dtype).eps / 2 if dtype.itemsize < 4 else 0.0
    allowed = {"y": 8 * rounding + rounding_of_result, "dx": 16 * rounding + rounding_of_result, "coefficients": 1e-5}
    parts = {name: getattr(found, name) / limit for name, limit in allowed.items()}
    return {name: part if math.isfinite(part) else NOT_A_NUMBER for name, part in parts.items()}
