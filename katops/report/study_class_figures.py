"""Figures of a study with classes: confusion matrix, ROC and precision-recall curves, calibration."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import precision_recall_curve, roc_curve

from katops.drawing import plain
from katops.report.classification_figures import SHARE_COLOURS, short
from katops.report.drawing import BASELINES, PREDICTION, TEXT, TRUTH, new_figure, tidy
from katops.report.study_tables import model_label, scheme_label
from katops.studies.result import StudyResult

MOST_CURVES = 6
BINS = 8


def confusion_matrix_figure(result: StudyResult) -> Figure:
    """True against predicted class of rows while they were held out, with counts."""
    study, scheme = result.study, result.headline
    count = len(study.classes)
    matrix = confusion_matrix(result)
    figure = new_figure(max(2.6, 1.2 + 0.42 * count))
    axes = figure.add_subplot()
    shares = matrix / np.maximum(1, matrix.sum(1))[:, None]
    image = axes.imshow(shares, aspect="auto", **SHARE_COLOURS)
    digits = 0 if np.allclose(matrix, matrix.round()) else 1
    for row, column in np.argwhere(matrix):
        colour = "white" if shares[row, column] > 0.3 else TRUTH
        text = f"{matrix[row, column]:,.{digits}f}"
        if count <= 6:
            text += f"\n{100 * shares[row, column]:.0f} %"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=TEXT - 1)
    names = [short(str(name)) for name in study.classes]
    axes.set_xticks(range(count), names, fontsize=TEXT - 0.5, rotation=45 if count > 8 else 0)
    axes.set_yticks(range(count), names, fontsize=TEXT - 0.5)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"KAN, {scheme_label(scheme)}", fontsize=TEXT, loc="left")
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    bar.set_label("share of the true class", fontsize=TEXT - 1)
    return figure


def confusion_matrix(result: StudyResult) -> np.ndarray:
    """(K, K) rows of each true class by predicted class; a row is shared among the fits that held it out."""
    held_out = result.held_out(result.headline, result.model)
    count = len(result.study.classes)
    matrix = np.zeros((count, count))
    np.add.at(matrix, (result.study.target[held_out.row], held_out.predicted.argmax(1)), held_out.weight)
    return matrix


def ranking_figure(result: StudyResult) -> Figure:
    """ROC and precision-recall curves: of the models for two classes, of the KAN's classes for more."""
    figure = new_figure(4.2)
    left, right = figure.subplots(1, 2)
    colours = (PREDICTION, *BASELINES, "#777777")
    for colour, (label, truth, score, weight) in zip(colours, _ranked(result), strict=False):
        false_positive, true_positive, _ = roc_curve(truth, score, sample_weight=weight)
        precision, recall, _ = precision_recall_curve(truth, score, sample_weight=weight)
        style = {"color": colour, "lw": 2 if colour == PREDICTION else 1.2, "label": label}
        left.plot(false_positive, true_positive, **style)
        right.plot(recall, precision, **style)
    tidy(left).plot([0, 1], [0, 1], color=TRUTH, ls=":", lw=1)
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="")
    tidy(right).set(xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    left.legend(fontsize=TEXT - 1.5, frameon=False, loc="lower right")
    left.set_title(f"ROC, {scheme_label(result.headline)}", fontsize=TEXT, loc="left")
    right.set_title("precision and recall", fontsize=TEXT, loc="left")
    return figure


def _ranked(result: StudyResult) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(name, whether a row is positive, its score, its weight) of each curve."""
    study, scheme = result.study, result.headline
    curves = []
    if study.positive is not None:
        for label in (result.model, *(other for other in result.others if other != "dummy")):
            held_out = result.held_out(scheme, label)
            positive = study.target[held_out.row] == study.positive
            curves.append((model_label(label), positive, held_out.predicted[:, study.positive], held_out.weight))
        return curves[:MOST_CURVES]
    held_out = result.held_out(scheme, result.model)
    truth, predicted, weight = study.target[held_out.row], held_out.predicted, held_out.weight
    frequent = np.argsort(-np.bincount(truth, weights=weight), kind="stable")[:MOST_CURVES]
    return [(plain(str(study.classes[k])), truth == k, predicted[:, k], weight) for k in frequent]


def calibration_figure(result: StudyResult) -> Figure:
    """Observed share against predicted probability, and the threshold's effect on F1, precision and recall."""
    study, scheme = result.study, result.headline
    figure = new_figure(3.8)
    left, right = figure.subplots(1, 2)
    held_out = result.held_out(scheme, result.model)
    predicted, known, weight = held_out.predicted, study.target[held_out.row], held_out.weight
    if study.positive is not None:
        score, truth = predicted[:, study.positive], known == study.positive
        name = f"probability of {study.classes[study.positive]}"
    else:
        score, truth = predicted.max(1), predicted.argmax(1) == known
        name = "largest probability"
    _reliability(tidy(left), score, truth, weight)
    left.set(xlabel=plain(name), ylabel="observed share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    left.set_title(f"calibration, {scheme_label(scheme)}", fontsize=TEXT, loc="left")
    _thresholds(tidy(right), score, truth, weight)
    right.set(xlabel=f"threshold on the {plain(name)}", ylim=(0, 1.02), xlim=(0, 1))
    right.legend(fontsize=TEXT - 1.5, frameon=False)
    return figure


def _reliability(axes: Axes, score: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> None:
    """Bins of equal numbers of predictions, with the interval of Wilson (1927) for the share of as many rows."""
    axes.plot([0, 1], [0, 1], color=TRUTH, ls="--", lw=1)
    bins = np.array_split(np.argsort(score, kind="stable"), min(BINS, max(1, int(weight.sum()) // 5)))
    for rows in bins:
        share, count, z = np.average(truth[rows], weights=weight[rows]), weight[rows].sum(), 1.96
        centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
        place = np.average(score[rows], weights=weight[rows])
        axes.plot([place] * 2, [centre - half, centre + half], color="#9aa3ad", lw=2)
        axes.plot([place], [share], "o", color=PREDICTION, markersize=5.5)


def _thresholds(axes: Axes, score: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> None:
    levels = np.linspace(0.02, 0.98, 97)
    chosen = score[:, None] >= levels
    hits, found, present = weight @ (chosen & truth[:, None]), weight @ chosen, weight @ truth
    precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
    recall = hits / max(1, present)
    f1 = 2 * hits / np.maximum(found + present, 1)
    for values, label, colour in (
        (f1, "F1", PREDICTION),
        (precision, "precision", BASELINES[0]),
        (recall, "recall", BASELINES[1]),
    ):
        axes.plot(levels, values, color=colour, lw=2 if label == "F1" else 1.2, label=label)
    best = int(f1.argmax())
    axes.axvline(levels[best], color="#777777", ls=":", lw=1, label=f"largest F1 {f1[best]:.3f} at {levels[best]:.2f}")
