"""Figures of an image classification: learning curves, confusion matrix, reliability diagram, examples."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from katops.evaluation.classification_result import ClassificationEvaluation, ImageExample
from katops.report.classification_tables import MANY_CLASSES
from katops.report.drawing import ERROR, PREDICTION, TEXT, TRUTH, WIDTH, new_figure, no_data, tidy

EXAMPLES_PER_ROW = 6
NAME_LENGTH = 18
# Shares are coloured by their square root, so that rare confusions are seen beside a strong diagonal.
SHARE_COLOURS = {"cmap": "Blues", "norm": PowerNorm(0.5, 0, 1)}


def learning_figure(log: dict[str, np.ndarray], *, best_epoch: int | None = None) -> Figure:
    """Training loss, validation accuracy and learning rate over the epochs.

    Args:
        log: from :func:`katops.report.figures.read_log`: ``epoch`` and any of ``train_loss``, ``validation_accuracy``
            (a ratio), ``learning_rate``.
        best_epoch: the epoch whose weights were kept; it is marked.
    """
    curves = [
        ("train_loss", "training loss", TRUTH),
        ("validation_accuracy", "validation accuracy", PREDICTION),
        ("learning_rate", "learning rate", "#777777"),
    ]
    figure = new_figure(5.2)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=[2, 2, 1])
    for axes, (name, label, colour) in zip(panels, curves, strict=True):
        values = log.get(name, np.array([]))
        if "epoch" not in log or not np.isfinite(values).any():
            no_data(axes, f"no {label} was logged")
            continue
        marker = "o" if len(values) <= 12 else ""
        tidy(axes).plot(log["epoch"], values, color=colour, marker=marker, markersize=3.5)
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "learning_rate":
            axes.set_ylim(0, None)
            axes.ticklabel_format(axis="y", scilimits=(-2, 3))
        if name == "validation_accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
            if best_epoch is not None:
                axes.axvline(best_epoch, color=ERROR, linestyle=":", label=f"kept: epoch {best_epoch}")
                axes.legend(fontsize=TEXT - 1, frameon=False)
    panels[-1].set_xlabel("epoch")
    figure.align_ylabels()
    return figure


def confusion_figure(evaluation: ClassificationEvaluation) -> Figure:
    """The model's confusion matrix, coloured by the share of the true class; counts written in for few classes."""
    confusion = evaluation.scores[evaluation.model].confusion
    n_classes = len(confusion)
    few = n_classes <= MANY_CLASSES
    figure = new_figure(max(3.6, 1.8 + 0.38 * n_classes) if few else 7.2)
    axes = figure.add_subplot()
    shares = confusion / np.maximum(1, evaluation.support)[:, None]
    # More cells than pixels have to be averaged, else some would not be drawn at all.
    interpolation = "nearest" if n_classes <= 200 else "auto"
    image = axes.imshow(shares, interpolation=interpolation, aspect="auto", **SHARE_COLOURS)
    axes.set_xlabel("predicted class", fontsize=TEXT)
    axes.set_ylabel("true class", fontsize=TEXT)
    if few:
        _write_counts(axes, confusion, shares)
        names = [short(name) for name in evaluation.classes]
        upright = max(map(len, names)) * n_classes > 90
        axes.set_xticks(range(n_classes), names, rotation=90 if upright else 0, fontsize=TEXT - 0.5)
        axes.set_yticks(range(n_classes), names, fontsize=TEXT - 0.5)
        axes.tick_params(length=0)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, ticks=(0, 0.01, 0.1, 0.25, 0.5, 1))
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    bar.ax.tick_params(labelsize=TEXT - 1.5)
    bar.set_label("share of the true class", fontsize=TEXT - 1)
    return figure


def reliability_figure(evaluation: ClassificationEvaluation) -> Figure:
    """Accuracy against confidence per calibration bin, above the number of images in each bin."""
    scores = evaluation.scores[evaluation.model]
    figure = new_figure(4.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    n_bins = len(scores.bin_counts)
    left = np.arange(n_bins) / n_bins
    used = scores.bin_counts > 0
    if not used.any():
        no_data(above, "no image had finite logits")
        no_data(below, "no image had finite logits")
        return figure
    bars = {"width": 1 / n_bins, "align": "edge", "edgecolor": "white"}
    tidy(above).bar(left[used], scores.bin_accuracy[used], color=PREDICTION, alpha=0.75, label="accuracy", **bars)
    confidence = scores.bin_confidence[used]
    above.plot(confidence, confidence, "o", color=ERROR, markersize=4, label="mean confidence")
    above.plot([0, 1], [0, 1], color=TRUTH, linestyle="--", linewidth=1, label="perfect calibration")
    above.set(ylim=(0, 1.02), xlim=(0, 1), ylabel="accuracy")
    above.legend(fontsize=TEXT - 1, frameon=False, loc="upper left")
    tidy(below).bar(left, scores.bin_counts, color="#777777", **bars)
    below.set(xlabel="confidence: largest probability", ylabel="images")
    below.set(yscale="log", ylim=(0.7, None))
    below.yaxis.set_major_formatter("{x:,.0f}")
    below.yaxis.set_minor_locator(NullLocator())
    for axis in (above.xaxis, above.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    figure.align_ylabels()
    return figure


def examples_figure(evaluation: ClassificationEvaluation) -> Figure:
    """The kept images with true class, predicted class and probability; mistakes have a coloured frame."""
    examples = evaluation.examples
    rows = -(-len(examples) // EXAMPLES_PER_ROW)
    tallest = max(example.image.shape[1] / example.image.shape[2] for example in examples)
    figure = new_figure((0.5 + min(tallest, 2) * WIDTH / (EXAMPLES_PER_ROW + 0.3)) * rows)
    panels = figure.subplots(rows, EXAMPLES_PER_ROW, squeeze=False).flatten()
    for axes, example in zip(panels, examples, strict=False):
        _draw_example(axes, example, evaluation.classes)
    for axes in panels[len(examples) :]:
        axes.set_axis_off()
    return figure


def short(name: str) -> str:
    """A class name that fits beside a picture; a dollar sign is text, not mathematics."""
    cut = name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"
    return cut.replace("$", r"\$")


def _write_counts(axes: Axes, confusion: np.ndarray, shares: np.ndarray) -> None:
    for row, column in np.argwhere(confusion):
        colour = "white" if shares[row, column] > 0.3 else TRUTH
        text = f"{confusion[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=TEXT - 1.5)


def _draw_example(axes: Axes, example: ImageExample, classes: tuple[str, ...]) -> None:
    image = example.image
    # Anything but red, green and blue is shown as the mean of its channels in grey.
    shown = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(0)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    wrong = example.label != example.predicted
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=ERROR if wrong else "#bbbbbb", linewidth=2 if wrong else 1)
    guess = f"{short(classes[example.predicted])}, {100 * example.probability:.0f} %"
    title = f"true: {short(classes[example.label])}\nsays: {guess}"
    axes.set_title(title, fontsize=TEXT - 1.5, color=ERROR if wrong else TRUTH, loc="left")
