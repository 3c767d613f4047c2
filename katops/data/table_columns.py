"""Columns of a table on the scale on which a network learns: an affine map for each, measured on training rows.

Far beyond the range of the training rows the map is constant: what a network has not seen it can only extrapolate, and
an element that was a trace in training would be extrapolated by a factor of hundreds in an alloy that is made of it.
"""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from katops.errors import UserError, did_you_mean

RELATIVE_CONSTANT = 1e-12
"""A column whose range is a smaller share of its largest value holds one number and its rounding errors."""

SMALLEST_RANGE = 1e-100
"""The squares of a smaller range are zero in float64."""

LARGEST_SCALED = 3.0
"""Heavy tails: "auto" scales a column down until no training value is further from 0 than this. Straight and base parts
of the curves grow with it, and a value of 1000 would make the first loss so large that a fit spends itself on it."""

REACH = 1.0
"""By default values count as they are up to so many widths of the training range beyond its ends."""

SPARSE_SHARE = 0.5
"""A column with at least this share of rows at one value is sparse: its quartiles say nothing about its spread."""


@dataclass(frozen=True)
class ScaledColumn:
    """One input of a network: scaled = (raw - offset) / scale, raw = scaled scale + offset, raw bounded.

    Attributes:
        name: as in the table; ``process=CAST`` for a level of the column ``process``, ``T missing`` for an indicator.
        source: place of the column of the table that it is made of.
        kind: "number"; "level", 1 where the column has this level and 0 elsewhere; "missing", 1 where the value is
            missing and 0 elsewhere.
        offset, scale: of the affine map.
        low, high: smallest and largest raw value of the training rows.
        fill: raw value that stands for a missing one, the median of the training rows.
        level: of kind "level", the level as text.
        reach: numbers count as they are up to so many widths of the training range beyond its ends, and further out as
            they would there; ``None`` for no bound.
        unit: what stands in brackets at the end of the name, ``K`` in ``temperature (K)``; empty where nothing does.
    """

    name: str
    source: int
    kind: str = "number"
    offset: float = 0.5
    scale: float = 0.5
    low: float = 0.0
    high: float = 1.0
    fill: float = 0.0
    level: str = ""
    unit: str = ""
    reach: float | None = None

    def raw(self, values: np.ndarray) -> np.ndarray:
        """What the column holds before scaling, of the values of its source column; NaN is filled."""
        if self.kind == "missing":
            return np.isnan(values).astype(np.float64)
        return np.where(np.isnan(values), self.fill, values)

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest raw value that count as they are."""
        if self.kind != "number" or self.reach is None:
            return -math.inf, math.inf
        margin = self.reach * (self.high - self.low)
        return self.low - margin, self.high + margin

    def scaled(self, raw: np.ndarray) -> np.ndarray:
        """Raw values without NaN on the scale of the network."""
        return (np.clip(raw, *self.bounds) - self.offset) / self.scale

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def unit_of(name: str) -> str:
    """The unit in a column's name: ``K`` of ``temperature (K)`` and ``temperature [K]``; empty where there is none."""
    found = re.search(r"[(\[]([^()\[\]]+)[)\]]\s*$", name)
    return found.group(1) if found else ""


def is_constant(values: np.ndarray) -> bool:
    """Whether values (n,) without NaN are one number up to rounding; also where there are none."""
    return values.size == 0 or np.ptp(values) <= max(RELATIVE_CONSTANT * np.abs(values).max(), SMALLEST_RANGE)


def number_column(name: str, source: int, values: np.ndarray, scaler: str, reach: float | None = REACH) -> ScaledColumn:
    """A column of numbers, scaled by what its values (n,) without NaN say; see :class:`ScaledColumn` for its reach.

    Raises:
        UserError: there is no such scaler.
    """
    if scaler not in SCALERS:
        raise UserError(
            f"scaler={scaler!r} is not known{did_you_mean(str(scaler), SCALERS)} Allowed: {', '.join(SCALERS)}."
        )
    low, high = float(values.min()), float(values.max())
    offset, scale = (0.0, 1.0) if is_constant(values) else SCALERS[scaler](values)
    fill = float(np.median(values))
    return ScaledColumn(name, source, "number", offset, scale, low, high, fill, unit=unit_of(name), reach=reach)


def _between(low: float, high: float) -> tuple[float, float]:
    """The affine map of [low, high] to [-1, 1]."""
    return float((low + high) / 2), float((high - low) / 2)


def min_max(values: np.ndarray) -> tuple[float, float]:
    """Smallest value to -1, largest to 1."""
    return _between(values.min(), values.max())


def standard(values: np.ndarray) -> tuple[float, float]:
    """Mean to 0, mean plus one standard deviation to 1."""
    return float(values.mean()), float(values.std())


def robust(values: np.ndarray) -> tuple[float, float]:
    """Median to 0 and half the distance of the quartiles to 1; as :func:`standard` where the quartiles coincide."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return (float(middle), float((high - low) / 2)) if high > low else standard(values)


def quantile(values: np.ndarray) -> tuple[float, float]:
    """The 5 % quantile to -1, the 95 % quantile to 1; as :func:`min_max` where they coincide."""
    low, high = np.quantile(values, (0.05, 0.95))
    return _between(low, high) if high > low else min_max(values)


def automatic(values: np.ndarray) -> tuple[float, float]:
    """:func:`quantile`, but :func:`min_max` for sparse columns, whose few other values are what there is to learn.

    With heavy tails the scale is larger, so that no value is further from 0 than :data:`LARGEST_SCALED`.
    """
    _, counts = np.unique(values, return_counts=True)
    if counts.max() >= SPARSE_SHARE * len(values):
        return min_max(values)
    offset, scale = quantile(values)
    return offset, max(scale, float(np.abs(values - offset).max()) / LARGEST_SCALED)


SCALERS: dict[str, Callable[[np.ndarray], tuple[float, float]]] = {
    "auto": automatic,
    "quantile": quantile,
    "robust": robust,
    "standard": standard,
    "minmax": min_max,
}
"""Offset and scale of a column from its values without NaN, which are not all equal."""
