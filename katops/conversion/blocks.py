"""The MLP blocks of a model: which modules are one, and what they consist of."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from timm.layers import GatedMlp, GluMlp
from torch import nn

from katops.conversion.activations import Activation, is_identity, scalar_function
from katops.conversion.layers import RationalConv2d, RationalLinear
from katops.conversion.parts import get_part, has_part
from katops.conversion.report import LeftAlone
from katops.layers.group_rational import GroupRational

_MLP_NAME = re.compile(r"mlp|glu|ffn|feed_?forward", re.IGNORECASE)
_BETWEEN = (nn.Dropout, nn.Identity, nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d)
_MOST_COORDINATES = 3
_HEADS = {"classifier", "head", "heads", "fc"}

LOOKED_FOR = (
    "modules named like an MLP with fc1, act and fc2 (timm's Mlp, GluMlp, SwiGLU, GatedMlp, ConvMlp, "
    "GlobalResponseNormMlp and their like), nn.TransformerEncoderLayer and nn.TransformerDecoderLayer, layers of scOT, "
    "ConvNeXt blocks with pwconv1, act and pwconv2, and "
    "nn.Sequential with Linear, activation, Linear"
)
"""What :func:`find_blocks` finds, for the message when there is none."""


@dataclass(frozen=True)
class Layout:
    """Names of the parts of a block: the maps from its input, the activation between, and the map to its output.

    A name may be a path, ``intermediate.dense``.
    """

    kind: str
    first: tuple[str, ...]
    activation: str
    last: str


_LAYOUTS = (
    Layout("MLP", ("fc1",), "act", "fc2"),
    Layout("MLP", ("fc1",), "activation_fn", "fc2"),
    Layout("MLP", ("lin1",), "act", "lin2"),
    Layout("gated MLP", ("fc1_g", "fc1_x"), "act", "fc2"),
    Layout("gated MLP", ("w0", "w1"), "act", "w2"),
)
_TRANSFORMER_LAYER = Layout("transformer layer", ("linear1",), "activation", "linear2")
# Blocks that are not named like an MLP and have one: layers of scOT, and ConvNeXt's as published.
_WITH_MLP = (
    Layout("transformer layer", ("intermediate.dense",), "intermediate.act", "output.dense"),
    Layout("ConvNeXt block", ("pwconv1",), "act", "pwconv2"),
)


@dataclass(frozen=True)
class Slot:
    """One activation of a block.

    Attributes:
        name: of a part of the block's module.
        channels: width of what the activation is given.
    """

    name: str
    channels: int


@dataclass(frozen=True)
class Block:
    """One MLP block: ``module.first -> slots[0] -> ... -> last map``.

    Attributes:
        path: of the module in the model, "" for the model itself.
        module: has the parts as attributes.
        kind: for the report.
        first: names of the maps from the block's input.
        slots: its activations, in order.
        channel_dim: axis of the channels, inside the block.
    """

    path: str
    module: nn.Module
    kind: str
    first: tuple[str, ...]
    slots: tuple[Slot, ...]
    channel_dim: int

    def activation(self, slot: Slot) -> Activation:
        """What is in a slot."""
        return get_part(self.module, slot.name)


def find_blocks(model: nn.Module) -> tuple[list[Block], list[LeftAlone]]:
    """All MLP blocks of a model in the order of its modules, each shared one once, and the near misses.

    A near miss is a module that is named like an MLP and holds two linear maps or more, yet is not understood.
    """
    blocks, left_alone = [], []
    for path, module in model.named_modules():
        for found in _inspect(path, module):
            (blocks if isinstance(found, Block) else left_alone).append(found)
    for path, module in model.named_modules():
        known = [found.path for found in (*blocks, *left_alone)]
        if _MLP_NAME.search(type(module).__name__) and _linear_maps(module) >= 2 and not _related(path, known):
            left_alone.append(LeftAlone(path, type(module).__name__, "its parts are not named as in any known MLP"))
    return blocks, left_alone


def looks_like_coordinates(block: Block) -> bool:
    """Whether a block inside a model maps positions (as Swin-V2's bias does), rather than features."""
    return bool(block.path) and widths(get_part(block.module, block.first[0]))[0] <= _MOST_COORDINATES


def looks_like_head(block: Block) -> bool:
    """Whether a Sequential inside a model is, or is part of, what maps its features to logits."""
    return block.kind == "sequential" and not _HEADS.isdisjoint(block.path.split("."))


def widths(linear_map: nn.Module) -> tuple[int, int]:
    """Channels in and out of an nn.Linear or nn.Conv2d."""
    if isinstance(linear_map, nn.Linear):
        return linear_map.in_features, linear_map.out_features
    return linear_map.in_channels, linear_map.out_channels


def _inspect(path: str, module: nn.Module) -> Iterator[Block | LeftAlone]:
    if isinstance(module, nn.Sequential):
        yield from _runs(path, module)
        return
    if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        layouts = (_TRANSFORMER_LAYER,)
    elif _MLP_NAME.search(type(module).__name__):
        layouts = _LAYOUTS
    else:
        layouts = _WITH_MLP
    for layout in layouts:
        if all(has_part(module, name) for name in (*layout.first, layout.activation, layout.last)):
            yield from _with_layout(path, module, layout)
            return


def _with_layout(path: str, module: nn.Module, layout: Layout) -> Iterator[Block | LeftAlone]:
    maps = [get_part(module, name) for name in (*layout.first, layout.last)]
    activation = get_part(module, layout.activation)
    if _converted(activation, *maps):
        return
    reason = _objection(module, maps, activation)
    if reason:
        yield LeftAlone(path, type(module).__name__, reason)
        return
    hidden = widths(maps[0])[1]
    gated = isinstance(module, GluMlp)
    kind = "gated MLP" if gated else layout.kind
    slot = Slot(layout.activation, hidden // 2 if gated else hidden)
    yield Block(path, module, kind, layout.first, (slot,), -1 if isinstance(maps[0], nn.Linear) else 1)


def _objection(module: nn.Module, maps: list[nn.Module], activation: Activation) -> str:
    """Why a block with a known layout cannot be converted, "" where it can."""
    if type(module).__name__.endswith("Head"):
        return "it is a classification head"
    for part in maps[:-1]:
        if _why_no_map(part):
            return _why_no_map(part)
    if not isinstance(maps[-1], nn.Linear | nn.Conv2d):
        return f"its last map is {type(maps[-1]).__name__}, neither nn.Linear nor nn.Conv2d"
    if widths(maps[0])[1] != widths(maps[-1])[0] and not isinstance(module, GluMlp | GatedMlp):
        return f"its hidden width changes from {widths(maps[0])[1]} to {widths(maps[-1])[0]} in an unknown way"
    if not callable(activation) or scalar_function(activation) is None:
        return f"its activation {type(activation).__name__} is not a function of each element alone"
    return ""


def _why_no_map(module: nn.Module) -> str:
    """Why a module cannot be given a rational in front, "" where it can: another class may compute anything."""
    if type(module) is not nn.Linear and not _is_pointwise_convolution(module):
        return f"its first map is {type(module).__name__}, neither nn.Linear nor a 1 x 1 nn.Conv2d"
    if module._forward_hooks or module._forward_pre_hooks:
        return "its first map carries forward hooks"
    return ""


def _is_pointwise_convolution(module: nn.Module) -> bool:
    if type(module) is not nn.Conv2d:
        return False
    sizes = (module.kernel_size, module.stride, module.padding, module.groups)
    return sizes == ((1, 1), (1, 1), (0, 0), 1)


def _runs(path: str, sequential: nn.Sequential) -> Iterator[Block]:
    """Runs Linear, activation, ..., Linear within a Sequential; dropout and normalisation may stand between."""
    run: list[str] = []
    for name, child in [*sequential.named_children(), ("", None)]:
        if child is not None and not _converted(child) and (_is_linear(child) or (run and _may_stand_between(child))):
            run.append(name)
        else:
            yield from _block_of_run(path, sequential, run)
            run = []


def _is_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear and not _why_no_map(module)


def _may_stand_between(module: nn.Module) -> bool:
    return isinstance(module, _BETWEEN) or scalar_function(module) is not None


def _block_of_run(path: str, sequential: nn.Sequential, run: list[str]) -> Iterator[Block]:
    slots: list[Slot] = []
    complete = 0  # slots that have a linear map behind them
    width = 0
    for name in run:
        child = getattr(sequential, name)
        if isinstance(child, nn.Linear):
            complete, width = len(slots), child.out_features
        elif not isinstance(child, _BETWEEN) and not is_identity(child):
            slots.append(Slot(name, width))
    if complete:
        yield Block(path, sequential, "sequential", (run[0],), tuple(slots[:complete]), -1)


def _converted(*parts: object) -> bool:
    return any(isinstance(part, GroupRational | RationalLinear | RationalConv2d) for part in parts)


def _linear_maps(module: nn.Module) -> int:
    """How many maps of vectors a module holds, none where a rational is among them (it is converted, then)."""
    parts = list(module.modules())
    return 0 if _converted(*parts) else sum(isinstance(part, nn.Linear | nn.Conv2d) for part in parts)


def _related(path: str, others: list[str]) -> bool:
    """Whether a module contains one of the others, or is contained."""
    return any(_contains(path, other) or _contains(other, path) for other in others)


def _contains(outer: str, inner: str) -> bool:
    return not outer or f"{inner}.".startswith(f"{outer}.")
