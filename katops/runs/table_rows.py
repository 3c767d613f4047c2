"""A KAN of a study on rows of another file: predictions with intervals and flags, errors where truths are known."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from katops.bundle import Bundle
from katops.config.tables import TableDataConfig
from katops.errors import UserError
from katops.evaluation import finite_or_none
from katops.files import atomic_path, write_text
from katops.materials.formula import SYMBOLS
from katops.report.study_tables import score_text
from katops.runs.result import warn
from katops.studies.compositions import element_members
from katops.studies.features import design
from katops.studies.metrics import CLASSIFICATION, REGRESSION, classification_scores, regression_scores
from katops.studies.table import Table, filtered, labels_of, read_csv, require

MOST_NAMED = 5


@dataclass(frozen=True)
class TableEvaluation:
    """Scores on rows with known truths.

    Attributes:
        scores: target -> metric -> value over all rows.
        coverage: share of the rows whose interval or set holds the truth, per target.
        rows: number of them.
        predictions: one row each, see :func:`predict_rows`.
    """

    scores: dict[str, dict[str, float]]
    coverage: dict[str, float]
    rows: int
    predictions: pd.DataFrame


def predict_tables(
    bundle: Bundle, file: str | Path, output: Path, *, batch_size: int, overwrite: bool, console: Console
) -> Path:
    """Write the rows of a CSV file with what is predicted of them, see :func:`predict_rows`.

    Raises:
        UserError: a column is missing, or ``output`` exists, is the input, or is no CSV.
    """
    if output.suffix.lower() != ".csv":
        raise UserError(f"predictions for tables are CSV; give a name such as {output.stem + '.csv'!r}")
    if output.exists() and (not overwrite or output.samefile(file)):
        raise UserError(f"{str(output)!r} exists already; choose another name or --overwrite (never the input itself)")
    frame = read_csv(file)
    predicted = predict_rows(bundle, frame)
    _tell_outside(console, predicted)
    with atomic_path(output) as temporary:
        pd.concat([frame, predicted], axis=1).to_csv(temporary, index=False)
    return output


def predict_rows(bundle: Bundle, frame: pd.DataFrame) -> pd.DataFrame:
    """What the model says of rows, with how sure it is.

    Args:
        bundle: the model of a study.
        frame: with the columns that the training read; targets may be absent.

    Returns:
        For each target ``predicted NAME``, ``lower NAME``, ``upper NAME`` (the conformal interval of the study's
        headline folds) and ``deviation NAME`` (standard deviation over the ensemble); of classes ``predicted NAME``,
        ``probability of CLASS`` and ``possible NAME`` (the conformal set). ``columns outside`` counts the features
        that lie outside the range of the training rows, ``distance`` is that to the nearest of them over the largest
        that counts as near, and ``trusted`` is false where a column is outside or the distance is above 1; see
        :class:`katops.predictors.applicability.ApplicabilityDomain`.

    Raises:
        UserError: a column is missing.
    """
    names, described = _described(bundle)
    inputs = _inputs(bundle, frame)
    mean, deviation = bundle.predictor.predict(inputs, return_std=True)
    columns: dict[str, Any] = {}
    classes = bundle.predictor.classes
    if classes:
        columns[f"predicted {names[0]}"] = [classes[place] for place in mean.argmax(1)]
        columns |= {f"probability of {name}": mean[:, place] for place, name in enumerate(classes)}
        held = 1 - mean <= described["width"][0]
        sets = [" or ".join(str(classes[k]) for k in np.flatnonzero(row)) or "none" for row in held]
        columns[f"possible {names[0]}"] = sets
    else:
        mean, deviation = mean.reshape(len(frame), -1), deviation.reshape(len(frame), -1)
        for place, name in enumerate(names):
            width = described["width"][place]
            columns |= {
                f"predicted {name}": mean[:, place],
                f"lower {name}": mean[:, place] - width,
                f"upper {name}": mean[:, place] + width,
                f"deviation {name}": deviation[:, place],
            }
    found = bundle.predictor.assess(inputs)
    columns |= {"columns outside": found.out_of_range, "distance": found.distance, "trusted": found.inside}
    return pd.DataFrame(columns, index=frame.index)


def evaluate_tables(
    bundle: Bundle,
    file: str | Path,
    *,
    output: Path | None,
    split: str,
    batch_size: int,
    examples: int,
    console: Console,
) -> TableEvaluation:
    """Compare predictions with the truths of a CSV file; see :func:`katops.api.evaluate`.

    Raises:
        UserError: a column is missing; the rows are those of the training, which ``split`` "all" allows.
    """
    if split not in ("auto", "all"):
        raise UserError(f"a table has no part {split!r}; scores of held-out rows are in the report of the study")
    names, described = _described(bundle)
    frame = read_csv(file)
    require(frame, names, "the file")
    frame = frame[frame[names].notna().all(axis=1)]
    if not len(frame):
        raise UserError(f"no row of {str(file)!r} has a value of {' and '.join(names)}")
    table = filtered(_table(bundle, frame), _configuration(bundle).filter)
    if split == "auto" and table.fingerprint == bundle.header["data"]["fingerprint"]:
        raise UserError(
            f"{str(file)!r} holds the rows of the training; how well rows are predicted that were held out is in the "
            f"report of the study; say --split all to measure on rows that the training has seen"
        )
    predicted = predict_rows(bundle, table.frame)
    evaluation = _evaluation(bundle, table.frame, predicted)
    _print(console, evaluation, Path(file).name, described["problem"])
    _tell_outside(console, predicted)
    if output is not None:
        _write(output, bundle, file, evaluation)
    return evaluation


def _evaluation(bundle: Bundle, frame: pd.DataFrame, predicted: pd.DataFrame) -> TableEvaluation:
    names, _ = _described(bundle)
    scores, coverage = {}, {}
    classes = bundle.predictor.classes
    if classes:
        labels = labels_of(frame[names[0]])
        strange = sorted(set(map(str, labels)) - set(map(str, classes)))
        if strange:
            raise UserError(
                f"{names[0]!r} holds the class {strange[0]!r}, which the training did not have; it had "
                f"{', '.join(map(str, classes))}"
            )
        truth = np.array([list(map(str, classes)).index(str(value)) for value in labels])
        probabilities = predicted[[f"probability of {name}" for name in classes]].to_numpy()
        positive = bundle.header["study"]["positive"]
        scores[names[0]] = classification_scores(truth, probabilities, positive)
        width = bundle.header["study"]["width"][0]
        coverage[names[0]] = float((1 - probabilities[np.arange(len(truth)), truth] <= width).mean())
    else:
        for name in names:
            truth, values = frame[name].to_numpy(float), predicted[f"predicted {name}"].to_numpy()
            scores[name] = regression_scores(truth, values)
            inside = (truth >= predicted[f"lower {name}"]) & (truth <= predicted[f"upper {name}"])
            coverage[name] = float(inside.mean())
    return TableEvaluation(scores, coverage, len(frame), pd.concat([frame[names], predicted], axis=1))


def _described(bundle: Bundle) -> tuple[list[str], dict[str, Any]]:
    """Names of the targets and the header's entry about the study.

    Raises:
        UserError: the model was saved by an estimator alone, so that nothing is known about its table.
    """
    if "study" not in bundle.header:
        raise UserError(
            "this model file was saved by an estimator and does not say how its table was read; use "
            "katops.load(path).predict(table) in Python, or train with katops train"
        )
    return list(bundle.header["data"]["configuration"]["target"]), bundle.header["study"]


def _configuration(bundle: Bundle) -> TableDataConfig:
    return TableDataConfig(**bundle.header["data"]["configuration"])


def _table(bundle: Bundle, frame: pd.DataFrame) -> Table:
    """The rows with what the training knew of their columns; a formula says more than columns of amounts."""
    data = bundle.header["data"]
    formula = data["formula"] if data["formula"] in frame.columns else None
    composition = () if formula else tuple(data["composition"])
    if data["formula"] and not formula and set(composition).isdisjoint(frame.columns):
        amounts = f" (or columns with the amounts of {', '.join(composition)})" if composition else ""
        raise UserError(f"the file has no column {data['formula']!r} with formulas{amounts}, which the model reads")
    if not data["formula"]:
        require(frame, composition, "the file")
    # Columns named by elements: one that is not there says that no row holds the element.
    frame = frame.assign(**{name: 0.0 for name in composition if name not in frame.columns})
    return Table(frame, "rows", "rows", formula=formula, composition=composition, without=tuple(data["without"]))


def _inputs(bundle: Bundle, frame: pd.DataFrame) -> pd.DataFrame:
    """The design table of the training for other rows.

    An element that no row holds is there with 0; what can be computed for none of them is missing.
    """
    columns = bundle.header["data"]["columns"]
    config, table = _configuration(bundle), _table(bundle, frame)
    _refuse_unknown_elements(table, bundle.header["data"]["elements"])
    found = design(table, config).frame
    absent = [name for name in columns if name not in found.columns]
    found = found.assign(**{name: 0.0 if name in SYMBOLS else np.nan for name in absent})
    return found[columns]


def _refuse_unknown_elements(table: Table, known: list[str]) -> None:
    """Descriptors of an element that no training row held would be missing, or say nothing about what it does."""
    if not (table.formula or table.composition):
        return
    held = {name: rows for name, rows in element_members(table).items() if name not in known and rows.any()}
    if held:
        row = table.frame.index[int(np.any(list(held.values()), axis=0).argmax())]
        raise UserError(
            f"row {row} holds {', '.join(held)}, which no training row did: nothing is known about it; leave such rows "
            f"out"
        )


def _tell_outside(console: Console, predicted: pd.DataFrame) -> None:
    rows = predicted.index[~predicted["trusted"]].tolist()
    if rows:
        named = ", ".join(map(str, rows[:MOST_NAMED])) + (", ..." if len(rows) > MOST_NAMED else "")
        warn(
            console,
            [f"{len(rows):,} of {len(predicted):,} rows are unlike those of the training (rows {named})"],
        )


def _print(console: Console, evaluation: TableEvaluation, name: str, problem: str) -> None:
    metrics = CLASSIFICATION if problem == "classification" else REGRESSION
    table = RichTable(title=escape(f"{name}: {evaluation.rows:,} rows"), title_justify="left")
    table.add_column("metric")
    for target in evaluation.scores:
        table.add_column(escape(target), justify="right")
    for metric in metrics:
        table.add_row(metric.label, *(score_text(metric, scores[metric.key]) for scores in evaluation.scores.values()))
    table.add_row("covered by intervals", *(f"{100 * share:.1f} %" for share in evaluation.coverage.values()))
    console.print(table)


def _write(output: Path, bundle: Bundle, file: str | Path, evaluation: TableEvaluation) -> None:
    """``summary.json``, ``metrics.csv`` and ``predictions.csv``."""
    summary = {
        "data": {"file": str(file), "rows": evaluation.rows},
        "model": bundle.header["model"],
        "scores": evaluation.scores,
        "coverage": evaluation.coverage,
        "versions": bundle.header["versions"],
    }
    text = json.dumps(finite_or_none(summary), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(output / "summary.json", text + "\n")
    lines = [
        f"{json.dumps(target)},{metric},{value}"
        for target, scores in evaluation.scores.items()
        for metric, value in scores.items()
    ]
    write_text(output / "metrics.csv", "\n".join(["target,metric,value", *lines]) + "\n")
    with atomic_path(output / "predictions.csv") as temporary:
        evaluation.predictions.to_csv(temporary, index=False)
