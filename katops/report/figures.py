"""Diagrams of an evaluation and of a training run: loss curves, error histogram, radial spectrum."""

import csv
import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from katops.drawing import channel_label
from katops.evaluation import Evaluation
from katops.report.drawing import (
    ERROR,
    PREDICTION,
    TEXT,
    TRUTH,
    baseline_colours,
    log_axis,
    new_figure,
    no_data,
    panel_grid,
    positive,
    tidy,
)
from katops.report.tables import percent, predictor_label

# Power this far below the strongest shell is rounding of float32 fields.
FLOOR = 1e-15


def read_log(path: Path | None) -> dict[str, np.ndarray]:
    """Columns of a training log, a CSV file with one row per epoch; an empty dictionary where there is none.

    Known columns are ``epoch``, ``train_loss``, ``learning_rate`` and any ``validation_<metric>``; what is not a number
    reads as NaN.
    """
    if path is None or not Path(path).is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return {}
    return {name: np.array([_number(row[name]) for row in rows]) for name in rows[0] if name}


def loss_figure(log: dict[str, np.ndarray], *, best_epoch: int | None = None) -> Figure:
    """Training loss and validation metric over the epochs on a logarithmic axis, the learning rate below them.

    Args:
        log: from :func:`read_log`.
        best_epoch: the epoch whose weights were kept; it is marked.
    """
    figure = new_figure(3.9)
    if "epoch" not in log:
        no_data(figure.add_subplot(), "no epoch was logged")
        return figure
    epoch = log["epoch"]
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    curves = [("train_loss", "training loss", TRUTH)]
    curves += [
        (name, name.replace("_", " ", 1).replace("_", " ").replace("l2", "L2"), PREDICTION)
        for name in log
        if name.startswith("validation")
    ]
    marker = "o" if len(epoch) <= 12 else ""
    for name, label, colour in curves:
        if name in log and np.isfinite(positive(log[name])).any():
            above.plot(epoch, positive(log[name]), color=colour, marker=marker, markersize=3.5, label=label)
    if not above.lines:
        no_data(above, "no loss was logged")
    else:
        tidy(above).set_ylabel("loss, error")
        log_axis(above, "y", np.concatenate([line.get_ydata() for line in above.lines]), percent=False)
        if best_epoch is not None:
            above.axvline(best_epoch, color=ERROR, linestyle=":", label=f"kept: epoch {best_epoch}")
        above.legend(fontsize=TEXT - 1, frameon=False)
    if np.isfinite(log.get("learning_rate", np.array(math.nan))).any():
        tidy(below).plot(epoch, log["learning_rate"], color="#777777", marker=marker, markersize=3.5)
        below.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
        below.ticklabel_format(axis="y", scilimits=(-2, 3))
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        no_data(below, "no learning rate was logged")
    figure.align_ylabels()
    return figure


def histogram_figure(evaluation: Evaluation) -> Figure:
    """How the model's relative L2 errors are spread over the samples, with the baselines' means as lines."""
    figure = new_figure(3.0)
    axes = figure.add_subplot()
    errors = evaluation.errors[evaluation.model]["relative_l2"]
    shown = errors[np.isfinite(errors) & (errors > 0)]
    if shown.size == 0:
        no_data(axes, "no error is positive and finite")
        return figure
    means = {name: evaluation.metrics[name]["relative_l2"] for name in evaluation.baselines}
    means = {name: mean for name, mean in means.items() if math.isfinite(mean) and mean > 0}
    # Errors that are all alike still get a bin of visible width.
    low, high = shown.min() / 1.02, shown.max() * 1.02
    bins = np.geomspace(low, high, min(40, max(3, round(2 * math.sqrt(shown.size)))) + 1)
    tidy(axes).hist(shown, bins=bins, color=PREDICTION, alpha=0.75, label="model, samples")
    middle = evaluation.quantiles()[evaluation.model]["median"]
    if math.isfinite(middle) and middle > 0:
        axes.axvline(middle, color=PREDICTION, linestyle="--", label=f"model, median {percent(middle)}")
    for (name, mean), colour in zip(means.items(), baseline_colours(len(means)), strict=True):
        axes.axvline(mean, color=colour, linewidth=2, label=f"{predictor_label(name)}, mean {percent(mean)}")
    log_axis(axes, "x", np.array([low, high, *means.values()]), percent=True)
    axes.set(xlabel="relative L2 error of a sample", ylabel="samples")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper left", ncols=4, fontsize=TEXT - 1, frameon=False
    )
    left_out = errors.size - shown.size
    if left_out:
        axes.set_title(f"{left_out} with error zero or not finite not shown", fontsize=TEXT - 1, loc="right")
    return figure


def spectrum_figure(evaluation: Evaluation, channels: list[int]) -> Figure:
    """Radial power spectra of truth, prediction and error, up to the last wavenumber that lies whole on the grid."""
    spectra = evaluation.spectra
    figure = new_figure(3.2 * -(-len(channels) // 2))
    for axes, channel in zip(panel_grid(figure, len(channels)), channels, strict=True):
        if spectra is None or spectra.resolved < 1:
            no_data(axes, "no finite prediction" if spectra is None else "the grid holds no wave")
            continue
        _draw_spectrum(axes, evaluation, channel)
    return figure


def _draw_spectrum(axes: Axes, evaluation: Evaluation, channel: int) -> None:
    spectra = evaluation.spectra
    shells = slice(1, spectra.resolved + 1)
    wavenumber = np.arange(1, spectra.resolved + 1)
    # Wavenumber 0, the mean, is not drawn, but sets the scale below which everything is rounding.
    strongest = max(spectra.truth[channel].max(), spectra.prediction[channel].max())
    marker = "o" if spectra.resolved <= 12 else ""
    for name, colour, style in (("truth", TRUTH, "-"), ("prediction", PREDICTION, "--"), ("error", ERROR, "-")):
        power = getattr(spectra, name)[channel, shells]
        power = np.where(power > FLOOR * strongest, power, math.nan)
        if np.isfinite(power).any():
            axes.plot(wavenumber, power, style, color=colour, marker=marker, markersize=3.5, label=name)
    if not axes.lines:
        no_data(axes, "the fields are constant in space")
        axes.set_title(channel_label(evaluation.meta.outputs[channel]), fontsize=TEXT)
        return
    channel_meta = evaluation.meta.outputs[channel]
    tidy(axes).set(xscale="log", yscale="log", xlabel="wavenumber, cycles per longest side", ylabel="power")
    axes.set_title(channel_label(channel_meta), fontsize=TEXT)
    axes.legend(fontsize=TEXT - 1, frameon=False)


def _number(text: str | None) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan
