"""The learned rational activations as curves over what they are given, and as a table."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from katops.evaluation.activations import ActivationRecord
from katops.report.classification_tables import share
from katops.report.drawing import TEXT, new_figure, no_data, tidy
from katops.report.tables import Row, TextTable

COLUMNS = 2
ROWS_PER_FIGURE = 4
POINTS = 300
# Okabe & Ito 2008 without yellow, which is hard to see on white; more groups take colours from a continuous scale.
GROUP_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222", "#8c6d31")
REFERENCE, HISTOGRAM = "#888888", "#e3e6ea"


def panel_rows(records: Sequence[ActivationRecord]) -> list[list[ActivationRecord]]:
    """Rows of up to two panels: activations of one parent module (``act1`` and ``act2`` of a block) side by side."""
    parents: dict[str, list[ActivationRecord]] = {}
    for record in records:
        parents.setdefault(record.name.rpartition(".")[0], []).append(record)
    rows = [chunk for siblings in parents.values() for chunk in _chunks(siblings)]
    return rows if any(len(row) > 1 for row in rows) else _chunks(records)


def activation_figures(records: Sequence[ActivationRecord]) -> list[tuple[str, Figure]]:
    """(names of the first and last activation, figure) of every four rows of :func:`panel_rows`."""
    rows = panel_rows(records)
    figures = []
    for start in range(0, len(rows), ROWS_PER_FIGURE):
        shown = rows[start : start + ROWS_PER_FIGURE]
        figures.append((f"{shown[0][0].name} to {shown[-1][-1].name}", _figure(shown)))
    return figures


def activation_rows(records: Sequence[ActivationRecord]) -> TextTable:
    """What each activation is given, and the denominator Q over it."""
    rows = []
    for record in records:
        low, high = _span(record)
        smallest, largest = record.denominator_range
        cells = [record.name, f"{low:.3g} to {high:.3g}", share(record.outside_fit.mean()), share(record.far.mean())]
        rows.append(Row([*cells, f"{smallest:.3g} to {largest:.3g}"]))
    caption = "Inputs of each activation over all its groups, and the range of the denominator Q ≥ 1 over them."
    head = ["activation", "99.8 % of the inputs", "outside [−3, 3]", "beyond ±10", "Q"]
    return TextTable(caption, head, rows)


def _figure(rows: list[list[ActivationRecord]]) -> Figure:
    figure = new_figure(0.5 + 2.35 * len(rows))
    panels = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for axes_row, row in zip(panels, rows, strict=True):
        for axes, record in zip(axes_row, row, strict=False):
            _draw(axes, record)
        for axes in axes_row[len(row) :]:
            axes.set_axis_off()
    _legend(figure, max(record.groups for row in rows for record in row))
    return figure


def _draw(axes: Axes, record: ActivationRecord) -> None:
    if not (np.isfinite(record.numerator).all() and np.isfinite(record.denominator).all()):
        no_data(axes, f"coefficients of {record.name} are not finite")
        return
    low, high = _span(record)
    behind = axes.twinx()
    behind.stairs(record.histogram.sum(0), record.edges, fill=True, color=HISTOGRAM)
    behind.set(ylim=(0, 1.6 * max(1, record.histogram.sum(0).max())), yticks=[])
    behind.spines[:].set_visible(False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    tidy(axes).grid(False)
    axes.axhline(0, color=HISTOGRAM, linewidth=0.8, zorder=0)
    drawn = []
    for group, ((start, end), colour) in enumerate(zip(record.quantiles, _colours(record.groups), strict=True)):
        if np.isfinite(start):
            inputs = np.linspace(start, end, POINTS)
            drawn.append(record.curves(inputs)[group])
            axes.plot(inputs, drawn[-1], color=colour, linewidth=1.3)
    bottom, top = np.min(drawn), np.max(drawn)
    margin = 0.08 * (top - bottom) or 0.5
    x = np.linspace(low, high, POINTS)
    axes.plot(x, record.initial_curve(x), color=REFERENCE, linewidth=1, linestyle="--")
    axes.set(xlim=(low, high), ylim=(bottom - margin, top + margin))
    axes.set_title(record.name, fontsize=TEXT, loc="left")
    axes.tick_params(labelsize=TEXT - 1.5)


def _legend(figure: Figure, groups: int) -> None:
    """One for the whole figure; of many groups, the first and the last stand for the scale of colours."""
    named = range(groups) if groups <= len(GROUP_COLOURS) else (0, groups - 1)
    colours = _colours(groups)
    handles = [Line2D([], [], color=colours[group], label=f"group {group + 1}") for group in named]
    handles.append(Line2D([], [], color=REFERENCE, linewidth=1, linestyle="--", label="initial shape"))
    handles.append(Line2D([], [], color=HISTOGRAM, linewidth=6, label="inputs"))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), fontsize=TEXT - 1.5, frameon=False)


def _colours(groups: int) -> list:
    if groups <= len(GROUP_COLOURS):
        return list(GROUP_COLOURS[:groups])
    return list(colormaps["viridis"](np.linspace(0, 0.9, groups)))


def _span(record: ActivationRecord) -> tuple[float, float]:
    """From the smallest 0.1 % to the largest 99.9 % quantile of the groups; never an empty interval."""
    low, high = float(np.nanmin(record.quantiles)), float(np.nanmax(record.quantiles))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _chunks(records: Sequence[ActivationRecord]) -> list[list[ActivationRecord]]:
    return [list(records[start : start + COLUMNS]) for start in range(0, len(records), COLUMNS)]
