"""Cards: what was trained on what, as rows of label and value."""

from dataclasses import dataclass
from typing import Any

from katops.evaluation import Evaluation
from katops.fields import Axis, Channel

# Values in seconds that are longer than this are told in minutes or hours as well.
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class Card:
    """A heading and its rows (label, value), all text."""

    title: str
    rows: list[tuple[str, str]]


def card(title: str, values: dict[str, Any]) -> Card:
    """A card of a dictionary: underscores become spaces, numbers are grouped, empty entries are left out."""
    rows = [(key.replace("_", " "), _text(key, value)) for key, value in values.items()]
    return Card(title, [(label, text) for label, text in rows if text])


def data_card(evaluation: Evaluation, values: dict[str, Any]) -> Card:
    """What the fields are, from their description, and then whatever else is known about the data."""
    meta = evaluation.meta
    axes = [axis.name for axis in meta.axes]
    grid = _shared([axis.grid.replace("_", " ") for axis in meta.axes], axes)
    rows = [
        ("name", meta.name),
        ("input", _channels(meta.inputs, meta.steps_in)),
        ("constant input", _channels(meta.constants, 1)),
        ("output", _channels(meta.outputs, meta.steps_out)),
        ("grid", f"{' × '.join(map(str, evaluation.space))} points, {grid}"),
        ("domain", ", ".join(f"{a.name} in [{a.lower:g}, {a.upper:g}] {a.unit}".rstrip() for a in meta.axes)),
        ("coordinates", "" if meta.coordinates == "cartesian" else meta.coordinates),
        ("boundary", _shared([_boundary(axis) for axis in meta.axes], axes)),
        ("time step", "" if meta.time_step is None else f"{meta.time_step:g} {meta.time_unit}".rstrip()),
        ("parameters", _channels(meta.parameters, 1)),
        ("licence", meta.licence),
        ("citation", meta.citation),
        ("tested samples", f"{evaluation.samples:,}"),
    ]
    return Card("Data", [(label, text) for label, text in rows if text] + card("", values).rows)


def _channels(channels: tuple[Channel, ...], frames: int) -> str:
    names = ", ".join(f"{channel.name} [{channel.unit}]" if channel.unit else channel.name for channel in channels)
    return f"{names}; {frames} frames" if frames > 1 else names


def _boundary(axis: Axis) -> str:
    lower, upper = axis.boundary
    return lower if lower == upper else f"{lower} below, {upper} above"


def _shared(values: list[str], names: list[str]) -> str:
    """One value if all are the same, else all of them, with the names of their axes."""
    if len(set(values)) == 1:
        return values[0]
    return ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))


def _text(key: str, value: Any) -> str:
    if value is None or value == "" or value == {} or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and key.endswith("seconds"):
        return _duration(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 and key != "seed" else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        parts = [(inner.replace("_", " "), _text(inner, entry)) for inner, entry in value.items()]
        return ", ".join(f"{label}: {text}" for label, text in parts if text)
    if isinstance(value, list | tuple):
        texts = [_text("", entry) for entry in value]
        nested = any(isinstance(entry, list | tuple) for entry in value)
        return ", ".join(f"({text})" for text in texts) if nested else ", ".join(texts)
    return str(value)


def _duration(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.3g} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.1f} min"
    return f"{seconds / HOUR:.1f} h"
