"""Where a number that is not finite comes from."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from katops.distributed import current
from katops.training.base_task import Task


@torch.no_grad()
def first_not_finite(task: Task, batch: Any, batch_index: int) -> str:
    """The innermost module whose output is the first that is not finite, as the end of a sentence.

    The step is worked out once more; in a sharded training every process must ask.
    """
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> Any:
        def look(_: nn.Module, __: Any, output: Any) -> None:
            if not found and not all(bool(tensor.isfinite().all()) for tensor in _tensors(output)):
                found.append(name)

        return module.register_forward_hook(look)

    with ExitStack() as hooks:
        for name, module in task.network.named_modules():
            hooks.callback(watch(name, module).remove)
        task.training_step(batch, batch_index)
    # Weights that are spread over the processes are looked at by all of them, whosever output it is.
    names = sorted({name for each in current().gather(found) for name in each})
    told = {name: _told(name, task.network.get_submodule(name)) for name in names}
    return f"first in the output of {told[found[0]]}" if found else "in the loss, from a finite prediction"


def _told(name: str, module: nn.Module) -> str:
    return f"{name or 'the model'} ({type(module).__name__}){_weights(module)}"


def first_gradient_not_finite(task: Task) -> str:
    """The first parameter whose gradient is not finite, as the end of a sentence."""
    for name, parameter in task.network.named_parameters():
        if parameter.grad is not None and not bool(local(parameter.grad.isfinite().all())):
            return f"in the gradient of {name}"
    return "in the norm of the gradient, which overflows"


def local(value: Tensor) -> Tensor:
    """A tensor that is spread over the processes as one that is whole in each."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _weights(module: nn.Module) -> str:
    bad = [name for name, value in module.named_parameters(recurse=False) if not bool(local(value.isfinite().all()))]
    return f", whose {' and '.join(bad)} {'is' if len(bad) == 1 else 'are'} not finite" if bad else ""


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor) and value.is_floating_point():
        yield value
    elif isinstance(value, Iterable) and not isinstance(value, Tensor | str):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each)
