"""Numbers of a study as text: the comparison of the models, tests, intervals, the worst rows, the terminal."""

import math
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from katops.report.tables import Row, TextTable, three_digits
from katops.studies.intervals import Intervals
from katops.studies.metrics import Metric
from katops.studies.result import StudyResult

NOTHING = "–"
SHOWN = {"regression": ("r2", "mae", "rmse"), "classification": ("f1", "macro_f1", "accuracy", "roc_auc")}
_LABELS = {
    "kan": "KAN",
    "dummy": "dummy",
    "linear": "linear",
    "lasso": "LASSO",
    "random_forest": "random forest",
    "gradient_boosting": "gradient boosting",
    "hist_gradient_boosting": "hist. gradient boosting",
    "mlp": "MLP",
    "mlp_equal_size": "MLP of equal size",
    "support_vectors": "support vectors",
    "nearest_neighbours": "nearest neighbours",
}
DEFINITIONS = (
    ("R²", "1 − Σ(y − p)² / Σ(y − ȳ)² over the rows of a fold", ""),
    ("MAE, RMSE", "Σ|y − p| / n and (Σ(y − p)² / n)^½, in the unit of the target", ""),
    ("MAPE", "Σ(|y − p| / |y|) / n over rows with y ≠ 0", ""),
    ("Spearman", "correlation of the ranks of truths and predictions", ""),
    (
        "95 % interval, p",
        "corrected resampled t test of the difference over the folds: t = mean / ((1/J + n_test/n_train) var)^½",
        "Nadeau & Bengio 2003, eq. 24",
    ),
    (
        "intervals",
        "half-width: the ⌈(n+1) level⌉-th smallest error of rows while they were held out, each of m fits that held a "
        "row out counting 1/m; coverage of each fold with the width of the rows outside of it",
        "Vovk 2015; Barber et al. 2021",
    ),
)
CLASS_DEFINITIONS = (
    ("F1", "2 TP / (2 TP + FP + FN) of the positive class; macro-F1 is the mean over the classes", ""),
    ("accuracy", "rows whose most probable class is theirs; balanced: mean over the classes", ""),
    (
        "ROC-AUC, PR-AUC",
        "area under the curve of true against false positive rate, and of precision against recall",
        "",
    ),
    ("Brier, log loss", "Σ(q − 1[y])² / n and −Σ log q(true class) / n", ""),
    (
        "calibration error",
        "Σ_m (n_m / n) |accuracy_m − confidence_m| over 10 bins of the largest probability",
        "Guo et al. 2017, eq. 3",
    ),
    *DEFINITIONS[4:],
)


def model_label(label: str) -> str:
    """How a model is called in a text."""
    return _LABELS.get(label, label.replace("_", " "))


def scheme_label(scheme: str) -> str:
    """How a scheme is called in a text: ``random folds``, ``unseen compositions``."""
    known = {
        "random": "random folds",
        "composition": "unseen compositions",
        "system": "unseen chemical systems",
        "element": "unseen elements",
    }
    return known.get(scheme, f"unseen values of {scheme}")


def score_text(metric: Metric, value: float) -> str:
    """A score with the digits that mean something."""
    if not math.isfinite(value):
        return NOTHING
    if metric.percent:
        return f"{100 * value:.1f} %"
    return three_digits(value) if metric.has_unit else f"{value:.3f}"


def shown_metrics(result: StudyResult) -> list[Metric]:
    """Those of the side-by-side table; the first one decides."""
    kind = "classification" if result.study.classes else "regression"
    return [metric for metric in result.metrics if metric.key in SHOWN[kind]]


