"""Alloys to choose from: all compositions on a grid within bounds, and those that nothing beats in two respects."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from katops.errors import UserError
from katops.materials.compositions import check_symbols
from katops.materials.frames import load_pandas

if TYPE_CHECKING:
    import pandas

MOST_CANDIDATES = 1_000_000
TOLERANCE = 1e-9


def composition_grid(
    elements: Mapping[str, tuple[float, float]] | Iterable[str], *, step: float = 0.05
) -> "pandas.DataFrame":
    """Every composition whose atomic fractions are whole multiples of a step, lie within bounds and sum to 1.

    Args:
        elements: symbols, with bounds (least, most) as ``{"Al": (0, 0.3), "Cr": (0.05, 0.5), ...}``; 0 and 1 without.
        step: of the fractions; 1 must be a whole multiple of it.

    Returns:
        One row a composition: ``formula`` (elements of no amount left out) and an atomic fraction per element.

    Raises:
        UserError: a symbol or bound is wrong, 1 is no multiple of the step, no composition is left, or more than a
            million are.
    """
    bounds = dict(elements) if isinstance(elements, Mapping) else dict.fromkeys(elements, (0.0, 1.0))
    check_symbols(list(bounds))
    total = round(1 / step) if 0 < step <= 1 else 0
    if not total or abs(total * step - 1) > TOLERANCE:
        raise UserError(f"composition_grid: step={step!r} must divide 1, such as 0.1, 0.05 or 0.025")
    ranges = [_steps(symbol, bound, total) for symbol, bound in bounds.items()]
    counts = _parts(ranges, total)
    if not len(counts):
        raise UserError(f"composition_grid: no composition in steps of {step:g} lies within the bounds {bounds}")
    pandas = load_pandas()
    fractions = counts / total
    texts = [
        "".join(f"{symbol}{value:.10g}" for symbol, value in zip(bounds, row, strict=True) if value)
        for row in fractions.tolist()
    ]
    table = pandas.DataFrame(fractions, columns=list(bounds))
    table.insert(0, "formula", texts)
    return table


def _steps(symbol: str, bound: tuple[float, float], total: int) -> tuple[int, int]:
    """The least and the largest number of steps within the bounds."""
    low, high = bound
    if not 0 <= low <= high <= 1:
        raise UserError(f"composition_grid: bounds of {symbol} must be 0 <= least <= most <= 1, got {bound!r}")
    return math.ceil(low * total - TOLERANCE), math.floor(high * total + TOLERANCE)


def _parts(ranges: list[tuple[int, int]], total: int) -> np.ndarray:
    """Every row of whole numbers within the ranges that sums to the total, in order, (rows, elements)."""
    rows = np.zeros((1, 0), dtype=int)
    for place, (low, high) in enumerate(ranges):
        rest = ranges[place + 1 :]
        least, most = sum(low for low, _ in rest), sum(high for _, high in rest)
        values = np.arange(low, high + 1)
        left = total - rows.sum(axis=1)[:, None] - values
        before, chosen = np.nonzero((left >= least) & (left <= most))
        rows = np.column_stack([rows[before], values[chosen]])
        if len(rows) > MOST_CANDIDATES:
            raise UserError("composition_grid: more than a million compositions; take a larger step or closer bounds")
    return rows


def pareto_front(better_low: Iterable[float], better_high: Iterable[float]) -> np.ndarray:
    """Which rows nothing beats: no other is as low in the first and as high in the second, and better in one of them.

    Args:
        better_low: (n,) such as density or cost.
        better_high: (n,) such as strength or stiffness.

    Returns:
        (n,) truth values; rows with NaN are never on the front.

    Raises:
        UserError: the columns differ in length, or are tables.
    """
    low, high = np.asarray(better_low, dtype=float), np.asarray(better_high, dtype=float)
    if low.shape != high.shape or low.ndim != 1:
        raise UserError(f"pareto_front takes two columns of equal length, got shapes {low.shape} and {high.shape}")
    front = np.zeros(len(low), dtype=bool)
    reached, at = -math.inf, math.nan
    for row in np.lexsort((-high, low)):
        if (
            np.isfinite(low[row])
            and np.isfinite(high[row])
            and (high[row] > reached or (high[row] == reached and low[row] == at))
        ):
            front[row], reached, at = True, high[row], low[row]
    return front
