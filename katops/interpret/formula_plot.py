"""How accurate formulas are for their length."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from katops.errors import UserError
from katops.interpret.style import CURVE, INK, POINT, TEXT, axes_or_new, log_ticks, quiet
from katops.interpret.symbolic_result import SymbolicResult

SMALLEST = 1e-12


def plot_formulas(result: SymbolicResult, *, ax: Axes | None = None) -> Axes:
    """Held-out error 1 - R2 of the formulas of :meth:`SymbolicResult.pareto` against their complexity.

    The best formula is marked, and a dotted line is the error of the network.

    Args:
        result: of :func:`katops.interpret.symbolic` or :func:`katops.interpret.find_formula`.
        ax: where to draw; a new figure by default.

    Raises:
        UserError: the search has looked at no formula that is finite on the held-out rows.
    """
    front = result.pareto()
    front = front[np.isfinite(front["held_out_r2"])]
    if front.empty:
        raise UserError("plot_formulas: there is no formula to draw; the search was refused before it began")
    error = np.maximum(1 - front["held_out_r2"].to_numpy(), SMALLEST)
    best = result.attempts[0]
    chosen = max(1 - best.held_out_r2, SMALLEST)
    network = max(1 - result.network_r2, SMALLEST)
    ax = quiet(axes_or_new(ax, 5.0, 3.2))
    ax.plot(front["complexity"], error, "o-", color=CURVE, markersize=4.5, linewidth=1.2, drawstyle="steps-post")
    if np.isfinite(chosen):
        ax.plot([best.complexity], [chosen], "o", color=POINT, markersize=8, zorder=3, label="best score")
    ax.axhline(network, color=INK, linestyle=":", linewidth=1, label="network")
    ax.set_yscale("log")
    log_ticks(ax.yaxis, min(error.min(), network), max(error.max(), network))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.set_xlabel("complexity of the functions + fitted numbers", fontsize=TEXT)
    ax.set_ylabel("1 − held-out R²", fontsize=TEXT)
    ax.legend(fontsize=TEXT - 1, frameon=False)
    return ax
