"""Numbers as files and as text: ``metrics.csv``, ``summary.json``, tables and sentences."""

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from katops.evaluation import Evaluation, defined, finite_or_none
from katops.files import write_text
from katops.metrics import ABSOLUTE
from katops.registry import METRICS

CSV_COLUMNS = ("test_set", "predictor", "metric", "unit", "samples", "mean", "median", "p90", "maximum")

_LABELS = {
    "relative_l2": "relative L2",
    "relative_l1": "relative L1",
    "relative_l2_channel_mean": "relative L2, channel mean",
    "h1": "relative H1",
    "vrmse": "VRMSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "max_error": "max error",
    "validation_relative_l2": "validation relative L2",
}
_PREDICTORS = {"mean": "mean predictor", "persistence": "persistence predictor"}


def metric_label(metric: str) -> str:
    """How a registered metric is called in a text."""
    return _LABELS.get(metric, metric.replace("_", " "))


def predictor_label(predictor: str) -> str:
    """How a predictor is called in a text."""
    return _PREDICTORS.get(predictor, predictor)


def common_unit(evaluation: Evaluation) -> str:
    """The unit of all output channels, or "" where they differ."""
    units = {channel.unit for channel in evaluation.meta.outputs}
    return units.pop() if len(units) == 1 else ""


def percent(value: float) -> str:
    """A ratio in percent with three digits: ``2.31 %``; NaN is a ratio without a meaning."""
    if math.isnan(value):
        return "not defined"
    return f"{three_digits(100 * value)} %" if math.isfinite(value) else "not finite"


def metric_text(metric: str, value: float, unit: str = "") -> str:
    """A metric's value: percent for ratios, the unit of the field otherwise."""
    if metric not in ABSOLUTE:
        return percent(value)
    return f"{three_digits(value)} {unit}".rstrip() if math.isfinite(value) else "not finite"


def write_metrics_csv(path: Path, evaluations: dict[str, Evaluation]) -> None:
    """One row per test set, predictor and metric; atomic.

    Columns: ``test_set``; ``predictor`` (the model first); ``metric`` (a name of the registry); ``unit`` ("1" for
    ratios, "mixed" where the output channels differ); ``samples`` for which the metric has a meaning; then the ``mean``
    over them, the ``median``, the 90 % quantile ``p90`` and the ``maximum`` of the errors per sample, with full
    precision (``inf`` where a prediction was not finite, ``nan`` where the metric has a meaning for no sample).
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for test_set, evaluation in evaluations.items():
        quantiles = {record.name: evaluation.quantiles(record.name) for record in METRICS}
        for predictor, means in evaluation.metrics.items():
            for metric, mean in means.items():
                samples = defined(evaluation.errors[predictor][metric]).size
                row = {"test_set": test_set, "predictor": predictor, "metric": metric, "samples": samples}
                statistics = {"mean": mean, **quantiles[metric][predictor]}
                writer.writerow({**row, "unit": _csv_unit(metric, evaluation), **statistics})
    write_text(path, table.getvalue())


def write_summary(path: Path, summary: dict[str, Any], evaluations: dict[str, Evaluation]) -> None:
    """``summary`` and, under ``evaluations``, every evaluation as JSON; non-finite numbers become null; atomic."""
    contents = {**summary, "evaluations": {name: evaluation.to_dict() for name, evaluation in evaluations.items()}}
    write_text(path, json.dumps(finite_or_none(contents), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Row:
    """A row of text; ``best`` is the position of the cell to emphasise, -1 for none."""

    cells: list[str]
    best: int = -1


@dataclass(frozen=True)
class TextTable:
    """A table of text, for the terminal and for the report."""

    caption: str
    head: list[str]
    rows: list[Row]


def metric_rows(evaluation: Evaluation) -> TextTable:
    """Mean errors: a row per metric, a column per predictor, the smallest error of each row being the best."""
    means = evaluation.metrics
    unit = common_unit(evaluation)
    rows = []
    # The one that the verdict is about comes first.
    for metric in sorted(means[evaluation.model], key=lambda name: (name != "relative_l2", name)):
        values = [means[predictor][metric] for predictor in means]
        texts = [metric_text(metric, value, unit) for value in values]
        best = -1 if np.isnan(values).all() else 1 + int(np.nanargmin(values))
        rows.append(Row([metric_label(metric), *texts], best))
    caption = f"Mean over {count_of(evaluation.samples)}; the best of each row is marked."
    if evaluation.constant:
        caption += f" {about_constant(evaluation)}"
    return TextTable(caption, ["metric", *map(predictor_label, means)], rows)


def about_constant(evaluation: Evaluation) -> str:
    """Which channels are constant in space, and what that does to the metrics; "" where none is."""
    if not evaluation.constant:
        return ""
    return (
        f"Constant in space: {', '.join(evaluation.constant)}. {metric_label('vrmse')} leaves out such channels, which "
        "have no deviation to compare with; relative errors of all channels together count their norm, so look at each "
        "channel by itself."
    )


def channel_rows(evaluation: Evaluation) -> TextTable:
    """Of each output channel: relative L2 of all predictors (mean over samples) and the model's RMSE."""
    names = list(evaluation.channels)
    rows = []
    for channel in evaluation.meta.outputs:
        if channel.name not in evaluation.channels[evaluation.model]:
            continue
        entries = [evaluation.channels[name][channel.name] for name in names]
        rmse = metric_text("rmse", entries[0]["rmse"], channel.unit)
        rows.append(Row([channel.name, *(percent(entry["relative_l2"]) for entry in entries), rmse]))
    caption = "Relative L2 of each output channel by itself, and the model's RMSE over all samples and points."
    return TextTable(caption, ["output channel", *map(predictor_label, names), "RMSE"], rows)


