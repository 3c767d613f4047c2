"""Errors and drift by output frame and by group of channels: ``frames.csv``, a table, a line."""

import csv
import io
import math
from pathlib import Path

import numpy as np

from katops.evaluation import Evaluation
from katops.evaluation.groups import RATIOS
from katops.files import write_text
from katops.report.tables import Row, TextTable, percent, three_digits

CSV_COLUMNS = ("test_set", "predictor", "group", "frame", "lead_time", "metric", "samples", "mean", "median")
SHOWN_FRAMES = 6
ALL_GROUPS = "mean of groups"


def write_frames_csv(path: Path, evaluations: dict[str, Evaluation]) -> None:
    """One row per test set, predictor, channel group, output frame and relative error; atomic.

    Columns: ``test_set``; ``predictor`` (the model first); ``group`` (a quantity, or a channel by itself); ``frame``
    (counted from 1); ``lead_time`` ("" where it is unknown or differs between samples); ``metric`` (relative_l1 or
    relative_l2, of the group by itself); ``samples`` that were judged; their ``mean`` and ``median``.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for test_set, evaluation in evaluations.items():
        leads = [""] * evaluation.meta.steps_out if evaluation.lead_times is None else evaluation.lead_times.tolist()
        for predictor in evaluation.errors:
            for metric in RATIOS:
                judged = (~np.isnan(evaluation.groups.errors[predictor][metric])).sum(0)
                mean, median = (getattr(evaluation.groups, key)(predictor, metric) for key in ("mean", "median"))
                for place, group in enumerate(evaluation.groups.groups):
                    for frame, lead in enumerate(leads):
                        key = (test_set, predictor, group, frame + 1, lead, metric)
                        writer.writerow((*key, judged[frame, place], mean[frame, place], median[frame, place]))
    write_text(path, table.getvalue())


def group_rows(evaluation: Evaluation, frames: int = SHOWN_FRAMES, *, medians: bool = True) -> TextTable:
    """Errors of each channel group in some frames: relative L2 of all predictors, then more about the model.

    Args:
        evaluation: with any number of frames and groups.
        frames: how many are shown, spread over all of them.
        medians: whether to show the medians over the samples beside the means.
    """
    groups, model, total = evaluation.groups, evaluation.model, evaluation.meta.steps_out
    shown = np.unique(np.linspace(0, total - 1, frames).round().astype(int)).tolist()
    columns = [groups.mean(predictor) for predictor in evaluation.errors]
    names = [f"L2, {predictor}" for predictor in evaluation.errors]
    columns.append(groups.mean(model, "relative_l1"))
    names.append("L1, model")
    if medians:
        columns += [groups.median(model), groups.median(model, "relative_l1")]
        names += ["median L2", "median L1"]
    rows = []
    for place, name in enumerate(groups.groups):
        for frame in shown:
            rows.append(_row(name, frame, [column[frame, place] for column in columns], evaluation))
    counted = [name not in evaluation.constant_groups for name in groups.groups]
    if sum(counted) > 1:
        rows += [_row(ALL_GROUPS, f, [_mean(column[f, counted]) for column in columns], evaluation) for f in shown]
    several = [] if total == 1 else ["frame" if evaluation.lead_times is None else "frame (lead time)"]
    caption = "Relative errors of each group of channels by itself, mean over the samples unless named a median."
    if groups.left_out:
        caption += f" Left out, because masked or zero in all samples: {', '.join(groups.left_out)}."
    if evaluation.constant_groups and sum(counted) > 1:
        caption += f" Not in the mean of groups, because constant in space: {', '.join(evaluation.constant_groups)}."
    return TextTable(caption, ["channels", *several, *names], rows)


def _row(name: str, frame: int, values: list[float], evaluation: Evaluation) -> Row:
    place = []
    if evaluation.meta.steps_out > 1:
        lead = (
            "" if evaluation.lead_times is None else f"{evaluation.lead_times[frame]:.4g} {evaluation.meta.time_unit}"
        )
        place = [f"{frame + 1} ({lead.rstrip()})" if lead else str(frame + 1)]
    predictors = values[: len(evaluation.errors)]
    best = -1 if np.isnan(predictors).all() else int(np.nanargmin(predictors))
    texts = ["not judged" if math.isnan(value) else percent(value) for value in values]
    return Row([name, *place, *texts], best if best < 0 else best + 1 + len(place))


def _mean(values: np.ndarray) -> float:
    """Over the groups that are judged in a frame."""
    judged = values[~np.isnan(values)]
    return float(judged.mean()) if judged.size else math.nan


def drift_line(evaluation: Evaluation) -> str:
    """How energy and small scales of the last frame compare with the truth's, by group."""
    last, drift = evaluation.meta.steps_out, evaluation.drift
    if drift is None or not np.isfinite(drift.mean_error[-1]).any():
        return f"frame {last}: no prediction is finite"
    truth, prediction = (drift.energy[who][-1] for who in ("truth", "prediction"))
    energy = np.divide(prediction, truth, out=np.full_like(truth, math.nan), where=truth > 0)
    entries = [
        f"{name} {_times(ratio)}, {_times(small)} in its small scales"
        for name, ratio, small in zip(drift.groups, energy, drift.high_power_ratio[-1], strict=True)
    ]
    return f"energy of frame {last} beside the truth's: {'; '.join(entries)}"


def _times(ratio: float) -> str:
    return f"{three_digits(float(ratio))} times" if math.isfinite(ratio) else "without meaning"
