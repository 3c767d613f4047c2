"""What all figures share: size, colours, PNG, and how a field is drawn on its axes.

Matplotlib is used through its objects alone: no pyplot, hence no global state and no figure that stays open.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from katops.fields import Axis, Channel, FieldMeta

# Okabe & Ito 2008: told apart by readers with any kind of colour vision, and in grey by their lightness.
TRUTH, PREDICTION, ERROR, INPUT = "#222222", "#0072B2", "#D55E00", "#009E73"
BASELINES = ("#E69F00", "#CC79A7", "#56B4E9", "#009E73")
FIELD_MAP, INPUT_MAP, ERROR_MAP, MAGNITUDE_MAP = "viridis", "cividis", "RdBu_r", "magma"
NONFINITE = "#9e9e9e"

WIDTH = 10.5  # inches, of every figure
DPI = 110
TEXT = 9.5
TICK_STEPS = (1, 2.5, 5, 10)  # few and round, so that the labels of neighbouring panels do not touch


def new_figure(height: float) -> Figure:
    """An empty figure of the report's width; ``height`` in inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.08)
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def tidy(axes: Axes) -> Axes:
    """Quiet lines around a diagram, so that the data are what one sees."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=TEXT - 1)
    return axes


def no_data(axes: Axes, reason: str) -> None:
    """Say inside a diagram why it is empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, f"no data: {reason}", ha="center", va="center", color="#666666", transform=axes.transAxes)


def log_axis(axes: Axes, which: str, values: np.ndarray, *, percent: bool) -> None:
    """Make an axis logarithmic, span the positive values on it, and label 1, 2 and 5 of each decade in plain numbers.

    Args:
        which: "x" or "y".
        values: everything that is to be seen; what is not positive and finite is ignored.
        percent: whether the values are ratios, to be labelled in percent.
    """
    shown = positive(values)
    low, high = float(np.nanmin(shown)) / 1.3, float(np.nanmax(shown)) * 1.3
    high = max(high, 4 * low)  # so that at least one label lies inside
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    # Decades alone would often leave one label or none; all three per decade would be a crowd on long axes.
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1e3 else (1,), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %" if percent else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def axis_label(axis: Axis) -> str:
    """``x [m]``"""
    return named(axis.name, axis.unit)


def channel_label(channel: Channel) -> str:
    """``pressure [Pa]``"""
    return named(channel.name, channel.unit)


def named(name: str, unit: str) -> str:
    """A name with its unit; a dollar sign is text, not mathematics."""
    return (f"{name} [{unit}]" if unit else name).replace("$", r"\$")


@dataclass(frozen=True)
class Plane:
    """The plane in which a field of 2 or 3 axes is drawn.

    Attributes:
        horizontal, vertical: its axes.
        transposed: whether the horizontal axis comes first in the array.
        extent: left, right, bottom and top edge of the cells, in coordinates.
        equal: whether a length is the same on paper in both directions.
        note: which slice was taken, "" for 2-D fields.
    """

    horizontal: Axis
    vertical: Axis
    transposed: bool
    extent: tuple[float, float, float, float]
    equal: bool
    note: str = ""

    @classmethod
    def of(cls, meta: FieldMeta, space: tuple[int, ...]) -> "Plane":
        """The first two axes, "x" lying horizontally; of a third axis the middle grid point is taken."""
        first, second = meta.axes[:2]
        left_right = (*edges(first, space[0]), *edges(second, space[1]))
        # Panels that are long and thin, or that mix units, are stretched to fill their place.
        stretch = (left_right[3] - left_right[2]) / (left_right[1] - left_right[0])
        equal = first.unit == second.unit and 1 / 4 <= stretch <= 4
        note = ""
        if len(space) == 3:
            depth = meta.axes[2]
            note = f"slice at {depth.name} = {depth.coordinates(space[2])[space[2] // 2]:.3g} {depth.unit}".rstrip()
        if second.name == "x":
            return cls(second, first, False, (*left_right[2:], *left_right[:2]), equal, note)
        return cls(first, second, True, left_right, equal, note)

    @classmethod
    def of_frames(cls, axis: Axis, points: int, frames: int) -> "Plane":
        """Space to the right and frames, counted from 1, upwards, for an array (frames, points)."""
        return cls(axis, Axis("frame"), False, (*edges(axis, points), 0.5, frames + 0.5), False)

    @property
    def ratio(self) -> float:
        """Height over width of the drawing."""
        left, right, bottom, top = self.extent
        return (top - bottom) / (right - left) if self.equal else 0.75

    def draw(self, axes: Axes, field: np.ndarray, limits: tuple[float, float], colours: str) -> AxesImage:
        """Draw the field with one cell per grid point; returns what a colour bar needs. What is not finite is grey."""
        plane = field[:, :, field.shape[2] // 2] if field.ndim == 3 else field
        image = axes.imshow(
            np.ma.masked_invalid(plane.T if self.transposed else plane),
            origin="lower",
            extent=self.extent,
            aspect="equal" if self.equal else "auto",
            interpolation="nearest",
            cmap=colormaps[colours].with_extremes(bad=NONFINITE),
            vmin=limits[0],
            vmax=limits[1],
        )
        axes.set_xlabel(axis_label(self.horizontal), fontsize=TEXT)
        axes.set_ylabel(axis_label(self.vertical), fontsize=TEXT)
        axes.tick_params(labelsize=TEXT - 1.5)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=TICK_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=TICK_STEPS, integer=self.vertical.name == "frame"))
        return image


def edges(axis: Axis, size: int) -> tuple[float, float]:
    """Outer edges of the first and the last cell, each cell being centred on its grid point."""
    points = axis.coordinates(size)
    half = (points[1] - points[0]) / 2 if size > 1 else (axis.upper - axis.lower) / 2
    return points[0] - half, points[-1] + half


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


def colour_bar(image: AxesImage, label: str, shown: np.ndarray) -> None:
    """A colour bar as high as the image, with pointed ends where ``shown`` goes beyond the limits."""
    low, high = image.get_clim()
    finite = shown[np.isfinite(shown)]
    tolerance = 1e-9 * (high - low)
    below = bool(finite.size and finite.min() < low - tolerance)
    above = bool(finite.size and finite.max() > high + tolerance)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]
    place = image.axes.inset_axes((1.04, 0, 0.05, 1))
    bar = image.axes.figure.colorbar(image, cax=place, extend=extend)
    bar.set_label(label, fontsize=TEXT - 1)
    place.tick_params(labelsize=TEXT - 1.5)
    bar.locator = MaxNLocator(5)
    bar.formatter.set_powerlimits((-3, 4))
    bar.update_ticks()
    place.yaxis.get_offset_text().set_fontsize(TEXT - 1.5)
    place.yaxis.set_offset_position("left")


def positive(values: np.ndarray) -> np.ndarray:
    """The values that a logarithmic axis can show; the others become NaN, which leaves a gap."""
    return np.where(np.isfinite(values) & (values > 0), values, math.nan)
