"""The report of a sweep: one HTML page without network or script, its figures, and the trials as a file."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from katops.files import write_text
from katops.report.cards import Card
from katops.report.html import Picture, render, save_pictures
from katops.report.sweep_figures import (
    Parameter,
    SweepTrial,
    course_figure,
    history_figure,
    importance_figure,
    parallel_figure,
    slice_figure,
    value_text,
)
from katops.report.tables import Row, TextTable

MOST_LISTED = 200
DASH = "–"


@dataclass(frozen=True)
class SweepSummary:
    """Everything that the report tells.

    Attributes:
        title: heading.
        metric: name of the value by which trials are compared.
        larger: whether larger values are better.
        asked: how many trials there are in the end.
        parameters: the varied keys, in the order of the space.
        trials: those that have begun.
        importance: share of the variation by parameter, the largest first; empty where it is not known.
        best_yaml: configuration of the best trial, "" where there is none.
        cards: what else is to be said.
    """

    title: str
    metric: str
    larger: bool
    asked: int
    parameters: list[Parameter]
    trials: list[SweepTrial]
    importance: dict[str, float]
    best_yaml: str
    cards: list[Card]

    @property
    def ranked(self) -> list[SweepTrial]:
        """Complete trials, the best one first."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: trial.value, reverse=self.larger)


def write_sweep_report(directory: Path, summary: SweepSummary) -> Path:
    """Write ``sweep.html``, ``figures/*.png`` and ``trials.csv``, each atomically.

    Returns:
        the path of ``sweep.html``.
    """
    pictures = list(_pictures(summary))
    save_pictures(directory, pictures)
    html = render(
        "sweep.html.j2",
        title=summary.title,
        verdict=verdict(summary),
        tested="",
        warnings=[],
        tiles=list(_tiles(summary)),
        cards=summary.cards,
        pictures=pictures,
        table=trial_rows(summary),
        failures=[(trial.number, trial.error) for trial in summary.trials if trial.state == "failed"],
        training_figure=None,
        metrics=[
            (
                summary.metric,
                "by which trials are compared",
                "larger is better" if summary.larger else "smaller is better",
            )
        ],
        config=summary.best_yaml,
    )
    write_trials_csv(directory / "trials.csv", summary)
    write_text(directory / "sweep.html", html)
    return directory / "sweep.html"


def verdict(summary: SweepSummary) -> str:
    """The best trial in a sentence."""
    if not summary.ranked:
        return "No trial has run to its end."
    best = summary.ranked[0]
    chosen = ", ".join(f"{key} = {value_text(value)}" for key, value in best.values.items())
    return f"Best {summary.metric}: {value_text(best.value)}, by trial {best.number} with {chosen}."


def trial_rows(summary: SweepSummary) -> TextTable:
    """The trials, the best one first, then those that were ended early, failed, or are running."""
    others = [trial for trial in summary.trials if trial.state != "complete"]
    shown = [*summary.ranked, *others][:MOST_LISTED]
    keys = [parameter.key for parameter in summary.parameters]
    rows = [
        Row(
            [
                str(trial.number),
                trial.state if trial.state != "pruned" else f"ended early, step {max(trial.course, default=0)}",
                _or_dash(trial.value),
                *(value_text(trial.values[key]) if key in trial.values else DASH for key in keys),
                _or_dash(trial.seconds),
            ],
            best=2 if place == 0 and trial.state == "complete" else -1,
        )
        for place, trial in enumerate(shown)
    ]
    left_out = len(summary.trials) - len(shown)
    caption = "All trials" if not left_out else f"The first {len(shown)} trials; trials.csv holds all"
    caption += ". Of a trial that was ended early the value is that of its last step; seconds are those of the process "
    return TextTable(f"{caption}that finished it.", ["trial", "state", summary.metric, *keys, "seconds"], rows)


def write_trials_csv(path: Path, summary: SweepSummary) -> None:
    """One row per trial: number, state, value, steps, seconds, the varied keys, folder and error; atomic."""
    keys = [parameter.key for parameter in summary.parameters]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["trial", "state", summary.metric, "last_step", "seconds", *keys, "folder", "error"])
    for trial in summary.trials:
        values = [_cell(trial.values[key]) if key in trial.values else "" for key in keys]
        numbers = ["" if number is None else number for number in (trial.value, max(trial.course, default=None))]
        seconds = "" if trial.seconds is None else round(trial.seconds, 3)
        writer.writerow([trial.number, trial.state, *numbers, seconds, *values, trial.folder, trial.error])
    write_text(path, table.getvalue())


def _or_dash(number: float | None) -> str:
    return DASH if number is None else value_text(number)


def _cell(value: Any) -> Any:
    """Numbers with all their digits, anything else as YAML has it."""
    return value if isinstance(value, float) else value_text(value)


def _tiles(summary: SweepSummary) -> Iterator[tuple[str, str]]:
    if summary.ranked:
        yield f"best {summary.metric}", value_text(summary.ranked[0].value)
        middle = summary.ranked[len(summary.ranked) // 2]
        yield "median trial", value_text(middle.value)
    counts = {"complete": "run to the end", "pruned": "ended early", "failed": "failed", "running": "running"}
    for state, words in counts.items():
        count = sum(trial.state == state for trial in summary.trials)
        if count or state == "complete":
            yield f"of {summary.asked} trials {words}", str(count)


def _pictures(summary: SweepSummary) -> Iterator[Picture]:
    metric, trials, parameters = summary.metric, summary.trials, summary.parameters
    yield Picture.of(
        "history",
        "Values in the order of the trials",
        "Blue: trials that ran to their end; crosses: ended early, at the value of their last step (at the edge where "
        "it lies far beyond the others). The line is the best so far: where it has been flat for long, more trials of "
        "this space will hardly help.",
        history_figure(trials, metric, summary.larger),
    )
    if summary.importance:
        yield Picture.of(
            "importance",
            "Importance of the parameters",
            "Share of the variation of the value among the complete trials that goes with each parameter (functional "
            "analysis of variance). Parameters that only some trials have are left out, and with few trials the shares "
            "are rough.",
            importance_figure(summary.importance),
        )
    yield Picture.of(
        "slices",
        "Value against each parameter",
        "Darker trials came later. A best value at the edge of a range says that the range should be moved.",
        slice_figure(trials, parameters, metric),
    )
    if len(parameters) > 1 and any(trial.state == "complete" for trial in trials):
        yield Picture.of(
            "parallel",
            "Complete trials across all parameters",
            "A line is a trial, from its values to the result at the right; the better half is "
            "coloured, the best darkest.",
            parallel_figure(summary.ranked, parameters, metric),
        )
    if any(len(trial.course) > 1 for trial in trials):
        yield Picture.of(
            "course",
            "Values on the way",
            "Grey: trials that ran to their end; orange: those that were ended early. Orange lines that were about to "
            "cross the others speak for less pruning.",
            course_figure(trials, metric),
        )
