"""The data sets that a model of fields was trained on, as the header of its file tells them ("readings")."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from katops.data.adjustment import Adjustment
from katops.errors import UserError, did_you_mean

Reading = Mapping[str, Any]


def readings_of(header: Mapping[str, Any]) -> Sequence[Reading]:
    """How each of the training data sets was read, at least one."""
    data = header.get("data", {})
    return data.get("mix") or [data]


def reading_like(header: Mapping[str, Any], name: str) -> Reading:
    """That of the training data set of this name, the name of its file or the whole path.

    Raises:
        UserError: there is none, or several data sets of this name have different levels or times.
    """
    readings = readings_of(header)
    for reading in readings:
        if name == reading.get("file"):
            return reading
    found = [reading for reading in readings if name == name_of(reading)]
    if any(not same_units(reading, found[0]) for reading in found):
        paths = ", ".join(str(reading.get("file")) for reading in found)
        raise UserError(f"several training data sets are named {name!r}; give the whole path: {paths}")
    if found:
        return found[0]
    known = [name_of(reading) for reading in readings]
    raise UserError(
        f"the model was not trained on a data set {name!r}{did_you_mean(name, known)} Known: {', '.join(known)}."
    )


def name_of(reading: Reading) -> str:
    """What a message calls a data set."""
    return Path(reading.get("file", "the training data")).name


def same_units(one: Reading, other: Reading) -> bool:
    """Whether fields and times of both mean the same to the model."""
    return _units(one) == _units(other)


def _units(reading: Reading) -> tuple[Adjustment, float | None]:
    return Adjustment.from_header(reading), reading.get("lead_time")
