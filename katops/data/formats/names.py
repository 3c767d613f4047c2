"""Names of channels: one spelling for what published files call by many, one order, selection by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from katops.data.layout import ChannelArray
from katops.errors import UserError, did_you_mean
from katops.fields import Channel

COMPONENTS = ("x", "y", "z")

ALIASES = {
    "rho": "density",
    "p": "pressure",
    "pres": "pressure",
    "coeff": "coefficient",
    "coef": "coefficient",
    "sol": "solution",
    "particles": "smoke",
    "vor": "vorticity",
    "div": "divergence",
    **{f"{letter}{axis}": f"velocity_{axis}" for letter in ("v", "V") for axis in COMPONENTS},
    **{f"E{axis}": f"electric_field_{axis}" for axis in COMPONENTS},
    **{f"B{axis}": f"magnetic_field_{axis}" for axis in COMPONENTS},
}
"""Names that mean the same in every file. ``u`` is not among them: it is a velocity here and a solution there."""

Named = TypeVar("Named", ChannelArray, Channel)


def canonical(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """The spelling that katops uses for a name of a published file; the name itself where it knows no other.

    Args:
        name: as in the file or in a configuration.
        aliases: further spellings, of one format; they go before :data:`ALIASES`.
    """
    return {**ALIASES, **(aliases or {})}.get(name, name)


def vector(quantity: str, axes: Sequence[str] = COMPONENTS) -> tuple[Channel, ...]:
    """The components of a vector: ``velocity`` gives velocity_x, velocity_y, ..."""
    return tuple(Channel(f"{quantity}_{axis}", "", quantity, (place,)) for place, axis in enumerate(axes))


def in_order(channels: Iterable[Named]) -> tuple[Named, ...]:
    """Scalars first, alphabetical; then the components of vectors by axis; then those of tensors, row-major."""
    return tuple(sorted(channels, key=_rank))


def select(
    path: Path, channels: Sequence[Named], wanted: Sequence[str], aliases: Mapping[str, str] | None = None
) -> tuple[Named, ...]:
    """The channels that are asked for, in the order in which they are asked for.

    A name is a channel's, an alias of it (``Vx`` for velocity_x), or that of a whole vector or tensor, which stands for
    its components in order.

    Args:
        path: the file, for messages.
        channels: everything that can be chosen.
        wanted: names.
        aliases: further spellings, of one format.

    Raises:
        UserError: there is no such channel; the message suggests the nearest name and lists all.
    """
    return tuple(channel for name in wanted for channel in _find(path, channels, name, aliases))


def _find(path: Path, channels: Sequence[Named], name: str, aliases: Mapping[str, str] | None) -> tuple[Named, ...]:
    same = canonical(name, aliases)
    for fits in (
        lambda channel: channel.name == name,
        lambda channel: channel.quantity == name,
        lambda channel: canonical(channel.name, aliases) == same,
        lambda channel: channel.quantity and canonical(channel.quantity, aliases) == same,
    ):
        found = [channel for channel in channels if fits(channel)]
        if found:
            return in_order(found)
    names = [channel.name for channel in channels]
    quantities = dict.fromkeys(channel.quantity for channel in channels if channel.quantity)
    raise UserError(
        f"{path} has no channel {name!r}{did_you_mean(name, [*names, *quantities])} "
        f"Its channels: {', '.join(names) or 'none'}."
    )


def _rank(channel: Named) -> tuple[int, str, tuple[int, ...]]:
    place = channel.place if isinstance(channel, ChannelArray) else channel.component
    return len(place), channel.quantity or channel.name, place
