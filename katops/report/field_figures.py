"""Figures of fields: input, truth, prediction and error of some samples, a trajectory frame by frame, the error map."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from katops.drawing import axis_label, channel_label, limits_of, plain
from katops.evaluation import Evaluation, Example
from katops.fields import FieldMeta
from katops.report.drawing import (
    BARS,
    ERROR,
    ERROR_MAP,
    FIELD_MAP,
    INPUT,
    INPUT_MAP,
    MAGNITUDE_MAP,
    PREDICTION,
    TEXT,
    TRUTH,
    WIDTH,
    Margins,
    Plane,
    colour_bar,
    new_figure,
    no_data,
    panel_grid,
    spaced_grid,
    tidy,
)
from katops.report.tables import percent

MAX_FRAMES = 5

# The first line of the titles of examples is left to the heading of their row.
LINES = Margins(top=0.6, down=1.1, right=0.15)
IMAGES = Margins(top=0.6, down=1.0, right=1.0, across=1.0)
FRAMES = Margins(left=1.05, top=0.5, right=1.1, across=0.32, down=0.2)
SPACE_TIME = Margins(right=1.1, across=1.3)


def example_figure(evaluation: Evaluation, channel: int) -> Figure:
    """Input, truth, prediction and error (prediction − truth) of every example, for one output channel, last frame.

    Truth and prediction share their colours, which span the truth; the error's colours are symmetric about zero.

    Args:
        evaluation: whose examples are drawn, one row each.
        channel: position among the output channels.
    """
    if not evaluation.examples:
        figure = new_figure(1.5)
        no_data(figure.add_subplot(), "no example was kept")
        return figure
    meta = evaluation.meta
    plane = Plane.of(meta, evaluation.space) if len(meta.axes) > 1 else None
    height = 2.7 if plane is None else 1.0 + float(np.clip(0.17 * WIDTH * plane.ratio, 0.6, 4.5))
    figure = new_figure(height * len(evaluation.examples))
    grid = spaced_grid(figure, len(evaluation.examples), 3 if plane is None else 4, LINES if plane is None else IMAGES)
    for panels, example in zip(grid, evaluation.examples, strict=True):
        if plane is None:
            _draw_lines(panels, example, meta, channel)
        else:
            _draw_images(panels, example, meta, channel, plane)
        heading = panels[0].annotate(
            _heading(example, evaluation, plane),
            xy=(0, 1),
            xytext=(0, 2 * TEXT),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=TEXT + 1,
            fontweight="bold",
        )
        # It reaches over the next panels, into the empty first line of their titles.
        heading.set_in_layout(False)
    return figure


def trajectory_figure(evaluation: Evaluation, channel: int) -> Figure:
    """Truth, prediction and error of the median example over the predicted frames, for one output channel.

    Fields of one axis are drawn over space and frame; of more axes, some frames spread over the trajectory are drawn.
    """
    meta = evaluation.meta
    example = next((e for e in evaluation.examples if e.role == "median"), None)
    if example is None:
        figure = new_figure(1.5)
        no_data(figure.add_subplot(), "no example was kept")
        return figure
    truth, prediction = example.target[:, channel], example.prediction[:, channel]
    label = channel_label(meta.outputs[channel])
    kinds = truth_prediction_error(truth, prediction)
    if len(meta.axes) == 1:
        figure = new_figure(3.4)
        _draw_space_time(figure, kinds, meta, label)
        return figure
    plane = Plane.of(meta, evaluation.space)
    frames = np.unique(np.linspace(0, len(truth) - 1, MAX_FRAMES).round().astype(int))
    figure = new_figure(3 * float(np.clip(WIDTH / (MAX_FRAMES + 1) * plane.ratio, 0.9, 3)) + 1.1)
    grid = spaced_grid(figure, 3, len(frames), FRAMES, sharex=True, sharey=True)
    for row, (name, values, limits, colours) in zip(grid, kinds, strict=True):
        for axes, frame in zip(row, frames, strict=True):
            image = plane.draw(axes, values[frame], limits, colours)
            axes.label_outer()
            if name == "truth":
                axes.set_title(plain(_numbered(evaluation, frame + 1)), fontsize=TEXT)
        row[0].set_ylabel(f"{name}\n{row[0].get_ylabel()}", fontsize=TEXT)
        colour_bar(image, label, values)
    return figure


def error_map_figure(evaluation: Evaluation, channels: list[int]) -> Figure:
    """Where the model errs: mean absolute error at each point, over samples and frames, for some output channels."""
    meta = evaluation.meta
    plane = Plane.of(meta, evaluation.space) if len(meta.axes) > 1 else None
    rows = -(-len(channels) // 2)
    figure = new_figure(rows * (2.4 if plane is None else 0.5 + float(np.clip(3 * plane.ratio, 1.2, 5))))
    for axes, channel in zip(
        panel_grid(figure, len(channels), Margins() if plane is None else BARS), channels, strict=True
    ):
        values, label = evaluation.error_map[channel], channel_label(meta.outputs[channel])
        if not np.isfinite(values).any():
            no_data(axes, "no finite prediction")
        elif plane is None:
            tidy(axes).plot(meta.axes[0].coordinates(len(values)), values, color=ERROR)
            axes.set(xlabel=axis_label(meta.axes[0]), ylabel=f"mean |error|, {label}", ylim=(0, None))
        else:
            limits = (0.0, limits_of(values)[1])
            image = plane.draw(axes, values, limits, MAGNITUDE_MAP)
            axes.set_title(plane.note, fontsize=TEXT)
            colour_bar(image, f"mean |error|, {label}", values)
    return figure


def shown_input(meta: FieldMeta, channel: int) -> int:
    """The input channel drawn beside an output channel: the one of the same name, or the first."""
    names = [entry.name for entry in meta.inputs]
    name = meta.outputs[channel].name
    return names.index(name) if name in names else 0


def _numbered(evaluation: Evaluation, frame: int) -> str:
    """``frame 7 of 20``, and below it ``after 0.7 s``."""
    lead = ""
    if evaluation.lead_times is not None:
        lead = f"\nafter {evaluation.lead_times[frame - 1]:.4g} {evaluation.meta.time_unit}".rstrip()
    return f"frame {frame} of {evaluation.meta.steps_out}{lead}"


def _heading(example: Example, evaluation: Evaluation, plane: Plane | None) -> str:
    sample = example.position if example.index is None else example.index[1]
    parts = [f"{example.role}: sample {sample}", f"relative L2 {percent(example.relative_l2)}"]
    parts.append(f"rank {example.rank} of {evaluation.samples}")
    if evaluation.meta.steps_out > 1:
        parts.append(f"last of {evaluation.meta.steps_out} frames")
    if plane is not None and plane.note:
        parts.append(plane.note)
    return " · ".join(parts)


def truth_prediction_error(truth: np.ndarray, prediction: np.ndarray) -> list[tuple[str, np.ndarray, Any, str]]:
    """(name, values, colour limits, colour map) of the three; the colours of the truth serve the prediction too."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = prediction - truth
    limits = limits_of(truth)
    return [
        ("truth", truth, limits, FIELD_MAP),
        ("prediction", prediction, limits, FIELD_MAP),
        ("error", error, limits_of(error, symmetric=True), ERROR_MAP),
    ]