def comparison_rows(result: StudyResult, output: int) -> TextTable:
    """A row per scheme and metric, a column per model: mean ± sd over the folds; the best of each row is marked."""
    labels = [result.model, *result.others]
    rows = []
    for metric in shown_metrics(result):
        for scheme in result.fits:
            means = np.array([result.mean(scheme, label, metric.key, output) for label in labels])
            spreads = [result.spread(scheme, label, metric.key, output) for label in labels]
            texts = [
                f"{score_text(metric, mean)} ± {score_text(metric, spread)}"
                for mean, spread in zip(means, spreads, strict=True)
            ]
            ranked = np.where(np.isfinite(means), metric.sign * means, -np.inf)
            unit = result.study.table.units.get(result.outputs[output], "") if metric.has_unit else ""
            name = f"{metric.label} [{unit}]" if unit else metric.label
            rows.append(Row([f"{name}, {scheme_label(scheme)}", *texts], 1 + int(ranked.argmax())))
    folds = ", ".join(f"{len(result.study.folds[scheme])} {scheme_label(scheme)}" for scheme in result.fits)
    return TextTable(
        f"{result.outputs[output]}: mean ± standard deviation over folds ({folds}); the best of each row is marked.",
        ["", *map(model_label, labels)],
        [*rows, *_size_rows(result, labels)],
    )


def _size_rows(result: StudyResult, labels: list[str]) -> Iterator[Row]:
    counts = [result.parameters(label) for label in labels]
    yield Row(["parameters of one network", *(NOTHING if count is None else f"{count:,}" for count in counts)])
    yield Row(["seconds per fit", *(three_digits(result.seconds(label)) for label in labels)])


def test_rows(result: StudyResult, output: int) -> TextTable:
    """The KAN minus each other model under the same folds, with the corrected resampled t test."""
    metric = result.metrics[0]
    rows = []
    for scheme in result.fits:
        for label in result.others:
            found = result.compare(scheme, label, metric, output)
            interval = f"{score_text(metric, found.low)} to {score_text(metric, found.high)}"
            p_value = (
                NOTHING if math.isnan(found.p_value) else "< 0.001" if found.p_value < 1e-3 else f"{found.p_value:.3f}"
            )
            rows.append(
                Row(
                    [
                        model_label(label),
                        scheme_label(scheme),
                        f"{found.difference:+.3f}",
                        interval,
                        p_value,
                        f"the KAN is {found.verdict(metric.sign)}",
                    ]
                )
            )
    caption = f"{result.outputs[output]}: {metric.label} of the KAN minus that of each other model on the same folds."
    return TextTable(caption, ["against", "folds", "difference", "95 % interval", "p", "verdict"], rows)


def losses(result: StudyResult) -> list[str]:
    """Where another model has the better mean, and whether the folds can tell."""
    metric = result.metrics[0]
    sentences = []
    for scheme in result.fits:
        for position, output in enumerate(result.outputs):
            own = result.mean(scheme, result.model, metric.key, position)
            ahead = [
                label
                for label in result.others
                if metric.sign * (result.mean(scheme, label, metric.key, position) - own) > 0
            ]
            if not ahead:
                continue
            named = [_ahead(result, scheme, label, position) for label in ahead]
            sentences.append(
                f"{output}, {scheme_label(scheme)}: the KAN ({metric.label} {score_text(metric, own)}) is behind "
                f"{', '.join(named)}."
            )
    return sentences


def _ahead(result: StudyResult, scheme: str, label: str, output: int) -> str:
    metric = result.metrics[0]
    found = result.compare(scheme, label, metric, output)
    value = score_text(metric, result.mean(scheme, label, metric.key, output))
    told = "" if found.verdict(metric.sign) == "no different" else ", more than the folds differ by chance"
    return f"{model_label(label)} ({value}{told})"


def interval_rows(result: StudyResult, found: list[Intervals]) -> TextTable:
    """Width and measured coverage of intervals or sets, per scheme and target."""
    classes = bool(result.study.classes)
    rows = []
    for one in found:
        for position, output in enumerate(result.outputs):
            unit = result.study.table.units.get(output, "")
            width = f"{one.size[position]:.2f} classes" if classes else f"± {three_digits(one.width[position])} {unit}"
            rows.append(
                Row(
                    [
                        output,
                        scheme_label(one.scheme),
                        f"{100 * one.level:.0f} %",
                        width.rstrip(),
                        NOTHING if math.isnan(one.coverage[position]) else f"{100 * one.coverage[position]:.1f} %",
                        f"{one.rows:,}",
                    ]
                )
            )
    what = "prediction sets" if classes else "prediction intervals"
    caption = f"Conformal {what} of the KAN, and the share of held-out rows that they held."
    return TextTable(
        caption, ["target", "folds", "asked for", "mean size" if classes else "width", "measured", "rows"], rows
    )


