"""Whether an autograd function of our own may stand in for a definition in plain torch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def trains_on_the_cpu(*tensors: Tensor) -> bool:
    """Eager reverse mode on the CPU, all tensors in one precision that products have there: float32 or float64.

    Compilers, traces, torch.func, forward mode and tensor subclasses see the definition.
    """
    return torch.is_grad_enabled() and runs_on_the_cpu(*tensors)


def runs_on_the_cpu(*tensors: Tensor) -> bool:
    """The same, whether or not a gradient is asked for."""
    first = tensors[0]
    if first.dtype not in (torch.float32, torch.float64):
        return False
    if any(tensor.device.type != "cpu" or tensor.dtype != first.dtype for tensor in tensors):
        return False
    if torch.compiler.is_compiling() or torch._C._is_tracing() or forward_ad._current_level >= 0:
        return False
    return not torch._C._are_functorch_transforms_active() and not torch._C._len_torch_dispatch_stack()


def derivatives_of(
    definition: Callable[..., Tensor], inputs: Sequence[Tensor], gradient: Tensor, *options: Any
) -> tuple[Tensor | None, ...]:
    """Differentiable gradients of ``definition(*inputs, *options)``, ``None`` for inputs that need none.

    What a backward pass gives when its own derivative will be asked for.
    """
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(definition(*inputs, *options), wanted, gradient, create_graph=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in inputs)
