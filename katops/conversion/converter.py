"""``katops.convert``: an existing model becomes a KAT."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katops.conversion.activations import activation_name
from katops.conversion.blocks import Block, Slot, widths
from katops.conversion.coefficients import Replacement, fit_to_inputs, fit_without_inputs
from katops.conversion.comparison import sample_inputs
from katops.conversion.fast_paths import leave_fast_paths
from katops.conversion.layers import RationalConv2d, RationalLinear
from katops.conversion.observation import Observation, Slots, observe_noise, observe_sample
from katops.conversion.parts import get_part, set_part
from katops.conversion.recipe import converted_recipe
from katops.conversion.report import Conversion, ConvertedActivation
from katops.conversion.selection import Patterns, check_any, choose_blocks
from katops.conversion.weight_decay import exempt_rationals
from katops.errors import UserError
from katops.layers.group_rational import GroupRational
from katops.ops.rational_shapes import Shape

Replacements = dict[Slots, Replacement]


def convert(
    model: nn.Module,
    *,
    groups: int = 8,
    include: Patterns = None,
    exclude: Patterns = None,
    sample: Tensor | tuple[Any, ...] | Mapping[str, Any] | None = None,
    in_place: bool = False,
) -> nn.Module:
    """The same model with group rational functions in its MLP blocks, its weights and its function kept.

        W2 act(W1 x + b1) + b2   becomes   W2 F2(W1 F1(x) + b1) + b2

    with F1 = identity and F2 close to the block's own activation (Yang & Wang 2024, arXiv 2409.10594). Everything else
    stays: dropout, normalisation and gates inside the block, and all module and parameter names, so that the old state
    dict is a part of the new one. In a gated block (SwiGLU) F2 takes the place of the gate's activation, and every map
    from the block's input gets its own F1.

    Without a ``sample``, F2 is the best fit for inputs of any usual scale (a standard deviation of 1/4 to 4). A
    ``sample`` shows what the activations are really given, and F2 is fitted to it, block by block. Give one, a few
    images as the model takes them, to any trained model: there some activations see inputs of 10 and more, where the
    fit without a sample is off by several per cent, which a comparison on noise need not show.

    The new parameters can be trained, also those in frozen blocks; all others keep ``requires_grad``. They are float32
    (float64 in a model of that type) whatever the type of the weights, as they are computed with in float32, and
    ``no_weight_decay()`` of the converted model names them for timm's optimisers; a model that is a part of another is
    not asked by them. Where ``groups`` does not divide the channels (196 tokens of a Mixer), the largest smaller number
    that does is used and reported.

    Classification heads are left alone: modules with such a class name, and an ``nn.Sequential`` that is, or lies in,
    an attribute ``classifier``, ``head``, ``heads`` or ``fc``. So are blocks with up to three inputs, which are taken
    for maps of positions (Swin-V2's relative position bias). ``include`` converts blocks of both kinds that it names.
    A block whose forward pass, on the sample or on noise, does not call the parts concerned is left alone too.

    A model with a ``recipe`` keeps it, with this conversion, so that it can be saved. Models straight from
    ``timm.create_model`` have none; for a model to be saved use
    :func:`katops.predictors.classifiers.build_classifier` with the option ``convert``.

    Args:
        model: any model with MLP blocks: of timm, torchvision, ``nn.TransformerEncoder``, ``nn.Sequential``.
        groups: channel groups of each rational function, at most.
        include: patterns of block paths to convert, such as ``"blocks.[0-5].mlp"``; all by default.
        exclude: patterns of block paths to leave alone.
        sample: a batch, a tuple of the model's positional arguments, or its arguments by name
            (``{"x": fields, "time": times}``), to fit and compare on.
        in_place: change ``model`` itself instead of a copy.

    Returns:
        the converted model; its report is the attribute ``conversion`` (a :class:`katops.conversion.Conversion`), to be
        printed. Its state dict loads into another model that was converted with the same ``groups``, ``include`` and
        ``exclude``.

    Raises:
        UserError: nothing to convert was found, a pattern fits no block, ``groups`` is not positive, the sample is not
            an input of the model, or the model is compiled or scripted.
    """
    _check(model, groups)
    blocks, left_alone = choose_blocks(model, include, exclude)
    if not in_place:
        model = copy.deepcopy(model)
        blocks, left_alone = choose_blocks(model, include, exclude)
    parameters_before = _parameters(model)
    # All that can fail comes before the first change, for the sake of in_place.
    observation = _observed(model, blocks, sample)
    bypassed = {} if observation is None else observation.bypassed
    blocks, left_alone = [block for block in blocks if block.path not in bypassed], [*left_alone, *bypassed.values()]
    check_any(model, blocks, left_alone)
    replacements = _fitted(blocks, {} if sample is None else observation.values)
    rows = _replace(model, blocks, replacements, groups)
    exempt_rationals(model)
    if hasattr(model, "recipe"):
        model.recipe = converted_recipe(model.recipe, groups, include, exclude, bypassed)
    model.conversion = Conversion(
        tuple(rows),
        tuple(left_alone),
        len(blocks),
        parameters_before,
        _parameters(model),
        None if observation is None else observation.comparison.against(model),
        sample is not None,
    )
    return model


def _check(model: nn.Module, groups: int) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"convert: expected a torch model (nn.Module); given: {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod"):
        raise UserError("convert: a compiled or scripted model cannot be changed; convert first, then compile")
    if not isinstance(groups, int) or isinstance(groups, bool) or groups < 1:
        raise UserError(f"convert: groups must be a positive integer; given: {groups!r}")


def _observed(
    model: nn.Module, blocks: list[Block], sample: Tensor | tuple[Any, ...] | Mapping[str, Any] | None
) -> Observation | None:
    if sample is None:
        return observe_noise(model, blocks)
    return observe_sample(model, blocks, sample_inputs(model, sample))


def _fitted(blocks: list[Block], values: Mapping[Slots, np.ndarray]) -> Replacements:
    """For each activation the best fit to what it was given, or to any usual scale where nothing is known of that."""
    replacements = {}
    for block in blocks:
        for slot in block.slots:
            activation, seen = block.activation(slot), values.get((block.path, slot.name))
            known = seen is not None and seen.size > 0
            replacements[block.path, slot.name] = (
                fit_to_inputs(activation, seen) if known else fit_without_inputs(activation)
            )
    return replacements


def _replace(
    model: nn.Module, blocks: list[Block], replacements: Replacements, groups: int
) -> list[ConvertedActivation]:
    """Put the rational functions in."""
    rows = []
    maps: dict[nn.Module, nn.Module] = {}
    for block in blocks:
        for slot in block.slots:
            replacement = replacements[block.path, slot.name]
            rows.append(_row(block, slot, replacement, groups))
            set_part(block.module, slot.name, _rational(block, slot.channels, replacement.shape, groups))
        for name in block.first:
            # One map may serve several blocks; then it stays one map.
            old = get_part(block.module, name)
            if old not in maps:
                maps[old] = _with_identity(block, old, groups)
            set_part(block.module, name, maps[old])
    leave_fast_paths(model, blocks)
    return rows


def _with_identity(block: Block, linear_map: nn.Linear | nn.Conv2d, groups: int) -> nn.Module:
    rational = _rational(block, widths(linear_map)[0], "identity", groups)
    layer = RationalLinear if isinstance(linear_map, nn.Linear) else RationalConv2d
    return layer(linear_map, rational).train(linear_map.training)


def _rational(block: Block, channels: int, shape: Shape | str, groups: int) -> GroupRational:
    weight = get_part(block.module, block.first[0]).weight
    # In half precision the rounded coefficients would be further from the activation than the fit is.
    dtype = torch.float64 if weight.dtype is torch.float64 else torch.float32
    options = {"channel_dim": block.channel_dim, "device": weight.device, "dtype": dtype}
    return GroupRational(channels, largest_divisor(channels, groups), shape, **options).train(block.module.training)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a positive number that does not exceed the limit."""
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)


def _row(block: Block, slot: Slot, replacement: Replacement, groups: int) -> ConvertedActivation:
    first_channels = widths(get_part(block.module, block.first[0]))[0]
    return ConvertedActivation(
        path=f"{block.path}.{slot.name}".lstrip("."),
        block=type(block.module).__name__,
        kind=block.kind,
        activation=activation_name(block.activation(slot)),
        channels=slot.channels,
        groups=largest_divisor(slot.channels, groups),
        first_channels=first_channels,
        first_groups=largest_divisor(first_channels, groups),
        interval=replacement.interval,
        max_error=replacement.max_error,
        typical_error=replacement.typical_error,
        input_range=replacement.input_range,
    )


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
