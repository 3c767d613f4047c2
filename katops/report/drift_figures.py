"""Diagrams of what should not drift: energy, small scales, means over space, and spectra at three moments."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from katops.drawing import channel_label, named, plain
from katops.evaluation import Evaluation
from katops.report.drawing import (
    BASELINES,
    PREDICTION,
    TEXT,
    TRUTH,
    log_axis,
    new_figure,
    no_data,
    panel_grid,
    positive,
    tidy,
)
from katops.report.figures import FLOOR
from katops.report.frame_figures import MAX_GROUPS, frame_axis
from katops.report.tables import frame_name

# Values that spread over more than this are drawn on a logarithmic axis.
DECADES = 1e2
# Diagrams show at least this share of the size of what is drawn, so that rounding does not look like a drift.
LEAST_SPAN = 0.05


def energy_figure(evaluation: Evaluation) -> Figure:
    """Energy of truth and prediction over the frames, a panel per channel group, and the ratio of their small scales.

    Args:
        evaluation: with a drift.
    """
    drift = evaluation.drift
    groups = list(drift.groups)[:MAX_GROUPS]
    figure = new_figure(2.7 * -(-(len(groups) + 1) // 2))
    *panels, last = panel_grid(figure, len(groups) + 1)
    for place, (axes, name) in enumerate(zip(panels, groups, strict=True)):
        truth, prediction = (drift.energy[who][:, place] for who in ("truth", "prediction"))
        _draw_pair(axes, evaluation, truth, prediction, LEAST_SPAN * truth.max())
        axes.set(
            ylabel=named("mean square", _squared(evaluation, drift.groups[name])), title=plain(f"energy of {name}")
        )
        axes.title.set_fontsize(TEXT)
    _draw_ratios(last, evaluation, groups)
    return figure


def mean_figure(evaluation: Evaluation, channels: list[int]) -> Figure:
    """Mean over space of truth and prediction over the frames, and their typical distance, for some output channels.

    Args:
        evaluation: with a drift.
        channels: positions of output channels.
    """
    drift = evaluation.drift
    figure = new_figure(2.7 * -(-len(channels) // 2))
    for axes, channel in zip(panel_grid(figure, len(channels)), channels, strict=True):
        truth, prediction = (drift.mean[who][:, channel] for who in ("truth", "prediction"))
        size = float(np.sqrt(drift.power["truth"][:, channel].sum(1).max()))
        around = drift.mean_error[:, channel] * np.array([[-1.0], [1.0]]) + truth
        _draw_pair(axes, evaluation, truth, prediction, LEAST_SPAN * size, around)
        axes.fill_between(frame_axis(evaluation)[0], *around, color=PREDICTION, alpha=0.15, linewidth=0)
        axes.set(ylabel="mean over space", title=channel_label(evaluation.meta.outputs[channel]))
        axes.title.set_fontsize(TEXT)
    return figure


def frame_spectrum_figure(evaluation: Evaluation, channels: list[int]) -> Figure:
    """Radial power spectra of truth and prediction in the first, the middle and the last frame.

    Args:
        evaluation: with a drift.
        channels: positions of output channels.
    """
    drift = evaluation.drift
    figure = new_figure(3.2 * -(-len(channels) // 2))
    shells = slice(1, drift.resolved + 1)
    for axes, channel in zip(panel_grid(figure, len(channels)), channels, strict=True):
        for frame, colour in zip(drift.shown_frames, (BASELINES[2], PREDICTION, TRUTH), strict=False):
            for who, style in (("truth", "-"), ("prediction", "--")):
                power = drift.power[who][frame, channel]
                shown = np.where(power > FLOOR * power.max(), power, np.nan)[shells]
                if np.isfinite(shown).any():
                    label = f"{who}, {frame_name(evaluation, frame + 1)}"
                    axes.plot(np.arange(1, drift.resolved + 1), shown, style, color=colour, label=label)
        if not axes.lines:
            no_data(axes, "the fields are constant in space")
            axes.set_title(channel_label(evaluation.meta.outputs[channel]), fontsize=TEXT)
            continue
        tidy(axes).set(xscale="log", yscale="log", xlabel="wavenumber, cycles per longest side", ylabel="power")
        axes.set_title(channel_label(evaluation.meta.outputs[channel]), fontsize=TEXT)
        axes.legend(fontsize=TEXT - 2, frameon=False)
    return figure


def _squared(evaluation: Evaluation, group: tuple[int, ...]) -> str:
    """The unit of a group's square, "" where its channels have none or different ones."""
    units = {evaluation.meta.outputs[place].unit for place in group}
    unit = units.pop() if len(units) == 1 else ""
    return f"({unit})²" if "/" in unit or " " in unit else f"{unit}²" if unit else ""


def _draw_pair(
    axes: Axes,
    evaluation: Evaluation,
    truth: np.ndarray,
    prediction: np.ndarray,
    least: float,
    around: np.ndarray | None = None,
) -> None:
    """Two curves over the frames; what lies ``around`` them is to be seen, too, unless the axis is logarithmic."""
    x, _ = frame_axis(evaluation)
    _frames_below(axes, evaluation)
    axes.plot(x, truth, color=TRUTH, label="truth")
    axes.plot(x, np.where(np.isfinite(prediction), prediction, np.nan), "--", color=PREDICTION, label="prediction")
    values = np.concatenate([truth, prediction])
    values = values[np.isfinite(values)]
    if values.min() > 0 and values.max() > DECADES * values.min():
        log_axis(axes, "y", values, percent=False)
    else:
        if around is not None:
            values = np.concatenate([values, around[np.isfinite(around)]])
        middle, half = (values.max() + values.min()) / 2, max(np.ptp(values), least, 1e-300) / 2
        axes.set_ylim(middle - 1.1 * half, middle + 1.1 * half)
    axes.legend(fontsize=TEXT - 1, frameon=False)


def _draw_ratios(axes: Axes, evaluation: Evaluation, groups: list[str]) -> None:
    x, _ = frame_axis(evaluation)
    ratios = positive(evaluation.drift.high_power_ratio[:, : len(groups)])
    if not np.isfinite(ratios).any():
        no_data(axes, "the truth has no small scales")
        return
    for place, name in enumerate(groups):
        if not np.isfinite(ratios[:, place]).any():
            continue
        axes.plot(x, ratios[:, place], color=(PREDICTION, *BASELINES)[place], label=plain(name))
    axes.axhline(1, color=TRUTH, linewidth=0.8)
    log_axis(axes, "y", np.append(ratios.ravel(), 1.0), percent=False)
    _frames_below(axes, evaluation)
    axes.set_ylabel("prediction / truth")
    axes.set_title("power of the upper half of the wavenumbers", fontsize=TEXT)
    axes.legend(fontsize=TEXT - 1, frameon=False)


def _frames_below(axes: Axes, evaluation: Evaluation) -> None:
    tidy(axes).set_xlabel(frame_axis(evaluation)[1])
    if evaluation.lead_times is None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
