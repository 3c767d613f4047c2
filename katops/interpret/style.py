"""What the figures of this package share: figures without pyplot, colours, quiet axes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

# Okabe & Ito 2008: told apart by readers with any kind of colour vision.
INK, CURVE, POINT, POSITIVE = "#222222", "#0072B2", "#D55E00", "#009E73"
FAINT, ZONE = "#d9d9d9", "#eeeeee"
TEXT = 9.0
SMALLEST_TEXT = 3.0
MOST_TICKS = 8


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """The given axes, or those of a new figure that no global state knows of; sizes in inches."""
    if ax is not None:
        return ax
    return Figure(figsize=(width, height), layout="constrained", facecolor="white").add_subplot()


def quiet(ax: Axes) -> Axes:
    """Axes on which the data are what one sees."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=TEXT - 1)
    ax.set_axisbelow(True)
    return ax


def text_size(ax: Axes, lines: int) -> float:
    """The size at which so many lines of text stand below one another in the axes without touching, TEXT at most."""
    points = 72 * ax.figure.get_figheight() * ax.get_position().height
    return max(SMALLEST_TEXT, min(TEXT, points / (1.25 * max(lines, 1))))


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Plain numbers at 1, 2, 5, 10, ... of a logarithmic axis; at even steps where fewer than three of them fit.

    Args:
        axis: of the diagram.
        low, high: the smallest and the largest value that is shown.
    """
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = (decades[:, None] * np.array([1.0, 2.0, 5.0])).ravel()
    ticks = ticks[(ticks >= low / 1.05) & (ticks <= high * 1.05)]
    if len(ticks) > MOST_TICKS:
        ticks = decades
    if len(ticks) < 3:
        ticks = MaxNLocator(6, steps=(1, 2, 5, 10)).tick_values(low, high)
        ticks = ticks[(ticks >= low) & (ticks <= high)]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.set_minor_locator(NullLocator())


def plain(text: str) -> str:
    """A dollar sign is text, not mathematics."""
    return text.replace("$", r"\$")
