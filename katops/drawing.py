"""How fields are drawn wherever they are: labels, limits of colours, which axis lies horizontally, colour bars."""

from __future__ import annotations

from math import pi

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.ticker import MaxNLocator

from katops.fields import Axis, Channel

TICK_STEPS = (1, 2.5, 5, 10)  # few and round, so that the labels of neighbouring panels do not touch
_SIDEWAYS = ("x", "lon", "longitude", "phi")


def plain(text: str) -> str:
    """A dollar sign is text, not mathematics."""
    return text.replace("$", r"\$")


def named(name: str, unit: str) -> str:
    """A name with its unit: ``pressure [Pa]``."""
    return plain(f"{name} [{unit}]" if unit else name)


def axis_label(axis: Axis) -> str:
    """``x [m]``"""
    return named(axis.name, axis.unit)


def channel_label(channel: Channel) -> str:
    """``pressure [Pa]``"""
    return named(channel.name, channel.unit)


def across_and_up(first: Axis, second: Axis) -> tuple[int, int]:
    """Which of two axes, in array order, lies horizontally and which vertically.

    The one called x, or the longitude, is horizontal; where neither is, the first one.
    """
    first_lies, second_lies = (axis.name.lower() in _SIDEWAYS for axis in (first, second))
    return (1, 0) if second_lies and not first_lies else (0, 1)


def upwards(axis: Axis, coordinates: str) -> bool:
    """Whether coordinates increase upwards on paper: angles from the north pole increase downwards.

    Args:
        axis: the vertical one.
        coordinates: see :attr:`katops.fields.FieldMeta.coordinates`.
    """
    from_the_pole = axis.name.lower() in ("theta", "colatitude") and axis.lower >= -1e-3 and axis.upper > 0.6 * pi
    return not (coordinates == "spherical" and from_the_pole)


def cell_ends(axis: Axis, size: int, part: slice = slice(None)) -> np.ndarray:
    """Ends of the cells around the grid points ``part``, one more than points."""
    points = axis.coordinates(size)[part]
    if len(points) == 1:
        half = (axis.upper - axis.lower) / 2
        return np.array([points[0] - half, points[0] + half])
    return between(points)


def between(points: np.ndarray) -> np.ndarray:
    """The middles between points, and as far beyond the first and the last one."""
    if len(points) == 1:
        return np.array([points[0] - 0.5, points[0] + 0.5])
    middles = (points[1:] + points[:-1]) / 2
    return np.concatenate([[2 * points[0] - middles[0]], middles, [2 * points[-1] - middles[-1]]])


def limits_of(values: np.ndarray, *, symmetric: bool = False) -> tuple[float, float]:
    """Smallest and largest finite value, or plus and minus the largest magnitude; never an empty interval."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return (-1.0, 1.0) if symmetric else (0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    if symmetric:
        high = max(abs(low), abs(high))
        low = -high
    # A constant field gets an interval in which it lies in the middle.
    if high - low <= 1e-12 * max(abs(low), abs(high)) or high == low:
        margin = 0.5 * abs(high) or 1.0
        return low - margin, high + margin
    return low, high


def bar_beside(
    axes: Axes, image: ScalarMappable, label: str, text: float, *, left: float = 1.04, extend: str = "neither"
) -> Colorbar:
    """A colour bar as high as a panel, at its right.

    Args:
        axes: the panel.
        image: whose colours are explained.
        label: of the bar.
        text: size of the label.
        left: where the bar begins, in widths of the panel.
        extend: which ends are pointed, as matplotlib calls them.
    """
    place = axes.inset_axes((left, 0, 0.05, 1))
    bar = axes.figure.colorbar(image, cax=place, extend=extend)
    bar.set_label(label, fontsize=text)
    bar.locator = MaxNLocator(5)
    bar.formatter.set_powerlimits((-3, 4))
    bar.update_ticks()
    place.tick_params(labelsize=text - 1)
    place.yaxis.get_offset_text().set_fontsize(text - 1)
    return bar
