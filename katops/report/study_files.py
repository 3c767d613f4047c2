"""Numbers of a study as files: ``metrics.csv`` and the predictions of rows while they were held out."""

import csv
import io
from pathlib import Path

import pandas as pd

from katops.files import atomic_path, write_text
from katops.studies.metrics import Metric
from katops.studies.result import StudyResult

CSV_COLUMNS = (
    "scheme",
    "target",
    "model",
    "metric",
    "folds",
    "mean",
    "sd",
    "kan_minus_this",
    "lower_95",
    "upper_95",
    "p_value",
)


def write_study_csv(path: Path, result: StudyResult) -> None:
    """One row per scheme, target, model and metric; atomic."""
    table = io.StringIO()
    writer = csv.DictWriter(table, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for scheme in result.fits:
        for position, output in enumerate(result.outputs):
            for label in (result.model, *result.others):
                for metric in result.metrics:
                    writer.writerow(
                        {
                            "scheme": scheme,
                            "target": output,
                            "model": label,
                            "metric": metric.key,
                            "folds": len(result.study.folds[scheme]),
                            "mean": result.mean(scheme, label, metric.key, position),
                            "sd": result.spread(scheme, label, metric.key, position),
                            **_compared(result, scheme, label, metric, position),
                        }
                    )
    write_text(path, table.getvalue())


def _compared(result: StudyResult, scheme: str, label: str, metric: Metric, output: int) -> dict[str, float]:
    if label == result.model:
        return {}
    found = result.compare(scheme, label, metric, output)
    numbers = (found.difference, found.low, found.high, found.p_value)
    return dict(zip(("kan_minus_this", "lower_95", "upper_95", "p_value"), numbers, strict=True))


def write_held_out_csv(path: Path, result: StudyResult) -> None:
    """The rows of the table with their truth and the KAN's predictions while they were held out, scheme by scheme.

    Where several fits held a row out, the prediction is their mean, and a further column says how many they were.
    """
    study = result.study
    columns: dict[str, object] = {"row": study.table.frame.index, "name": study.row_names}
    if study.classes:
        columns[study.targets[0]] = [study.classes[code] for code in study.target]
    else:
        columns |= {name: study.target[:, place] for place, name in enumerate(study.targets)}
    for scheme in result.fits:
        held_out = result.held_out(scheme, result.model)
        predicted = held_out.mean()
        heads = [f"probability of {name}" for name in study.classes] or [f"predicted {name}" for name in study.targets]
        columns |= {f"{head}, {scheme}": predicted[:, place] for place, head in enumerate(heads)}
        if held_out.fits.max() > 1:
            columns[f"fits, {scheme}"] = held_out.fits
    with atomic_path(path) as temporary:
        pd.DataFrame(columns).to_csv(temporary, index=False)
