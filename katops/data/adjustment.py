"""How a data set lies beside the others that one model learns with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Adjustment:
    """Levels and time scale of a data set against those that the model learns.

    What the model learns is u - offset, channel by channel, at the lead time t * time_factor: data sets that differ in
    a level (of the pressure) or in their pace then share one normaliser.

    Attributes:
        offset: by channel, what is subtracted; 0 where a channel is not named.
        time_factor: what lead times are multiplied by.
    """

    offset: Mapping[str, float] = field(default_factory=dict)
    time_factor: float = 1.0

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return bool(self.offset) or self.time_factor != 1.0

    @classmethod
    def from_header(cls, reading: Mapping[str, Any]) -> Adjustment:
        """That of a training data set, as its model file tells it."""
        return cls(reading.get("offset", {}), reading.get("time_factor", 1.0))


NOT_ADJUSTED = Adjustment()
