"""What a model does with its blocks on an input: what its activations are given, and which parts it really calls."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import nn

from katops.conversion.activations import Recorder
from katops.conversion.blocks import Block
from katops.conversion.comparison import MISFITS, Comparison, Inputs, noise_inputs, run, run_sample
from katops.conversion.fast_paths import fast_paths_off
from katops.conversion.parts import get_part, set_part
from katops.conversion.report import LeftAlone

Slots = tuple[str, str]
"""Path of a block and name of an activation in it."""


@dataclass(frozen=True)
class Observation:
    """One forward pass of the model as it was.

    Attributes:
        comparison: the input and the outputs.
        values: what each activation was given, empty where the input never came through.
        bypassed: blocks that compute something without calling the parts that rational functions would be put into,
            such as ``functional.linear(x, self.fc1.weight)``; by path.
    """

    comparison: Comparison
    values: dict[Slots, np.ndarray]
    bypassed: dict[str, LeftAlone]


def observe_sample(model: nn.Module, blocks: list[Block], inputs: Inputs) -> Observation:
    """The model on a sample.

    Raises:
        UserError: the sample is not an input of the model.
    """
    with _watched(blocks) as (recorders, called):
        outputs = run_sample(model, inputs)
    return _observation(Comparison(inputs, outputs, "the sample"), blocks, recorders, called)


def observe_noise(model: nn.Module, blocks: list[Block]) -> Observation | None:
    """The model on noise, None where the input's size is not known or the guess was wrong."""
    noise = noise_inputs(model)
    if noise is None:
        return None
    try:
        with _watched(blocks) as (recorders, called):
            outputs = run(model, noise[0])
    except MISFITS:
        return None
    return _observation(Comparison(noise[0], outputs, noise[1]), blocks, recorders, called)


@contextmanager
def _watched(blocks: list[Block]) -> Iterator[tuple[dict[Slots, Recorder], set[nn.Module]]]:
    """Recorders in the place of all activations, and the set of those blocks and first maps that were called."""
    recorders = {(block.path, slot.name): Recorder(block.activation(slot)) for block in blocks for slot in block.slots}
    watched = {module for block in blocks for module in (block.module, *_first_maps(block))}
    try:
        for block in blocks:
            for slot in block.slots:
                set_part(block.module, slot.name, recorders[block.path, slot.name])
        with fast_paths_off(), _calls(watched) as called:
            yield recorders, called
    finally:
        for block in blocks:
            for slot in block.slots:
                set_part(block.module, slot.name, recorders[block.path, slot.name].activation)


@contextmanager
def _calls(modules: Iterable[nn.Module]) -> Iterator[set[nn.Module]]:
    called: set[nn.Module] = set()
    handles = [module.register_forward_pre_hook(lambda module, _: called.add(module)) for module in modules]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def _observation(
    comparison: Comparison, blocks: list[Block], recorders: dict[Slots, Recorder], called: set[nn.Module]
) -> Observation:
    bypassed = {}
    for block in blocks:
        parts = {name: get_part(block.module, name) in called for name in block.first}
        parts |= {slot.name: recorders[block.path, slot.name].called for slot in block.slots}
        # Nothing is known of a block that the input does not reach, such as one of a branch for training.
        reached = block.module in called or any(parts.values())
        unused = [name for name, was_called in parts.items() if not was_called]
        if reached and unused:
            reason = f"its forward pass does not call {', '.join(unused)}, so a rational function there has no effect"
            bypassed[block.path] = LeftAlone(block.path, type(block.module).__name__, reason)
    return Observation(comparison, {key: recorder.values for key, recorder in recorders.items()}, bypassed)


def _first_maps(block: Block) -> list[nn.Module]:
    return [get_part(block.module, name) for name in block.first]
