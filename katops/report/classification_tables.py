"""Numbers of an image classification as files and as text: tables, ``metrics.csv``, the table on the terminal."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from katops.evaluation.classification_result import ClassificationEvaluation, ClassifierScores
from katops.files import write_text
from katops.report.classification_warnings import warnings_about
from katops.report.tables import Row, TextTable, predictor_label

# Up to this many classes, every one has its row and its numbers; of more, the worst are listed.
MANY_CLASSES = 20
CSV_COLUMNS = ("test_set", "predictor", "class", "metric", "images", "value", "lower_95", "upper_95")
NOTHING = "–"


@dataclass(frozen=True)
class Trial:
    """One training run of a comparison.

    Attributes:
        model: its name; runs of the same name are averaged.
        seed: of this run.
        parameters: number of trainable parameters.
        accuracy: top-1 accuracy on the test set, a ratio.
        seconds: wall time of the training.
        images_per_second: throughput of the evaluation.
    """

    model: str
    seed: int
    parameters: int
    accuracy: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Metric:
    """How a number of :class:`ClassifierScores` is called and defined; ``sign`` is +1 if larger is better, else -1."""

    key: str
    label: str
    definition: str
    source: str
    sign: int


METRICS = (
    Metric("accuracy", "top-1 accuracy", "images whose largest logit is that of their class, over n", "", 1),
    Metric("top5", "top-5 accuracy", "images whose class is among the five largest logits, over n", "", 1),
    Metric("balanced_accuracy", "balanced accuracy", "mean over the classes with images of TP / (TP + FN)", "", 1),
    Metric("cross_entropy", "cross-entropy", "−(1/n) Σ log p(true class), in nats", "", -1),
    Metric(
        "calibration_error",
        "expected calibration error",
        "Σ_m (n_m / n) |accuracy_m − confidence_m| over 15 bins of equal width of the largest probability",
        "Guo et al. 2017, eq. 3",
        -1,
    ),
)
DEFINITIONS = (
    *((metric.label, metric.definition, metric.source) for metric in METRICS),
    (
        "95 % interval",
        "Wilson's score interval of the top-1 accuracy, for the choice of the n test images",
        "Wilson 1927",
    ),
    ("majority class", "accuracy of always giving the most frequent class of the test images", ""),
    ("precision, recall", "TP / (TP + FP), TP / (TP + FN); none for a class never predicted, without images", ""),
    ("F1", "2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall", ""),
)


def share(value: float | None) -> str:
    """A ratio in percent with one decimal: ``97.2 %``; a dash where there is none."""
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def interval_text(scores: ClassifierScores) -> str:
    """The 95 % interval of the accuracy: ``95.1 to 98.4 %``."""
    low, high = scores.interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def count(number: int, thing: str = "image") -> str:
    """``1 image``, ``1,797 images``, ``2 classes``"""
    ending = "" if number == 1 else "es" if thing.endswith("s") else "s"
    return f"{number:,} {thing}{ending}"


def score_rows(evaluation: ClassificationEvaluation) -> TextTable:
    """A row per metric, a column per predictor; the best of each row is marked, unless all are equal."""
    scores = list(evaluation.scores.values())
    rows = []
    for metric in METRICS:
        values = [getattr(entry, metric.key) for entry in scores]
        if None in values:
            continue
        texts = [_metric_text(metric, value) for value in values]
        ranked = [-math.inf if math.isnan(value) else metric.sign * value for value in values]
        best = 1 + int(np.argmax(ranked)) if len(set(texts)) > 1 else -1
        rows.append(Row([metric.label, *texts], best))
        if metric.key == "accuracy":
            rows.append(Row(["95 % interval", *map(interval_text, scores)]))
    marked = "; the best of each row is marked" if len(scores) > 1 else ""
    caption = (
        f"{count(evaluation.images)}, {count(len(evaluation.classes), 'class')}{marked}. Guessing reaches "
        f"{share(evaluation.chance)}, always giving the most frequent class {share(evaluation.majority)}."
    )
    return TextTable(caption, ["metric", *map(predictor_label, evaluation.scores)], rows)


def class_rows(evaluation: ClassificationEvaluation) -> TextTable:
    """Precision, recall and F1 of the model for every class; of many classes, those with the lowest F1."""
    scores = evaluation.scores[evaluation.model]
    listed = np.arange(len(evaluation.classes))
    caption = "The model, class by class."
    if len(listed) > MANY_CLASSES:
        with_images = np.flatnonzero(evaluation.support)
        listed = with_images[np.argsort(scores.f1[with_images], kind="stable")[:MANY_CLASSES]]
        caption = f"The {len(listed)} classes with the lowest F1 of the model; all are in metrics.csv."
    rows = [
        Row(
            [
                evaluation.classes[k],
                f"{evaluation.support[k]:,}",
                f"{scores.predicted[k]:,}",
                *(share(values[k]) for values in (scores.precision, scores.recall, scores.f1)),
            ]
        )
        for k in listed
    ]
    return TextTable(caption, ["class", "images", "predicted", "precision", "recall", "F1"], rows)


def confused_rows(evaluation: ClassificationEvaluation, limit: int = 15) -> TextTable:
    """The pairs of classes that the model confuses most often."""
    confusion = evaluation.scores[evaluation.model].confusion
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(place), len(confusion)) for place in order if wrong.flat[place]]
    rows = [
        Row(
            [
                evaluation.classes[true],
                evaluation.classes[guess],
                f"{wrong[true, guess]:,}",
                share(wrong[true, guess] / evaluation.support[true]),
            ]
        )
        for true, guess in pairs
    ]
    caption = "The most confused pairs of classes." if rows else "No two classes are confused."
    return TextTable(caption, ["true class", "predicted class", "images", "of the true class"], rows)


def trial_rows(trials: Sequence[Trial]) -> TextTable:
    """A row per run, and of every model with several runs the mean ± the standard deviation (n − 1) over them."""
    head = ["model", "seed", "parameters", "top-1 accuracy", "training", "images per second"]
    rows = []
    models = {name: [trial for trial in trials if trial.model == name] for name in [trial.model for trial in trials]}
    best = max(models, key=lambda name: np.mean([run.accuracy for run in models[name]]))
    for model, runs in models.items():
        rows += [_trial_row(run) for run in runs]
        if len(runs) > 1:
            rows.append(Row(_mean_cells(model, runs), head.index("top-1 accuracy") if model == best else -1))
    caption = (
        "Every run with its seed; below several runs of a model, their mean ± standard deviation (best mean marked)."
    )
    return TextTable(caption, head, rows)


def write_classification_csv(path: Path, evaluations: dict[str, ClassificationEvaluation]) -> None:
    """One row per test set, predictor and metric, then one per class and metric; atomic.

    Columns: ``test_set``; ``predictor`` (the model first); ``class`` ("" for all); ``metric``; ``images``; ``value``
    with full precision ("nan" where it does not exist, "inf" for the cross-entropy with logits that are not finite);
    ``lower_95`` and ``upper_95`` of the top-1 accuracy.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for test_set, evaluation in evaluations.items():
        for predictor, scores in evaluation.scores.items():
            writer.writerows((test_set, predictor, *row) for row in _csv_rows(evaluation, scores))
    write_text(path, table.getvalue())


