"""What the figures of this package share: figures without pyplot, colours, quiet axes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito 2008: told apart by readers with any kind of colour vision.
INK, CURVE, POINT, POSITIVE = "#222222", "#0072B2", "#D55E00", "#009E73"
FAINT, ZONE = "#d9d9d9", "#eeeeee"
TEXT = 9.0


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


def plain(text: str) -> str:
    """A dollar sign is text, not mathematics."""
    return text.replace("$", r"\$")
