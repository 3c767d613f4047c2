"""Figures of a sweep: history, importance, slices, parallel coordinates, values on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from katops.drawing import plain
from katops.report.drawing import ERROR, PREDICTION, TEXT, new_figure, no_data, tidy

COLUMNS = 3
GREY = "#9aa3ad"
WIDE = 100
"""A ratio of largest to smallest value above which the axis is logarithmic."""
TICKS, MOST_TICKS = 4, 6
LONGEST = 22
"""Letters of a value that have room below an axis."""


@dataclass(frozen=True)
class Parameter:
    """A varied key.

    Attributes:
        key: its name.
        choices: the values that are listed; empty for a range.
        ends: of a range.
        step: between its values; ``None`` where all numbers are allowed.
        log: whether its axis is logarithmic.
    """

    key: str
    choices: tuple[Any, ...] = ()
    ends: tuple[float, float] = (0.0, 1.0)
    step: float | None = None
    log: bool = False


@dataclass(frozen=True)
class SweepTrial:
    """A trial of a sweep.

    Attributes:
        number: from 0.
        state: "complete", "pruned", "failed" or "running".
        value: by which trials are compared; of a pruned one that of its last step; ``None`` where there is none.
        course: step -> value on the way.
        seconds: wall time of the process that finished it.
        values: of the varied keys.
        error: one sentence about a failure.
        folder: where it was trained, within that of the sweep.
    """

    number: int
    state: str
    value: float | None
    course: dict[int, float]
    seconds: float | None
    values: dict[str, Any]
    error: str
    folder: str


def history_figure(trials: Sequence[SweepTrial], metric: str, larger: bool) -> Figure:
    """The values of the trials in their order, and the best one so far."""
    figure = new_figure(3.4)
    axes = figure.add_subplot()
    shown = [trial for trial in trials if trial.value is not None]
    if not shown:
        no_data(axes, "no trial has a value")
        return figure
    limits = _limits(trials)
    for state, mark, colour, label in (
        ("complete", "o", PREDICTION, "run to the end"),
        ("pruned", "x", ERROR, "ended early"),
    ):
        points = [(trial.number, _within(trial.value, limits)) for trial in shown if trial.state == state]
        if points:
            axes.plot(*zip(*points, strict=True), mark, color=colour, markersize=5, label=label)
    complete = [(trial.number, trial.value) for trial in shown if trial.state == "complete"]
    if complete:
        numbers, values = zip(*complete, strict=True)
        best = (np.maximum if larger else np.minimum).accumulate(values)
        style = {"where": "post", "color": PREDICTION, "alpha": 0.5, "label": "best so far"}
        axes.step([*numbers, shown[-1].number], [*best, best[-1]], **style)
    tidy(axes).set(xlabel="trial", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _scale_value(axes, [_within(trial.value, limits) for trial in shown])
    axes.legend(fontsize=TEXT - 1, frameon=False)
    return figure


def importance_figure(importance: dict[str, float]) -> Figure:
    """A bar for each parameter."""
    figure = new_figure(1.0 + 0.32 * len(importance))
    axes = tidy(figure.add_subplot())
    names = list(importance)[::-1]
    shares = [importance[name] for name in names]
    axes.barh([plain(name) for name in names], shares, color=PREDICTION, height=0.6)
    for place, share in enumerate(shares):
        axes.annotate(f"{100 * share:.0f} %", (share, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.set(xlabel="share of the variation", xlim=(0, 1.12 * max(shares)))
    axes.grid(axis="y", visible=False)
    return figure


def slice_figure(trials: Sequence[SweepTrial], parameters: Sequence[Parameter], metric: str) -> Figure:
    """Value against each parameter; a panel each."""
    rows = -(-len(parameters) // COLUMNS)
    figure = new_figure(2.7 * rows)
    panels = figure.subplots(rows, min(COLUMNS, len(parameters)), squeeze=False, sharey=True)
    limits = _limits(trials)
    for axes, parameter in zip(panels.flat, parameters, strict=False):
        _draw_slice(axes, trials, parameter, limits)
    for axes in panels.flat[len(parameters) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel(metric)
    _scale_value(panels[0, 0], [_within(trial.value, limits) for trial in trials if trial.value is not None])
    return figure


def _draw_slice(axes: Axes, trials: Sequence[SweepTrial], parameter: Parameter, limits: tuple[float, float]) -> None:
    shown = [trial for trial in trials if trial.value is not None and parameter.key in trial.values]
    axes.set_xlabel(plain(parameter.key), fontsize=TEXT)
    if not shown:
        no_data(axes, "no trial has this parameter")
        return
    scale = _Scale(parameter)
    last = max(trial.number for trial in shown) or 1
    for state, mark in (("complete", "o"), ("pruned", "x")):
        some = [trial for trial in shown if trial.state == state]
        if some:
            colours = [colormaps["Blues"](0.35 + 0.65 * trial.number / last) for trial in some]
            places = [scale.place(trial.values[parameter.key]) for trial in some]
            axes.scatter(places, [_within(trial.value, limits) for trial in some], c=colours, marker=mark, s=26)
    tidy(axes)
    axes.set_xticks(scale.ticks, [plain(label) for label in scale.labels], fontsize=TEXT - 2)
    axes.set_xlim(-0.06, 1.06)


def parallel_figure(ranked: Sequence[SweepTrial], parameters: Sequence[Parameter], metric: str) -> Figure:
    """Complete trials, the best one first, as lines across an axis for each parameter and one for the value."""
    figure = new_figure(4.0)
    axes = figure.add_subplot()
    columns = [_Scale(parameter) for parameter in parameters]
    values = _Scale(
        Parameter(metric, ends=(min(trial.value for trial in ranked), max(trial.value for trial in ranked)))
    )
    better = max(1, len(ranked) // 2)
    for place, trial in reversed(list(enumerate(ranked))):
        line = [
            scale.place(trial.values[parameter.key]) if parameter.key in trial.values else math.nan
            for scale, parameter in zip(columns, parameters, strict=True)
        ]
        strength = 1 - place / better
        style = {"color": colormaps["Blues"](0.35 + 0.65 * strength)} if strength > 0 else {"color": "#d5dae0"}
        axes.plot(range(len(line) + 1), [*line, values.place(trial.value)], linewidth=1.6, **style)
    for place, scale in enumerate([*columns, values]):
        axes.axvline(place, color="#777777", linewidth=0.8)
        for tick, label in zip(scale.ticks, scale.labels, strict=True):
            text = axes.annotate(plain(label), (place, tick), xytext=(4, 0), textcoords="offset points", va="center")
            text.set(fontsize=TEXT - 2, bbox={"color": "white", "alpha": 0.8, "pad": 1})
    names = [plain(_broken(parameter.key)) for parameter in parameters]
    axes.set_xticks(range(len(names) + 1), [*names, metric], fontsize=TEXT - 1)
    axes.set_yticks([])
    axes.set(xlim=(-0.1, len(names) + 0.4), ylim=(-0.06, 1.06))
    axes.spines[:].set_visible(False)
    return figure


def course_figure(trials: Sequence[SweepTrial], metric: str) -> Figure:
    """The values on the way of all trials."""
    figure = new_figure(3.4)
    axes = figure.add_subplot()
    limits, shown = _limits(trials), []
    for trial in sorted(trials, key=lambda trial: trial.state == "pruned"):
        style = {"color": ERROR, "marker": "x"} if trial.state == "pruned" else {"color": GREY, "marker": "."}
        if trial.course and trial.state != "failed":
            values = [_within(value, limits) for value in trial.course.values()]
            axes.plot(list(trial.course), values, linewidth=1, markersize=4, alpha=0.8, **style)
            shown += values
    tidy(axes).set(xlabel="step (epoch or fold)", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _scale_value(axes, shown)
    return figure


class _Scale:
    """Where the values of a parameter lie on an axis from 0 to 1, with its labels."""

    def __init__(self, parameter: Parameter) -> None:
        self._names = [value_text(value) for value in parameter.choices]
        self._low, self._high = parameter.ends
        self._log = parameter.log
        if self._names:
            self.labels = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in self._names]
            self.ticks = [self.place(value) for value in parameter.choices]
            return
        shown = self._shown(parameter.step)
        self.labels = [f"{value:.3g}" for value in shown]
        self.ticks = [self.place(value) for value in shown]

    def _shown(self, step: float | None) -> list[float]:
        """The numbers that are labelled: some of those that are possible, evenly spread."""
        between = (np.geomspace if self._log else np.linspace)(self._low, self._high, TICKS)
        if step is None:
            return between.tolist()
        count = round((self._high - self._low) / step) + 1
        if count <= MOST_TICKS:
            return [self._low + place * step for place in range(count)]
        return sorted({self._low + round((value - self._low) / step) * step for value in between})

    def place(self, value: Any) -> float:
        """From 0 to 1."""
        if self._names:
            return self._names.index(value_text(value)) / max(1, len(self._names) - 1)
        if self._high == self._low:
            return 0.5
        if self._log:
            return math.log(value / self._low) / math.log(self._high / self._low)
        return (value - self._low) / (self._high - self._low)


def _broken(key: str) -> str:
    """A key on two lines, so that neighbours do not touch."""
    section, _, name = key.rpartition(".")
    return f"{section}.\n{name}" if section else name


def value_text(value: Any) -> str:
    """A value in a text: numbers with four digits, what is neither number nor word as YAML has it on one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).split("\n")[0]


def _limits(trials: Sequence[SweepTrial]) -> tuple[float, float]:
    """What is worth to be seen: the values of complete trials and as much again on both sides."""
    complete = [trial for trial in trials if trial.state == "complete"]
    values = [value for trial in complete for value in (trial.value, *trial.course.values()) if math.isfinite(value)]
    if not values or min(values) == max(values):
        return -math.inf, math.inf
    low, high = min(values), max(values)
    # A positive value keeps its distance from zero, for the sake of a logarithmic axis.
    return low - (high - low) if low <= 0 else max(low / 2, 2 * low - high), 2 * high - low


def _within(value: float, limits: tuple[float, float]) -> float:
    """The value, or the end of what is seen where it lies beyond."""
    return min(max(value, limits[0]), limits[1])


def _scale_value(axes: Axes, values: Sequence[float]) -> None:
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) / min(finite) > WIDE:
        axes.set_yscale("log")
