"""``katops inspect --plot``: a picture of a few samples, one row for each channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from katops.data.inspection.glance import Glance
from katops.data.inspection.plot_panels import Panel, panels_of
from katops.data.layout import ChannelArray, FileLayout
from katops.drawing import (
    TICK_STEPS,
    across_and_up,
    axis_label,
    bar_beside,
    between,
    cell_ends,
    limits_of,
    named,
    plain,
    upwards,
)
from katops.files import atomic_path

# Diverging around zero for fields with both signs; colours that neither map contains for what is not finite.
_FIELD_MAP, _SIGNED_MAP, _NONFINITE = "viridis", "RdBu_r", "#ff00ff"
# Okabe & Ito 2008: told apart by readers with any kind of colour vision.
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MOST_ROWS = 8
_TEXT, _PANEL = 9.0, 1.9


def plot(layout: FileLayout, output: str | Path) -> Path:
    """Draw a few samples into a PNG (or PDF, SVG) file.

    Fields of one axis are lines, or pictures of space and time where there are more than 8 frames; of two axes, images
    of the first, middle and last frame; of three, the three mid-planes. All panels of a channel share their colours,
    which are symmetric about zero where a field has both signs. Values that are not finite are magenta.

    Args:
        layout: the file.
        output: the picture; its ending decides the kind.

    Returns:
        ``output``.

    Raises:
        UserError: the data cannot be read, or the picture cannot be written.
    """
    output = Path(output)
    figure = picture(layout)
    with atomic_path(output) as temporary:
        kind = output.suffix.lstrip(".").lower()
        figure.savefig(temporary, format=kind if kind in ("pdf", "svg", "jpg") else "png")
    return output


def picture(layout: FileLayout) -> Figure:
    """The figure of :func:`plot`."""
    channels = [*layout.constants, *(array for array in layout.arrays if array not in layout.constants)]
    shown, panels = channels[:_MOST_ROWS], panels_of(layout)
    glance = Glance(layout)
    width, height = 1.6 + _PANEL * len(panels), 1.0 + len(shown) * (0.3 + 0.85 * _PANEL * _ratio(layout))
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.06, w_pad=0.05)
    grid = figure.subplots(len(shown), len(panels), squeeze=False)
    for row, array in zip(grid, shown, strict=True):
        _draw_channel(row, glance, array, panels)
    for row in grid[:-1] if len(layout.space) > 1 else ():
        for axes in row:
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)
    for axes, panel in zip(grid[0], panels, strict=True):
        axes.set_title(panel.title, fontsize=_TEXT)
    figure.suptitle(_heading(layout, len(shown), len(channels)), fontsize=_TEXT + 2, x=0.01, ha="left")
    return figure


def _heading(layout: FileLayout, shown: int, channels: int) -> str:
    size = " x ".join(map(str, layout.space))
    parts = [layout.path.name, f"{layout.n_samples} sample{'' if layout.n_samples == 1 else 's'} on {size} points"]
    if layout.time_dependent:
        parts.append(f"{int(layout.frames.max())} frames")
    if shown < channels:
        parts.append(f"the first {shown} of {channels} channels")
    return plain(" · ".join(parts))


def _draw_channel(row: Sequence[Axes], glance: Glance, array: ChannelArray, panels: Sequence[Panel]) -> None:
    layout, drawn = glance.layout, []
    own = "sample" in array.axes or len(array.datasets) > 1
    for axes, panel in zip(row, panels, strict=True):
        axes.set_box_aspect(_ratio(layout))
        if not (array.has_time or panel.first) or not (own or panel.sample == 0):
            axes.set_axis_off()
            continue
        frames = panel.frames if array.has_time else (0,)
        drawn.append((axes, panel, np.stack([glance.field(array, panel.sample, f, panel.points) for f in frames])))
    values = np.concatenate([field.ravel() for _, _, field in drawn])
    low, high, colours = _limits(values)
    norm, image = Normalize(low, high), None
    for axes, panel, field in drawn:
        if len(layout.space) > 1:
            image = _image(axes, layout, panel, field[0], norm, colours)
        elif len(field) > 2 * len(_LINES):
            image = _space_time(axes, layout, panel, field, norm, colours)
        else:
            _lines(axes, layout, panel, field, array.has_time)
            axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axes.tick_params(labelsize=_TEXT - 2)
        if axes is not drawn[0][0] and len(layout.space) < 3:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
    bad = int((~np.isfinite(values)).sum())
    note = f"\n{'magenta: ' if image is not None else ''}{bad} not finite" if bad else ""
    label = named(array.name, array.unit) + note
    if image is None:
        drawn[0][0].set_ylabel(label, fontsize=_TEXT)
        return
    bar_beside(row[-1], image, label, _TEXT - 1)


def _image(
    axes: Axes, layout: FileLayout, panel: Panel, field: np.ndarray, norm: Normalize, colours: str
) -> ScalarMappable:
    """A plane of two axes, each cell around its grid point; x or the longitude lies horizontally."""
    kept = [position for position, part in enumerate(panel.points) if isinstance(part, slice)]
    across, up = (kept[place] for place in across_and_up(*(layout.meta.axes[position] for position in kept)))
    names = [layout.meta.axes[position] for position in (across, up)]
    ends = [cell_ends(layout.meta.axes[n], layout.space[n], panel.points[n]) for n in (across, up)]
    even = all(axis.grid != "uneven" for axis in names)
    axes.set_xlabel(axis_label(names[0]), fontsize=_TEXT - 1)
    axes.set_ylabel(axis_label(names[1]), fontsize=_TEXT - 1)
    for line in (axes.xaxis, axes.yaxis):
        line.set_major_locator(MaxNLocator(3, steps=TICK_STEPS))
    image = _cells(axes, *ends, field if across == kept[1] else field.T, norm, colours, even=even)
    axes.set_xlim(sorted(ends[0][[0, -1]]))
    axes.set_ylim(sorted(ends[1][[0, -1]], reverse=not upwards(names[1], layout.meta.coordinates)))
    return image


def _cells(
    axes: Axes,
    horizontal: np.ndarray,
    vertical: np.ndarray,
    values: np.ndarray,
    norm: Normalize,
    colours: str,
    *,
    even: bool,
) -> ScalarMappable:
    """A coloured cell for every value (vertical, horizontal), between the given ends of cells."""
    colour_map = colormaps[colours].with_extremes(bad=_NONFINITE)
    shown = np.ma.masked_invalid(values)
    if not even:
        return axes.pcolormesh(horizontal, vertical, shown, norm=norm, cmap=colour_map, rasterized=True)
    extent = (horizontal[0], horizontal[-1], vertical[0], vertical[-1])
    options = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    return axes.imshow(shown, extent=extent, norm=norm, cmap=colour_map, **options)


def _space_time(
    axes: Axes, layout: FileLayout, panel: Panel, field: np.ndarray, norm: Normalize, colours: str
) -> ScalarMappable:
    axis = layout.meta.axes[0]
    times, unit = _times(layout, panel)
    axes.set_xlabel(axis_label(axis), fontsize=_TEXT - 1)
    axes.set_ylabel("frame" if unit == "frame" else named("time", unit), fontsize=_TEXT - 1)
    for line in (axes.xaxis, axes.yaxis):
        line.set_major_locator(MaxNLocator(4))
    even = axis.grid != "uneven" and np.allclose(np.diff(times, 2), 0.0, atol=1e-3 * np.abs(np.diff(times)).min())
    ends = cell_ends(axis, layout.space[0], panel.points[0]), between(times)
    return _cells(axes, *ends, field, norm, colours, even=even)


def _lines(axes: Axes, layout: FileLayout, panel: Panel, field: np.ndarray, moving: bool) -> None:
    axis = layout.meta.axes[0]
    points = axis.coordinates(layout.space[0])[panel.points[0]]
    chosen = np.unique(np.linspace(0, len(field) - 1, min(len(field), len(_LINES))).astype(int))
    times, unit = _times(layout, panel) if moving else (np.zeros(1), "")
    for colour, frame in zip(_LINES, chosen, strict=False):
        label = f"t = {times[frame]:.3g} {unit}".rstrip() if moving and unit != "frame" else f"frame {frame}"
        marker = "." if len(points) <= 32 else ""
        axes.plot(points, field[frame], color=colour, marker=marker, linewidth=1.2, label=plain(label))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_xlabel(axis_label(axis), fontsize=_TEXT - 1)
    if len(chosen) > 1:
        axes.legend(fontsize=_TEXT - 3, frameon=False, handlelength=1.2)


def _times(layout: FileLayout, panel: Panel) -> tuple[np.ndarray, str]:
    if layout.times is None:
        return np.array(panel.frames, dtype=float), "frame"
    times = layout.times if layout.times.ndim == 1 else layout.times[panel.sample]
    return times[list(panel.frames)], layout.meta.time_unit


def _limits(values: np.ndarray) -> tuple[float, float, str]:
    """(lowest, highest, colour map) of all that is drawn of a channel; never an empty interval."""
    finite = values[np.isfinite(values)]
    if finite.size and min(-finite.min(), finite.max()) > 0.05 * np.abs(finite).max():
        return (*limits_of(finite, symmetric=True), _SIGNED_MAP)
    return (*limits_of(finite), _FIELD_MAP)


def _ratio(layout: FileLayout) -> float:
    """Height over width of the drawings."""
    if len(layout.space) == 1:
        return 0.9
    across, up = (layout.meta.axes[place] for place in across_and_up(*layout.meta.axes[:2]))
    ratio = (up.upper - up.lower) / (across.upper - across.lower)
    equal = across.unit == up.unit and 1 / 4 <= ratio <= 4
    return float(np.clip(ratio, 0.35, 2.0)) if equal and len(layout.space) == 2 else 0.9
