"""Diagrams over the output frames: the error of each, and where a baseline is better."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from katops.drawing import named, plain
from katops.evaluation import Evaluation
from katops.report.drawing import (
    ERROR,
    NONFINITE,
    PREDICTION,
    TEXT,
    baseline_colours,
    log_axis,
    new_figure,
    no_data,
    panel_grid,
    positive,
    tidy,
)
from katops.report.tables import frame_name, predictor_label

ALL = "all channels"
PERSISTENCE = "persistence"
MAX_GROUPS = 5


def frame_axis(evaluation: Evaluation) -> tuple[np.ndarray, str]:
    """Where the output frames lie on an axis, and its label: lead times, or the number of each frame."""
    if evaluation.lead_times is None:
        return np.arange(1, evaluation.meta.steps_out + 1), "predicted frame"
    return evaluation.lead_times, named("lead time", evaluation.meta.time_unit)


def steps_figure(evaluation: Evaluation) -> Figure:
    """Relative L2 error of each predicted frame, mean over samples, model and baselines; and the model's median.

    The first panel is about all channels together; where there are several groups of channels, each has its own.
    """
    curves = {ALL: evaluation.steps}
    worse = {ALL: evaluation.worse_frames.get(PERSISTENCE, [])}
    groups = evaluation.groups
    medians = dict(zip(groups.groups, groups.median(evaluation.model).T, strict=True))
    if len(groups.groups) > 1:
        lost = groups.worse_frames(evaluation.model, PERSISTENCE) if PERSISTENCE in evaluation.baselines else {}
        for place, name in enumerate(list(groups.groups)[:MAX_GROUPS]):
            curves[name] = {predictor: groups.mean(predictor)[:, place] for predictor in evaluation.errors}
            worse[name] = lost.get(name, [])
    figure = new_figure(2.9 * -(-len(curves) // 2))
    for axes, (name, errors) in zip(panel_grid(figure, len(curves)), curves.items(), strict=True):
        _draw_errors(axes, errors, evaluation)
        if axes.axison:
            median = next(iter(medians.values())) if len(medians) == 1 else medians.get(name)
            if median is not None:
                axes.plot(frame_axis(evaluation)[0], positive(median), ":", color=PREDICTION, label="model, median")
            mark_frames(axes, evaluation, worse[name])
            axes.set_title(plain(name) if len(curves) > 1 else "", fontsize=TEXT)
            axes.legend(fontsize=TEXT - 1, frameon=False)
    return figure


def _draw_errors(axes: Axes, errors: dict[str, np.ndarray], evaluation: Evaluation) -> None:
    x, label = frame_axis(evaluation)
    colours = [PREDICTION, *baseline_colours(len(evaluation.baselines))]
    marker = "o" if len(x) <= 30 else ""
    for (name, values), colour in zip(errors.items(), colours, strict=True):
        label_of = predictor_label(name) + ("" if (values != 0).any() else ", exact")
        axes.plot(x, positive(values), color=colour, marker=marker, markersize=3.5, label=label_of)
    drawn = np.concatenate([positive(values) for values in errors.values()])
    if not np.isfinite(drawn).any():
        no_data(axes, "no error is positive and finite")
        return
    log_axis(tidy(axes), "y", drawn, percent=True)
    axes.set(xlabel=label, ylabel="relative L2 error")
    if evaluation.lead_times is None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def mark_frames(axes: Axes, evaluation: Evaluation, worse: list[int]) -> None:
    """Shade frames, counted from 1, in which persistence is better, and name the first; name the first broken one."""
    x, _ = frame_axis(evaluation)
    ends = np.concatenate([[x[0] - (x[1] - x[0]) / 2], (x[1:] + x[:-1]) / 2, [x[-1] + (x[-1] - x[-2]) / 2]])
    for frame in worse:
        axes.axvspan(ends[frame - 1], ends[frame], color=ERROR, alpha=0.12, linewidth=0, zorder=0)
    if worse:
        label = f"worse than persistence: {frame_name(evaluation, worse[0])}"
        axes.axvline(x[worse[0] - 1], color=ERROR, linestyle=":", label=label)
    broken = evaluation.first_nonfinite_frame.get(evaluation.model)
    if broken:
        label = f"not finite: {frame_name(evaluation, broken)}"
        axes.axvline(x[broken - 1], color=NONFINITE, linestyle="-.", label=label)
