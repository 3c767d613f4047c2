"""What all figures share: size, colours, PNG, and how a field is drawn on its axes.

Matplotlib is used through its objects alone: no pyplot, hence no global state and no figure that stays open.
"""

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from katops.drawing import TICK_STEPS, across_and_up, axis_label, bar_beside, cell_ends, upwards
from katops.fields import Axis, FieldMeta

# Okabe & Ito 2008: told apart by readers with any kind of colour vision, and in grey by their lightness.
TRUTH, PREDICTION, ERROR, INPUT = "#222222", "#0072B2", "#D55E00", "#009E73"
BASELINES = ("#E69F00", "#CC79A7", "#56B4E9", "#009E73")
FIELD_MAP, INPUT_MAP, ERROR_MAP, MAGNITUDE_MAP = "viridis", "cividis", "RdBu_r", "magma"
NONFINITE = "#9e9e9e"

WIDTH = 10.5  # inches, of every figure
DPI = 110
TEXT = 9.5


def new_figure(height: float) -> Figure:
    """An empty figure of the report's width; ``height`` in inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.08)
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    # savefig would draw everything twice, once to find the places of what is drawn.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


def tidy(axes: Axes) -> Axes:
    """Quiet lines around a diagram, so that the data are what one sees."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=TEXT - 1)
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


@dataclass(frozen=True)
class Plane:
    """The plane in which a field of 2 or 3 axes is drawn.

    Attributes:
        horizontal, vertical: its axes.
        transposed: whether the horizontal axis comes first in the array.
        extent: left, right, bottom and top edge of the cells, in coordinates.
        equal: whether a length is the same on paper in both directions.
        note: which slice was taken, "" for 2-D fields.
        upwards: whether the vertical coordinate increases upwards on paper.
    """

    horizontal: Axis
    vertical: Axis
    transposed: bool
    extent: tuple[float, float, float, float]
    equal: bool
    note: str = ""
    upwards: bool = True

    @classmethod
    def of(cls, meta: FieldMeta, space: tuple[int, ...]) -> "Plane":
        """The first two axes, x or the longitude horizontally; of a third axis the middle grid point is taken."""
        across, up = across_and_up(*meta.axes[:2])
        horizontal, vertical = meta.axes[across], meta.axes[up]
        extent = (*_edges(horizontal, space[across]), *_edges(vertical, space[up]))
        # Panels that are long and thin, or that mix units, are stretched to fill their place.
        stretch = abs((extent[3] - extent[2]) / (extent[1] - extent[0]))
        equal = horizontal.unit == vertical.unit and 1 / 4 <= stretch <= 4
        note = ""
        if len(space) == 3:
            depth = meta.axes[2]
            note = f"slice at {depth.name} = {depth.coordinates(space[2])[space[2] // 2]:.3g} {depth.unit}".rstrip()
        return cls(horizontal, vertical, across == 0, extent, equal, note, upwards(vertical, meta.coordinates))

    @classmethod
    def of_frames(cls, axis: Axis, points: int, frames: int) -> "Plane":
        """Space to the right and frames, counted from 1, upwards, for an array (frames, points)."""
        return cls(axis, Axis("frame"), False, (*_edges(axis, points), 0.5, frames + 0.5), False)

    @property
    def ratio(self) -> float:
        """Height over width of the drawing."""
        left, right, bottom, top = self.extent
        return abs((top - bottom) / (right - left)) if self.equal else 0.75

    def shown(self, field: np.ndarray) -> np.ndarray:
        """What is drawn of a field: rows from the bottom upwards, masked where it is not finite."""
        plane = field[:, :, field.shape[2] // 2] if field.ndim == 3 else field
        # In double precision, since matplotlib's arithmetic would overflow where a prediction grows without bound.
        return np.ma.masked_invalid(plane.T if self.transposed else plane).astype(np.float64)

    def draw(self, axes: Axes, field: np.ndarray, limits: tuple[float, float], colours: str) -> AxesImage:
        """Draw the field with one cell per grid point; returns what a colour bar needs. What is not finite is grey."""
        image = axes.imshow(
            self.shown(field),
            origin="lower",
            extent=self.extent,
            aspect="equal" if self.equal else "auto",
            interpolation="nearest",
            cmap=colormaps[colours].with_extremes(bad=NONFINITE),
            vmin=limits[0],
            vmax=limits[1],
        )
        left, right, bottom, top = self.extent
        axes.set_xlim(sorted((left, right)))
        axes.set_ylim(sorted((bottom, top), reverse=not self.upwards))
        axes.set_xlabel(axis_label(self.horizontal), fontsize=TEXT)
        axes.set_ylabel(axis_label(self.vertical), fontsize=TEXT)
        axes.tick_params(labelsize=TEXT - 1.5)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=TICK_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=TICK_STEPS, integer=self.vertical.name == "frame"))
        return image


