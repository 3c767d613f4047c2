"""Outputs of a model before and after, on a sample or on noise of the size of its images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from katops.conversion.report import OutputDifference
from katops.errors import UserError

Inputs = tuple[Any, ...] | Mapping[str, Any]

MISFITS = (RuntimeError, ValueError, TypeError, AssertionError, IndexError)
"""What models raise for an input of the wrong shape or type."""


@dataclass(frozen=True)
class Comparison:
    """An input, the tensors that the original model makes of it, and what to call the input in a sentence."""

    inputs: Inputs
    outputs: list[Tensor]
    name: str

    def against(self, model: nn.Module) -> OutputDifference | None:
        """How far another model's outputs are from the original's, in float64; None where these hold no tensor."""
        if not self.outputs:
            return None
        old, new = (_vector(outputs) for outputs in (self.outputs, run(model, self.inputs)))
        norm, change = old.norm().item(), new - old
        relative = change.norm().item() / norm if norm > 0 else None
        return OutputDifference(change.abs().max().item(), relative, self.name)


def run(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """All tensors of the model's output, in evaluation mode and without gradients; the modes are restored."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            outputs = model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)
            return [tensor.clone() for tensor in _tensors(outputs)]
    finally:
        for module, mode in modes:
            module.training = mode


def run_sample(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """As :func:`run`, for a sample that may not suit the model.

    Raises:
        UserError: it does not.
    """
    try:
        return run(model, inputs)
    except MISFITS as error:
        values = inputs.values() if isinstance(inputs, Mapping) else inputs
        shapes = ", ".join(str(tuple(value.shape)) if isinstance(value, Tensor) else repr(value) for value in values)
        raise UserError(
            f"convert: the model cannot be run on the given sample {shapes}, which must be its input, a tuple "
            f"of its positional arguments or its arguments by name: {error}"
        ) from error


def sample_inputs(model: nn.Module, sample: Tensor | Inputs) -> Inputs:
    """A sample as the model's arguments, moved to its device, floating-point tensors in its type.

    Raises:
        UserError: it is neither a tensor nor a tuple or a mapping with a tensor.
    """
    if isinstance(sample, Tensor):
        sample = (sample,)
    named = sample if isinstance(sample, Mapping) else dict(enumerate(sample)) if isinstance(sample, tuple) else {}
    if not any(isinstance(value, Tensor) for value in named.values()):
        raise UserError(
            f"convert: sample must be a batch (a tensor), a tuple of the model's positional arguments, or its "
            f"arguments by name; given: {type(sample).__name__}"
        )
    moved = {key: _like_model(model, value) if isinstance(value, Tensor) else value for key, value in named.items()}
    return moved if isinstance(sample, Mapping) else tuple(moved.values())


def noise_inputs(model: nn.Module) -> tuple[Inputs, str] | None:
    """One image of standard normal noise of the size that the model says it takes, and what to call it."""
    size = _input_size(model)
    if size is None or any(parameter.is_meta for parameter in model.parameters()):
        return None
    noise = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    return (_like_model(model, noise),), f"one image of noise {size}"


def _vector(outputs: list[Tensor]) -> Tensor:
    return torch.cat([output.cpu().double().flatten() for output in outputs])


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | list | tuple):
        for value in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(value)


def _like_model(model: nn.Module, value: Tensor) -> Tensor:
    parameter = next(parameter for parameter in model.parameters() if parameter.is_floating_point())
    return value.to(parameter.device, parameter.dtype if value.is_floating_point() else None)


def _input_size(model: nn.Module) -> tuple[int, int, int] | None:
    """(channels, height, width) of a timm model, inside a wrapper too, or of torchvision's ViT.

    ``pretrained_cfg`` describes the published weights; a first layer built for other channels or another image size
    says so itself.
    """
    for module in model.modules():
        configuration = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
        if not isinstance(configuration, Mapping) or "input_size" not in configuration:
            continue
        channels, *size = configuration["input_size"]
        sizes = (getattr(part, "img_size", None) for part in module.modules())
        size = next((given for given in sizes if isinstance(given, tuple) and len(given) == 2), size)
        name = configuration.get("first_conv")
        first = dict(module.named_modules()).get(name) if isinstance(name, str) else None
        return (first.in_channels if isinstance(first, nn.Conv2d) else channels, *size)
    image_size = getattr(model, "image_size", None)
    return (3, image_size, image_size) if isinstance(image_size, int) else None
