"""Figures of a study: the models side by side, parity, residuals, the data, importances, learning curve."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from katops.drawing import named, plain
from katops.interpret.curves import EffectCurve, draw_curve
from katops.report.drawing import BASELINES, ERROR, PREDICTION, TEXT, TRUTH, new_figure, no_data, tidy
from katops.report.study_tables import model_label, scheme_label, score_text
from katops.studies.compositions import fractions
from katops.studies.final import Importance
from katops.studies.intervals import Intervals
from katops.studies.result import StudyResult

BAND = 0.1
MOST_SCHEMES = 3
MOST_ELEMENTS = 40
WIDEST = 30
"""Letters of a label that have room below a small panel."""
GREY, SEEN = "#9aa3ad", "#6b7580"
RULES = {
    "valence_electron_concentration": ((6.87, "bcc below 6.87"), (8.0, "fcc from 8.0")),
    "size_mismatch": ((6.6, "solid solution below 6.6"),),
    "omega": ((1.1, "solid solution from 1.1"),),
    "inverse_omega": ((1 / 1.1, "solid solution below 0.91"),),
    "packing_misfit": ((1.175, "solid solution below 1.175"),),
    "mixing_enthalpy": ((-15.0, "solid solution from −15"), (5.0, "to 5")),
    "mixing_entropy": ((12.5, "high entropy from 12.5"),),
    "entropy_over_mismatch": ((0.24, "compounds below 0.24"), (0.96, "solid solution from 0.96")),
}
"""Rules of the literature for alloys, see :data:`katops.materials.descriptors.DESCRIPTORS`."""


LOWEST_R2 = -0.5
"""Where the axis of the models' figure ends; what is worse is an arrow at its edge."""


def models_figure(result: StudyResult) -> Figure:
    """The deciding score of every model: a dot per fold, the mean as a bar, one panel per scheme and target."""
    metric = result.metrics[0]
    labels = [*result.others[::-1], result.model]
    schemes = list(result.fits)[:MOST_SCHEMES]
    figure = new_figure((0.9 + 0.3 * len(labels)) * len(result.outputs))
    panels = figure.subplots(len(result.outputs), len(schemes), sharey=True, sharex="row", squeeze=False)
    for row, output in enumerate(result.outputs):
        lowest = []
        for column, scheme in enumerate(schemes):
            axes = tidy(panels[row, column])
            for place, label in enumerate(labels):
                values = result.scores(scheme, label)[metric.key][:, row]
                colour = PREDICTION if label == result.model else "#555555"
                axes.plot(values, np.full(len(values), place), "o", color=colour, alpha=0.3, markersize=5, mew=0)
                mean = result.mean(scheme, label, metric.key, row)
                axes.plot([mean], [place], "|", color=colour, markersize=16, markeredgewidth=2.6)
                axes.annotate(
                    score_text(metric, mean),
                    (1.0, place),
                    xycoords=("axes fraction", "data"),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=TEXT - 1.5,
                    color=colour,
                )
                if label != "dummy":
                    lowest.extend(values[np.isfinite(values)])
            axes.set_yticks(range(len(labels)), [model_label(label) for label in labels])
            axes.set_ylim(-0.6, len(labels) - 0.4)
            if row == 0:
                axes.set_title(scheme_label(scheme), fontsize=TEXT, loc="left")
            if column == 0:
                axes.set_ylabel(plain(output), fontsize=TEXT)
            axes.set_xlabel(metric.label)
        if lowest:
            low, high = min(lowest), max(lowest)
            if metric.key == "r2":
                # One fold in which a model has run away would press all others together.
                low = max(low, min(LOWEST_R2, high))
            margin = 0.06 * (high - low or 1)
            panels[row, 0].set_xlim(low - margin, high + margin)
            for axes in panels[row]:
                _mark_below(axes, low - margin)
    return figure


def _mark_below(axes: Axes, left: float) -> None:
    """An arrow at the edge of an axis for every row that has values beyond it."""
    for line in list(axes.lines):
        places = np.asarray(line.get_ydata())[np.asarray(line.get_xdata()) < left]
        for place in set(places.tolist()):
            axes.plot([left], [place], "<", color=line.get_color(), markersize=9, mew=0, clip_on=False)


