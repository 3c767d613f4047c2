"""What a scOT refuses to be built with, each in one sentence."""

from collections.abc import Sequence
from typing import Any

from katops.errors import UserError, did_you_mean

INITIALISATIONS = ("unit_gain", "published")


def check_sizes(**sizes: int) -> None:
    """Sizes of at least 1."""
    for name, value in sizes.items():
        if value < 1:
            raise UserError(f"ScOT: {name} must be at least 1, got {value}")


def check_rates(**rates: float) -> None:
    """Fractions below 1."""
    for name, value in rates.items():
        if not 0 <= value < 1:
            raise UserError(f"ScOT: {name} must be at least 0 and below 1, got {value}")


def check_word(name: str, value: str, allowed: Sequence[str]) -> None:
    """One of the allowed words."""
    if value not in allowed:
        raise UserError(f"ScOT: unknown {name} {value!r}{did_you_mean(value, allowed)} Allowed: {', '.join(allowed)}.")


def check_stages(embed_dim: int, depths: Sequence[int], num_heads: Sequence[int], skips: Sequence[int]) -> None:
    """As many entries as stages, layers in every stage, heads that divide the widths."""
    if not depths or min(depths) < 1:
        raise UserError(f"ScOT: depths must be numbers of layers of at least 1, one for each stage, got {list(depths)}")
    for name, value, smallest in (("num_heads", num_heads, 1), ("skip_connections", skips, 0)):
        if len(value) != len(depths) or min(value) < smallest:
            raise UserError(
                f"ScOT: {name} must have one number of at least {smallest} for each of the {len(depths)} stages of "
                f"depths {list(depths)}, got {list(value)}"
            )
    for stage, heads in enumerate(num_heads):
        width = embed_dim * 2**stage
        if width % heads:
            raise UserError(f"ScOT: {heads} heads do not divide the width {width} of stage {stage} (embed_dim 2^stage)")


def image_pair(image_size: Any) -> tuple[int, int] | None:
    """``image_size`` per axis."""
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or min(pair) < 1:
        raise UserError(f"ScOT: image_size must be one length or two, each at least 1, got {image_size!r}")
    return pair