def classification_table(evaluation: ClassificationEvaluation, *, title: str) -> Table:
    """:func:`score_rows` for the terminal."""
    content = score_rows(evaluation)
    table = Table(title=escape(title), caption=escape(content.caption), title_justify="left", caption_justify="left")
    for position, name in enumerate(content.head):
        table.add_column(escape(name), justify="right" if position else "left")
    for row in content.rows:
        cells = [escape(cell) for cell in row.cells]
        table.add_row(*(f"[bold]{cell}[/bold]" if place == row.best else cell for place, cell in enumerate(cells)))
    return table


def print_classification(console: Console, evaluation: ClassificationEvaluation, *, title: str) -> None:
    """Print :func:`classification_table` and, below it, whatever makes its numbers doubtful."""
    console.print(classification_table(evaluation, title=title))
    for warning in warnings_about(evaluation, title):
        console.print(f"[bold red]warning:[/bold red] {escape(warning)}", highlight=False)


def _metric_text(metric: Metric, value: float) -> str:
    if metric.key != "cross_entropy":
        return share(value)
    return f"{value:.4f}" if math.isfinite(value) else "not finite"


def _csv_rows(evaluation: ClassificationEvaluation, scores: ClassifierScores) -> Iterator[tuple]:
    for metric in METRICS:
        value = getattr(scores, metric.key)
        if value is not None:
            interval = scores.interval if metric.key == "accuracy" else ("", "")
            yield ("", metric.key, scores.images, float(value), *interval)
    for key in ("precision", "recall", "f1"):
        for name, images, value in zip(evaluation.classes, scores.support, getattr(scores, key), strict=True):
            yield (name, key, int(images), float(value), "", "")


def _trial_row(trial: Trial) -> Row:
    return Row(
        [
            trial.model,
            str(trial.seed),
            f"{trial.parameters:,}",
            f"{100 * trial.accuracy:.2f} %",
            f"{trial.seconds:,.1f} s",
            f"{trial.images_per_second:,.0f}",
        ]
    )


def _mean_cells(model: str, runs: list[Trial]) -> list[str]:
    def mean_and_deviation(values: list[float], digits: int) -> str:
        return f"{np.mean(values):,.{digits}f} ± {np.std(values, ddof=1):,.{digits}f}"

    parameters = {run.parameters for run in runs}
    return [
        f"{model}, mean",
        count(len(runs), "run"),
        f"{parameters.pop():,}" if len(parameters) == 1 else NOTHING,
        f"{mean_and_deviation([100 * run.accuracy for run in runs], 2)} %",
        f"{mean_and_deviation([run.seconds for run in runs], 1)} s",
        mean_and_deviation([run.images_per_second for run in runs], 0),
    ]
