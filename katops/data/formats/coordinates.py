"""Grids and time steps read off stored coordinates.

Published files store coordinates in single precision and seldom say what kind of grid they are; the ends of a domain
are round numbers, which tells cell centres from nodes.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from katops.data.storage import StoredTree
from katops.errors import UserError
from katops.fields import Axis, Side

_SINGLE = float(np.finfo(np.float32).eps)
_UNROUND = 5
"""Digits of a number from which on it is no longer a round one."""


def numbers(tree: StoredTree, name: str) -> np.ndarray:
    """The elements of an array of coordinates, times or scalars, float64.

    Raises:
        UserError: there is no such array, its elements are no real numbers, or it has more than two axes.
    """
    array = tree.array(name)
    if not array.is_real or not array.size or len(array.shape) > 2:
        kind = array.attributes.get("type", array.dtype)
        raise UserError(
            f"{tree.path}: {array.name} has shape {array.shape} and holds {kind} values; expected numbers in one "
            f"or two axes"
        )
    try:
        return np.asarray(tree.values(array.path), dtype=np.float64)
    except ValueError as error:  # the file says that these are numbers, and they are not
        raise UserError(f"{tree.path}: {array.name} holds what is no number: {error}") from error


def even_spacing(points: np.ndarray) -> float | None:
    """Distance of neighbouring points, which may be negative; ``None`` where it changes by more than rounding does.

    Args:
        points: (n,), n at least 2; up to single precision's rounding.
    """
    steps = np.diff(np.asarray(points, dtype=np.float64))
    mean = float(steps.mean())
    tolerance = 1e-4 * abs(mean) + 4.0 * _SINGLE * float(np.abs(points).max())
    return mean if mean and float(np.abs(steps - mean).max()) <= tolerance else None


def round_number(value: float, tolerance: float) -> tuple[float, int]:
    """The number with the fewest digits within ``tolerance``, and how many digits those are.

    Small multiples of pi (at most two digits) count as one digit more than the multiple.
    """
    best, fewest = value, 9
    for unit, extra, most in ((1.0, 0, 8), (math.pi, 1, 3)):
        for digits in range(most):
            candidate = 0.0 if digits == 0 else float(f"{value / unit:.{digits - 1}e}") * unit
            if abs(candidate - value) <= tolerance and digits + extra < fewest:
                best, fewest = candidate, digits + extra
    return best, fewest


def _rounded_if_round(value: float, tolerance: float) -> float:
    rounded, digits = round_number(value, tolerance)
    return rounded if digits < _UNROUND else value


def axis_from_points(
    name: str,
    points: np.ndarray,
    boundary: tuple[Side, Side],
    *,
    path: Path,
    unit: str = "",
) -> tuple[Axis, str]:
    """The axis whose grid points are ``points``, and a note where its kind is a guess ("" where it is not).

    Evenly spaced increasing points are cell centres, nodes, or nodes without the upper end: whichever makes the ends of
    the domain the roundest numbers; between equals, periodic axes leave the upper end out and others have cell centres.
    Everything else is "uneven".

    Raises:
        UserError: fewer than two points, or points that do not increase or decrease strictly.
    """
    points = np.asarray(points, dtype=np.float64)
    steps = np.diff(points)
    if points.ndim != 1 or len(points) < 2 or not (np.all(steps > 0) or np.all(steps < 0)):
        raise UserError(
            f"{path}: the coordinates of axis {name!r} (shape {points.shape}) are not 2 or more increasing or "
            f"decreasing numbers in one row"
        )
    spacing = even_spacing(points)
    if spacing is None or spacing < 0:
        low, high = float(points.min()), float(points.max())
        return Axis(name, "uneven", low, high, boundary, unit, tuple(map(float, points))), ""
    tolerance = max(1e-5 * spacing, 4.0 * _SINGLE * float(np.abs(points).max()))
    first, last = float(points[0]), float(points[-1])
    ends = {
        "cell_centres": (first - spacing / 2, last + spacing / 2),
        "nodes": (first, last),
        "periodic_nodes": (first, last + spacing),
    }
    order = ("periodic_nodes", "cell_centres", "nodes") if boundary[0] == "periodic" else tuple(ends)
    rounded = {grid: [round_number(end, tolerance) for end in ends[grid]] for grid in order}
    grid = min(order, key=lambda kind: sum(digits for _, digits in rounded[kind]))
    lower, upper = (_rounded_if_round(end, tolerance) for end in ends[grid])
    note = ""
    if max(digits for _, digits in rounded[grid]) >= _UNROUND:
        note = (
            f"the ends of axis {name} are not round numbers, so its grid may be another one than the assumed {grid} of "
            f"[{lower:g}, {upper:g}]; state data.grid and data.domain if it is"
        )
    return Axis(name, grid, lower, upper, boundary, unit), note


def even_step(times: np.ndarray) -> float | None:
    """Time between neighbouring frames of all trajectories; ``None`` where there is no such number.

    Args:
        times: (T,) or (N, T); NaN behind the end of a shorter trajectory. Where T is 1 the step counts as 1.
    """
    rows = np.atleast_2d(times)
    if rows.shape[1] == 1:
        return 1.0
    ends = [row[np.isfinite(row)] for row in rows]
    steps = [even_spacing(row) for row in ends if len(row) > 1]
    if not steps or None in steps or min(steps) <= 0:
        return None
    longest = max(float(np.abs(row).max()) for row in ends)
    tolerance = 1e-6 * steps[0] + 4.0 * _SINGLE * longest / max(len(ends[0]) - 1, 1)
    if max(steps) - min(steps) > tolerance:
        return None
    return _rounded_if_round(float(np.mean(steps)), tolerance)


def check_increasing(path: Path, where: str, times: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The times (T,) or (N, T) as float64, after checking that they are finite and increase.

    Args:
        path: the file, for messages.
        where: name of the array.
        times: values behind the end of a shorter trajectory are not looked at.
        frames: (N,) frames of each trajectory.

    Raises:
        UserError: they are not finite or do not increase.
    """
    times = np.asarray(times, dtype=np.float64)
    counts = frames if times.ndim == 2 else [times.shape[0]]
    for row, count in zip(np.atleast_2d(times), counts, strict=True):
        steps = np.diff(row[:count])
        if not np.isfinite(row[:count]).all() or (steps <= 0).any():
            raise UserError(
                f"{path}: the times in {where} do not increase (the smallest step is "
                f"{steps.min() if steps.size else row[0]:g}); state data.time_step to count frames as evenly spaced"
            )
    return times


def same_rows(values: np.ndarray) -> bool:
    """Whether all rows of an array (N, ...) agree exactly, NaN counting as equal to NaN."""
    return bool(np.array_equal(values, np.broadcast_to(values[:1], values.shape), equal_nan=values.dtype.kind == "f"))
