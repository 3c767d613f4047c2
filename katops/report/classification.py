"""The report of an image classification: one HTML page without network or script, its figures, the numbers as files."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from katops.errors import UserError
from katops.evaluation.activations import FITTED, ActivationRecord
from katops.evaluation.classification_result import ClassificationEvaluation
from katops.files import write_text
from katops.report.cards import Card, card
from katops.report.classification_activations import activation_figures, activation_rows
from katops.report.classification_figures import confusion_figure, examples_figure, learning_figure, reliability_figure
from katops.report.classification_tables import (
    DEFINITIONS,
    MANY_CLASSES,
    Trial,
    class_rows,
    confused_rows,
    interval_text,
    score_rows,
    share,
    trial_rows,
    write_classification_csv,
)
from katops.report.classification_warnings import far_inputs, warnings_about
from katops.report.figures import read_log
from katops.report.html import Picture, render, save_pictures, tested_epoch
from katops.report.tables import predictor_label, write_summary


def write_classification_report(
    directory: Path | str,
    *,
    evaluations: dict[str, ClassificationEvaluation],
    summary: dict[str, Any],
    activations: Sequence[ActivationRecord] = (),
    trials: Sequence[Trial] = (),
    log_csv: Path | None = None,
    config_yaml: str = "",
) -> Path:
    """Write ``report.html``, ``figures/*.png``, ``metrics.csv`` and ``summary.json``; each of them atomically.

    Args:
        directory: where to; made if missing.
        evaluations: test set's name -> evaluation; the first is the main one.
        summary: as in :func:`katops.report.html.write_report`; ``summary.json`` gets the evaluations, the activations
            and the trials beside it.
        activations: from :func:`katops.evaluation.activations.record_activations`.
        trials: runs of the models compared, with several seeds or one.
        log_csv: one row per epoch: epoch, step, train_loss, validation_accuracy, learning_rate, seconds; ``None`` or a
            missing file: no curves.
        config_yaml: the resolved configuration, shown in full.

    Returns:
        the path of ``report.html``.

    Raises:
        UserError: ``evaluations`` is empty, or the folder cannot be written to.
    """
    if not evaluations:
        raise UserError("there is no evaluation to report on; the data have no test part")
    directory = Path(directory)
    sections = [_section(name, evaluation, number) for number, (name, evaluation) in enumerate(evaluations.items())]
    training_picture = _training_picture(log_csv, summary)
    curves = list(_activation_pictures(activations))
    save_pictures(directory, [picture for section in sections for picture in section["figures"]])
    save_pictures(directory, [*curves, *([training_picture] if training_picture else [])])
    name, main = next(iter(evaluations.items()))
    warnings = [*summary.get("warnings", [])]
    warnings += [text for test_set, evaluation in evaluations.items() for text in warnings_about(evaluation, test_set)]
    html = render(
        "classification.html.j2",
        title=summary.get("title") or f"Classification of {name}",
        verdict=verdict(main, name),
        tested=tested_epoch(summary.get("training", {})),
        warnings=warnings,
        tiles=list(_tiles(main)),
        cards=list(_cards(main, summary)),
        trials=trial_rows(trials) if trials else None,
        sections=sections,
        activations=curves,
        activation_table=activation_rows(activations),
        activation_note=far_inputs(activations),
        training_figure=training_picture,
        metrics=DEFINITIONS,
        config=config_yaml,
    )
    write_classification_csv(directory / "metrics.csv", evaluations)
    beside = {"trials": [asdict(t) for t in trials], "activations": [record.to_dict() for record in activations]}
    write_summary(directory / "summary.json", {**summary, **beside}, evaluations)
    write_text(directory / "report.html", html)
    return directory / "report.html"


def verdict(evaluation: ClassificationEvaluation, test_set: str) -> str:
    """``Top-1 accuracy on test: 97.2 % (95 % interval 95.1 to 98.4 %; majority class 10.1 %; vit 96.9 %).``"""
    scores = evaluation.scores
    beside = [
        f"95 % interval {interval_text(scores[evaluation.model])}",
        f"majority class {share(evaluation.majority)}",
    ]
    beside += [f"{predictor_label(name)} {share(scores[name].accuracy)}" for name in evaluation.baselines]
    return f"Top-1 accuracy on {test_set}: {share(scores[evaluation.model].accuracy)} ({'; '.join(beside)})."


def _section(name: str, evaluation: ClassificationEvaluation, number: int) -> dict[str, Any]:
    prefix = "" if number == 0 else f"set{number + 1}_"
    pictures = [Picture.of(prefix + file, *described) for file, *described in _figures(evaluation)]
    details = [class_rows(evaluation)]
    if len(evaluation.classes) > MANY_CLASSES:
        details.append(confused_rows(evaluation))
    return {"name": name, "scores": score_rows(evaluation), "details": details, "figures": pictures}


def _figures(evaluation: ClassificationEvaluation) -> Iterator[tuple[str, str, str, Figure]]:
    """(file, title, caption, figure) of all figures of a test set."""
    counts = (
        "The number of images is written in; a cell without a number is 0."
        if len(evaluation.classes) <= MANY_CLASSES
        else "Classes are numbered in their order; the most confused pairs are in the table below."
    )
    yield (
        "confusion",
        "Confusion matrix",
        f"Each row is a true class and its colours are shares of that class. {counts} Everything off the diagonal is a "
        "mistake: a bright cell is a pair of classes that look alike to the model, a bright column a class that it "
        "gives too often.",
        confusion_figure(evaluation),
    )
    if evaluation.examples:
        yield (
            "examples",
            "Confident mistakes, and images drawn at random",
            "Mistakes have a coloured frame. First come those in which the model was most sure of itself: look for "
            "wrong labels, cropped objects and classes that overlap. The rest is drawn at random from all images. "
            "Percentages are the probability of the predicted class.",
            examples_figure(evaluation),
        )
    yield (
        "reliability",
        "Reliability diagram",
        "Accuracy of the images whose largest probability falls into each bin. Bars below the dashed line: the model "
        "is too sure of itself; above: it could be surer. Bins with few images (see below) say little.",
        reliability_figure(evaluation),
    )


def _activation_pictures(records: Sequence[ActivationRecord]) -> Iterator[Picture]:
    caption = (
        "Each curve is the rational function of one group of channels, drawn over 99.8 % of what that group is given, "
        "with the histogram of the inputs of all groups in grey. The dashed line is the shape that training started "
        f"from, fitted on [−{FITTED:g}, {FITTED:g}]. A curve on the dashed line has learnt nothing new; curves that "
        "part where there are hardly any inputs mean little."
    )
    for number, (names, figure) in enumerate(activation_figures(records), start=1):
        yield Picture.of(f"activations_{number}", f"Learned activations, {names}", caption, figure)
        caption = "Drawn like the figure above."


def _training_picture(log_csv: Path | None, summary: dict[str, Any]) -> Picture | None:
    log = read_log(log_csv)
    if not log:
        return None
    figure = learning_figure(log, best_epoch=summary.get("training", {}).get("best_epoch"))
    caption = (
        "Validation accuracy falling while the training loss still falls is overfitting; both still improving at the "
        "end means that more epochs would help. With mixed images or smoothed labels the training loss stays above 0."
    )
    return Picture.of("training", "Loss, accuracy and learning rate", caption, figure)


def _tiles(evaluation: ClassificationEvaluation) -> Iterator[tuple[str, str]]:
    scores = evaluation.scores[evaluation.model]
    yield "top-1 accuracy", share(scores.accuracy)
    if scores.top5 is not None:
        yield "top-5 accuracy", share(scores.top5)
    yield "balanced accuracy", share(scores.balanced_accuracy)
    yield "majority class", share(evaluation.majority)
    for name in evaluation.baselines:
        yield predictor_label(name), share(evaluation.scores[name].accuracy)
    yield "images", f"{evaluation.images:,}"
    yield "images per second", f"{evaluation.images_per_second:,.0f}"


def _cards(evaluation: ClassificationEvaluation, summary: dict[str, Any]) -> Iterator[Card]:
    tested = [
        ("tested images", f"{evaluation.images:,}"),
        ("classes", f"{len(evaluation.classes):,}"),
        ("images per class", f"{evaluation.support.min():,} to {evaluation.support.max():,}"),
    ]
    yield Card("Data", [*card("", summary.get("data", {})).rows, *tested])
    for key in ("model", "training", "versions"):
        if summary.get(key):
            yield card(key.capitalize(), summary[key])
