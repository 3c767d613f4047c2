"""One step against two in the report: a sentence, a table, a diagram."""

import numpy as np
from matplotlib.figure import Figure

from katops.drawing import named, plain
from katops.evaluation.semigroup import CURVES, Semigroup
from katops.report.drawing import (
    ERROR,
    INPUT,
    PREDICTION,
    TEXT,
    log_axis,
    new_figure,
    no_data,
    panel_grid,
    positive,
    tidy,
)
from katops.report.tables import Row, TextTable, count_of, percent

LABELS = {"one_step": "one step of 2t", "two_steps": "two steps of t", "distance": "between the two"}
_COLOURS = {"one_step": PREDICTION, "two_steps": ERROR, "distance": INPUT}
_STYLES = {"one_step": "-", "two_steps": "-", "distance": ":"}


def semigroup_sentence(found: Semigroup, test_set: str) -> str:
    """Up to which lead time one step is the better choice."""
    first, last = (f"{time:.4g} {found.time_unit}".rstrip() for time in found.times[[0, -1]])
    farthest = np.nanmax(found.mean("distance"))
    apart = f"the two differ by up to {percent(float(farthest))} of the truth"
    if found.better_up_to is None:
        which = f"two steps of half the length are better than one already for a lead time of {first}"
    elif found.one_step_wins.all():
        which = f"one step is at least as good as two of half the length up to the longest lead time, {last}"
    else:
        until = f"{found.better_up_to:.4g} {found.time_unit}".rstrip()
        which = f"one step is at least as good as two of half the length up to a lead time of {until}, but not beyond"
    return f"On {test_set}, {which}; {apart}."


def semigroup_rows(found: Semigroup) -> TextTable:
    """Relative L2 errors at each lead time, mean over the samples and the channel groups."""
    means = {curve: found.mean(curve) for curve in CURVES}
    rows = [
        Row(
            [f"{time:.4g} {found.time_unit}".rstrip(), *(percent(float(means[curve][place])) for curve in CURVES)],
            1 if found.one_step_wins[place] else 2,
        )
        for place, time in enumerate(found.times)
    ]
    caption = f"Relative L2, mean over {count_of(found.samples)} and the groups of channels; the better one is marked."
    if 0 < len(found.constant) < len(found.errors.groups):
        caption += f" Left out, because constant in space: {', '.join(found.constant)}."
    return TextTable(caption, ["lead time 2t", *(LABELS[curve] for curve in CURVES)], rows)


def semigroup_figure(found: Semigroup) -> Figure:
    """Errors of one and of two steps over the lead time, and the distance between them; a panel per channel group."""
    groups = list(found.errors.groups)
    figure = new_figure(2.9 * -(-max(len(groups), 1) // 2))
    if not groups:
        no_data(figure.add_subplot(), "every group of channels is masked or zero")
        return figure
    for place, (axes, name) in enumerate(zip(panel_grid(figure, len(groups)), groups, strict=True)):
        curves = {curve: positive(found.errors.mean(curve)[:, place]) for curve in CURVES}
        if not np.isfinite(list(curves.values())).any():
            no_data(axes, "no error is positive and finite")
            axes.set_title(plain(name), fontsize=TEXT)
            continue
        for curve, values in curves.items():
            style, colour = _STYLES[curve], _COLOURS[curve]
            axes.plot(found.times, values, style, color=colour, marker="o", markersize=3.5, label=LABELS[curve])
        log_axis(tidy(axes), "y", np.concatenate(list(curves.values())), percent=True)
        axes.set(xlabel=named("lead time 2t", found.time_unit), ylabel="relative L2 error")
        axes.set_title(plain(name), fontsize=TEXT)
        axes.legend(fontsize=TEXT - 1, frameon=False)
    return figure
