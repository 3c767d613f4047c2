"""A data set of the table as keys of the ``data`` section of a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from katops.pdegym.published_set import PublishedSet
from katops.pdegym.table import find_set

_ROLES = ("inputs", "outputs", "constants", "condition")
_SPELLINGS = {
    "rho": ("density",),
    "u": ("velocity_x", "solution"),
    "v": ("velocity_y",),
    "p": ("pressure",),
    "c": ("wave_speed",),
    "a": ("coefficient",),
    "velocity": ("velocity_x", "velocity_y"),
}
"""What the papers and the files call channels, and a vector, which stands for its components."""


def preset(name: str) -> dict[str, Any]:
    """What a configuration says to train on a published data set as its authors did.

    Args:
        name: see :func:`.table.find_set`.

    Returns:
        Plain containers, as in YAML; only keys that differ from the defaults.

    Raises:
        UserError: there is no such data set.
    """
    entry = find_set(name)
    values: dict[str, Any] = {
        "inputs": [channel.name for channel in entry.inputs],
        "outputs": [channel.name for channel in entry.outputs],
        "constants": list(entry.constants),
        "condition": list(entry.condition),
        "axes": list(entry.axes or ()),
        "fill": dict(entry.fill),
        "mask": dict(entry.mask) if isinstance(entry.mask, Mapping) else list(entry.mask),
        "statistics": {channel: list(numbers) for channel, numbers in entry.statistics.items()},
        **_times(entry),
        "split": {"preset": entry.name},
    }
    return {key: value for key, value in values.items() if value not in (None, [], {})}


def resolve(data: Mapping[str, Any]) -> dict[str, Any]:
    """A ``data`` section with the keys that its ``preset`` stands for; stated ones go before these.

    Of mappings (``fill``, ``pairs``, ``split``, ...) a stated entry goes before that of the preset; an empty one, or
    ``None`` for any key, takes the whole key away. Where other channels are stated, what the preset says about channels
    that are not among them is left out. Resolving the result again changes nothing.

    Raises:
        UserError: there is no such data set.
    """
    if data.get("preset") is None:
        return dict(data)
    own = preset(data["preset"])
    wanted = {**own, **data}
    used = _names(wanted, _ROLES)
    for key, names in (("fill", used), ("statistics", used), ("mask", _names(wanted, ("outputs",)))):
        if key in own:
            own[key] = _restricted(own[key], names)
    left = {key: value for key, value in own.items() if key not in data and value not in ([], {})}
    return left | {key: _merged(key, own.get(key), value) for key, value in data.items() if value is not None}


def _times(entry: PublishedSet) -> dict[str, Any]:
    if entry.is_steady:
        return {"lead_time": 1.0}
    pairs = {"frames": list(entry.training_frames), "identity": True}
    return {"pairs": pairs, "time_scale": entry.time_scale, "time_step": entry.time_step}


def _names(values: Mapping[str, Any], roles: Iterable[str]) -> frozenset[str]:
    """The channels of these roles, under every spelling."""
    # Values of a wrong type are told by the schema, which comes later.
    lists = [values.get(role) for role in roles]
    names = [str(name) for names in lists if isinstance(names, list) for name in names]
    return frozenset([*names, *(other for name in names for other in _SPELLINGS.get(name, ()))])


def _restricted(entries: Any, names: Iterable[str]) -> Any:
    """The entries of these channels, of a mapping or of a list."""
    if isinstance(entries, Mapping):
        return {name: value for name, value in entries.items() if name in names}
    return [name for name in entries if name in names]


def _merged(key: str, own: Any, stated: Any) -> Any:
    if not isinstance(own, Mapping) or not isinstance(stated, Mapping) or not stated:
        return stated
    # Sizes of all parts leave nothing of the published split; fewer training samples do.
    replaces = key == "split" and {"preset", "validation", "test"} & stated.keys()
    # Frames that are stated in words take the place of the listed ones.
    replaces = replaces or (key == "pairs" and {"first", "last", "every"} & stated.keys())
    return dict(stated) if replaces else {**own, **stated}