def _edges(axis: Axis, size: int) -> tuple[float, float]:
    """Outer ends of the first and the last cell."""
    ends = cell_ends(axis, size)
    return float(ends[0]), float(ends[-1])


def colour_bar(image: AxesImage, label: str, shown: np.ndarray) -> None:
    """A colour bar as high as the image, with pointed ends where ``shown`` goes beyond the limits."""
    low, high = image.get_clim()
    finite = shown[np.isfinite(shown)]
    tolerance = 1e-9 * (high - low)
    below = bool(finite.size and finite.min() < low - tolerance)
    above = bool(finite.size and finite.max() > high + tolerance)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]
    bar = bar_beside(image.axes, image, label, TEXT - 1, extend=extend)
    bar.ax.yaxis.set_offset_position("left")


def baseline_colours(count: int) -> list[str]:
    """Colours of the baselines, in their order."""
    return [BASELINES[index % len(BASELINES)] for index in range(count)]


@dataclass(frozen=True)
class Margins:
    """Room around and between the panels of a figure, for labels, in inches."""

    left: float = 0.85
    right: float = 0.2
    bottom: float = 0.5
    top: float = 0.35
    across: float = 0.9
    down: float = 0.85


# A colour bar has its numbers and its name at the right.
BARS = Margins(right=1.25, across=2.0)


def spaced_grid(figure: Figure, rows: int, columns: int, margins: Margins, **options: Any) -> np.ndarray:
    """Panels (rows, columns) with fixed room between them.

    matplotlib's own layout measures every label twice, which takes longer than drawing them.

    Args:
        figure: an empty one.
        rows, columns: of panels.
        margins: room around them.
        options: of :meth:`matplotlib.figure.Figure.subplots`.
    """
    width, height = figure.get_size_inches()
    each_width = (width - margins.left - margins.right - (columns - 1) * margins.across) / columns
    each_height = (height - margins.bottom - margins.top - (rows - 1) * margins.down) / rows
    figure.set_layout_engine("none")
    places = {
        "left": margins.left / width,
        "right": 1 - margins.right / width,
        "bottom": margins.bottom / height,
        "top": 1 - margins.top / height,
        "wspace": margins.across / each_width,
        "hspace": margins.down / each_height,
    }
    return figure.subplots(rows, columns, squeeze=False, gridspec_kw=places, **options)


def panel_grid(figure: Figure, count: int, margins: Margins = Margins()) -> list[Axes]:
    """``count`` panels in at most two columns; places that are left over stay empty."""
    columns = min(count, 2)
    panels = spaced_grid(figure, -(-count // columns), columns, margins).flatten()
    for axes in panels[count:]:
        axes.set_axis_off()
    return list(panels[:count])


def positive(values: np.ndarray) -> np.ndarray:
    """The values that a logarithmic axis can show; the others become NaN, which leaves a gap."""
    return np.where(np.isfinite(values) & (values > 0), values, math.nan)
