"""``katops.convert``: an existing model becomes a KAT."""

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from katops.conversion.activations import Activation, Recorder, activation_name
from katops.conversion.blocks import LOOKED_FOR, Block, Slot, find_blocks, looks_like_coordinates, widths
from katops.conversion.coefficients import Replacement, fit_to_inputs, fit_without_inputs
from katops.conversion.comparison import MISFITS, Comparison, Inputs, noise_inputs, run, run_sample, sample_inputs
from katops.conversion.fast_paths import fast_paths_off, leave_fast_paths
from katops.conversion.layers import RationalConv2d, RationalLinear
from katops.conversion.report import Conversion, ConvertedActivation, LeftAlone
from katops.errors import UserError, did_you_mean
from katops.layers.group_rational import GroupRational
from katops.ops.rational_shapes import Shape

Patterns = str | Sequence[str] | None
Replacements = dict[tuple[str, str], Replacement]


def convert(
    model: nn.Module,
    *,
    groups: int = 8,
    include: Patterns = None,
    exclude: Patterns = None,
    sample: Tensor | tuple[Any, ...] | None = None,
    in_place: bool = False,
) -> nn.Module:
    """The same model with group rational functions in its MLP blocks, its weights and its function kept.

        W2 act(W1 x + b1) + b2   becomes   W2 F2(W1 F1(x) + b1) + b2

    with F1 = identity and F2 close to the block's own activation (Yang & Wang 2024, arXiv 2409.10594). Everything else
    stays: dropout, normalisation and gates inside the block, and all module and parameter names, so that the old state
    dict is a part of the new one. In a gated block (SwiGLU) F2 takes the place of the gate's activation, and every map
    from the block's input gets its own F1.

    Without a ``sample``, F2 is the best fit for inputs of any usual scale (a standard deviation of 1/4 to 4). A
    ``sample`` shows what the activations are really given, and F2 is fitted to it, block by block; for trained models,
    some of whose activations see inputs of 10 and more, it makes the difference. A few images are enough.

    The new parameters can be trained, also those in frozen blocks; all others keep ``requires_grad``. Where ``groups``
    does not divide the channels (196 tokens of a Mixer), the largest smaller number that does is used and reported.

    Classification heads are left alone; so are blocks with up to three inputs, which are taken for maps of positions
    (Swin-V2's relative position bias), unless ``include`` names them.

    Args:
        model: any model with MLP blocks: of timm, torchvision, ``nn.TransformerEncoder``, ``nn.Sequential``.
        groups: channel groups of each rational function, at most.
        include: patterns of block paths to convert, such as ``"blocks.[0-5].mlp"``; all by default.
        exclude: patterns of block paths to leave alone.
        sample: a batch, or a tuple of the model's positional arguments, to fit and compare on.
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
    blocks, left_alone = _chosen(model, include, exclude)
    if not in_place:
        model = copy.deepcopy(model)
        blocks, left_alone = _chosen(model, include, exclude)
    parameters_before = _parameters(model)
    # All that can fail comes before the first change, for the sake of in_place.
    if sample is None:
        comparison, replacements = _output_on_noise(model), _fitted_without_sample(blocks)
    else:
        comparison, replacements = _fitted_to_sample(model, blocks, sample_inputs(model, sample))
    rows = _replace(model, blocks, replacements, groups)
    model.conversion = Conversion(
        tuple(rows),
        tuple(left_alone),
        len(blocks),
        parameters_before,
        _parameters(model),
        None if comparison is None else comparison.against(model),
    )
    return model


def _check(model: nn.Module, groups: int) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"convert: expected a torch model (nn.Module); given: {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod"):
        raise UserError("convert: a compiled or scripted model cannot be changed; convert first, then compile")
    if not isinstance(groups, int) or groups < 1:
        raise UserError(f"convert: groups must be a positive integer; given: {groups!r}")


def _chosen(model: nn.Module, include: Patterns, exclude: Patterns) -> tuple[list[Block], list[LeftAlone]]:
    """The blocks that the patterns allow, and what was left alone though it looks like one."""
    blocks, left_alone = find_blocks(model)
    included, excluded = _matches(blocks, include, "include"), _matches(blocks, exclude, "exclude")
    chosen = []
    for block in blocks:
        if block.path in excluded or (include is not None and block.path not in included):
            left_alone.append(LeftAlone(block.path, type(block.module).__name__, "include and exclude leave it out"))
        elif include is None and looks_like_coordinates(block):
            reason = "so few inputs are taken for positions, not features; include names it to convert it"
            left_alone.append(LeftAlone(block.path, type(block.module).__name__, reason))
        else:
            chosen.append(block)
    if not chosen:
        near = "".join(f"; {entry.path or 'the model'} was left alone: {entry.reason}" for entry in left_alone[:3])
        rational = any(isinstance(module, GroupRational) for module in model.modules())
        near += "; the model has rational functions already" if rational else ""
        raise UserError(f"convert: no MLP block in this {type(model).__name__}; looked for {LOOKED_FOR}{near}")
    return chosen, left_alone


def _matches(blocks: list[Block], patterns: Patterns, argument: str) -> set[str]:
    """Paths of the blocks that one of the patterns fits."""
    paths = [block.path for block in blocks]
    matches = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns or []:
        found = [path for path in paths if fnmatchcase(path, pattern)]
        if not found:
            raise UserError(f"convert: {argument}={pattern!r} fits no MLP block{did_you_mean(pattern, paths)}")
        matches.update(found)
    return matches


def _output_on_noise(model: nn.Module) -> Comparison | None:
    """The outputs on noise, None where the input's size is not known or the guess was wrong."""
    noise = noise_inputs(model)
    if noise is None:
        return None
    try:
        return Comparison(noise[0], run(model, noise[0]), noise[1])
    except MISFITS:
        return None


