"""Which of a model's MLP blocks a conversion takes, and what it leaves alone."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from katops.conversion.blocks import LOOKED_FOR, Block, find_blocks, looks_like_coordinates, looks_like_head
from katops.conversion.report import LeftAlone
from katops.errors import UserError, did_you_mean
from katops.layers.group_rational import GroupRational

Patterns = str | Sequence[str] | None


def choose_blocks(model: nn.Module, include: Patterns, exclude: Patterns) -> tuple[list[Block], list[LeftAlone]]:
    """The blocks that the patterns allow, and what was left alone though it looks like one.

    Raises:
        UserError: a pattern fits no block, or nothing is left to convert.
    """
    blocks, left_alone = find_blocks(model)
    included, excluded = _matches(blocks, include, "include"), _matches(blocks, exclude, "exclude")
    chosen = []
    for block in blocks:
        reason = ""
        if block.path in excluded or (include is not None and block.path not in included):
            reason = "include and exclude leave it out"
        elif include is None and looks_like_coordinates(block):
            reason = "so few inputs are taken for positions, not features; include names it to convert it"
        elif include is None and looks_like_head(block):
            reason = "by its name it is a classification head; include names it to convert it"
        if reason:
            left_alone.append(LeftAlone(block.path, type(block.module).__name__, reason))
        else:
            chosen.append(block)
    check_any(model, chosen, left_alone)
    return chosen, left_alone


def check_any(model: nn.Module, chosen: list[Block], left_alone: list[LeftAlone]) -> None:
    """Refuse a model without a block to convert.

    Raises:
        UserError: there is none.
    """
    if not chosen:
        near = "".join(f"; {entry.path or 'the model'} was left alone: {entry.reason}" for entry in left_alone[:3])
        rational = any(isinstance(module, GroupRational) for module in model.modules())
        near += "; the model has rational functions already" if rational else ""
        raise UserError(f"convert: no MLP block in this {type(model).__name__}; looked for {LOOKED_FOR}{near}")


def _matches(blocks: list[Block], patterns: Patterns, argument: str) -> set[str]:
    """Paths of the blocks that one of the patterns fits."""
    paths = [block.path for block in blocks]
    matches = set()
    for pattern in as_list(patterns):
        found = [path for path in paths if fnmatchcase(path, pattern)]
        if not found:
            raise UserError(f"convert: {argument}={pattern!r} fits no MLP block{did_you_mean(pattern, paths)}")
        matches.update(found)
    return matches


def as_list(patterns: Patterns) -> list[str]:
    """One pattern, several or none as a list."""
    return [patterns] if isinstance(patterns, str) else list(patterns or [])