def _draw_images(panels: np.ndarray, example: Example, meta: FieldMeta, channel: int, plane: Plane) -> None:
    entry = shown_input(meta, channel)
    x = example.x[-1, entry]
    kinds = truth_prediction_error(example.target[-1, channel], example.prediction[-1, channel])
    images = []
    for axes, (name, values, limits, colours) in zip(
        panels, [("input", x, limits_of(x), INPUT_MAP), *kinds], strict=True
    ):
        images.append(plane.draw(axes, values, limits, colours))
        axes.set_title(f"\n{name}", fontsize=TEXT)
        if axes is not panels[0]:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
    label = channel_label(meta.outputs[channel])
    colour_bar(images[0], channel_label(meta.inputs[entry]), x)
    colour_bar(images[2], label, kinds[1][1])
    colour_bar(images[3], label, kinds[2][1])


def _draw_lines(panels: np.ndarray, example: Example, meta: FieldMeta, channel: int) -> None:
    entry = shown_input(meta, channel)
    points = meta.axes[0].coordinates(example.x.shape[-1])
    marker = "." if len(points) <= 32 else ""
    truth, prediction, error = (
        values
        for _, values, _, _ in truth_prediction_error(example.target[-1, channel], example.prediction[-1, channel])
    )
    left, middle, right = panels
    left.plot(points, example.x[-1, entry], color=INPUT, marker=marker)
    left.set_title("\ninput", fontsize=TEXT)
    left.set_ylabel(channel_label(meta.inputs[entry]), fontsize=TEXT)
    middle.plot(points, truth, color=TRUTH, marker=marker, label="truth")
    middle.plot(points, prediction, color=PREDICTION, linestyle="--", marker=marker, label="prediction")
    middle.set_title("\ntruth (black), prediction (blue, dashed)", fontsize=TEXT)
    middle.set_ylabel(channel_label(meta.outputs[channel]), fontsize=TEXT)
    right.axhline(0, color="#999999", linewidth=0.8)
    right.plot(points, error, color=ERROR, marker=marker)
    right.set_title("\nerror (prediction − truth)", fontsize=TEXT)
    right.ticklabel_format(axis="y", scilimits=(-3, 4))
    for axes in panels:
        tidy(axes).set_xlabel(axis_label(meta.axes[0]), fontsize=TEXT)


def _draw_space_time(figure: Figure, kinds: list, meta: FieldMeta, label: str) -> None:
    frames, points = kinds[0][1].shape
    plane = Plane.of_frames(meta.axes[0], points, frames)
    for axes, (name, values, limits, colours) in zip(
        spaced_grid(figure, 1, 3, SPACE_TIME, sharey=True)[0], kinds, strict=True
    ):
        image = plane.draw(axes, values, limits, colours)
        axes.label_outer()
        axes.set_title(name, fontsize=TEXT)
        colour_bar(image, label, values)