def _fitted_without_sample(blocks: list[Block]) -> Replacements:
    return {
        (block.path, slot.name): fit_without_inputs(block.activation(slot)) for block in blocks for slot in block.slots
    }


def _fitted_to_sample(model: nn.Module, blocks: list[Block], inputs: Inputs) -> tuple[Comparison, Replacements]:
    """The outputs on the sample, and for each activation the best fit to what it sees there."""
    recorders = {(block.path, slot.name): Recorder(block.activation(slot)) for block in blocks for slot in block.slots}
    try:
        for block in blocks:
            for slot in block.slots:
                setattr(block.module, slot.name, recorders[block.path, slot.name])
        with fast_paths_off():
            outputs = run_sample(model, inputs)
    finally:
        for block in blocks:
            for slot in block.slots:
                _put_back(block.module, slot.name, recorders[block.path, slot.name].activation)
    replacements = {
        key: fit_to_inputs(recorder.activation, recorder.values)
        if recorder.values.size
        else fit_without_inputs(recorder.activation)
        for key, recorder in recorders.items()
    }
    return Comparison(inputs, outputs, "the sample"), replacements


def _put_back(module: nn.Module, name: str, activation: Activation) -> None:
    """Put an activation where a recorder is; torch allows no plain function there while it holds a module."""
    if not isinstance(activation, nn.Module):
        delattr(module, name)
    setattr(module, name, activation)


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
            setattr(block.module, slot.name, _rational(block, slot.channels, replacement.shape, groups))
        for name in block.first:
            # One map may serve several blocks; then it stays one map.
            old = getattr(block.module, name)
            if old not in maps:
                maps[old] = _with_identity(block, old, groups)
            setattr(block.module, name, maps[old])
    leave_fast_paths(model, blocks)
    if getattr(model, "recipe", None) is not None:
        model.recipe = None  # it would rebuild the model without its rational functions
    return rows


def _with_identity(block: Block, linear_map: nn.Linear | nn.Conv2d, groups: int) -> nn.Module:
    rational = _rational(block, widths(linear_map)[0], "identity", groups)
    layer = RationalLinear if isinstance(linear_map, nn.Linear) else RationalConv2d
    return layer(linear_map, rational).train(linear_map.training)


def _rational(block: Block, channels: int, shape: Shape | str, groups: int) -> GroupRational:
    weight = getattr(block.module, block.first[0]).weight
    options = {"channel_dim": block.channel_dim, "device": weight.device, "dtype": weight.dtype}
    return GroupRational(channels, largest_divisor(channels, groups), shape, **options).train(block.module.training)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a positive number that does not exceed the limit."""
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)


def _row(block: Block, slot: Slot, replacement: Replacement, groups: int) -> ConvertedActivation:
    first_channels = widths(getattr(block.module, block.first[0]))[0]
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
