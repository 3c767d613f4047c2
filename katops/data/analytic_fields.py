"""Fields that are known as a formula and are missing in published files, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from katops.errors import UserError, did_you_mean

AnalyticField = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Coordinates, one array (n,) per axis -> values (\\*space), float64."""


def kolmogorov_forcing(coordinates: Sequence[np.ndarray]) -> np.ndarray:
    """The force of FNS-KF, f(x, y) = 0.1 sin(2 pi (x + y)), as the published loader computes it.

    There x and y run from 0 at the first grid point to 1 at the last one, although the fields are periodic: on n points
    they are stretched by n / (n - 1) against the grid of the solver. Models trained on it expect these values.

    Args:
        coordinates: of two axes, at least two points each, in any unit.

    Raises:
        UserError: there are not two axes of at least two points.

    Source: Herde et al., Poseidon, NeurIPS 2024, arXiv:2405.19101; the grid is that of the published data code.
    """
    if len(coordinates) != 2 or any(len(points) < 2 for points in coordinates):
        sizes = " x ".join(str(len(points)) for points in coordinates)
        raise UserError(f"the field 'kolmogorov_forcing' needs two axes of at least two points; given: {sizes} points")
    x, y = ((points - points[0]) / (points[-1] - points[0]) for points in map(np.asarray, coordinates))
    return 0.1 * np.sin(2 * np.pi * (x[:, None] + y[None, :]))


ANALYTIC_FIELDS: dict[str, AnalyticField] = {"kolmogorov_forcing": kolmogorov_forcing}
"""What ``data.fill`` may name in place of a number."""


def analytic_field(name: str) -> AnalyticField:
    """The field of that name.

    Raises:
        UserError: there is none; the message suggests the nearest name.
    """
    if name not in ANALYTIC_FIELDS:
        raise UserError(
            f"data.fill names the field {name!r}, which is not known{did_you_mean(str(name), ANALYTIC_FIELDS)} "
            f"Give a number or one of: {', '.join(ANALYTIC_FIELDS)}."
        )
    return ANALYTIC_FIELDS[name]