def worst_rows(result: StudyResult, listed: int) -> TextTable:
    """The rows with the largest errors while they were held out; of classes, the misclassified, the surest first."""
    return (_misclassified if result.study.classes else _largest_errors)(result, listed)


def _misclassified(result: StudyResult, listed: int) -> TextTable:
    """Rows that some fit took for another class: those that most of their fits did first, then the surest."""
    study, scheme = result.study, result.headline
    held_out = result.held_out(scheme, result.model)
    wrong = held_out.predicted.argmax(1) != study.target[held_out.row]
    mistakes = np.bincount(held_out.row[wrong], minlength=held_out.total)
    others = held_out.mean()
    others[np.arange(held_out.total), study.target] = -1.0
    share, sure = mistakes / np.maximum(held_out.fits, 1), others.max(1)
    order = np.lexsort((-sure, -share))[: int((mistakes > 0).sum())]
    rows = [
        Row(
            [
                study.row_names[row],
                str(study.classes[study.target[row]]),
                str(study.classes[others[row].argmax()]),
                f"{100 * sure[row]:.0f} %",
                f"{mistakes[row]} of {held_out.fits[row]}",
            ]
        )
        for row in order[:listed]
    ]
    caption = (
        f"{len(order):,} of {held_out.rows:,} rows are misclassified by a fit that held them out "
        f"({scheme_label(scheme)}); those that most fits get wrong, and the surest, first."
    )
    return TextTable(caption, ["row", "true class", "taken for", "mean probability", "wrong fits"], rows)


def _largest_errors(result: StudyResult, listed: int) -> TextTable:
    """Rows by their mean absolute error over the fits that held them out."""
    study, scheme = result.study, result.headline
    held_out = result.held_out(scheme, result.model)
    error = np.abs(held_out.predicted[:, 0] - study.target[held_out.row, 0])
    by_row = np.bincount(held_out.row, weights=held_out.weight * error, minlength=held_out.total)
    mean = held_out.mean()[:, 0]
    rows = [
        Row([study.row_names[row], f"{study.target[row, 0]:.4g}", f"{mean[row]:.4g}", f"{by_row[row]:.4g}"])
        for row in np.argsort(-by_row, kind="stable")[: min(listed, held_out.rows)]
    ]
    caption = (
        f"The rows with the largest errors of {study.targets[0]} while they were held out ({scheme_label(scheme)}); "
        f"means over the fits that held a row out."
    )
    return TextTable(caption, ["row", "truth", "predicted", "absolute error"], rows)


def print_study(console: Console, result: StudyResult) -> None:
    """The comparison on the terminal: the deciding metric, a row per model."""
    metric = result.metrics[0]
    for position, output in enumerate(result.outputs):
        table = RichTable(title=escape(f"{metric.label} of {output}, mean ± sd over folds"), title_justify="left")
        table.add_column("model")
        for scheme in result.fits:
            table.add_column(escape(scheme_label(scheme)), justify="right")
        table.add_column("s per fit", justify="right")
        for label in (result.model, *result.others):
            cells = [_cell(result, scheme, label, metric, position) for scheme in result.fits]
            table.add_row(escape(model_label(label)), *cells, three_digits(result.seconds(label)))
        console.print(table)


def _cell(result: StudyResult, scheme: str, label: str, metric: Metric, output: int) -> str:
    mean, spread = (getattr(result, name)(scheme, label, metric.key, output) for name in ("mean", "spread"))
    return f"{score_text(metric, mean)} ± {score_text(metric, spread)}"
