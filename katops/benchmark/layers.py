"""Registered layers timed beside one another: time forward and forward + backward, parameters, memory."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from katops.benchmark.machine import Machine
from katops.benchmark.memory import peak_extra_bytes
from katops.benchmark.rational import BOTH, FORWARD, Case, input_sets
from katops.benchmark.timing import Calls, Clock, Progress, clock_for, time_interleaved
from katops.errors import UserError
from katops.layers.activation import build_activation
from katops.registry import LAYERS

_KINDS = ("channel mixer", "activation")
# Hidden width of a transformer's channel mixer, in units of its width.
_EXPANSION = 4


@dataclass(frozen=True)
class LayerMeasurement:
    """One row: a layer and an operation.

    Attributes:
        milliseconds: per call, median over the rounds.
        spread: distance between the quartiles over the median.
        ratio_to_first: the time over that of the first layer in the same rounds.
        extra_megabytes: peak of memory beyond inputs and parameters, results and gradients included.
        reason: why there is no number; empty where there is.
    """

    operation: str
    layer: str
    device: str
    dtype: str
    shape: str
    parameters: int = 0
    milliseconds: float | None = None
    spread: float | None = None
    ratio_to_first: float | None = None
    extra_megabytes: float | None = None
    rounds: int = 0
    threads: int = 0
    versions: str = ""
    reason: str = ""


def measure_layers(
    names: Sequence[str],
    case: Case,
    machine: Machine,
    *,
    rounds: int = 15,
    clock: Clock | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Iterator[LayerMeasurement]:
    """Time layers (..., channels) -> (..., channels) on the input of a case; channel mixers have 4 x hidden width.

    Args:
        names: registered channel mixers and activations; all channel mixers if empty.
        case: shape, type and device of the input; ``groups`` is given to layers that have such an option.
        machine, rounds, clock, progress: as for :func:`katops.benchmark.rational.measure`, Ctrl-C as well.

    Raises:
        UserError: a name is not registered, or is no layer of that kind.
    """
    if case.channel_dim != -1:
        raise UserError(f"layers are timed on (..., channels), a shape of other than 4 axes; given: {case.shape}")
    check_layers(names)
    names = list(dict.fromkeys(names)) or [record.name for record in LAYERS if record.kind == "channel mixer"]
    inputs = [(each.x, each.gradient) for each in input_sets(case)]
    layers = {name: build_layer(name, case) for name in names}
    for operation in (FORWARD, BOTH):
        runs = {name: _preparation(layer, operation, inputs) for name, layer in layers.items()}
        memory = {name: peak_extra_bytes(run()[0], case.device) for name, run in runs.items()}
        found = time_interleaved(
            runs,
            clock or clock_for(case.device),
            rounds,
            longest=20,
            progress=progress(operation) if progress else None,
        )
        for name, timing in found.timings.items():
            yield LayerMeasurement(
                operation,
                name,
                machine.device,
                str(case.dtype).removeprefix("torch."),
                "x".join(map(str, case.shape)),
                sum(parameter.numel() for parameter in layers[name].parameters()),
                1e3 * timing.median,
                timing.spread,
                timing.median / found.timings[names[0]].median,
                memory[name] / 1e6,
                len(timing.seconds),
                machine.threads,
                machine.versions,
            )
        if found.interrupted:
            raise KeyboardInterrupt


def check_layers(names: Sequence[str]) -> None:
    """Whether all of them can be measured.

    Raises:
        UserError: a name is not registered, or is the name of another kind of layer.
    """
    for name in names:
        if LAYERS[name].kind not in _KINDS:
            kinds = " or an ".join(_KINDS)
            raise UserError(f"the layer {name!r} is for the slot {LAYERS[name].kind!r}; allowed here: a {kinds}")


def build_layer(name: str, case: Case) -> nn.Module:
    """A registered channel mixer or activation for the channels of a case."""
    record, channels = LAYERS[name], case.shape[-1]
    offered = {"hidden_features": _EXPANSION * channels, "groups": case.groups}
    parameters = inspect.signature(record.factory).parameters
    options = {key: value for key, value in offered.items() if key in parameters}
    if record.kind == "activation":
        layer = build_activation(partial(record.factory, **options), channels)
    else:
        layer = record.factory(in_features=channels, out_features=channels, **options)
    return layer.to(case.device, case.dtype)


def _preparation(layer: nn.Module, operation: str, inputs: Sequence[tuple[Tensor, Tensor]]) -> Callable[[], Calls]:
    def forward(x: Tensor, _: Tensor) -> object:
        with torch.no_grad():
            return layer(x)

    def both(x: Tensor, gradient: Tensor) -> object:
        return torch.autograd.grad(layer(x), (x, *layer.parameters()), gradient)

    call = forward if operation == FORWARD else both
    return lambda: [lambda x=x, gradient=gradient: call(x, gradient) for x, gradient in inputs]