def worst_rows(evaluation: Evaluation, count: int = 5) -> TextTable:
    """The samples with the largest errors, to be looked at."""
    entries = evaluation.worst(count)
    columns = [column for column in ("sample", "first_frame") if column in entries[0]] or ["position"]
    if evaluation.meta.time_step is None and "first_frame" in columns:
        columns.remove("first_frame")
    rows = [Row([*(str(entry[column]) for column in columns), percent(entry["relative_l2"])]) for entry in entries]
    head = [*(column.replace("_", " ") for column in columns), "relative L2"]
    return TextTable(f"The {count_of(len(rows))} with the largest error of the model.", head, rows)


def useful_frames(evaluation: Evaluation) -> str:
    """One line: error and amplitude of the last frame, and in which frames the model is better than each baseline."""
    frames = evaluation.meta.steps_out
    last, amplitude = (float(values[evaluation.model][-1]) for values in (evaluation.steps, evaluation.amplitudes))
    better = ", ".join(
        f"{predictor_label(baseline)} {_better_in(worse, frames)}"
        for baseline, worse in evaluation.worse_frames.items()
    )
    about = f"relative L2 of frame {frames}: {percent(last)}, its amplitude {three_digits(amplitude)} times the truth's"
    return about + (f"; better than {better}" if better else "")


def _better_in(worse: list[int], frames: int) -> str:
    """In which frames, given those in which it is worse."""
    if len(worse) == frames:
        return "in no frame"
    if not worse or worse == list(range(worse[0], frames + 1)):
        return f"up to frame {worse[0] - 1 if worse else frames} of {frames}"
    return f"except in frame{'s' if len(worse) > 1 else ''} {ranges(worse)} of {frames}"


def worse_than_baselines(evaluation: Evaluation, test_set: str) -> list[str]:
    """A sentence for each baseline that is better than the model in some of several frames: from which one on."""
    frames = evaluation.meta.steps_out
    sentences = []
    for baseline, worse in evaluation.worse_frames.items():
        groups = evaluation.groups.worse_frames(evaluation.model, baseline)
        if frames == 1 or not (worse or any(groups.values())):
            continue
        label = predictor_label(baseline)
        about = f"over all channels together, the model is worse than the {label} in no frame"
        if worse:
            about = (
                f"the first frame in which the model is worse than the {label} is {frame_name(evaluation, worse[0])}; "
                f"it is {_worse_in(worse)} of {frames}"
            )
        by_group = "; by channels: " + ", ".join(f"{name} {_worse_in(lost)}" for name, lost in groups.items())
        sentences.append(f"On {test_set}, {about}{by_group if len(evaluation.groups.groups) > 1 else ''}.")
    return sentences


def _worse_in(frames: list[int]) -> str:
    return f"worse in frame{'s' if len(frames) > 1 else ''} {ranges(frames)}" if frames else "worse in no frame"


def frame_name(evaluation: Evaluation, frame: int) -> str:
    """A frame, counted from 1, and its lead time where it is known: ``frame 7 (after 0.7 s)``."""
    if evaluation.lead_times is None:
        return f"frame {frame}"
    return f"frame {frame} (after {evaluation.lead_times[frame - 1]:.4g} {evaluation.meta.time_unit}".rstrip() + ")"


def ranges(numbers: list[int]) -> str:
    """Increasing numbers, neighbours joined: ``1–3, 7``."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=True))


def warnings_about(evaluation: Evaluation, test_set: str) -> list[str]:
    """Sentences about what speaks against the model: a baseline not beaten, predictions that are not finite."""
    means = {name: table["relative_l2"] for name, table in evaluation.metrics.items()}
    model = means[evaluation.model]
    warnings = [
        f"On {test_set}, the model (relative L2 {percent(model)}) is not better than the {predictor_label(baseline)} "
        f"({percent(means[baseline])}), which needs no training: it is of no use there."
        for baseline in evaluation.baselines
        if not model < means[baseline]
    ]
    for predictor, count in evaluation.nonfinite.items():
        if count:
            first = _first_broken(evaluation, predictor)
            warnings.append(
                f"On {test_set}, {predictor_label(predictor)} returned NaN or infinity for {count} of "
                f"{count_of(evaluation.samples)}{first}; these count as infinitely wrong."
            )
    warnings += worse_than_baselines(evaluation, test_set)
    if evaluation.zero_targets:
        warnings.append(
            f"On {test_set}, {evaluation.zero_targets} of {count_of(evaluation.samples)} have a target that is zero "
            "everywhere: their relative errors, and the means that contain them, have no meaning."
        )
    return warnings


def _first_broken(evaluation: Evaluation, predictor: str) -> str:
    """Where it began, if there are several frames."""
    if evaluation.meta.steps_out == 1:
        return ""
    return f", first in {frame_name(evaluation, evaluation.first_nonfinite_frame[predictor])}"


def three_digits(value: float) -> str:
    """``51.0``, not ``51``, so that numbers in a column can be compared; but ``0`` and ``100``."""
    return f"{value:#.3g}".rstrip(".") if value else "0"


def _csv_unit(metric: str, evaluation: Evaluation) -> str:
    if metric not in ABSOLUTE:
        return "1"
    return common_unit(evaluation) if len({channel.unit for channel in evaluation.meta.outputs}) == 1 else "mixed"


def count_of(samples: int) -> str:
    return f"{samples} sample" + ("s" if samples != 1 else "")
