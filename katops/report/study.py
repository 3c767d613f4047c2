"""The report of a study on a table: one HTML page without network or script, its figures, the numbers as files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from katops.drawing import named
from katops.files import write_text
from katops.interpret.curves import effect_curves
from katops.report.cards import Card, card
from katops.report.html import Picture, render, save_pictures
from katops.report.study_class_figures import calibration_figure, confusion_matrix_figure, ranking_figure
from katops.report.study_figures import (
    data_figure,
    effects_figure,
    importance_figure,
    learning_curve_figure,
    models_figure,
    parity_figure,
    residual_figure,
)
from katops.report.study_files import write_held_out_csv, write_study_csv
from katops.report.study_tables import (
    CLASS_DEFINITIONS,
    DEFINITIONS,
    comparison_rows,
    interval_rows,
    losses,
    model_label,
    scheme_label,
    score_text,
    test_rows,
    worst_rows,
)
from katops.report.tables import write_summary
from katops.studies.final import Final
from katops.studies.result import StudyResult

MOST_FEATURES = 20
MOST_NAMED = 5


def write_study_report(
    directory: Path,
    result: StudyResult,
    final: Final,
    *,
    summary: dict[str, Any],
    config_yaml: str = "",
) -> Path:
    """Write ``report.html``, ``figures/*.png``, ``metrics.csv``, ``held_out.csv`` and ``summary.json``, atomically.

    Args:
        directory: where to; made if missing.
        result: of the folds.
        final: what follows from them, with the KAN of all rows.
        summary: JSON-able: ``title``, ``warnings`` and the dictionaries ``data``, ``model``, ``training``, ``versions``
            that are shown as cards.
        config_yaml: the resolved configuration, shown in full.

    Returns:
        the path of ``report.html``.
    """
    models = Picture.of(
        "models",
        "All models under the same folds",
        "A dot is a fold, a bar the mean; the number at the right is the mean. Random folds put rows of one group on "
        "both sides and flatter every model; what to expect of new groups is in the other panels.",
        models_figure(result),
    )
    data = Picture.of("data", "Targets and inputs", "How the rows are spread.", data_figure(result))
    predictions, learned = list(_prediction_pictures(result, final)), list(_learned_pictures(result, final))
    save_pictures(directory, [models, data, *predictions, *learned])
    study = result.study
    outputs = range(len(result.outputs))
    html = render(
        "study.html.j2",
        title=summary["title"],
        verdict=verdict(result),
        tested="",
        warnings=[*summary.get("warnings", []), *warnings_about(result)],
        tiles=list(_tiles(result, final)),
        cards=list(_cards(summary)),
        models_figure=models,
        comparisons=[comparison_rows(result, output) for output in outputs],
        losses=losses(result),
        tests=[test_rows(result, output) for output in outputs],
        prediction_figures=predictions,
        interval_table=interval_rows(result, list(final.intervals.values())),
        worst=worst_rows(result, study.config.report.listed),
        learned_figures=learned,
        data_figure=data,
        notes=[*study.table.notes, *study.design.notes, *study.table.defects],
        training_figure=None,
        metrics=CLASS_DEFINITIONS if study.classes else DEFINITIONS,
        config=config_yaml,
    )
    write_study_csv(directory / "metrics.csv", result)
    write_held_out_csv(directory / "held_out.csv", result)
    write_summary(directory / "summary.json", {**summary, **final.to_dict(), "schemes": result.to_dict()}, {})
    write_text(directory / "report.html", html)
    return directory / "report.html"


def verdict(result: StudyResult) -> str:
    """The result in a sentence per target: the KAN, the best other model, the MLP, and whether they differ."""
    sentences = []
    metric, scheme = result.metrics[0], result.headline
    for position, output in enumerate(result.outputs):
        own = score_text(metric, result.mean(scheme, result.model, metric.key, position))
        spread = score_text(metric, result.spread(scheme, result.model, metric.key, position))
        best = result.best_other(scheme, metric, position)
        beside = ""
        if best is not None:
            value = score_text(metric, result.mean(scheme, best, metric.key, position))
            found = result.compare(scheme, best, metric, position).verdict(metric.sign)
            told = {"better": "the KAN is better", "worse": "the KAN is worse"}.get(
                found, "no different by these folds"
            )
            beside = f"; best other: {model_label(best)} {value}, {told}"
        sentences.append(f"{metric.label} of {output} on {scheme_label(scheme)}: {own} ± {spread}{beside}.")
    return " ".join(sentences)


def warnings_about(result: StudyResult) -> list[str]:
    """Sentences about what speaks against the KAN: no better than the dummy, or significantly worse than another."""
    metric, sentences = result.metrics[0], []
    for scheme in result.fits:
        for position, output in enumerate(result.outputs):
            for label in result.others:
                found = result.compare(scheme, label, metric, position).verdict(metric.sign)
                if found == "worse":
                    sentences.append(
                        f"{output}, {scheme_label(scheme)}: {model_label(label)} is better than the KAN, by more than "
                        f"the folds differ by chance; use it, or tune the KAN."
                    )
        sentences += _runaways(result, scheme)
    return sentences


def _runaways(result: StudyResult, scheme: str) -> list[str]:
    """A sentence about rows that were predicted far beyond every known value, which spoil all scores."""
    study = result.study
    if study.classes:
        return []
    held_out, low, high = result.held_out(scheme, result.model), study.target.min(0), study.target.max(0)
    beyond = (held_out.predicted > 2 * high - low) | (held_out.predicted < 2 * low - high)
    far = np.unique(held_out.row[beyond.any(axis=1)])
    if not len(far):
        return []
    names = ", ".join(f"{study.row_names[row]} (row {study.table.frame.index[row]})" for row in far[:MOST_NAMED])
    return [
        f"{scheme_label(scheme)}: {len(far)} rows were predicted further beyond all known values than these are apart: "
        f"{names}{', ...' if len(far) > MOST_NAMED else ''}. An input of theirs lies far outside of the training rows; "
        f"data.exclude or data.filter leaves them out."
    ]


def _prediction_pictures(result: StudyResult, final: Final) -> Iterator[Picture]:
    if result.study.classes:
        yield Picture.of(
            "confusion",
            "Confusion matrix",
            "Each row is a true class; everything off the diagonal is a mistake. A row that several fits held out is "
            "shared among them.",
            confusion_matrix_figure(result),
        )
        yield Picture.of(
            "ranking",
            "ROC and precision-recall curves",
            "How well rows are ordered by the probability, whatever the threshold.",
            ranking_figure(result),
        )
        yield Picture.of(
            "calibration",
            "Calibration and choice of the threshold",
            "Left: points on the dashed line mean that a probability of 0.7 is right in 70 % of the cases; grey lines "
            "are 95 % intervals. Right: what another threshold than 0.5 would give on these rows.",
            calibration_figure(result),
        )
        return
    for position, output in enumerate(result.outputs):
        yield Picture.of(
            f"parity_{position + 1}",
            f"Predicted against true {output}",
            "Blue rows were predicted by a KAN that had not seen them, grey ones by one that was trained on them: "
            "grey much closer to the line than blue is overfitting. The box holds mean ± sd over the folds.",
            parity_figure(result, position),
        )
        yield Picture.of(
            f"residuals_{position + 1}",
            f"Errors of {output}",
            "Left: a funnel means that large values are less certain, a slope that extremes are pulled to the mean. "
            "Right: a mark off zero means that rows of that kind are predicted too high or too low.",
            residual_figure(result, position, final.intervals[result.headline]),
        )


def _learned_pictures(result: StudyResult, final: Final) -> Iterator[Picture]:
    study = result.study
    yield Picture.of(
        "importance",
        "Importance of the features",
        f"Left: drop of {result.metrics[0].label} on held-out rows when one column is shuffled; columns that say the "
        "same share their importance. Right: how much of the variation of the output runs along the edges of a column "
        "(attribution), whether or not it helps.",
        importance_figure(final.importance, result.metrics[0].label, MOST_FEATURES),
    )
    yield from _curve_pictures(result, final)
    if final.learning_curve:
        scheme = result.headline
        rows = round(float(np.mean([len(fold.train) for fold in study.folds[scheme]])))
        yield Picture.of(
            "learning_curve",
            "Learning curve",
            "Still rising at the right end: more rows would help. Shaded: ± one sd over the folds.",
            learning_curve_figure(result, final.learning_curve, rows),
        )


def _curve_pictures(result: StudyResult, final: Final) -> Iterator[Picture]:
    """The learned curves of the most important features: of each target, or of the log-odds of a class."""
    study = result.study
    names = [column.name for column in final.estimator.columns_]
    shown = [name for name in final.importance.names if name in names][: study.config.report.curves]
    if not shown:
        return
    # Two classes have one logit, of the second; of more, the first stands for all.
    shown_class = study.classes and study.classes[-1 if len(study.classes) == 2 else 0]
    outputs = [f"log-odds of {shown_class}"] if study.classes else study.targets
    for position, output in enumerate(outputs):
        curves = effect_curves(final.estimator, study.design.frame, output=position, inputs=shown)
        yield Picture.of(
            f"curves_{position + 1}",
            f"Learned curves of {output}",
            "Effect of one feature alone: the function that the KAN has learned where there are no hidden nodes, else "
            "the mean over the rows as that feature is varied. The band is the spread of the ensemble, ticks at the "
            "bottom are rows, the grey ground lies beyond them. Dotted: rules of the literature.",
            effects_figure(curves, study.design.units, named(output, study.table.units.get(output, ""))),
        )


def _tiles(result: StudyResult, final: Final) -> Iterator[tuple[str, str]]:
    metric, scheme = result.metrics[0], result.headline
    for position, output in enumerate(result.outputs):
        for shown in result.metrics[:2]:
            value = score_text(shown, result.mean(scheme, result.model, shown.key, position))
            unit = result.study.table.units.get(output, "") if shown.has_unit else ""
            yield f"{shown.label} of {output}", f"{value} {unit}".rstrip()
    best = result.best_other(scheme, metric)
    if best:
        yield f"best other: {model_label(best)}", score_text(metric, result.mean(scheme, best, metric.key))
    found = final.intervals[scheme]
    yield f"coverage, {100 * found.level:.0f} % asked", f"{100 * float(np.mean(found.coverage)):.1f} %"
    yield "rows", f"{len(result.study.target):,}"
    yield "features", f"{result.study.design.frame.shape[1]:,}"


def _cards(summary: dict[str, Any]) -> Iterator[Card]:
    for key in ("data", "model", "training", "versions"):
        if summary.get(key):
            yield card(key.capitalize(), summary[key])
