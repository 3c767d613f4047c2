"""Effects of single inputs on an output, in original units, with the spread of the ensemble and the training range."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from katops.errors import UserError
from katops.interpret.fitted import FittedTable, input_numbers, opened, output_number
from katops.interpret.style import CURVE, INK, TEXT, ZONE, plain, quiet

BACKGROUND_ROWS = 200
GRID = 121
LONGEST_LINE = 34  # letters below a panel


@dataclass(frozen=True)
class EffectCurve:
    """The effect of one input on one output.

    Attributes:
        name: of the input.
        x: values of the input in its unit, (n,), also somewhat beyond the range of the training rows.
        members: per member of the ensemble the effect, (members, n), in the unit of the target (classes: of the logit);
            its mean over the rows is 0.
        low, high: range of the training rows.
        rows: values of the input in the rows that were given.
        exact: whether the output is a sum of such curves; else the curve is the mean over the rows of what the output
            does while this input alone changes (Friedman 2001).
    """

    name: str
    x: np.ndarray
    members: np.ndarray
    low: float
    high: float
    rows: np.ndarray
    exact: bool

    @property
    def mean(self) -> np.ndarray:
        """Over the members, (n,)."""
        return self.members.mean(axis=0)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation over the members, (n,)."""
        return self.members.std(axis=0)


def effect_curves(
    estimator: Any, X: Any, *, output: int | str = 0, inputs: Sequence[str | int] | None = None, beyond: float = 0.1
) -> list[EffectCurve]:
    """Learned effects of inputs on an output.

    Args:
        estimator: fitted; also a pipeline that ends in one.
        X: rows over which effects are centred (and, in networks with hidden nodes, averaged), such as those of the fit.
        output: target or class, by name or number.
        inputs: by name or number; all by default.
        beyond: how far curves go beyond the training range, as a share of it.

    Raises:
        UserError: there is no such input or output, or no row.
    """
    fitted = opened(estimator)
    place, scaled = output_number(fitted, output), fitted.scaled(X)
    if not len(scaled):
        raise UserError("effect_curves: X has no rows")
    return [_curve(fitted, scaled, place, number, beyond) for number in input_numbers(fitted, inputs)]


def _curve(fitted: FittedTable, scaled: np.ndarray, output: int, number: int, beyond: float) -> EffectCurve:
    column = fitted.columns[number]
    margin = beyond * (column.high - column.low)
    rows = fitted.raw(scaled)[:, number]
    x = (
        np.linspace(column.low - margin, column.high + margin, GRID)
        if column.kind == "number"
        else np.array([0.0, 1.0])
    )
    # Values of the rows themselves tell by how much the curve has to be moved for its mean over them to be 0.
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), BACKGROUND_ROWS)).round().astype(int))
    values = column.scaled(np.concatenate([x, rows[places]]))
    exact = fitted.additive
    background = scaled[places[:1]] if exact else scaled[places]
    curves = []
    for model in fitted.models:
        table = np.repeat(background[None], len(values), axis=0)
        table[:, :, number] = values[:, None]
        answers = fitted.outputs_of(model, table.reshape(-1, scaled.shape[1]))[:, output]
        effect = answers.reshape(table.shape[:2]).mean(axis=1)
        curves.append(effect[: len(x)] - effect[len(x) :].mean())
    return EffectCurve(column.name, x, np.stack(curves), column.low, column.high, rows, exact)


def plot_curves(
    estimator: Any,
    X: Any,
    *,
    output: int | str = 0,
    inputs: Sequence[str | int] | None = None,
    beyond: float = 0.1,
    ax: Sequence[Axes] | Axes | None = None,
) -> Figure:
    """Effects of inputs on an output, the strongest first.

    The line is the mean of the ensemble, the band one standard deviation of its members, ticks at the bottom are the
    rows of X, and beyond the training range the ground is grey.

    Args:
        estimator, X, output, inputs, beyond: see :func:`effect_curves`; in the order given where ``inputs`` are.
        ax: axes to draw on, as many as there are inputs; a new figure by default.

    Raises:
        UserError: as :func:`effect_curves`; or there are not as many axes as inputs.
    """
    fitted = opened(estimator)
    name = fitted.outputs[output_number(fitted, output)]
    curves = effect_curves(estimator, X, output=output, inputs=inputs, beyond=beyond)
    if inputs is None:
        curves.sort(key=lambda curve: -_strength(curve))
    if ax is None:
        columns = min(len(curves), 4)
        rows = math.ceil(len(curves) / columns)
        figure = Figure(figsize=(2.7 * columns, 2.25 * rows + 0.3), layout="constrained", facecolor="white")
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        for panel in panels[len(curves) :]:
            panel.set_axis_off()
        exact = all(curve.exact for curve in curves)
        of = f"log-odds of {name}" if fitted.is_classifier else name
        figure.supylabel(plain(f"{'effect' if exact else 'mean effect'} on {of}"), fontsize=TEXT + 1)
    else:
        panels = list(np.atleast_1d(np.asarray(ax, dtype=object)).flat)
        if len(panels) < len(curves):
            raise UserError(f"plot_curves: {len(curves)} inputs need as many axes, got {len(panels)}")
        figure = panels[0].figure
    for panel, curve in zip(panels, curves, strict=False):
        draw_curve(panel, curve)
    return figure


def _strength(curve: EffectCurve) -> float:
    inside = (curve.x >= curve.low) & (curve.x <= curve.high)
    return float(np.std(np.interp(curve.rows, curve.x[inside], curve.mean[inside]))) if inside.any() else 0.0


def draw_curve(ax: Axes, curve: EffectCurve) -> None:
    """One effect on given axes."""
    quiet(ax).axhline(0, color="#bbbbbb", linewidth=0.8)
    if len(curve.x) == 2:
        ax.errorbar(curve.x, curve.mean, curve.deviation, fmt="o", color=CURVE, capsize=3)
        ax.set_xticks([0, 1], ["no", "yes"])
        ax.set_xlim(-0.5, 1.5)
    else:
        ax.axvspan(curve.x[0], curve.low, color=ZONE, linewidth=0)
        ax.axvspan(curve.high, curve.x[-1], color=ZONE, linewidth=0)
        if len(curve.members) > 1:
            low, high = curve.mean - curve.deviation, curve.mean + curve.deviation
            ax.fill_between(curve.x, low, high, color=CURVE, alpha=0.22, linewidth=0)
        ax.plot(curve.x, curve.mean, color=CURVE, linewidth=1.8)
        ax.set_xlim(curve.x[0], curve.x[-1])
        ax.xaxis.set_major_locator(MaxNLocator(4))
        # a rug in axes coordinates stays at the bottom whatever the limits become
        ax.plot(
            curve.rows,
            np.full(len(curve.rows), 0.03),
            "|",
            color=INK,
            alpha=max(0.25, min(0.8, 60 / max(len(curve.rows), 1))),
            markersize=10,
            markeredgewidth=0.9,
            transform=ax.get_xaxis_transform(),
        )
    ax.set_xlabel(textwrap.fill(plain(curve.name), LONGEST_LINE), fontsize=TEXT)


def edge_curve(model: Any, layer: int, sub_node: int, feature: int, values: np.ndarray) -> np.ndarray:
    """One learned function at values of the layer's input, for plots and for fits of one's own."""
    chosen = model.layers[layer]
    with torch.no_grad():
        return chosen.edge(sub_node, feature, torch.as_tensor(values).to(chosen.coefficients)).double().cpu().numpy()