def parity_figure(result: StudyResult, output: int) -> Figure:
    """Predicted against true values: rows while they were held out, in front of those of a training, per scheme."""
    schemes = _shown_schemes(result)
    figure = new_figure(4.9)
    panels = figure.subplots(1, len(schemes), squeeze=False)[0]
    truth = result.study.target[:, output]
    name = named(result.outputs[output], result.study.table.units.get(result.outputs[output], ""))
    for axes, scheme in zip(panels, schemes, strict=True):
        held_out = result.held_out(scheme, result.model)
        predicted = held_out.predicted[:, output]
        trained = result.fitted(scheme)[:, output]
        tidy(axes)
        values = np.concatenate([truth, predicted])
        low, high = float(values.min()), float(values.max())
        margin = 0.04 * (high - low or 1)
        ends = np.array([low - margin, high + margin])
        band = np.abs(ends) * BAND
        axes.fill_between(ends, ends - band, ends + band, color=GREY, alpha=0.18, lw=0, label="± 10 %")
        axes.plot(ends, ends, color=TRUTH, lw=1, ls="--")
        axes.plot(
            truth, trained, "o", color="#6b7580", markersize=4, alpha=0.55, mew=0, label="in training (first fold)"
        )
        dots = {"color": PREDICTION, "markersize": 4, "mew": 0, "alpha": 0.75 / held_out.fits.max() ** 0.5}
        axes.plot(truth[held_out.row], predicted, "o", **dots, label="held out")
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set_xlabel(f"true {name}")
        axes.set_ylabel(f"predicted {name}")
        axes.set_title(scheme_label(scheme), fontsize=TEXT, loc="left")
        axes.text(
            0.03,
            0.97,
            _error_box(result, scheme, output),
            transform=axes.transAxes,
            va="top",
            fontsize=TEXT - 1,
            bbox={"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "#d5dae0", "alpha": 0.9},
        )
        axes.legend(fontsize=TEXT - 1.5, frameon=False, loc="lower right")
    return figure


def _error_box(result: StudyResult, scheme: str, output: int) -> str:
    unit = result.study.table.units.get(result.outputs[output], "")
    lines = []
    for metric in result.metrics[:3]:
        mean = result.mean(scheme, result.model, metric.key, output)
        spread = result.spread(scheme, result.model, metric.key, output)
        text = f"{metric.label} {score_text(metric, mean)} ± {score_text(metric, spread)}"
        lines.append(f"{text} {unit}".rstrip() if metric.has_unit else text)
    return "\n".join(lines)


def residual_figure(result: StudyResult, output: int, found: Intervals) -> Figure:
    """Error against prediction with the interval, and mean error of the rows that hold each element."""
    study, scheme = result.study, result.headline
    held_out = result.held_out(scheme, result.model)
    predicted = held_out.predicted[:, output]
    error = predicted - study.target[held_out.row, output]
    unit = study.table.units.get(result.outputs[output], "")
    has_elements = bool(study.table.formula or study.table.composition)
    figure = new_figure(3.9)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    tidy(left).axhline(0, color=TRUTH, lw=1)
    width = found.width[output]
    left.axhspan(-width, width, color=GREY, alpha=0.16, lw=0, label=f"{100 * found.level:.0f} % interval")
    left.plot(predicted, error, "o", color=PREDICTION, markersize=3.8, alpha=0.6, mew=0)
    left.set_xlabel(named(f"predicted {result.outputs[output]}", unit))
    left.set_ylabel(named("predicted − true", unit))
    left.set_title(scheme_label(scheme), fontsize=TEXT, loc="left")
    left.legend(fontsize=TEXT - 1.5, frameon=False)
    if has_elements:
        _element_errors(right, result, held_out.mean_of(error[:, None])[:, 0], unit)
    else:
        tidy(right).hist(error, bins=30, weights=held_out.weight, color=PREDICTION, alpha=0.8)
        right.axvline(0, color=TRUTH, lw=1)
        right.set_xlabel(named("predicted − true", unit))
        right.set_ylabel("rows")
    return figure


def _element_errors(axes: Axes, result: StudyResult, error: np.ndarray, unit: str) -> None:
    """Mean error, with its standard error, of the rows that hold each of the most frequent elements; a row is one."""
    held = fractions(result.study.table).to_numpy() > 0
    names = list(fractions(result.study.table).columns)
    known = np.isfinite(error)
    counts = (held & known[:, None]).sum(0)
    order = np.argsort(-counts, kind="stable")[: min(14, int((counts > 2).sum()))]
    for place, element in enumerate(order[::-1]):
        values = error[held[:, element] & known]
        half = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        axes.plot([values.mean() - 2 * half, values.mean() + 2 * half], [place] * 2, color=GREY, lw=3, zorder=1)
        axes.plot([values.mean()], [place], "o", color=ERROR, markersize=4.5, zorder=2)
    tidy(axes).axvline(0, color=TRUTH, lw=1)
    axes.set_yticks(range(len(order)), [f"{names[element]} ({counts[element]})" for element in order[::-1]])
    axes.set_xlabel(named("mean error of rows with the element ± 2 s.e.", unit))
    axes.tick_params(axis="y", labelsize=TEXT - 1.5)


def data_figure(result: StudyResult) -> Figure:
    """Targets, or the sizes of the classes; and how many rows hold each element, or how many values are missing."""
    study = result.study
    figure = new_figure(2.9)
    first, second = figure.subplots(1, 2)
    if study.classes:
        counts = np.bincount(study.target, minlength=len(study.classes))
        tidy(first).barh([str(name) for name in study.classes], counts, color=PREDICTION, alpha=0.8)
        first.set_xlabel("rows")
        first.set_ylabel(plain(study.targets[0]))
    else:
        for place, name in enumerate(study.targets):
            colour = (PREDICTION, *BASELINES)[place % 5]
            label = named(name, study.table.units.get(name, ""))
            tidy(first).hist(study.target[:, place], bins=30, color=colour, alpha=0.65, label=label)
        first.set_ylabel("rows")
        if len(study.targets) == 1:
            first.set_xlabel(named(study.targets[0], study.table.units.get(study.targets[0], "")))
        else:
            first.legend(fontsize=TEXT - 1.5, frameon=False)
    if study.table.formula or study.table.composition:
        held = (fractions(study.table) > 0).sum().sort_values(ascending=False)[:MOST_ELEMENTS]
        tidy(second).bar(range(len(held)), held.to_numpy(), color="#777777")
        small = TEXT - 1 - 0.07 * max(0, len(held) - 12)
        second.set_xticks(range(len(held)), held.index, fontsize=small, rotation=90 if len(held) > 20 else 0)
        second.set_ylabel("rows with the element")
    else:
        missing = study.design.frame.isna().sum().sort_values(ascending=False)
        missing = missing[missing > 0][:MOST_ELEMENTS]
        if not len(missing):
            no_data(second, "no value is missing")
            return figure
        tidy(second).barh([plain(str(name)) for name in missing.index[::-1]], missing.to_numpy()[::-1], color="#777777")
        second.set_xlabel("missing values")
    return figure


def importance_figure(found: Importance, metric: str, most: int) -> Figure:
    """Drop of the deciding score when a column is shuffled, beside the share that runs along its edges.

    Args:
        found: the most important first.
        metric: what drops.
        most: columns to show.
    """
    count = min(most, len(found.names))
    figure = new_figure(0.9 + 0.25 * count)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    places = np.arange(count)[::-1]
    bars = {"xerr": found.spread[:count], "error_kw": {"ecolor": "#444444", "lw": 1}}
    tidy(left).barh(places, found.drop[:count], color=PREDICTION, alpha=0.85, **bars)
    left.set_yticks(places, [plain(name) for name in found.names[:count]], fontsize=TEXT - 1)
    left.axvline(0, color=TRUTH, lw=0.8)
    left.set_xlabel(f"drop of {metric} when the column is shuffled (mean ± sd over folds)")
    left.set_ylim(-0.6, count - 0.4)
    tidy(right).barh(places, 100 * found.share[:count], color="#777777")
    right.set_xlabel("share of the attribution [%]")
    return figure


def learning_curve_figure(result: StudyResult, curve: dict[str, dict[float, tuple[float, float]]], rows: int) -> Figure:
    """Deciding score against the number of training rows, mean ± sd over folds.

    Args:
        result: the study.
        curve: label -> share of the training rows -> mean and standard deviation.
        rows: in a whole training.
    """
    metric = result.metrics[0]
    figure = new_figure(3.5)
    axes = tidy(figure.add_subplot())
    colours = [PREDICTION, *BASELINES]
    for colour, (label, points) in zip(colours, curve.items(), strict=False):
        shares = np.array(sorted(points))
        means, spreads = (np.array([points[share][part] for share in shares]) for part in (0, 1))
        counts = shares * rows
        axes.plot(counts, means, "o-", color=colour, label=model_label(label), lw=1.8, markersize=4.5)
        axes.fill_between(counts, means - spreads, means + spreads, color=colour, alpha=0.13, lw=0)
    axes.set_xlabel("training rows")
    axes.set_ylabel(f"{metric.label} of {plain(result.outputs[0])}")
    axes.set_title(scheme_label(result.headline), fontsize=TEXT, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=TEXT - 1, frameon=False)
    return figure


def effects_figure(curves: list[EffectCurve], units: dict[str, str], output: str) -> Figure:
    """Learned curves in the units of the table, with the values of the rows and the spread of the ensemble.

    Args:
        curves: the most important first.
        units: of features.
        output: the label of the vertical axis.
    """
    columns = 4
    lines = -(-len(curves) // columns)
    figure = new_figure(2.35 * lines)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    for axes, curve in zip(panels, curves, strict=False):
        draw_curve(axes, curve)
        label = named(curve.name, units.get(curve.name, ""))
        lines = label.replace(" [", "\n[") if len(label) > WIDEST else label
        small = TEXT - 1 if len(lines.split("\n")[0]) <= WIDEST else TEXT - 2.5
        axes.set_xlabel(lines, fontsize=small)
        _mark_rules(axes, curve)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    for axes in panels[::columns]:
        axes.set_ylabel(output, fontsize=TEXT - 1)
    return figure


def _mark_rules(axes: Axes, curve: EffectCurve) -> None:
    """Rules of the literature as dotted lines, named above the panel, where no curve is."""
    rules = [rule for rule in RULES.get(curve.name, ()) if curve.low <= rule[0] <= curve.high]
    for value, _ in rules:
        axes.axvline(value, color=ERROR, lw=1, ls=":")
    if rules:
        axes.set_title(", ".join(text for _, text in rules), loc="left", fontsize=TEXT - 3, color=ERROR, pad=3)


def _shown_schemes(result: StudyResult) -> list[str]:
    """The headline beside random folds, if both are there."""
    others = [scheme for scheme in result.fits if scheme != result.headline]
    return [*others[:1], result.headline]
